//! What callers say beside the specification, and what they are told.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use model::{Mount, Timestamp};
use spec::runtime::Process;

/// The standard streams of a process.
#[derive(Debug)]
pub enum Stdio {
    /// Standard input, output and error as they are.
    Fds([OwnedFd; 3]),
    /// A pseudo terminal that is made inside the container; its master comes back as [`crate::Created::console`].
    /// The size is that of `process.consoleSize`.
    Terminal,
}

/// How the first process waits for its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateKind {
    /// On a socket that the caller keeps: [`crate::Created::gate`]. The result of `execve` comes back over it.
    Socket,
    /// On `exec.fifo` in the state folder: another process opens it with [`crate::Container::start`].
    Fifo,
}

/// What [`crate::create`] needs beside the specification.
#[derive(Debug)]
pub struct CreateOptions<'a> {
    /// The identifier; becomes a folder name and the default cgroup name.
    pub id: &'a str,
    /// The bundle: an absolute folder against which relative paths of the specification are resolved.
    pub bundle: &'a Path,
    /// State is kept in `<state_root>/<id>/state.json`, in runc's form.
    pub state_root: &'a Path,
    /// What to mount as the root, in order, each at its `target` below the root; empty when `root.path` holds the files.
    pub rootfs: &'a [Mount],
    /// Mount `rootfs` at `root.path` in the host's mount table instead of detached. The caller unmounts.
    pub rootfs_in_host: bool,
    /// The standard streams.
    pub stdio: Stdio,
    /// How the process waits for its start.
    pub gate: GateKind,
    /// Make the process a child of the caller's parent (a forked worker of the shim does), not of the caller.
    pub clone_parent: bool,
    /// Use `MS_MOVE` and `chroot` where `pivot_root` can't work (an initramfs root).
    pub no_pivot: bool,
    /// Keep the session keyring instead of joining a new one.
    pub no_new_keyring: bool,
    /// `cgroupsPath` is `slice:prefix:name`, made by systemd.
    pub systemd_cgroup: bool,
    /// Descriptors that the process gets from number 3 on, in order.
    pub preserved_fds: Vec<OwnedFd>,
    /// The time of creation to record.
    pub created: Timestamp,
}

/// What [`crate::Container::exec`] needs.
#[derive(Debug)]
pub struct ExecOptions<'a> {
    /// The process; capabilities, `no_new_privileges`, the AppArmor profile and the SELinux label are taken
    /// as they stand here, seccomp and namespaces from the container.
    pub process: &'a Process,
    /// The standard streams.
    pub stdio: Stdio,
    /// Make the process a child of the caller's parent.
    pub clone_parent: bool,
    /// Keep the session keyring instead of joining a new one.
    pub no_new_keyring: bool,
    /// A folder below the container's cgroup; `None` is the container's cgroup itself.
    pub cgroup: Option<&'a str>,
    /// Take part even though the container is paused (the process then starts frozen).
    pub ignore_paused: bool,
    /// Descriptors that the process gets from number 3 on, in order.
    pub preserved_fds: Vec<OwnedFd>,
}

/// Where a container is in its life (runtime.md#state).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Set up, the user's program not started.
    Created,
    /// The user's program runs.
    Running,
    /// Frozen.
    Paused,
    /// The first process is gone.
    Stopped,
}

impl Status {
    /// The word of the specification.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What is known of a container from outside.
#[derive(Debug, Clone)]
pub struct State {
    /// The version of the specification in the container's own document.
    pub oci_version: String,
    /// The identifier.
    pub id: String,
    /// Where it is in its life.
    pub status: Status,
    /// The first process in the caller's process namespace; 0 when it is gone.
    pub pid: i32,
    /// The bundle.
    pub bundle: PathBuf,
    /// The root file system.
    pub rootfs: PathBuf,
    /// When it was created.
    pub created: Timestamp,
    /// The annotations of the specification.
    pub annotations: std::collections::BTreeMap<String, String>,
}
