//! The worker's side of `create` and `exec`: it stays in the host's namespaces.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{DumpableBehavior, WaitId, WaitIdOptions, set_dumpable_behavior, waitid};
use sys::cgroup::{Cgroup, Hierarchies};
use sys::namespace::Kind;
use sys::process::CloneOptions;

use crate::created::{
    Created, Gate, channel, decode_failure, receive_with, send_failure, send_with,
};
use crate::error::{Error, Result};
use crate::init::{self, HOOKS, MAPPED, READY, Setup};
use crate::options::{CreateOptions, GateKind};
use crate::plan::Plan;
use crate::seccomp::Program as Filter;
use crate::{fork, hooks, limits, program, rootfs, state};

/// How long a killed process may take to end.
const END_WAIT_MAX: Duration = Duration::from_secs(10);
/// Longest message of a child, in bytes.
const MESSAGE_BYTES_MAX: usize = 8300;

/// A child that is being set up; killed when dropped.
#[derive(Debug)]
pub(crate) struct Birth {
    pid: i32,
    pidfd: OwnedFd,
    line: OwnedFd,
    /// Whether it is ours to reap.
    ours: bool,
    done: bool,
}

impl Birth {
    /// Clones; `child` gets its end of the line.
    pub(crate) fn new(
        namespaces: u64,
        folder: Option<&OwnedFd>,
        clone_parent: bool,
        child: impl FnOnce(OwnedFd) -> Error,
    ) -> Result<Self> {
        // A process of the container must not look into us, nor into what we clone.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(|error| Error::step("become undumpable", error))?;
        let (ours, theirs) = channel().map_err(|error| Error::step("make a socket pair", error))?;
        let options = CloneOptions {
            namespaces,
            parent_is_ours: clone_parent,
            cgroup: folder.map(AsFd::as_fd),
        };
        let mut ours = Some(ours);
        let (pid, pidfd) = fork::clone(options, || {
            // With a copy of our end in its hands the child would never learn that we are gone.
            drop(ours.take());
            child(theirs);
        })
        .map_err(|error| Error::step("clone the first process", error))?;
        Ok(Self {
            pid,
            pidfd,
            line: ours.ok_or_else(|| {
                Error::step(
                    "clone the first process",
                    std::io::Error::other("no socket"),
                )
            })?,
            ours: !clone_parent,
            done: false,
        })
    }

    fn send(&self, byte: u8) -> Result<()> {
        send_with(self.line.as_fd(), &[byte], &[])
            .map_err(|error| Error::step("talk to the process in the container", error))
    }

    /// Waits until the child is ready; `on_hooks` runs when it asks for the hooks of this side.
    pub(crate) fn until_ready(
        &self,
        mut on_hooks: impl FnMut(i32) -> Result<()>,
    ) -> Result<Option<OwnedFd>> {
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        loop {
            let (length, fds) = receive_with(self.line.as_fd(), &mut buffer)
                .map_err(|error| Error::step("wait for the process in the container", error))?;
            match buffer[..length] {
                [] => {
                    let gone = std::io::Error::other("it ended without a word");
                    return Err(Error::step("set up the process in the container", gone));
                }
                [READY] => return Ok(fds.into_iter().next()),
                [HOOKS] => {
                    on_hooks(self.pid)?;
                    self.send(HOOKS)?;
                }
                _ => return Err(decode_failure(&buffer[..length])),
            }
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Hands the process over.
    pub(crate) fn finish(mut self, console: Option<OwnedFd>, gate: GateKind) -> Result<Created> {
        let step = |error| Error::step("hand the process over", error);
        let copy = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(step);
        let created = Created {
            pid: self.pid,
            pidfd: copy(&self.pidfd)?,
            console,
            gate: match gate {
                GateKind::Socket => Some(Gate::new(copy(&self.line)?)),
                GateKind::Fifo => None,
            },
        };
        self.done = true;
        Ok(created)
    }
}

impl Drop for Birth {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // Nobody can do anything about a process that can't be killed.
        let _ignored = sys::pidfd::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        if self.ours {
            let _ignored = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        } else {
            let _ignored = sys::pidfd::wait_end(self.pidfd.as_fd(), Some(END_WAIT_MAX));
        }
    }
}

/// Undoes what was made, unless told that all went well.
#[derive(Debug)]
struct Undo {
    folder: PathBuf,
    cgroup: Option<Cgroup>,
    done: bool,
}

impl Drop for Undo {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if let Some(cgroup) = &self.cgroup {
            // The first failure is the one to tell.
            let _ignored = cgroup.kill();
            let _ignored = cgroup.remove();
        }
        let _ignored = state::remove(&self.folder);
    }
}

/// Sets a container up until just before `execve`. On failure nothing is left: no process, cgroup, mount or state.
///
/// The caller has one thread; its working folder and dumpable attribute may change.
pub fn create(spec: &spec::runtime::Spec, options: CreateOptions<'_>) -> Result<Created> {
    state::check_id(options.id)?;
    if options.systemd_cgroup {
        return Err(Error::unimplemented("the systemd cgroup driver"));
    }
    let plan = Plan::new(spec)?;
    let mut undo = Undo {
        folder: state::claim(options.state_root, options.id)?,
        cgroup: None,
        done: false,
    };
    let created = build(&plan, options, &mut undo)?;
    undo.done = true;
    Ok(created)
}

fn build(plan: &Plan<'_>, mut options: CreateOptions<'_>, undo: &mut Undo) -> Result<Created> {
    let hierarchies = Hierarchies::detect()?;
    let path = plan
        .linux
        .cgroups_path
        .as_deref()
        .filter(|path| !path.is_empty());
    let cgroup = Cgroup::at(&hierarchies, path.unwrap_or(options.id))?;
    if cgroup.create(&hierarchies)? {
        undo.cgroup = Some(cgroup.clone());
    }
    limits::apply(&cgroup, &plan.linux.resources.clone().unwrap_or_default())?;
    let filter = plan
        .linux
        .seccomp
        .as_ref()
        .map(Filter::compile)
        .transpose()?
        .flatten();
    if let Some(filter) = &filter {
        state::write_filter(&undo.folder, filter)?;
    }
    let fifo = match options.gate {
        GateKind::Fifo => Some(make_fifo(&undo.folder)?),
        GateKind::Socket => None,
    };
    let entry = cgroup.entry()?;
    let folder = entry
        .folder()
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 3))
        .transpose()
        .map_err(|error| Error::step("keep the cgroup open", error))?;
    let setup = Setup {
        plan,
        id: options.id,
        bundle: options.bundle,
        root: root(plan, &options)?,
        sources: rootfs::bind_sources(&plan.mounts, options.bundle, plan.root_propagation)?,
        joined: plan.open_joined()?,
        hierarchies: &hierarchies,
        cgroup: &cgroup,
        entry,
        filter,
        stdio: std::mem::replace(&mut options.stdio, crate::Stdio::Terminal),
        preserved: std::mem::take(&mut options.preserved_fds),
        no_pivot: options.no_pivot,
        no_new_keyring: options.no_new_keyring,
        fifo,
    };
    let filtered = setup.filter.is_some();
    let birth = give_birth(plan, setup, folder.as_ref(), options.clone_parent)?;
    let console = birth.until_ready(|pid| host_hooks(plan, &options, pid))?;
    let record = program::record(plan, &options, birth.pid(), &cgroup, filtered)?;
    state::write(&undo.folder, &record)?;
    birth.finish(console, options.gate)
}

fn root(plan: &Plan<'_>, options: &CreateOptions<'_>) -> Result<OwnedFd> {
    let path = plan
        .spec
        .root
        .as_ref()
        .map(|root| root.path.as_str())
        .unwrap_or_default();
    let path = options.bundle.join(path);
    if options.rootfs_in_host && !options.rootfs.is_empty() {
        rootfs::mount_in_host(options.rootfs, &path)?;
        return rootfs::root(&[], &path);
    }
    rootfs::root(options.rootfs, &path)
}

fn make_fifo(folder: &Path) -> Result<OwnedFd> {
    use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, openat};
    let path = folder.join(state::FIFO_FILE);
    let failed = |error: rustix::io::Errno| Error::File {
        action: "make fifo",
        path: path.clone(),
        source: error.into(),
    };
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o622), 0).map_err(failed)?;
    // With both ends in one descriptor the starter always finds a reader, as long as this process lives.
    openat(CWD, &path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(failed)
}

fn give_birth(
    plan: &Plan<'_>,
    setup: Setup<'_>,
    folder: Option<&OwnedFd>,
    clone_parent: bool,
) -> Result<Birth> {
    for (kind, fd) in &setup.joined {
        if *kind == Kind::Pid {
            // Holds for children only, and we make one.
            sys::namespace::join(fd.as_fd(), Kind::Pid)
                .map_err(|error| Error::step("join pid namespace", error))?;
        }
    }
    let namespaces = plan.new & !init::late(plan);
    let birth = Birth::new(namespaces, folder, clone_parent, |line| {
        let mut line = Some(line);
        let fifo = setup.fifo.is_some();
        let error = match init::run(setup, &mut line) {
            Ok(()) => return Error::step("become the program", std::io::Error::other("no")),
            Err(error) => error,
        };
        tell(&line, &error, fifo);
        error
    })?;
    if let Some(adjustment) = plan.process.oom_score_adj {
        write_proc(birth.pid, "oom_score_adj", &adjustment.to_string())?;
    }
    if plan.makes(Kind::User) {
        program::write_maps(birth.pid, &plan.linux)?;
        init::program::set_rlimits(birth.pid, plan.process)?;
        birth.send(MAPPED)?;
    }
    Ok(birth)
}

/// Tells a failure to whoever listens: before the gate the worker, after a fifo's start only the standard error.
pub(crate) fn tell(line: &Option<OwnedFd>, error: &Error, fifo: bool) {
    let told = line
        .as_ref()
        .is_some_and(|line| send_failure(line.as_fd(), error).is_ok());
    if !told && fifo {
        let text = format!("{}\n", model::chain(error));
        let _ignored = rustix::io::write(fork::stream(2), text.as_bytes());
    }
}

/// Writes a file of a process in the host's /proc.
pub(crate) fn write_proc(pid: i32, file: &str, text: &str) -> Result<()> {
    let path = PathBuf::from(format!("/proc/{pid}/{file}"));
    std::fs::write(&path, text).map_err(|source| Error::File {
        action: "write",
        path,
        source,
    })
}

fn host_hooks(plan: &Plan<'_>, options: &CreateOptions<'_>, pid: i32) -> Result<()> {
    let Some(all) = &plan.spec.hooks else {
        return Ok(());
    };
    let state = hooks::state_json(plan.spec, options.id, "creating", pid, options.bundle);
    hooks::run("prestart", &all.prestart, &state)?;
    hooks::run("createRuntime", &all.create_runtime, &state)
}
