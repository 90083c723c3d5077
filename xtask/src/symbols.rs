//! Putting names to addresses, with inlined functions, from the kernel image's line tables.

use std::collections::HashMap;
use std::path::Path;

/// An image's symbols.
pub struct Symbols(Option<addr2line::Loader>, HashMap<String, u64>);

impl Symbols {
    /// Those of the image at `path`; without any, addresses stay addresses.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        Self(addr2line::Loader::new(path).ok(), exported(path).unwrap_or_default())
    }

    /// The frames at `address`, innermost first, as `function at file:line`. A return address is looked up as the call
    /// before it.
    #[must_use]
    pub fn frames(&self, address: u64, is_return: bool) -> Vec<String> {
        let Some(loader) = &self.0 else { return Vec::new() };
        let probe = address - u64::from(is_return);
        let mut found = Vec::new();
        if let Ok(mut frames) = loader.find_frames(probe) {
            while let Ok(Some(frame)) = frames.next() {
                let name = frame.function.as_ref().and_then(|f| f.demangle().ok()).map(|name| short(&name));
                let place = frame.location.and_then(|at| Some(format!("{}:{}", from_root(at.file?), at.line?)));
                found.push(match (name, place) {
                    (Some(name), Some(place)) => format!("{name} at {place}"),
                    (Some(name), None) => name,
                    (None, Some(place)) => place,
                    (None, None) => continue,
                });
            }
        }
        if found.is_empty() {
            found.extend(loader.find_symbol(probe).map(|name| short(&addr2line::demangle_auto(name.into(), None))));
        }
        found
    }

    /// The address of a symbol.
    #[must_use]
    pub fn address(&self, name: &str) -> Option<u64> {
        self.1.get(name).copied()
    }

    /// What a line that begins with `backtrace` means; nothing for other lines.
    #[must_use]
    pub fn explain(&self, line: &str) -> Vec<String> {
        let Some(addresses) = line.trim_start().strip_prefix("backtrace ") else { return Vec::new() };
        let addresses =
            addresses.split_whitespace().filter_map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
        let lines = addresses.enumerate().flat_map(|(number, address)| self.frames(address, number > 0));
        fold_repeats(lines)
    }
}

/// Addresses of the symbols that the kernel exports for readers outside: those in capitals.
fn exported(path: &Path) -> Option<HashMap<String, u64>> {
    use object::{Object, ObjectSymbol};
    let contents = std::fs::read(path).ok()?;
    let file = object::File::parse(contents.as_slice()).ok()?;
    let symbols = file.symbols().filter_map(|symbol| Some((symbol.name().ok()?.to_owned(), symbol.address())));
    Some(symbols.filter(|(name, _)| name.starts_with("PALISADE_")).collect())
}

/// Says of a line that repeats how often it does: a recursion is one line.
fn fold_repeats(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut folded: Vec<(String, usize)> = Vec::new();
    for line in lines {
        match folded.last_mut() {
            Some((last, times)) if *last == line => *times += 1,
            _ => folded.push((line, 1)),
        }
    }
    folded.into_iter().map(|(line, times)| if times > 1 { format!("{line} ({times} times)") } else { line }).collect()
}

/// Without the hash that ends a mangled name.
fn short(name: &str) -> String {
    match name.rsplit_once("::h") {
        Some((before, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => before.to_owned(),
        _ => name.to_owned(),
    }
}

/// A file's path from the workspace's root on, if it lies there; from the standard library's, if it lies there.
fn from_root(file: &str) -> &str {
    let root = env!("CARGO_MANIFEST_DIR").trim_end_matches("xtask");
    // A crate's own folder is enough to know it by.
    if let Some((_, inside)) = file.split_once("/registry/src/") {
        return inside.split_once('/').map_or(inside, |(_, inside)| inside);
    }
    let library = file.starts_with("/rustc/").then(|| file.split_once("/library/")).flatten();
    library.map_or(file.strip_prefix(root).unwrap_or(file), |(_, inside)| inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_cut_and_other_names_are_not() {
        assert_eq!(short("kernel::mem::unmap::h0123456789abcdef"), "kernel::mem::unmap");
        assert_eq!(short("kernel::mem::unmap"), "kernel::mem::unmap");
    }

    #[test]
    fn a_recursion_is_one_line() {
        let lines = ["a", "b", "b", "b", "c"].map(str::to_owned);
        assert_eq!(fold_repeats(lines.into_iter()), ["a", "b (3 times)", "c"]);
    }

    #[test]
    fn places_are_told_without_what_is_only_true_here() {
        assert_eq!(from_root(concat!(env!("CARGO_MANIFEST_DIR"), "/src/main.rs")), "xtask/src/main.rs");
        assert_eq!(from_root("/rustc/59807/library/core/src/hint.rs"), "core/src/hint.rs");
        assert_eq!(from_root("/home/x/.cargo/registry/src/index-1/spin-0.12.3/src/lib.rs"), "spin-0.12.3/src/lib.rs");
    }

    #[test]
    fn without_symbols_nothing_is_explained() {
        assert!(Symbols::of(Path::new("/nonexistent")).explain("    backtrace 0xffffffff80000000").is_empty());
    }
}
