//! Another process in a container: it joins all that the first one has.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use spec::runtime::Process;
use sys::cgroup::{Cgroup, Entry};
use sys::namespace::Kind;

use crate::container::Container;
use crate::created::Created;
use crate::error::{Error, Result};
use crate::init::{self, console, program};
use crate::options::{ExecOptions, GateKind, Status, Stdio};
use crate::seccomp::Program as Filter;
use crate::worker::{Birth, tell, write_proc};
use crate::{plan, state};

/// What the worker prepared for the process.
struct Setup<'a> {
    id: &'a str,
    process: &'a Process,
    /// The first process of the container.
    target: OwnedFd,
    /// Namespaces to join, the pid namespace apart.
    namespaces: u64,
    entry: Entry,
    filter: Option<Filter>,
    stdio: Stdio,
    preserved: Vec<OwnedFd>,
    no_new_keyring: bool,
}

/// Sets the process up until just before `execve`.
pub(crate) fn exec(container: &Container, mut options: ExecOptions<'_>) -> Result<Created> {
    plan::check_process(options.process)?;
    let id = container.id();
    let status = container.state()?.status;
    let refused = status == Status::Stopped || status == Status::Paused && !options.ignore_paused;
    if refused {
        return Err(Error::WrongStatus {
            action: "exec in",
            id: id.to_owned(),
            status,
        });
    }
    let target = container
        .process()?
        .ok_or_else(|| Error::NotFound { id: id.to_owned() })?;
    let record = container.record();
    let namespaces = namespaces(record);
    if namespaces & Kind::Pid.flag() != 0 {
        // Holds for children only, and we make one.
        sys::namespace::join_process(target.as_fd(), Kind::Pid.flag())
            .map_err(|error| Error::step("join pid namespace", error))?;
    }
    let entry = group(container, options.cgroup)?.entry()?;
    let folder = entry
        .folder()
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 3))
        .transpose()
        .map_err(|error| Error::step("keep the cgroup open", error))?;
    let filter = record
        .hoist
        .filtered
        .then(|| state::read_filter(container.folder()))
        .transpose()?;
    let setup = Setup {
        id,
        process: options.process,
        target,
        namespaces: namespaces & !Kind::Pid.flag(),
        entry,
        filter,
        stdio: std::mem::replace(&mut options.stdio, Stdio::Terminal),
        preserved: std::mem::take(&mut options.preserved_fds),
        no_new_keyring: options.no_new_keyring,
    };
    let birth = Birth::new(0, folder.as_ref(), options.clone_parent, |line| {
        let mut line = Some(line);
        let error = match run(setup, &mut line) {
            Ok(()) => return Error::step("become the program", std::io::Error::other("no")),
            Err(error) => error,
        };
        tell(&line, &error, false);
        error
    })?;
    if let Some(adjustment) = options.process.oom_score_adj {
        write_proc(birth.pid(), "oom_score_adj", &adjustment.to_string())?;
    }
    let console = birth.until_ready(|_| Ok(()))?;
    birth.finish(console, GateKind::Socket)
}

/// Flags of the namespaces that the first process does not share with the runtime.
fn namespaces(record: &state::Record) -> u64 {
    Kind::ALL
        .into_iter()
        .filter(|kind| {
            let name = state::runc_name(*kind);
            record.config.namespaces.iter().any(|one| one.kind == name)
        })
        .fold(0, |flags, kind| flags | kind.flag())
}

fn group(container: &Container, child: Option<&str>) -> Result<Cgroup> {
    let cgroup = container.cgroup();
    match child {
        None | Some("" | "/") => Ok(cgroup),
        Some(name) if name.split('/').any(|part| part == "..") => Err(Error::invalid(
            "cgroup",
            format!("{name:?} must not contain .."),
        )),
        Some(name) => Ok(cgroup.child(name.trim_start_matches('/'))),
    }
}

fn run(setup: Setup<'_>, line: &mut Option<OwnedFd>) -> Result<()> {
    // Descriptors get new meanings below: none may be closed by a destructor.
    let mut setup = ManuallyDrop::new(setup);
    let process = setup.process;
    setup.entry.join_v1()?;
    let user = setup.namespaces & Kind::User.flag() != 0;
    if user {
        // Inside we may no longer raise them.
        program::set_rlimits(0, process)?;
    }
    sys::namespace::join_process(setup.target.as_fd(), setup.namespaces)
        .map_err(|error| Error::step("join the container's namespaces", error))?;
    // Joining a user namespace made us dumpable again.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|error| Error::step("become undumpable", error))?;
    if user {
        init::identity::become_root()?;
    }
    program::new_session(setup.id, setup.no_new_keyring)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, "/", flags, Mode::empty())
        .map_err(|error| Error::step("open the root", error))?;
    let console = match &setup.stdio {
        Stdio::Terminal => Some(console::make(root.as_fd(), process)?),
        Stdio::Fds(_) => None,
    };
    let stdio = std::mem::replace(&mut setup.stdio, Stdio::Terminal);
    let (master, stdio) = console::split(console, stdio)?;
    if master.is_some() {
        console::control(&stdio)?;
    }
    drop(root);
    let preserved = std::mem::take(&mut setup.preserved);
    let count = preserved.len();
    let mut kept = [line.take(), master];
    let placed = program::place_descriptors(stdio, preserved, &mut kept);
    let [kept_line, master] = kept;
    *line = kept_line;
    placed?;
    let ready = program::Ready {
        process,
        filter: setup.filter.as_ref(),
        preserved: count,
        rlimits: !user,
    };
    let program = ready.prepare()?;
    init::report_ready(init::socket(line)?, master.as_ref())?;
    drop(master);
    init::wait_gate(init::socket(line)?, None)?;
    Err(program.start())
}
