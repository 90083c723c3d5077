//! `cargo xtask`: the command tree. Each command is a module of `cmd`.

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use xtask::{Error, cmd};

/// Palisade's tool: build, boot, stress and test the kernel.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a stress workload and give a verdict, counts and latencies.
    Stress(Box<cmd::stress::Args>),
    /// Run all tests: on the host, and in QEMU.
    Test(cmd::test::Args),
    /// Put each seeded bug back, and see the stress run find it.
    Bugs(cmd::bugs::Args),
    /// Run the same workload under each protocol and reaping policy, in turn, and compare what they cost.
    Compare(cmd::compare::Args),
    /// Measure what threads cost.
    Bench(cmd::bench::Args),
    /// Run the protocols under the model checkers.
    Model(cmd::model::Args),
    /// Boot a stress run under gdb.
    Debug(Box<cmd::debug::Args>),
    /// Show a trace that a run has left, or check it.
    Trace(cmd::trace::Args),
    /// Boot the image with any kernel command line.
    Run(cmd::run::Args),
    /// Make a bootable ISO (BIOS and UEFI) with Limine.
    Image(cmd::image::Args),
    /// Say what this system has, what is missing, and how to get it.
    Doctor(cmd::doctor::Args),
    /// Remove what these commands have made.
    Clean(cmd::clean::Args),
}

fn main() -> ExitCode {
    let end = match Cli::parse().command {
        Command::Stress(args) => cmd::stress::run(*args),
        Command::Bugs(args) => cmd::bugs::run(args),
        Command::Compare(args) => cmd::compare::run(args),
        Command::Bench(args) => cmd::bench::run(args),
        Command::Model(args) => cmd::model::run(args),
        Command::Debug(args) => cmd::debug::run(*args),
        Command::Test(args) => cmd::test::run(args),
        Command::Trace(args) => cmd::trace::run(args),
        Command::Run(args) => cmd::run::run(args),
        Command::Image(args) => cmd::image::run(args),
        Command::Doctor(args) => cmd::doctor::run(args),
        Command::Clean(args) => cmd::clean::run(args),
    };
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Error::CannotRun(why) = &error {
                eprintln!("error: {why}");
            }
            ExitCode::from(error.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }
}
