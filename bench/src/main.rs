//! Figures against peers: the same calls by one long-lived client on each daemon, in one run, as ratios.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks to the terminal"
)]

mod cycle;
mod daemon;
mod image;
mod memory;
mod report;

use std::path::PathBuf;

use clap::Parser;

use crate::daemon::{Daemon, Kind};
use crate::report::{Figures, Row};

/// Measures hoistd beside containerd.
#[derive(Debug, Parser)]
#[command(
    after_help = "Examples:\n  bench --stage target/stage/bin\n  bench --socket /run/other/containerd.sock --only-socket"
)]
struct Cli {
    /// Folder with our programs.
    #[arg(long, value_name = "DIR", default_value = "target/stage/bin")]
    stage: PathBuf,
    /// Rounds of each figure; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Containers of one round of create, start, wait, delete.
    #[arg(long, default_value_t = 40)]
    cycles: usize,
    /// Idle containers for the memory figure.
    #[arg(long, default_value_t = 20)]
    idle: usize,
    /// A further daemon that runs already.
    #[arg(long, value_name = "SOCKET")]
    socket: Option<PathBuf>,
    /// Measure only that one.
    #[arg(long, requires = "socket")]
    only_socket: bool,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(run(&cli))
}

async fn run(cli: &Cli) -> anyhow::Result<()> {
    let mut columns = Vec::new();
    let mut daemons = Vec::new();
    if !cli.only_socket {
        for kind in [Kind::Hoistd, Kind::Containerd] {
            daemons.push(Daemon::start(kind, &cli.stage, cli.rounds).await?);
        }
    }
    if let Some(socket) = &cli.socket {
        daemons.push(Daemon::running(socket.clone()));
    }
    for daemon in &daemons {
        columns.push((daemon.name().to_owned(), Figures::default()));
    }
    let mut benches = Vec::new();
    for daemon in &daemons {
        benches.push(cycle::Bench::new(daemon).await?);
    }
    // Rounds alternate, so that whatever else the machine does meets every daemon alike.
    for round in 0..cli.rounds {
        for (index, bench) in benches.iter().enumerate() {
            eprintln!(
                "bench: round {} of {}: {}",
                round + 1,
                cli.rounds,
                columns[index].0
            );
            let rate = bench.cycles(cli.cycles).await?;
            columns[index].1.add(Row::CyclesPerSecond, rate);
            let exec = bench.exec(cli.cycles / 4).await?;
            columns[index].1.add(Row::ExecMilliseconds, exec);
        }
    }
    for (index, bench) in benches.iter().enumerate() {
        eprintln!(
            "bench: memory of {} idle containers: {}",
            cli.idle, columns[index].0
        );
        let memory = bench.idle(cli.idle, &daemons[index]).await?;
        columns[index]
            .1
            .add(Row::IdlePssKilobytes, memory.pss_kb_per_container);
        columns[index].1.add(
            Row::ShimPrivateDirtyKilobytes,
            memory.private_dirty_kb_per_container,
        );
    }
    for (daemon, column) in daemons.iter().zip(&mut columns) {
        for boot in daemon.boots() {
            column.1.add(Row::BootMilliseconds, *boot);
        }
        if let Some(rss) = daemon.idle_rss_kb() {
            column.1.add(Row::IdleDaemonRssKilobytes, rss);
        }
    }
    for bench in benches {
        bench.clean().await?;
    }
    for daemon in daemons {
        daemon.stop()?;
    }
    print!("{}", report::table(&columns));
    Ok(())
}
