//! `hoistd`: a container runtime daemon that takes the place of containerd.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks to the terminal"
)]

mod assemble;
mod cli;
mod config;
mod foreign;
mod ledger;
mod logging;
mod notify;
mod publish;
mod routes;
mod run;
mod servers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, ConfigCommand};
use crate::config::{Config, Identity, Overrides};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let program = std::env::args_os()
        .next()
        .map(PathBuf::from)
        .unwrap_or_default();
    match dispatch(cli, Identity::of(&program)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error:#}", Identity::of(&program).word());
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli, identity: Identity) -> anyhow::Result<()> {
    if cli.version {
        println!(
            "{} {} {}",
            identity.word(),
            env!("CARGO_PKG_REPOSITORY"),
            env!("CARGO_PKG_VERSION")
        );
        return Ok(());
    }
    let overrides = Overrides {
        root: cli.root,
        state: cli.state,
        address: cli.address,
        log_level: cli.log_level,
    };
    match cli.command {
        Some(Command::Config {
            what: ConfigCommand::Default,
        }) => print!("{}", Config::new(identity).to_toml()),
        Some(Command::Config {
            what: ConfigCommand::Dump,
        }) => {
            let (config, warnings) = Config::load(identity, cli.config.as_deref(), &overrides)?;
            warnings
                .iter()
                .for_each(|warning| eprintln!("warning: {warning}"));
            print!("{}", config.to_toml());
        }
        Some(Command::Publish { namespace, topic }) => {
            let address = overrides.address.unwrap_or(Config::new(identity).address);
            publish::publish(&address, &namespace, &topic)?;
        }
        None => {
            let (config, warnings) = Config::load(identity, cli.config.as_deref(), &overrides)?;
            logging::init(&config.log_level);
            warnings
                .iter()
                .for_each(|warning| tracing::warn!("{warning}"));
            run::run(&config, identity)?;
        }
    }
    Ok(())
}
