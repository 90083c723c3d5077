//! `cargo xtask bench many`.

use super::measure;
use crate::artifacts::Kind;
use crate::error::{Error, Result};
use crate::json_file::JsonFile;
use crate::launch::Launch;
use crate::options::{Accel, Boot, Machine};
use crate::report::accel_name;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::time::Instant;
use wire::Options;
use wire::cmdline::{Reaping, Workload};

/// Options of `bench many`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// How many threads.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    threads: u32,
    /// CPUs.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=255))]
    smp: u32,
    /// Memory, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(64..))]
    mem: u32,
    /// What executes the guest.
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    accel: Accel,
    /// Hand out stacks as zeros, so that how much of each was used can be told.
    #[arg(long)]
    watermark: bool,
    /// Write all results to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The QEMU to use [default: $PALISADE_QEMU, then qemu-system-x86_64 in PATH].
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,
}

/// What a thread takes: the guest's name for it, and words.
const ROWS: [(&str, &str); 6] = [
    ("threads.stack-bytes-each", "frames behind the stack; its guards take none"),
    ("threads.table-bytes-each", "page tables, of stacks and of the heap that has grown"),
    ("threads.heap-bytes-each", "heap memory, with what the allocator adds; of this:"),
    ("threads.object-bytes", "  the thread object, with what it runs and what it returns"),
    ("threads.slot-bytes", "  what is known of its range of addresses"),
    ("threads.bytes-each", "in all"),
];

/// Does it.
///
/// # Errors
/// If it cannot run, or a promise broke.
pub fn run(args: &Args) -> Result<()> {
    let json = args.json.as_deref().map(JsonFile::open).transpose()?;
    let Args { smp, mem, accel, .. } = *args;
    let machine = Machine { smp, mem, accel, boot: Boot::Direct, qemu: args.qemu.clone(), ..Machine::default() };
    let options = Options {
        workload: Workload::Many,
        rounds: 1,
        threads: args.threads,
        reaping: Reaping::PerCpu, // the end is not what is measured: eight stacks for one shootdown
        watermark: args.watermark,
        ..Options::default()
    };
    let launch = Launch::without_modules(&machine, Kind::Release, &options.to_string())?;
    let begun = Instant::now();
    let outcome = measure(&launch)?;
    let took = begun.elapsed().as_secs_f64();
    let count =
        |name: &str| outcome.count(name).ok_or_else(|| Error::CannotRun(format!("the guest did not send '{name}'")));
    let threads = count("threads.at-once")?;
    println!(
        "{threads} threads on stacks of one page, all alive at once; {smp} CPUs, {mem} MiB; QEMU {}, {}; {took:.1} s",
        launch.qemu.version,
        accel_name(&launch)
    );
    println!("\n{:>9}  of each thread", "bytes");
    let mut figures = Map::new();
    for (name, words) in ROWS {
        let bytes = count(name)?;
        println!("{bytes:>9}  {words}");
        figures.insert(name.to_owned(), Value::from(bytes));
    }
    println!("\nwhat there was before is there after: {} accounts", outcome.balances.len());
    if let Some(file) = json {
        file.write(&json!({
            "threads": threads,
            "cpus": smp,
            "memory_mib": mem,
            "watermark": args.watermark,
            "qemu": launch.qemu.version,
            "accelerator": accel_name(&launch),
            "seconds": took,
            "bytes": figures,
        }))?;
    }
    Ok(())
}
