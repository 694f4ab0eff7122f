//! The daemon's settings: built-in defaults, then the configuration file, then the command line.
//!
//! containerd's files are read (versions 1 to 4, the parts that exist here). An unknown key is a warning with
//! its line, an ill-typed one refuses the start. No file is needed.

mod file;
mod section;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use section::ConfigError;
use section::{FILE_BYTES_MAX, Text};

/// Under which name, and so with which default paths, the daemon was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Called as `hoistd`.
    Hoist,
    /// Called through a link named `containerd`: containerd's own paths.
    Containerd,
}

impl Identity {
    /// Reads the identity from the program name of the command line.
    pub(crate) fn of(program: &Path) -> Self {
        match program.file_name() {
            Some(name) if name == "containerd" => Self::Containerd,
            _ => Self::Hoist,
        }
    }

    /// The word that default paths carry.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Hoist => "hoist",
            Self::Containerd => "containerd",
        }
    }

    /// The configuration file that is read if it exists.
    pub(crate) fn config_path(self) -> PathBuf {
        format!("/etc/{}/config.toml", self.word()).into()
    }
}

/// What the command line sets over the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides {
    /// `--root`.
    pub root: Option<PathBuf>,
    /// `--state`.
    pub state: Option<PathBuf>,
    /// `--address`.
    pub address: Option<PathBuf>,
    /// `--log-level`.
    pub log_level: Option<String>,
}

/// Settings of the garbage collection scheduler (containerd `io.containerd.gc.v1.scheduler`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Gc {
    /// The largest share of time spent collecting, 0 to 0.5.
    pub pause_threshold: f64,
    /// Deletions that schedule a run; 0: any deletion does.
    pub deletion_threshold: u64,
    /// Mutations after which a periodic run is worth its while.
    pub mutation_threshold: u64,
    /// Wait between trigger and run.
    pub schedule_delay: Duration,
    /// Wait before the first run.
    pub startup_delay: Duration,
}

/// Settings of the overlay snapshotter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Overlay {
    /// Another folder than the default.
    pub root_path: Option<PathBuf>,
    /// Adds the label `containerd.io/snapshot/overlay.upperdir`.
    pub upperdir_label: bool,
    /// Deletes a removed snapshot's files before answering.
    pub sync_remove: bool,
    /// Lets clients change owners file by file where mounts can't map ids.
    pub slow_chown: bool,
    /// Further mount options.
    pub mount_options: Vec<String>,
}

/// Settings of the transfer service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transfer {
    /// Layers downloaded at once in one pull.
    pub max_concurrent_downloads: usize,
    /// Folders with `hosts.toml` files, `:`-separated; empty for none.
    pub config_path: String,
}

/// All settings in force.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// Persistent data.
    pub root: PathBuf,
    /// Data that ends with the boot.
    pub state: PathBuf,
    /// The gRPC socket.
    pub address: PathBuf,
    /// The ttrpc socket.
    pub ttrpc_address: PathBuf,
    /// Owner of the sockets.
    pub uid: u32,
    /// Group of the sockets.
    pub gid: u32,
    /// Largest message taken, in bytes.
    pub max_recv_message_size: usize,
    /// Largest message sent, in bytes.
    pub max_send_message_size: usize,
    /// Log level: trace, debug, info, warn, error, fatal or panic.
    pub log_level: String,
    /// Own out-of-memory score; 0 leaves it.
    pub oom_score: i32,
    /// Parts that are not started.
    pub disabled_plugins: Vec<String>,
    /// Parts without which the daemon refuses to start.
    pub required_plugins: Vec<String>,
    /// Variables added to the environment of shims.
    pub shim_env: Vec<String>,
    /// Collector.
    pub gc: Gc,
    /// Overlay snapshotter.
    pub overlay: Overlay,
    /// Transfer service.
    pub transfer: Transfer,
}

impl Config {
    /// The settings of a daemon without a file.
    pub(crate) fn new(identity: Identity) -> Self {
        let word = identity.word();
        let address = PathBuf::from(format!("/run/{word}/{word}.sock"));
        Self {
            root: format!("/var/lib/{word}").into(),
            state: format!("/run/{word}").into(),
            ttrpc_address: ttrpc_of(&address),
            address,
            uid: 0,
            gid: 0,
            max_recv_message_size: 16 << 20,
            max_send_message_size: 16 << 20,
            log_level: "info".into(),
            oom_score: 0,
            disabled_plugins: Vec::new(),
            required_plugins: Vec::new(),
            shim_env: Vec::new(),
            gc: Gc {
                pause_threshold: 0.02,
                deletion_threshold: 0,
                mutation_threshold: 100,
                schedule_delay: Duration::ZERO,
                startup_delay: Duration::from_millis(100),
            },
            overlay: Overlay::default(),
            transfer: Transfer {
                max_concurrent_downloads: 3,
                config_path: String::new(),
            },
        }
    }

    /// Loads the file (`None`: the default one, if it exists), applies the command line and checks the whole.
    ///
    /// Returns the warnings to log once logging is up.
    pub(crate) fn load(
        identity: Identity,
        file: Option<&Path>,
        overrides: &Overrides,
    ) -> Result<(Self, Vec<String>), ConfigError> {
        let mut config = Self::new(identity);
        let mut warnings = Vec::new();
        let default = identity.config_path();
        if let Some(text) = read(file.unwrap_or(&default), file.is_none())? {
            let path = file.unwrap_or(&default).display().to_string();
            config.merge(
                Text {
                    path: &path,
                    text: &text,
                },
                &mut warnings,
            )?;
        }
        config.apply(overrides);
        config.check()?;
        Ok((config, warnings))
    }

    fn apply(&mut self, overrides: &Overrides) {
        set(&mut self.root, overrides.root.clone());
        set(&mut self.state, overrides.state.clone());
        if let Some(address) = &overrides.address {
            self.address.clone_from(address);
            self.ttrpc_address = ttrpc_of(address);
        }
        set(&mut self.log_level, overrides.log_level.clone());
    }

    fn check(&self) -> Result<(), ConfigError> {
        for (name, path) in [
            ("root", &self.root),
            ("state", &self.state),
            ("grpc.address", &self.address),
        ] {
            if !path.is_absolute() {
                return Err(ConfigError::Invalid(format!(
                    "{name} {path:?} must be an absolute path"
                )));
            }
        }
        if self.root == self.state {
            return Err(ConfigError::Invalid(format!(
                "root and state must differ, both are {:?}",
                self.root
            )));
        }
        let levels = [
            "trace", "debug", "info", "warn", "warning", "error", "fatal", "panic",
        ];
        if !levels.contains(&self.log_level.as_str()) {
            let message = format!(
                "log level {:?} must be one of {}",
                self.log_level,
                levels.join(", ")
            );
            return Err(ConfigError::Invalid(message));
        }
        Ok(())
    }
}

fn ttrpc_of(address: &Path) -> PathBuf {
    let mut path = address.as_os_str().to_owned();
    path.push(".ttrpc");
    path.into()
}

fn set<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

fn read(path: &Path, may_be_absent: bool) -> Result<Option<String>, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.display().to_string(),
        source,
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if may_be_absent && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    let read = file
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(ConfigError::Invalid(format!(
            "configuration file {path:?} is larger than {FILE_BYTES_MAX} bytes"
        )));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests;
