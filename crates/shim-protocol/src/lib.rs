//! What a daemon and its shims agree on. Values and text only: no IO, no process, no socket.
//!
//! - [`bundle`]: the files of a container's folder and who writes them.
//! - [`bootstrap`]: what a shim is told at start and what it answers, in all forms in use, and the **direct
//!   bootstrap** of hoistd.
//! - [`address`]: where a shim listens.
//! - [`options`][]: `containerd.runc.v1.Options`.
//! - [`stdio`]: what stands in the `stdin`, `stdout` and `stderr` fields of a task.
//! - [`exit`]: the record of an ended process, written before its event is sent.
//! - [`log`]: the log lines that CRI prescribes.
//! - [`group`]: which containers share a shim.

pub mod address;
pub mod bootstrap;
pub mod bundle;
mod error;
pub mod exit;
pub mod group;
pub mod log;
pub mod options;
pub mod stdio;

pub use error::Error;
