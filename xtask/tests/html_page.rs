//! The page that `cargo xtask trace --html` writes, opened in a browser: it tests itself when its address ends in
//! `#selftest`.
//!
//! The first of `chromium`, `chromium-browser` and `google-chrome` that is in PATH is used. Where there is none, the
//! tests say so and pass: nothing else of this project needs a browser.

use std::fs;
use std::path::Path;
use std::process::Command;
use wire::trace::event::{name_words, text};
use wire::trace::{Entry, Event};
use xtask::trace::{Gap, Trace, html};

const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
const PASSED: &str = "<pre id=\"selftest\">selftest: ok</pre>";
const FAILED: &str = "<pre id=\"selftest\">selftest: ";

#[test]
fn the_page_passes_its_own_test() {
    let Some(dom) = opened(&page()) else { return };
    assert!(dom.contains(PASSED), "{}", verdict(&dom));
}

#[test]
fn a_page_with_a_lane_cut_short_says_so() {
    let page = page();
    let (before, lane) = page.split_once("id=\"lane-1\">").unwrap();
    let (lane, after) = lane.split_once("</script>").unwrap();
    let cut = &lane[..lane.len() / 8 * 4];
    let Some(dom) = opened(&format!("{before}id=\"lane-1\">{cut}</script>{after}")) else { return };
    assert!(!dom.contains(PASSED), "a damaged page passes");
    assert!(verdict(&dom).contains("CPU 1"), "{}", verdict(&dom));
}

#[test]
fn a_page_whose_head_counts_otherwise_says_so() {
    let page = page();
    let events = trace().lanes[2].events.len();
    let counted = format!("\"events\":{events},");
    assert!(page.contains(&counted));
    let Some(dom) = opened(&page.replace(&counted, &format!("\"events\":{},", events - 1))) else { return };
    assert!(!dom.contains(PASSED) && dom.contains(FAILED), "{}", verdict(&dom));
}

/// The page's DOM after its own test, if there is a browser.
fn opened(page: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |name: &&&str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    let Some(browser) = BROWSERS.iter().find(found) else {
        eprintln!("not tested: none of {} is in PATH", BROWSERS.join(", "));
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.html");
    fs::write(&file, page).unwrap();
    let out = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", "--dump-dom"])
        .arg(flag("--user-data-dir=", &folder.path().join("profile")))
        .arg(flag("file://", &file) + "#selftest")
        .output()
        .unwrap();
    assert!(out.status.success(), "{browser}: {}", String::from_utf8_lossy(&out.stderr));
    Some(String::from_utf8(out.stdout).unwrap())
}

fn flag(name: &str, path: &Path) -> String {
    format!("{name}{}", path.display())
}

/// What the page says of itself.
fn verdict(dom: &str) -> &str {
    dom.split_once("<pre id=\"selftest\">").and_then(|(_, rest)| rest.split_once("</pre>")).map_or("", |(said, _)| said)
}

fn page() -> String {
    let (trace, mut out) = (trace(), Vec::new());
    html::write(&trace, trace.merged(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Three CPUs: on CPU 0 a thread that asks for shootdowns, on the others threads that end; CPU 2 has lost some events.
fn trace() -> Trace {
    let mut trace = Trace { tsc_hz: 2_500_000_000, cmdline: "run=<stress> & more".into(), ..Trace::default() };
    let mut add = |cpu, time: u64, thread, event| {
        trace.lane(cpu).events.push(Entry { time: (1 << 55) + time, thread, event });
    };
    let (head, rest) = name_words("reaper");
    add(0, 5, 1, Event::Switch { to: 70 });
    add(0, 6, 70, Event::Name { head, rest });
    for round in 0..200u64 {
        let (at, slot) = (1000 + round * 5000, 1 << 16 | (round as u32 % 7 + 1));
        let (generation, ended) = (u32::MAX - 100 + round as u32 % 90, 80 + round as u32);
        add(2, at, 3, Event::Switch { to: ended });
        add(2, at + 300, ended, Event::Leave { why: 2 });
        add(2, at + 310, ended, Event::OffStack { slot, pending: 0 });
        add(2, at + 320, ended, Event::Switch { to: 3 });
        add(0, at + 400, 70, Event::Contended { owner: 1, lock: text("slots") });
        add(0, at + 450, 70, Event::Acquired { lock: text("slots") });
        add(0, at + 500, 70, Event::Unmap { slot, pages: 4 });
        add(0, at + 510, 70, Event::Request { generation, targets: 0b110 });
        add(0, at + 520, 70, Event::Send { vector: 0xf0, targets: 0b110 });
        for cpu in [1, 2] {
            let at = at + 700 + 90 * u64::from(cpu);
            add(cpu, at, u32::from(cpu) + 1, Event::Receive { vector: 0xf0 });
            add(cpu, at + 20, u32::from(cpu) + 1, Event::Ack { generation, initiator: 0 });
            add(cpu, at + 30, u32::from(cpu) + 1, Event::Served { vector: 0xf0 });
        }
        add(0, at + 1200, 70, Event::Done { generation });
        add(0, at + 1300, 70, Event::Free { slot });
        add(1, at + 1400, 2, Event::Fault { what: 3, address: u64::MAX - round });
    }
    trace.lanes.iter_mut().for_each(|lane| lane.ended = true);
    trace.lane(2).gaps = vec![Gap { before: 0, lost: 12 }, Gap { before: 100, lost: 34_567 }];
    trace
}
