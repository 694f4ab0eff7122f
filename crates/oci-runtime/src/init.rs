//! What the first process does between its birth and `execve`, in the container's namespaces.

pub(crate) mod console;
pub(crate) mod devices;
pub(crate) mod identity;
pub(crate) mod masks;
pub(crate) mod mounts;
pub(crate) mod program;
pub(crate) mod resolve;
pub(crate) mod sysctl;

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use sys::cgroup::{Cgroup, Entry, Hierarchies};
use sys::mount::{Attributes, Change, Propagation};
use sys::namespace::Kind;

use crate::created::{receive_with, send_with};
use crate::error::{Error, Result};
use crate::options::Stdio;
use crate::plan::Plan;
use crate::rootfs::Source;
use crate::seccomp::Program as Filter;

/// The worker has written the id maps: go on.
pub(crate) const MAPPED: u8 = b'M';
/// Asks the worker to run the hooks of its side, and its answer that they ran.
pub(crate) const HOOKS: u8 = b'H';
/// Everything is set up; the master of the terminal may come along.
pub(crate) const READY: u8 = b'R';

/// What the worker prepared for the first process.
#[derive(Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) plan: &'a Plan<'a>,
    pub(crate) id: &'a str,
    pub(crate) bundle: &'a Path,
    /// The root, a detached mount.
    pub(crate) root: OwnedFd,
    /// Sources of bind mounts, by the index of the mount.
    pub(crate) sources: Vec<Option<Source>>,
    pub(crate) joined: Vec<(Kind, OwnedFd)>,
    pub(crate) hierarchies: &'a Hierarchies,
    pub(crate) cgroup: &'a Cgroup,
    pub(crate) entry: Entry,
    pub(crate) filter: Option<Filter>,
    pub(crate) stdio: Stdio,
    pub(crate) preserved: Vec<OwnedFd>,
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
    /// The first process waits on this fifo instead of the socket.
    pub(crate) fifo: Option<OwnedFd>,
}

/// Sets everything up and becomes the user's program; returns only on failure.
///
/// `line` is the socket to the worker; it may get another number on the way.
pub(crate) fn run(setup: Setup<'_>, line: &mut Option<OwnedFd>) -> Result<()> {
    // Descriptors get new meanings below: none may be closed by a destructor.
    let mut setup = ManuallyDrop::new(setup);
    let plan = setup.plan;
    enter(&setup, socket(line)?)?;
    assemble(&setup)?;
    let root = setup.root.as_fd();
    let console = match &setup.stdio {
        Stdio::Terminal => Some(console::open(root, plan.process)?),
        Stdio::Fds(_) => None,
    };
    if has_host_hooks(plan) {
        ask_for_hooks(socket(line)?)?;
    }
    container_hooks(&setup)?;
    sysctl::apply(plan)?;
    masks::apply(plan, root)?;
    program::make_cwd(root, plan.process)?;
    finish_root(&setup)?;
    let stdio = std::mem::replace(&mut setup.stdio, Stdio::Terminal);
    let (master, stdio) = console::split(console, stdio)?;
    if master.is_some() {
        console::control(&stdio)?;
    }
    let preserved = std::mem::take(&mut setup.preserved);
    let count = preserved.len();
    let mut kept = [line.take(), master, setup.fifo.take()];
    let placed = program::place_descriptors(stdio, preserved, &mut kept);
    let [kept_line, master, fifo] = kept;
    *line = kept_line;
    placed?;
    let ready = program::Ready {
        process: plan.process,
        filter: setup.filter.as_ref(),
        preserved: count,
        rlimits: !plan.makes(Kind::User),
    };
    let program = ready.prepare()?;
    report_ready(socket(line)?, master.as_ref())?;
    drop(master);
    wait_gate(socket(line)?, fifo.as_ref())?;
    start_hooks(plan, setup.id, setup.bundle)?;
    Err(program.start())
}

/// The socket to the worker, which is only absent while it changes its number.
pub(crate) fn socket(line: &Option<OwnedFd>) -> Result<BorrowedFd<'_>> {
    line.as_ref()
        .map(AsFd::as_fd)
        .ok_or_else(|| Error::step("talk to the worker", io::Error::other("the socket is gone")))
}

/// Tells the worker that only the gate is ahead.
pub(crate) fn report_ready(socket: BorrowedFd<'_>, master: Option<&OwnedFd>) -> Result<()> {
    let fds: Vec<BorrowedFd<'_>> = master.into_iter().map(AsFd::as_fd).collect();
    send_with(socket, &[READY], &fds).map_err(|error| Error::step("report to the worker", error))
}

/// Namespaces that the process makes for itself instead of being born into them.
///
/// The cgroup namespace takes the group in which its maker is for its root. The message queues of an IPC namespace
/// belong to the user that its maker is, which in a new user namespace is nobody until the id maps are written.
pub(crate) fn late(plan: &Plan<'_>) -> u64 {
    let ipc = if plan.makes(Kind::User) {
        Kind::Ipc.flag()
    } else {
        0
    };
    plan.new & (Kind::Cgroup.flag() | ipc)
}

/// Joins cgroups and namespaces.
fn enter(setup: &Setup<'_>, socket: BorrowedFd<'_>) -> Result<()> {
    let plan = setup.plan;
    setup.entry.join_v1()?;
    for (kind, fd) in &setup.joined {
        if *kind == Kind::Pid {
            continue;
        }
        sys::namespace::join(fd.as_fd(), *kind)
            .map_err(|error| Error::step(format!("join {} namespace", kind.oci_name()), error))?;
    }
    if plan.makes(Kind::User) {
        wait_for(socket, MAPPED)?;
        identity::become_root()?;
    }
    let late = late(plan);
    if late != 0 {
        sys::namespace::unshare(late)
            .map_err(|error| Error::step("make the cgroup and IPC namespaces", error))?;
    }
    program::new_session(setup.id, setup.no_new_keyring)?;
    if plan.makes(Kind::Network) {
        sys::process::raise_loopback()
            .map_err(|error| Error::step("raise the loopback interface", error))?;
    }
    names(plan)
}

fn names(plan: &Plan<'_>) -> Result<()> {
    if let Some(name) = plan
        .spec
        .hostname
        .as_deref()
        .filter(|name| !name.is_empty())
    {
        rustix::system::sethostname(name.as_bytes())
            .map_err(|error| Error::step("set the host name", error))?;
    }
    if let Some(name) = plan
        .spec
        .domainname
        .as_deref()
        .filter(|name| !name.is_empty())
    {
        sys::process::set_domain_name(name)
            .map_err(|error| Error::step("set the domain name", error))?;
    }
    Ok(())
}

/// Attaches the root somewhere in our own mount namespace and everything else below it.
fn assemble(setup: &Setup<'_>) -> Result<()> {
    let plan = setup.plan;
    let step = |error| Error::step("attach the root file system", error);
    let (propagation, recursive) = plan.root_propagation.unwrap_or((Propagation::Slave, true));
    sys::mount::change_path("/", propagation, recursive)
        .map_err(|error| Error::step("set the propagation of /", error))?;
    if propagation == Propagation::Shared {
        make_parent_private(setup.bundle)?;
    }
    let bundle = rustix::fs::openat(
        rustix::fs::CWD,
        setup.bundle,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(|error| step(error.into()))?;
    sys::mount::attach(setup.root.as_fd(), bundle.as_fd()).map_err(step)?;
    let old_umask = rustix::process::umask(rustix::fs::Mode::empty());
    mounts::all(setup)?;
    if mounts::dev_is_ours(plan) {
        devices::all(plan, setup.root.as_fd())?;
    }
    rustix::process::umask(old_umask);
    Ok(())
}

/// A shared parent would show the container's root to the host.
fn make_parent_private(bundle: &Path) -> Result<()> {
    for folder in bundle.ancestors() {
        let Some(folder) = folder.to_str() else {
            continue;
        };
        match sys::mount::change_path(folder, Propagation::Private, false) {
            Ok(()) => return Ok(()),
            // No mount point.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
            }
            Err(error) => return Err(Error::step("make the root's parent private", error)),
        }
    }
    Ok(())
}

/// Makes the root read-only if asked, and the root of this process.
fn finish_root(setup: &Setup<'_>) -> Result<()> {
    let root = setup.root.as_fd();
    if setup.no_pivot {
        return Err(Error::unimplemented("a root without pivot_root"));
    }
    sys::mount::pivot_root(root).map_err(|error| Error::step("pivot_root", error))?;
    if let Some((propagation, recursive)) = setup.plan.root_propagation {
        sys::mount::change_path("/", propagation, recursive)
            .map_err(|error| Error::step("set the propagation of the root", error))?;
    }
    if setup
        .plan
        .spec
        .root
        .as_ref()
        .is_some_and(|root| root.readonly)
    {
        let change = Change {
            set: Attributes::MOUNT_ATTR_RDONLY,
            ..Change::default()
        };
        sys::mount::change(root, change)
            .map_err(|error| Error::step("make the root read-only", error))?;
    }
    Ok(())
}

fn has_host_hooks(plan: &Plan<'_>) -> bool {
    plan.spec
        .hooks
        .as_ref()
        .is_some_and(|hooks| !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty())
}

fn ask_for_hooks(socket: BorrowedFd<'_>) -> Result<()> {
    send_with(socket, &[HOOKS], &[]).map_err(|error| Error::step("ask for hooks", error))?;
    wait_for(socket, HOOKS)
}

fn container_hooks(setup: &Setup<'_>) -> Result<()> {
    let Some(hooks) = &setup.plan.spec.hooks else {
        return Ok(());
    };
    let state = crate::hooks::state_json(setup.plan.spec, setup.id, "creating", 1, setup.bundle);
    crate::hooks::run("createContainer", &hooks.create_container, &state)
}

fn start_hooks(plan: &Plan<'_>, id: &str, bundle: &Path) -> Result<()> {
    let Some(hooks) = &plan.spec.hooks else {
        return Ok(());
    };
    let state = crate::hooks::state_json(plan.spec, id, "created", 1, bundle);
    crate::hooks::run("startContainer", &hooks.start_container, &state)
}

/// Waits for one message of the worker.
pub(crate) fn wait_for(socket: BorrowedFd<'_>, expected: u8) -> Result<()> {
    let mut byte = [0; 8];
    match receive_with(socket, &mut byte) {
        Ok((1, _)) if byte[0] == expected => Ok(()),
        Ok(_) => Err(Error::step(
            "wait for the worker",
            io::Error::other("it gave up"),
        )),
        Err(error) => Err(Error::step("wait for the worker", error)),
    }
}

/// Waits until somebody starts the container.
pub(crate) fn wait_gate(socket: BorrowedFd<'_>, fifo: Option<&OwnedFd>) -> Result<()> {
    match fifo {
        None => wait_for(socket, crate::created::OPEN),
        Some(fifo) => {
            let mut byte = [0];
            let read = rustix::io::retry_on_intr(|| rustix::io::read(fifo, &mut byte))
                .map_err(|error| Error::step("wait for the start", error))?;
            if read == 1 {
                Ok(())
            } else {
                Err(Error::step(
                    "wait for the start",
                    io::Error::other("the fifo ended"),
                ))
            }
        }
    }
}
