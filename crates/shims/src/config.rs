//! What the program decides.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sys::sealed::SealedImage;

/// Settings of a [`crate::Manager`].
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder of bundles, `<state>/io.containerd.runtime.v2.task`.
    pub state: PathBuf,
    /// The folder of what outlives a reboot, `<root>/io.containerd.runtime.v2.task`.
    pub root: PathBuf,
    /// The folder of shim sockets; at most [`shim_protocol::address::SOCKET_DIR_BYTES_MAX`] bytes.
    pub socket_dir: PathBuf,
    /// The daemon's socket for clients.
    pub grpc_address: String,
    /// The daemon's socket for shims.
    pub ttrpc_address: String,
    /// The daemon's own program, which old shims run to publish events.
    pub daemon_binary: PathBuf,
    /// The daemon's version.
    pub daemon_version: String,
    /// Whether shims log details.
    pub debug: bool,
    /// The environment of external shims.
    pub environment: Vec<(OsString, OsString)>,
    /// Folders in which external shims are looked for, in order: `$PATH`, then the daemon's own.
    pub search_path: Vec<PathBuf>,
    /// Our own shim; without it every runtime is an external one.
    pub built_in: Option<BuiltIn>,
    /// Limits of time.
    pub timeouts: Timeouts,
}

/// Our own shim.
#[derive(Debug, Clone)]
pub struct BuiltIn {
    /// The program.
    pub image: Arc<SealedImage>,
    /// The runtime names that mean it, such as `io.containerd.runc.v2`.
    pub names: Vec<String>,
}

/// Limits of time; upstream's names where it has one.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// To find a shim again after a restart (`io.containerd.timeout.shim.load`).
    pub load: Duration,
    /// To clean up after a dead shim (`io.containerd.timeout.shim.cleanup`).
    pub cleanup: Duration,
    /// For a shim to answer that it shuts down (`io.containerd.timeout.shim.shutdown`).
    pub shutdown: Duration,
    /// For a shim to start and answer.
    pub start: Duration,
    /// For calls that may run hooks, mounts or the removal of cgroups: create, start, exec, delete, checkpoint.
    pub long_call: Duration,
    /// For every other call except a wait.
    pub call: Duration,
}

impl Timeouts {
    /// What upstream has, and limits where it has none.
    pub const UPSTREAM: Self = Self {
        load: Duration::from_secs(5),
        cleanup: Duration::from_secs(5),
        shutdown: Duration::from_secs(3),
        start: Duration::from_secs(60),
        long_call: Duration::from_secs(600),
        call: Duration::from_secs(60),
    };
}
