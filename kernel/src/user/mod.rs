//! User threads: programs in ring 3, each in a process of its own, on two stacks.
//!
//! ```text
//!   Program::named ──▶ Process::load: an address space with the program in it
//!                          │
//!                          └─▶ Process::builder … spawn: user stack between guards, kernel thread in the space
//!                                  │
//!   kernel thread   begin ──▶ enter ══▶ ring 3 ══ interrupt, fault ══▶ Frame on the privileged stack, as from any thread
//!                               ▲         ║ ▲
//!                               ║         ▼ ║ SYSRET
//!                               ╚═ exit ═ system_call, on the privileged stack, interrupts on
//! ```
//! A user thread is a thread of the kernel that goes to user code and comes back with an exit code. Its kernel stack, guarded
//! as any, is its *privileged stack*: system calls run on what the kernel thread leaves free of it, and interrupts of user
//! code save their frame there. So it is preempted, aborted and ended as every thread is. What is the user's, stack
//! and registers, is a `Context` that the thread's payload holds: it is given back on every way out.
//!
//! | file | |
//! |---|---|
//! | `entry` | the ways into ring 3 and out of it, in assembly |
//! | `context` | what a switch saves and loads; the user stack |
//! | `system_call` | what programs ask for, each argument checked |
//! | `memory` | what a process may map, and where; copies from its memory |
//! | `process`, `program`, `image` | a process, the boot module that it runs, and the checks of its ELF file |

mod context;
mod entry;
mod image;
mod memory;
mod process;
mod program;
mod system_call;

pub use image::ImageError;
pub use process::{Process, ProcessError, UserBuilder};
pub use program::{Program, ProgramError, programs};
pub use system_call::{ImageCall, set_image_call};

pub(crate) use context::{Context, comes, leaves};
pub(crate) use entry::{is_entry, system_call_entry};
pub(crate) use memory::is_code;
