//! A guest in QEMU: the command line, and the process with its two serial lines.

use crate::error::{Context, Error, Result};
use crate::options::{Accel, Board};
use std::io::{PipeReader, PipeWriter};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

/// How this guest boots.
#[derive(Clone, Debug)]
pub enum Medium {
    /// By the direct loader.
    Direct {
        /// The loader.
        loader: PathBuf,
        /// The kernel image, or an archive with it and its modules.
        kernel: PathBuf,
        /// The kernel's command line.
        command_line: String,
    },
    /// From an ISO with Limine; the command line is in it.
    Iso {
        /// The ISO.
        iso: PathBuf,
        /// UEFI's code; BIOS without.
        uefi: Option<PathBuf>,
    },
}

const ASK: &str = "qmp";
const LISTEN: &str = "qmp-events";

/// A guest to be started.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The QEMU program.
    pub qemu: PathBuf,
    /// Never [`Accel::Auto`].
    pub accel: Accel,
    /// How it boots.
    pub medium: Medium,
    /// CPUs.
    pub smp: u32,
    /// MiB of memory.
    pub mem: u32,
    /// Machine type.
    pub board: Board,
    /// The guest's memory is this file, made anew.
    pub memory: Option<PathBuf>,
    /// It waits for gdb on this socket.
    pub gdb: Option<PathBuf>,
    /// Its memory goes into this file if it hangs or crashes, as a core for gdb.
    pub core: Option<PathBuf>,
}

/// A guest that runs. Dropping it ends QEMU.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Serial 1: text.
    pub text: Option<PipeReader>,
    /// Serial 2: records.
    pub records: Option<PipeReader>,
    /// QEMU's own words.
    pub words: Option<ChildStderr>,
    folder: tempfile::TempDir,
}

impl Guest {
    /// The QEMU command line, with QMP on two sockets in `folder`: one to ask, one to listen.
    #[must_use]
    pub fn command(&self, folder: &Path) -> Command {
        let mut qemu = Command::new(&self.qemu);
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        // A guest that resets itself, as by a triple fault, stands still, to be looked at.
        qemu.args(["-no-reboot", "-no-shutdown"]);
        let backend = if self.memory.is_some() { ",memory-backend=ram" } else { "" };
        qemu.arg("-machine").arg(format!("{}{backend}", self.board.name()));
        if let Some(file) = &self.memory {
            let size = format!("memory-backend-file,id=ram,size={}M,mem-path={},share=on", self.mem, file.display());
            qemu.arg("-object").arg(size);
        }
        let cpu = match self.accel {
            Accel::Kvm => "host",
            // QEMU 10 ends with "Bad icount read" when the x2APIC's timer is set: WRMSR does not end the block.
            Accel::Icount => "max,-x2apic",
            _ => "max",
        };
        qemu.args(["-cpu", cpu]);
        qemu.args(match self.accel {
            Accel::Kvm => ["-accel", "kvm"].as_slice(),
            Accel::Auto | Accel::Tcg => &["-accel", "tcg,thread=multi"],
            Accel::TcgSingle => &["-accel", "tcg,thread=single"],
            Accel::Icount => &[
                "-accel",
                "tcg,thread=single",
                "-icount",
                "shift=0,sleep=off",
                // Firmware waits for this clock to be at rest: it is not to be the host's.
                "-rtc",
                "base=2000-01-01,clock=vm",
            ],
        });
        // It waits for QMP's `cont`, or gdb's. Nothing that it does is over before somebody listens; and where instructions
        // are counted, all is said before it starts, since whatever QEMU is told later makes the CPUs change turns.
        qemu.arg("-S");
        if let Some(socket) = &self.gdb {
            let chardev = format!("socket,id=gdb,path={},server=on,wait=off", socket.display());
            qemu.arg("-chardev").arg(chardev).args(["-gdb", "chardev:gdb"]);
        }
        qemu.arg("-smp").arg(self.smp.to_string()).arg("-m").arg(format!("{}M", self.mem));
        qemu.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
        // The serial lines go into pipes that QEMU inherits: as cheap as files, and nothing is lost. Serial 2 takes the
        // place of standard input, which QEMU does not use here.
        qemu.args(["-chardev", "file,id=text,path=/dev/fd/1", "-serial", "chardev:text"]);
        qemu.args(["-chardev", "file,id=records,path=/dev/fd/0"]);
        qemu.args(match self.board {
            // It has one serial port of its own; the second is a device like any other.
            Board::Microvm => ["-device", "isa-serial,index=1,chardev=records"],
            Board::Q35 | Board::Pc => ["-serial", "chardev:records"],
        });
        for socket in [ASK, LISTEN] {
            qemu.arg("-qmp").arg(format!("unix:{},server=on,wait=off", folder.join(socket).display()));
        }
        match &self.medium {
            Medium::Direct { loader, kernel, command_line } => {
                qemu.arg("-kernel").arg(loader).arg("-initrd").arg(kernel).arg("-append").arg(command_line);
            }
            Medium::Iso { iso, uefi } => {
                qemu.args(["-boot", "d", "-cdrom"]).arg(iso);
                if let Some(code) = uefi {
                    qemu.arg("-drive").arg(format!("if=pflash,format=raw,readonly=on,file={}", code.display()));
                }
            }
        }
        qemu
    }

    /// Starts QEMU, which holds the guest until it is told to go on.
    ///
    /// # Errors
    /// If QEMU does not start.
    pub fn start(&self) -> Result<Running> {
        let folder = tempfile::Builder::new().prefix("palisade").tempdir().context("cannot make a temporary folder")?;
        let (records, into) = roomy_pipe().context("cannot make a pipe")?;
        let (text, text_into) = roomy_pipe().context("cannot make a pipe")?;
        let mut qemu = self.command(folder.path());
        qemu.stdin(Stdio::from(into)).stdout(Stdio::from(text_into)).stderr(Stdio::piped());
        end_with_us(&mut qemu);
        let mut child = qemu.spawn().context(format!("cannot run {}", self.qemu.display()))?;
        drop(qemu); // and with it our end of the pipe that QEMU writes to
        let words = child.stderr.take();
        Ok(Running { child, text: Some(text), records: Some(records), words, folder })
    }
}

/// A pipe with room for a second or two of a guest's words: a guest that finds it full waits, and runs otherwise than it
/// would have.
fn roomy_pipe() -> std::io::Result<(PipeReader, PipeWriter)> {
    let (from, into) = std::io::pipe()?;
    #[cfg(target_os = "linux")]
    let _ = nix::fcntl::fcntl(&into, nix::fcntl::FcntlArg::F_SETPIPE_SZ(1 << 20)); // less is a matter of luck, not an error
    Ok((from, into))
}

/// Ctrl-C is ours to handle, and QEMU does not outlive us.
fn end_with_us(qemu: &mut Command) {
    use std::os::unix::process::CommandExt;
    qemu.process_group(0);
    #[cfg(target_os = "linux")]
    // SAFETY: runs in the child between fork and exec; prctl is async-signal-safe, and nothing is allocated.
    unsafe {
        qemu.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?));
    }
}

impl Running {
    /// Where QMP is asked.
    #[must_use]
    pub fn ask(&self) -> PathBuf {
        self.folder.path().join(ASK)
    }

    /// Where QMP tells of events.
    #[must_use]
    pub fn listen(&self) -> PathBuf {
        self.folder.path().join(LISTEN)
    }

    /// Waits until QEMU has made a file.
    ///
    /// # Errors
    /// If it ends instead.
    pub fn await_file(&mut self, path: &Path) -> Result<()> {
        // No event tells of it.
        while !path.exists() {
            if let Some(status) = self.child.try_wait().context("cannot wait for QEMU")? {
                let mut words = String::new();
                if let Some(mut from) = self.words.take() {
                    let _ = std::io::Read::read_to_string(&mut from, &mut words);
                }
                return Err(Error::CannotRun(format!("QEMU ended with {status}: {}", words.trim())));
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Ok(())
    }

    /// QEMU's exit status, `None` for death by a signal. Waits for it.
    ///
    /// # Errors
    /// If the system cannot say.
    pub fn wait(&mut self) -> Result<Option<i32>> {
        Ok(self.child.wait().context("cannot wait for QEMU")?.code())
    }

    /// Ends QEMU.
    pub fn kill(&mut self) {
        let _ = self.child.kill(); // it may have ended by itself
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// UEFI's code for QEMU, where distributions put it.
///
/// # Errors
/// If there is none: how to get it.
pub fn uefi_code() -> Result<PathBuf> {
    let places = [
        "/usr/share/OVMF/OVMF_CODE.fd",
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/edk2/ovmf/OVMF_CODE.fd",
        "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
        "/usr/share/qemu/edk2-x86_64-code.fd",
        "/opt/homebrew/share/qemu/edk2-x86_64-code.fd",
    ];
    let found = places.into_iter().map(PathBuf::from).find(|path| path.is_file());
    found.ok_or_else(|| {
        Error::CannotRun("no UEFI firmware for QEMU; install your system's package 'ovmf' (or edk2-ovmf)".into())
    })
}
