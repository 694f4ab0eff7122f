//! The OCI runtime: create, start, exec, kill, pause, update and delete of one container from its specification.
//!
//! Everything here is synchronous and may block. [`create`] and [`Container::exec`] must be called in a process that
//! has one thread and nothing to lose: they join namespaces, change the working folder and clone from themselves. The
//! shim forks such a worker for each call, `hoist-runtime` is one by nature.
//!
//! ```text
//!   worker (host namespaces)                       init (the container's namespaces)
//!   cgroups, root file system and binds
//!   as detached mounts, seccomp program
//!   clone3(all namespaces, pidfd, cgroup) ───────▶ joins v1 cgroups, waits for its id maps
//!   id maps, rlimits, oom_score_adj ─────────────▶ attaches mounts by descriptor, devices, masks
//!   hooks in the host's namespaces ◀────────────── asks for them
//!                                   ─────────────▶ pivot_root, user, capabilities, seccomp
//!   state.json                      ◀───────────── ready
//!   Created{pid, pidfd, console, gate}             waits for the gate, then execve
//! ```

mod container;
mod created;
mod error;
mod exec;
mod fork;
mod hooks;
mod init;
mod limits;
mod mount_options;
mod options;
mod plan;
mod program;
mod rootfs;
mod seccomp;
mod state;
mod worker;

/// The specification, for programs that need no other part of `spec`.
pub use ::spec::runtime as spec;
pub use container::Container;
pub use created::{Created, Gate, Progress, channel, receive_outcome, send_outcome};
pub use error::{Error, Result};
pub use options::{CreateOptions, ExecOptions, GateKind, State, Status, Stdio};
pub use sys::cgroup::{OomSource, Stats};
pub use worker::create;
