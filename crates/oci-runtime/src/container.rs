//! A container as a handle.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use spec::runtime::Resources;
use sys::cgroup::{Cgroup, OomSource, Stats};

use crate::created::Created;
use crate::error::{Error, Result};
use crate::options::{ExecOptions, State, Status};
use crate::state::{self, FIFO_FILE, Record};
use crate::{exec, hooks, limits};

/// How long a forced deletion waits for killed processes.
const KILL_WAIT_MAX: Duration = Duration::from_secs(10);

/// A container that was created.
#[derive(Debug)]
pub struct Container {
    folder: PathBuf,
    record: Record,
}

impl Container {
    /// Reads `<state_root>/<id>/state.json`.
    pub fn load(state_root: &Path, id: &str) -> Result<Self> {
        state::check_id(id)?;
        let folder = state_root.join(id);
        Ok(Self {
            record: state::read(&folder, id)?,
            folder,
        })
    }

    /// All containers of a state folder; entries that are no container are passed over.
    pub fn list(state_root: &Path) -> Result<Vec<Self>> {
        let entries = match std::fs::read_dir(state_root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                return Err(Error::File {
                    action: "list",
                    path: state_root.to_path_buf(),
                    source,
                });
            }
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        Ok(names
            .iter()
            .filter_map(|name| Self::load(state_root, name).ok())
            .collect())
    }

    /// The identifier.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// The specification; the rules of its system call filter are kept elsewhere and absent here.
    pub fn spec(&self) -> &spec::runtime::Spec {
        &self.record.hoist.spec
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The container's cgroup.
    pub fn cgroup(&self) -> Cgroup {
        Cgroup::from_paths(&self.record.cgroup_paths)
    }

    /// The first process, if it still lives.
    pub(crate) fn process(&self) -> Result<Option<OwnedFd>> {
        let Ok(pidfd) = sys::pidfd::open(self.record.init_process_pid) else {
            return Ok(None);
        };
        // The number may have been given to another process since: only with its start time it is ours.
        let ours = sys::proc::stat(self.record.init_process_pid)
            .is_ok_and(|stat| stat.start_ticks == self.record.init_process_start && !stat.ended());
        Ok(ours.then_some(pidfd))
    }

    fn status(&self) -> Result<Status> {
        Ok(if self.process()?.is_none() {
            Status::Stopped
        } else if self.cgroup().is_frozen() {
            Status::Paused
        } else if self.folder.join(FIFO_FILE).exists() {
            Status::Created
        } else {
            Status::Running
        })
    }

    /// Where the container is in its life. A container of [`crate::GateKind::Socket`] counts as running from the start.
    pub fn state(&self) -> Result<State> {
        let status = self.status()?;
        Ok(State {
            oci_version: self.spec().oci_version.clone(),
            id: self.record.id.clone(),
            status,
            pid: if status == Status::Stopped {
                0
            } else {
                self.record.init_process_pid
            },
            bundle: self.record.hoist.bundle.clone(),
            rootfs: self.record.config.rootfs.clone(),
            created: self.record.created.parse().unwrap_or_default(),
            annotations: self.spec().annotations.clone(),
        })
    }

    fn refuse(&self, action: &'static str, status: Status) -> Error {
        Error::WrongStatus {
            action,
            id: self.record.id.clone(),
            status,
        }
    }

    /// Sets up another process in the container; it waits at its gate, like the first one.
    ///
    /// The caller has one thread; its dumpable attribute and the pid namespace of its children change.
    pub fn exec(&self, options: ExecOptions<'_>) -> Result<Created> {
        exec::exec(self, options)
    }

    /// Opens the gate of [`crate::GateKind::Fifo`]; poststart hooks run.
    pub fn start(&self) -> Result<()> {
        use rustix::fs::{CWD, Mode, OFlags, openat};
        let status = self.status()?;
        if status != Status::Created {
            return Err(self.refuse("start", status));
        }
        let path = self.folder.join(FIFO_FILE);
        let failed = |error: rustix::io::Errno| Error::File {
            action: "open",
            path: path.clone(),
            source: error.into(),
        };
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fifo = openat(CWD, &path, flags, Mode::empty()).map_err(failed)?;
        // Removed first: whoever comes second finds a container that is started.
        rustix::fs::unlink(&path).map_err(failed)?;
        rustix::io::write(&fifo, b"0").map_err(failed)?;
        self.started()
    }

    /// Runs the poststart hooks; for callers that open a [`crate::Gate`] themselves.
    pub fn started(&self) -> Result<()> {
        self.run_hooks("poststart", |hooks| &hooks.poststart, "running")
    }

    fn run_hooks(
        &self,
        kind: &str,
        list: impl Fn(&spec::runtime::Hooks) -> &Vec<spec::runtime::Hook>,
        status: &str,
    ) -> Result<()> {
        let Some(all) = &self.spec().hooks else {
            return Ok(());
        };
        let pid = if status == "stopped" {
            0
        } else {
            self.record.init_process_pid
        };
        let bundle = &self.record.hoist.bundle;
        let state = hooks::state_json(self.spec(), &self.record.id, status, pid, bundle);
        hooks::run(kind, list(all), &state)
    }

    /// Sends a signal to the first process, or with `all` to every process of the cgroup.
    pub fn kill(&self, signal: i32, all: bool) -> Result<()> {
        let cgroup = self.cgroup();
        if all {
            if signal == libc::SIGKILL {
                return Ok(cgroup.kill()?);
            }
            return Ok(cgroup.signal(signal)?);
        }
        let Some(process) = self.process()? else {
            return Err(Error::Reported {
                kind: model::ErrorKind::FailedPrecondition,
                message: "container not running".to_owned(),
            });
        };
        sys::pidfd::send_signal(process.as_fd(), signal)
            .map_err(|error| Error::step(format!("send signal {signal}"), error))?;
        if signal == libc::SIGKILL {
            // Without a pid namespace of its own the others would live on.
            if !self.has_own_pids() {
                cgroup.kill()?;
            }
            // A frozen process does not die.
            cgroup.thaw()?;
        }
        Ok(())
    }

    fn has_own_pids(&self) -> bool {
        let name = state::runc_name(sys::namespace::Kind::Pid);
        self.record
            .config
            .namespaces
            .iter()
            .any(|one| one.kind == name && one.path.is_empty())
    }

    /// Freezes all processes.
    pub fn pause(&self) -> Result<()> {
        match self.status()? {
            Status::Running | Status::Created => Ok(self.cgroup().freeze()?),
            other => Err(self.refuse("pause", other)),
        }
    }

    /// Thaws all processes.
    pub fn resume(&self) -> Result<()> {
        match self.status()? {
            Status::Paused => Ok(self.cgroup().thaw()?),
            other => Err(self.refuse("resume", other)),
        }
    }

    /// Changes limits; fields that are absent stay as they are.
    pub fn update(&self, resources: &Resources) -> Result<()> {
        let status = self.status()?;
        if status == Status::Stopped {
            return Err(self.refuse("update", status));
        }
        limits::update(&self.cgroup(), resources)
    }

    /// Removes the cgroup and the state, runs poststop hooks. A living container is refused, or with `force` killed
    /// first.
    pub fn delete(self, force: bool) -> Result<()> {
        let status = self.status()?;
        let cgroup = self.cgroup();
        match status {
            Status::Stopped => {}
            // A container that was never started can't stop by itself.
            Status::Created => self.end(&cgroup)?,
            _ if force => self.end(&cgroup)?,
            other => return Err(self.refuse("delete", other)),
        }
        // Those that the first process left behind, as it had no pid namespace of its own.
        cgroup.kill()?;
        cgroup.remove()?;
        let hooks = self.run_hooks("poststop", |hooks| &hooks.poststop, "stopped");
        state::remove(&self.folder)?;
        hooks
    }

    fn end(&self, cgroup: &Cgroup) -> Result<()> {
        let process = self.process()?;
        if let Some(process) = &process {
            let killed = sys::pidfd::send_signal(process.as_fd(), libc::SIGKILL);
            killed.map_err(|error| Error::step("kill the first process", error))?;
        }
        cgroup.kill()?;
        if let Some(process) = process {
            let step = |error| Error::step("wait for the first process", error);
            if !sys::pidfd::wait_end(process.as_fd(), Some(KILL_WAIT_MAX)).map_err(step)? {
                return Err(step(std::io::Error::from(std::io::ErrorKind::TimedOut)));
            }
        }
        Ok(())
    }

    /// Process ids of all processes of the container, in the caller's namespace.
    pub fn pids(&self) -> Result<Vec<i32>> {
        Ok(self.cgroup().pids()?)
    }

    /// What the container uses.
    pub fn stats(&self) -> Result<Stats> {
        Ok(self.cgroup().stats())
    }

    /// A descriptor that tells of out-of-memory kills.
    pub fn oom_source(&self) -> Result<OomSource> {
        Ok(self.cgroup().oom_source()?)
    }
}
