//! QMP, QEMU's control socket: asking a guest that hangs where each of its CPUs is and what is in its memory, and
//! hearing when it stops.

use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Where a CPU is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// The CPU.
    pub cpu: u32,
    /// Instruction pointer.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Frame pointer.
    pub rbp: u64,
    /// Flags; bit 9 says whether interrupts are enabled.
    pub rflags: u64,
    /// Base of GS: in the kernel, the address of the CPU's data.
    pub gs: u64,
    /// Whether it waits in a `hlt`.
    pub halted: bool,
}

/// A connection.
#[derive(Debug)]
pub struct Qmp {
    to: UnixStream,
    from: BufReader<UnixStream>,
    /// A file for what QEMU writes.
    scratch: tempfile::TempDir,
}

/// How long QEMU has to answer.
const PATIENCE: Duration = Duration::from_secs(10);

impl Qmp {
    /// Connects to the guest whose QMP listens on `socket`, waiting for the socket to be there.
    ///
    /// # Errors
    /// If QEMU does not answer.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        Self::with(socket, Some(PATIENCE))
    }

    /// As [`connect`](Self::connect), with all the time that QEMU takes, or until it ends.
    ///
    /// # Errors
    /// If there is no socket in time, or QEMU ends.
    pub fn listen(socket: &Path) -> io::Result<Self> {
        Self::with(socket, None)
    }

    fn with(socket: &Path, patience: Option<Duration>) -> io::Result<Self> {
        let since = Instant::now();
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                // QEMU makes it early; there is no event that tells of it. The folder is gone when QEMU was ended.
                Err(_) if since.elapsed() < PATIENCE && socket.parent().is_some_and(Path::exists) => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(error),
            }
        };
        stream.set_read_timeout(patience)?;
        let scratch = tempfile::tempdir()?;
        let mut qmp = Self { to: stream.try_clone()?, from: BufReader::new(stream), scratch };
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command; its result.
    ///
    /// # Errors
    /// If QEMU does not answer, or refuses.
    pub fn execute(&mut self, command: &str, arguments: Value) -> io::Result<Value> {
        writeln!(self.to, "{}", json!({"execute": command, "arguments": arguments}))?;
        loop {
            let message = self.message()?;
            if let Some(result) = message.get("return") {
                return Ok(result.clone());
            }
            if let Some(error) = message.get("error") {
                return Err(io::Error::other(error["desc"].as_str().unwrap_or("QEMU refuses").to_owned()));
            }
        }
    }

    fn message(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.from.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// Waits until the guest stops by itself without ending QEMU, as after a triple fault: why, in QEMU's word. `None` if
    /// QEMU ended instead. On a connection that [listens](Self::listen).
    #[must_use]
    pub fn await_stop(&mut self) -> Option<String> {
        loop {
            let message = self.message().ok()?;
            if message["event"] == "SHUTDOWN" {
                return Some(message["data"]["reason"].as_str().unwrap_or("?").to_owned());
            }
        }
    }

    /// Writes a core for gdb: all of the guest's memory, at the virtual addresses at which it sees it, and all registers.
    ///
    /// # Errors
    /// If QEMU cannot.
    pub fn core(&mut self, path: &Path) -> io::Result<()> {
        self.from.get_ref().set_read_timeout(Some(Duration::from_secs(120)))?; // it may be gigabytes
        let path = std::path::absolute(path)?;
        self.execute("dump-guest-memory", json!({"paging": true, "protocol": format!("file:{}", path.display())}))?;
        Ok(())
    }

    /// The registers of all CPUs.
    ///
    /// # Errors
    /// If QEMU does not answer.
    pub fn registers(&mut self) -> io::Result<Vec<Registers>> {
        let dump = self.execute("human-monitor-command", json!({"command-line": "info registers -a"}))?;
        Ok(parse(dump.as_str().unwrap_or_default()))
    }

    /// Reads memory at virtual addresses, as CPU 0 sees them: the kernel is the same for all.
    ///
    /// # Errors
    /// If it is not mapped, or QEMU does not answer.
    pub fn memory(&mut self, address: u64, bytes: &mut [u8]) -> io::Result<()> {
        let file = self.scratch.path().join("memory");
        // QMP's numbers are signed.
        let arguments = json!({"val": address.cast_signed(), "size": bytes.len(), "filename": file, "cpu-index": 0});
        self.execute("memsave", arguments)?;
        let read = std::fs::read(&file)?;
        if read.len() != bytes.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.copy_from_slice(&read);
        Ok(())
    }
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
        last.rbp = value("RBP=").unwrap_or(last.rbp);
        last.rflags = value("RFL=").unwrap_or(last.rflags);
        last.halted |= value("HLT=") == Some(1);
        // A segment: selector, base, limit, flags.
        if let Some(rest) = line.strip_prefix("GS =") {
            let base = rest.split_whitespace().nth(1).and_then(|base| u64::from_str_radix(base, 16).ok());
            last.gs = base.unwrap_or(last.gs);
        }
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
                    GS =0000 ffffffff80045000 00000000 00000000\r\n\
                    CPU#1\r\nRSI=0 RDI=0 RBP=0 RSP=ffffd00000002f00\r\nRIP=ffffffff80005678 RFL=00000046 CPL=0 HLT=1\r\n";
        let all = parse(dump);
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].rip, all[0].rflags, all[0].halted), (0xffff_ffff_8000_1234, 0x246, false));
        assert_eq!((all[0].rbp, all[0].gs), (0xffff, 0xffff_ffff_8004_5000));
        assert_eq!((all[1].cpu, all[1].rsp, all[1].halted), (1, 0xffff_d000_0000_2f00, true));
    }
}
