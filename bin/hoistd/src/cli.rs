//! The command line of the daemon: containerd's flags and verbs.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// A container runtime daemon that takes the place of containerd.
#[derive(Debug, Parser)]
#[command(
    name = "hoistd",
    disable_version_flag = true,
    after_help = "Examples:\n  hoistd\n  hoistd --root /srv/hoist --state /run/hoist-2 --address /run/hoist-2/hoist.sock\n  \
                  hoistd --config /etc/hoist/config.toml --log-level debug\n\n\
                  Called through a link named `containerd`, it takes containerd's default paths."
)]
pub(crate) struct Cli {
    /// Configuration file (containerd's format); needs to exist only when named here.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of persistent data.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Folder of data that ends with the boot.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// gRPC socket; ttrpc is served on <ADDRESS>.ttrpc.
    #[arg(short, long, value_name = "ADDRESS", global = true)]
    pub address: Option<PathBuf>,
    /// trace, debug, info, warn, error, fatal or panic.
    #[arg(short, long, value_name = "LEVEL", global = true)]
    pub log_level: Option<String>,
    /// Print the version and end.
    #[arg(short, long)]
    pub version: bool,
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The verbs besides serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the configuration.
    Config {
        /// What to show.
        #[command(subcommand)]
        what: ConfigCommand,
    },
    /// Publishes one event, read from standard input as a google.protobuf.Any, to the daemon at --address.
    Publish {
        /// The event's namespace.
        #[arg(long, value_name = "NAMESPACE")]
        namespace: String,
        /// The event's topic, such as /tasks/exit.
        #[arg(long, value_name = "TOPIC")]
        topic: String,
    },
}

/// What `config` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(crate) enum ConfigCommand {
    /// The settings of a daemon without a file.
    Default,
    /// The settings that the given file and flags result in.
    Dump,
}
