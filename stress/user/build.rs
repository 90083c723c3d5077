//! Gives the linker the programs' script when they are built for the bare machine.

fn main() {
    println!("cargo::rerun-if-changed=user.ld");
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
        println!("cargo::rustc-link-arg-bins=-T{here}/user.ld");
    }
}
