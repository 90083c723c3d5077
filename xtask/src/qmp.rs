//! QMP, QEMU's control socket: asking a guest that hangs where each of its CPUs is.

use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Where a CPU is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// The CPU.
    pub cpu: u32,
    /// Instruction pointer.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Flags; bit 9 says whether interrupts are enabled.
    pub rflags: u64,
    /// Whether it waits in a `hlt`.
    pub halted: bool,
}

/// The registers of all CPUs of the guest whose QMP listens on `socket`.
///
/// # Errors
/// If QEMU does not answer.
pub fn registers(socket: &Path) -> io::Result<Vec<Registers>> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (mut to, mut from) = (stream.try_clone()?, BufReader::new(stream));
    let mut ask = |command: Value| -> io::Result<Value> {
        writeln!(to, "{command}")?;
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let answer: Value = serde_json::from_str(&line)?;
            if answer.get("return").is_some() || answer.get("error").is_some() {
                return Ok(answer);
            }
        }
    };
    ask(json!({"execute": "qmp_capabilities"}))?;
    let dump = ask(json!({"execute": "human-monitor-command", "arguments": {"command-line": "info registers -a"}}))?;
    Ok(parse(dump["return"].as_str().unwrap_or_default()))
}

fn parse(dump: &str) -> Vec<Registers> {
    let mut all: Vec<Registers> = Vec::new();
    for line in dump.lines() {
        if let Some(cpu) = line.strip_prefix("CPU#").and_then(|number| number.trim().parse().ok()) {
            all.push(Registers { cpu, ..Registers::default() });
        }
        let Some(last) = all.last_mut() else { continue };
        let value = |name: &str| {
            let rest = line.split(name).nth(1)?;
            u64::from_str_radix(rest.split_whitespace().next()?, 16).ok()
        };
        last.rip = value("RIP=").unwrap_or(last.rip);
        last.rsp = value("RSP=").unwrap_or(last.rsp);
        last.rflags = value("RFL=").unwrap_or(last.rflags);
        last.halted |= value("HLT=") == Some(1);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_read_for_each_cpu() {
        let dump = "\r\nCPU#0\r\nRAX=0 RBX=1 RCX=2 RDX=3\r\nRSI=0 RDI=0 RBP=ffff RSP=ffffd00000001f00\r\n\
                    RIP=ffffffff80001234 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\r\n\
                    CPU#1\r\nRSI=0 RDI=0 RBP=0 RSP=ffffd00000002f00\r\nRIP=ffffffff80005678 RFL=00000046 CPL=0 HLT=1\r\n";
        let all = parse(dump);
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].rip, all[0].rflags, all[0].halted), (0xffff_ffff_8000_1234, 0x246, false));
        assert_eq!((all[1].cpu, all[1].rsp, all[1].halted), (1, 0xffff_d000_0000_2f00, true));
    }
}
