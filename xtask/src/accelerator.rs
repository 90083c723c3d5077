//! Choosing what executes the guest: KVM where it works, which only trying it can tell.

use crate::artifacts;
use crate::error::Result;
use crate::options::{Accel, Board};
use crate::outcome::End;
use crate::qemu::{Guest, Medium};
use crate::setup::Qemu;
use crate::symbols::Symbols;
use crate::watch::{Limits, Nobody, watch};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// How long KVM has to get a guest of one CPU to its end; where it works, it takes a fraction of that.
const PATIENCE: Duration = Duration::from_secs(4);

/// What was chosen, and why.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Never [`Accel::Auto`].
    pub accel: Accel,
    /// A few words.
    pub why: String,
}

/// Settles what was asked for. What came of trying KVM is kept until the host boots again or QEMU changes.
///
/// # Errors
/// If the guest to try with cannot be started.
pub fn choose(asked: Accel, qemu: &Qemu, loader: &Path, kernel: &Path) -> Result<Choice> {
    if asked != Accel::Auto {
        return Ok(Choice { accel: asked, why: "as asked".into() });
    }
    let tcg = |why: String| Choice { accel: Accel::Tcg, why };
    if let Err(error) = fs::File::options().read(true).write(true).open("/dev/kvm") {
        return Ok(tcg(format!("no KVM: /dev/kvm: {error}")));
    }
    let kept = artifacts::folder().join("kvm-probe");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let key = format!("{} {}", boot.trim(), qemu.version);
    let known = fs::read_to_string(&kept).ok().and_then(|text| {
        let (known, result) = text.split_once('\n')?;
        (known == key).then(|| result.trim().to_owned())
    });
    let (result, when) = match known {
        Some(result) => (result, " (tried earlier)"),
        None => {
            let result = try_kvm(qemu, loader, kernel)?;
            // Only a saving: without it KVM is tried again.
            let _ = fs::create_dir_all(artifacts::folder()).and_then(|()| fs::write(&kept, format!("{key}\n{result}")));
            (result, "")
        }
    };
    Ok(match result.as_str() {
        "works" => Choice { accel: Accel::Kvm, why: format!("KVM works{when}") },
        why => tcg(format!("KVM does not work: {why}{when}")),
    })
}

fn try_kvm(qemu: &Qemu, loader: &Path, kernel: &Path) -> Result<String> {
    let medium =
        Medium::Direct { loader: loader.into(), kernel: kernel.into(), command_line: "run=test test=boot".into() };
    let guest = Guest {
        qemu: qemu.path.clone(),
        accel: Accel::Kvm,
        medium,
        smp: 1,
        mem: 128,
        board: Board::Q35,
        memory: None,
        gdb: None,
        core: None,
    };
    let limits = Limits { total: Some(PATIENCE), silence: PATIENCE };
    let (outcome, end) = watch(&guest, &Symbols::of(Path::new("")), limits, &mut Nobody)?;
    Ok(match end {
        _ if outcome.verdict.as_ref().is_some_and(|(passed, _)| *passed) => "works".into(),
        End::Hung(_) if outcome.first_line.is_none() => format!("no line from the kernel in {} s", PATIENCE.as_secs()),
        End::Hung(_) => format!("a guest does not end in {} s", PATIENCE.as_secs()),
        End::Exited(status) => match outcome.words.lines().next() {
            Some(words) => words.trim().to_owned(),
            None => format!("QEMU ended with {}", status.map_or("a signal".into(), |s| format!("status {s}"))),
        },
        End::Stopped(why) => format!("the guest stopped ({why})"),
        End::Interrupted => "interrupted".into(),
    })
}
