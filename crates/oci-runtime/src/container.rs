//! A container as a handle.

use std::path::{Path, PathBuf};

use spec::runtime::{Resources, Spec};
use sys::cgroup::{OomSource, Stats};

use crate::created::Created;
use crate::error::{Error, Result};
use crate::options::{CreateOptions, ExecOptions, State};

fn unbuilt<T>(feature: &str) -> Result<T> {
    Err(Error::unimplemented(feature))
}

/// Sets a container up until just before `execve`. On failure nothing is left.
pub fn create(_spec: &Spec, _options: CreateOptions<'_>) -> Result<Created> {
    unbuilt("create")
}

/// A container that was created.
#[derive(Debug)]
pub struct Container {
    #[expect(dead_code, reason = "read once state is kept")]
    folder: PathBuf,
}

impl Container {
    /// Reads `<state_root>/<id>/state.json`.
    pub fn load(state_root: &Path, id: &str) -> Result<Self> {
        Ok(Self {
            folder: state_root.join(id),
        })
    }

    /// Where the container is in its life.
    pub fn state(&self) -> Result<State> {
        unbuilt("state")
    }

    /// Sets up another process in the container; it waits at its gate, like the first one.
    pub fn exec(&self, _options: ExecOptions<'_>) -> Result<Created> {
        unbuilt("exec")
    }

    /// Opens the gate of [`crate::GateKind::Fifo`]; poststart hooks run.
    pub fn start(&self) -> Result<()> {
        unbuilt("start")
    }

    /// Runs the poststart hooks; for callers that open a [`crate::Gate`] themselves.
    pub fn started(&self) -> Result<()> {
        unbuilt("started")
    }

    /// Sends a signal to the first process, or with `all` to every process of the cgroup.
    pub fn kill(&self, _signal: i32, _all: bool) -> Result<()> {
        unbuilt("kill")
    }

    /// Freezes all processes.
    pub fn pause(&self) -> Result<()> {
        unbuilt("pause")
    }

    /// Thaws all processes.
    pub fn resume(&self) -> Result<()> {
        unbuilt("resume")
    }

    /// Changes limits; fields that are absent stay as they are.
    pub fn update(&self, _resources: &Resources) -> Result<()> {
        unbuilt("update")
    }

    /// Removes the cgroup and the state, runs poststop hooks. A living container is refused, or with `force` killed first.
    pub fn delete(self, _force: bool) -> Result<()> {
        unbuilt("delete")
    }

    /// Process ids of all processes of the container, in the caller's namespace.
    pub fn pids(&self) -> Result<Vec<i32>> {
        unbuilt("pids")
    }

    /// What the container uses.
    pub fn stats(&self) -> Result<Stats> {
        unbuilt("stats")
    }

    /// A descriptor that tells of out-of-memory kills.
    pub fn oom_source(&self) -> Result<OomSource> {
        unbuilt("oom")
    }
}
