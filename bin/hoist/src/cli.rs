//! The command line: docker's verbs, one struct a command.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Runs containers with hoistd.
#[derive(Debug, Parser)]
#[command(
    name = "hoist",
    version,
    propagate_version = true,
    after_help = "Examples:\n  hoist run --rm alpine echo hello\n  hoist run -d --name web --net host nginx\n  hoist logs -f web\n  \
                  hoist exec -it web sh\n  hoist pull registry.example.com/team/app:1.2"
)]
pub(crate) struct Cli {
    /// The daemon's socket.
    #[arg(
        long,
        global = true,
        value_name = "SOCKET",
        env = "HOIST_ADDRESS",
        default_value = "/run/hoist/hoist.sock"
    )]
    pub address: PathBuf,
    /// The namespace of containers and images.
    #[arg(
        short,
        long,
        global = true,
        value_name = "NAMESPACE",
        env = "HOIST_NAMESPACE",
        default_value = "default"
    )]
    pub namespace: String,
    /// Print JSON, one value a line where there are several.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Creates a container from an image and starts it.
    Run(Box<RunArgs>),
    /// Lists containers.
    Ps(PsArgs),
    /// Shows what a container wrote.
    Logs(LogsArgs),
    /// Runs a further command in a running container.
    Exec(ExecArgs),
    /// Stops running containers: SIGTERM, then SIGKILL after a while.
    Stop(StopArgs),
    /// Removes containers.
    Rm(RmArgs),
    /// Fetches an image and unpacks it.
    Pull(PullArgs),
    /// Lists images.
    Images(ImagesArgs),
    /// Removes images.
    Rmi(RmiArgs),
    /// Shows all that is known of a container or an image, as JSON.
    Inspect(InspectArgs),
    /// Shows events as they happen.
    Events(EventsArgs),
    /// Shows the versions of this program and of the daemon.
    Version,
    /// Shows the daemon, its parts and the host.
    Info,
}

/// Networks that a container can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Network {
    /// A network namespace of its own with nothing but loopback.
    None,
    /// The host's network.
    Host,
}

/// `hoist run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hoist run --rm alpine ls /\n  hoist run -it --rm alpine sh\n  \
                  hoist run -d --name db -v /srv/db:/data -e MODE=fast --memory 512m --cpus 1.5 example/db:2\n\n\
                  The command's status is the status of hoist run. Detach from a terminal with Ctrl-P Ctrl-Q.\n\
                  There is no bridge network yet: --net none (the default) has only loopback, --net host is the host's."
)]
pub(crate) struct RunArgs {
    /// Leave it running in the background and print its name.
    #[arg(short, long)]
    pub detach: bool,
    /// Give it a terminal.
    #[arg(short, long)]
    pub tty: bool,
    /// Keep its standard input open.
    #[arg(short, long)]
    pub interactive: bool,
    /// Remove it when it ends.
    #[arg(long)]
    pub rm: bool,
    /// Its name; made up when absent.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Set a variable; without a value, pass ours on.
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub env: Vec<String>,
    /// Bind a folder or file of the host: HOST:CONTAINER[:ro].
    #[arg(short, long, value_name = "HOST:CONTAINER[:OPTIONS]")]
    pub volume: Vec<String>,
    /// Mount: type=bind|tmpfs,source=…,target=…[,readonly].
    #[arg(long, value_name = "KEY=VALUE,…")]
    pub mount: Vec<String>,
    /// The folder to start in.
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Who runs it: USER[:GROUP], by name or number.
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// The program, over the image's.
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// Most memory: bytes, or with k, m, g.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Processors, such as 1.5.
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<f64>,
    /// Most processes; 0 for no limit.
    #[arg(long, value_name = "NUMBER")]
    pub pids_limit: Option<i64>,
    /// Add a capability, such as NET_ADMIN, or ALL.
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// Drop a capability, or ALL.
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    /// Give it all that this host's root has.
    #[arg(long)]
    pub privileged: bool,
    /// Mount its root file system read-only.
    #[arg(long)]
    pub read_only: bool,
    /// Its host name; its name when absent.
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Its network.
    #[arg(long, value_name = "NETWORK", default_value = "none")]
    pub net: Network,
    /// The platform of the image, such as linux/arm64.
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
    #[command(flatten)]
    /// How to reach the registry.
    pub registry: RegistryArgs,
    /// The image.
    pub image: String,
    /// The command and its arguments, over the image's.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// How to reach a registry.
#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    /// Speak plain HTTP to the registry.
    #[arg(long)]
    pub plain_http: bool,
    /// Credentials for the registry: USER:PASSWORD.
    #[arg(
        long,
        value_name = "USER:PASSWORD",
        env = "HOIST_REGISTRY_CREDENTIALS",
        hide_env_values = true
    )]
    pub credentials: Option<String>,
    /// Folder with hosts.toml files, as the daemon sees it.
    #[arg(long, value_name = "DIR")]
    pub hosts_dir: Option<String>,
}

/// `hoist ps`.
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Show stopped containers too.
    #[arg(short, long)]
    pub all: bool,
    /// Print only names.
    #[arg(short, long)]
    pub quiet: bool,
    /// Show every namespace.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
}

/// `hoist logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Go on as more is written, until the container ends.
    #[arg(short, long)]
    pub follow: bool,
    /// Show only the last lines.
    #[arg(long, value_name = "LINES")]
    pub tail: Option<usize>,
    /// Show only what was written since: a time (RFC 3339) or an age such as 10m.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Put the time before each line.
    #[arg(short, long)]
    pub timestamps: bool,
    /// The container.
    pub container: String,
}

/// `hoist exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Leave it running in the background.
    #[arg(short, long)]
    pub detach: bool,
    /// Give it a terminal.
    #[arg(short, long)]
    pub tty: bool,
    /// Keep its standard input open.
    #[arg(short, long)]
    pub interactive: bool,
    /// Set a variable.
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// The folder to start in.
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Who runs it.
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// The container.
    pub container: String,
    /// The command and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub command: Vec<String>,
}

/// `hoist stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Seconds between SIGTERM and SIGKILL.
    #[arg(short, long, value_name = "SECONDS", default_value_t = 10)]
    pub time: u64,
    /// The signal to begin with; the image's stop signal when absent.
    #[arg(short, long, value_name = "SIGNAL")]
    pub signal: Option<String>,
    /// The containers.
    #[arg(required = true)]
    pub containers: Vec<String>,
}

/// `hoist rm`.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Kill it if it runs.
    #[arg(short, long)]
    pub force: bool,
    /// The containers.
    #[arg(required = true)]
    pub containers: Vec<String>,
}

/// `hoist pull`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hoist pull alpine\n  hoist pull --platform linux/arm64 alpine:3.20\n  \
                  hoist pull --plain-http localhost:5000/app"
)]
pub(crate) struct PullArgs {
    /// The platform, such as linux/arm64; this host's when absent.
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
    /// Print nothing but the name.
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    /// How to reach the registry.
    pub registry: RegistryArgs,
    /// The image.
    pub image: String,
}

/// `hoist images`.
#[derive(Debug, Args)]
pub(crate) struct ImagesArgs {
    /// Print only names.
    #[arg(short, long)]
    pub quiet: bool,
    /// Show every namespace.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
}

/// `hoist rmi`.
#[derive(Debug, Args)]
pub(crate) struct RmiArgs {
    /// The images.
    #[arg(required = true)]
    pub images: Vec<String>,
}

/// `hoist inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Containers or images.
    #[arg(required = true)]
    pub names: Vec<String>,
}

/// `hoist events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Show every namespace.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only what matches, in containerd's filter language.
    #[arg(long, value_name = "FILTER")]
    pub filter: Vec<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn no_two_options_share_a_name() {
        super::Cli::command().debug_assert();
    }
}
