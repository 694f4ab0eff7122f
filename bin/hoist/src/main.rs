//! `hoist`: the command line program that people use.

mod builtin;
mod cli;
mod commands;
mod context;
mod fifo;
mod image;
mod log;
mod output;
mod progress;
mod rootfs;
mod session;
mod suggest;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::context::Context;

/// The status of a failure that is ours and not the container's, as docker has it.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("start: {error}"), 1),
    };
    let containers = matches!(cli.command, Command::Run(_) | Command::Exec(_));
    let ended = runtime.block_on(dispatch(cli));
    // Standard input may still be read by a thread that nothing can wake.
    runtime.shutdown_background();
    match ended {
        Ok(code) => code,
        Err(error) => complain(&format!("{error:#}"), if containers { FAILED } else { 1 }),
    }
}

fn complain(message: &str, status: u8) -> ExitCode {
    output::complain(message);
    ExitCode::from(status)
}

async fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let context = Context::connect(&cli).await?;
    match cli.command {
        Command::Run(args) => return commands::run::run(&context, *args).await,
        Command::Exec(args) => return commands::exec::exec(&context, args).await,
        Command::Ps(args) => commands::ps::ps(&context, &args).await?,
        Command::Logs(args) => commands::logs::logs(&context, &args).await?,
        Command::Stop(args) => commands::stop::stop(&context, &args).await?,
        Command::Rm(args) => commands::rm::rm(&context, &args).await?,
        Command::Pull(args) => commands::pull::pull(&context, &args).await?,
        Command::Images(args) => commands::images::images(&context, &args).await?,
        Command::Rmi(args) => commands::rmi::rmi(&context, &args).await?,
        Command::Inspect(args) => commands::inspect::inspect(&context, &args).await?,
        Command::Events(args) => commands::events::events(&context, &args).await?,
        Command::Version => commands::info::version(&context).await?,
        Command::Info => commands::info::info(&context).await?,
    }
    Ok(ExitCode::SUCCESS)
}
