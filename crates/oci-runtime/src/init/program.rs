//! The last steps of a process, the first or another: descriptors, limits, identity, filter, `execve`.

use std::ffi::CString;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, openat};
use rustix::io::Errno;
use spec::runtime::Process;
use sys::rlimit::{self, Resource};

use super::identity;
use super::resolve::{Missing, walk};
use crate::error::{Error, Result};
use crate::seccomp::Program as Filter;

/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Starts a session, and a session keyring of its own.
pub(crate) fn new_session(id: &str, no_new_keyring: bool) -> Result<()> {
    rustix::process::setsid().map_err(|error| Error::step("start a session", error))?;
    if no_new_keyring {
        return Ok(());
    }
    let name = CString::new(format!("_ses.{id}")).unwrap_or_default();
    match sys::process::join_session_keyring(&name) {
        Ok(serial) => {
            /// `KEY_USR_SEARCH` of `linux/key.h`.
            const USER_SEARCH: u32 = 0x0008_0000;
            sys::process::allow_key(serial, USER_SEARCH)
                .map_err(|error| Error::step("open the session keyring to its user", error))
        }
        // A kernel without keyrings, or a filter of the host, leaves nothing to share.
        Err(error) if error.raw_os_error() == Some(Errno::NOSYS.raw_os_error()) => Ok(()),
        Err(error) => Err(Error::step("join a session keyring", error)),
    }
}

/// Makes the working folder, as the root is assembled.
pub(crate) fn make_cwd(root: BorrowedFd<'_>, process: &Process) -> Result<()> {
    walk(root, &process.cwd, Missing::Folder)
        .map_err(|error| Error::step(format!("make the working folder {}", process.cwd), error))?;
    Ok(())
}

/// Moves a descriptor to a number from `least` on.
fn raise(fd: &OwnedFd, least: i32) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, least)
        .map_err(|error| Error::step("arrange descriptors", error))
}

/// Gives the streams the numbers 0 to 2 and the preserved descriptors those from 3 on. Those in `kept` get out of
/// the way; every other descriptor of the process is closed, whoever owns it.
pub(crate) fn place_descriptors(
    stdio: [OwnedFd; 3],
    preserved: Vec<OwnedFd>,
    kept: &mut [Option<OwnedFd>],
) -> Result<()> {
    let sources: Vec<OwnedFd> = stdio.into_iter().chain(preserved).collect();
    let least = i32::try_from(sources.len()).unwrap_or(i32::MAX);
    for fd in kept.iter_mut().flatten() {
        *fd = raise(fd, least)?;
    }
    let raised = sources
        .iter()
        .map(|fd| raise(fd, least))
        .collect::<Result<Vec<_>>>()?;
    drop(sources);
    // Their numbers are closed with all others below.
    let raised = ManuallyDrop::new(raised);
    for (number, fd) in (0..).zip(raised.iter()) {
        crate::fork::place(fd.as_fd(), number)
            .map_err(|error| Error::step("arrange descriptors", error))?;
    }
    // Whatever else was inherited belongs to other containers, or to the runtime: it must not live as long as we wait.
    let mut keep: Vec<i32> = kept.iter().flatten().map(AsRawFd::as_raw_fd).collect();
    keep.sort_unstable();
    crate::fork::close_except(least, &keep).map_err(|error| Error::step("close descriptors", error))
}

/// What [`Ready::prepare`] needs.
#[derive(Debug)]
pub(crate) struct Ready<'a> {
    pub(crate) process: &'a Process,
    pub(crate) filter: Option<&'a Filter>,
    /// How many descriptors the program gets beside the streams.
    pub(crate) preserved: usize,
    /// Whether limits are set here; in a user namespace the worker sets them.
    pub(crate) rlimits: bool,
}

/// A program that only needs to be started.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// Loaded last, when privileges can't be gained any more.
    filter: Option<&'a Filter>,
    name: String,
}

impl<'a> Ready<'a> {
    /// Takes on limits, identity and filter, and finds the program. The process must see the container's root.
    pub(crate) fn prepare(self) -> Result<Program<'a>> {
        let process = self.process;
        let root = openat(
            CWD,
            "/",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| Error::step("open the root", error))?;
        super::sysctl::apparmor(process.apparmor_profile.as_deref())?;
        sys::process::close_on_exec_from(3 + self.preserved as u32)
            .map_err(|error| Error::step("close descriptors", error))?;
        sys::process::reset_signals().map_err(|error| Error::step("reset signals", error))?;
        if self.rlimits {
            set_rlimits(0, process)?;
        }
        let mask = Mode::from_raw_mode(process.user.umask.unwrap_or(0o022) & 0o777);
        rustix::process::umask(mask);
        if process.no_new_privileges {
            rustix::thread::set_no_new_privs(true)
                .map_err(|error| Error::step("set no_new_privs", error))?;
        } else if let Some(filter) = self.filter {
            // Needs CAP_SYS_ADMIN, so it comes before capabilities are dropped.
            filter.load()?;
        }
        identity::own_streams(&process.user);
        let home = identity::home(root.as_fd(), process.user.uid);
        identity::apply(process, || enter_cwd(root.as_fd(), &process.cwd))?;
        let environment = environment(process, &home);
        Ok(Program {
            path: find(process, &environment)?,
            arguments: strings(&process.args),
            environment: strings(&environment),
            filter: self.filter.filter(|_| process.no_new_privileges),
            name: process.args.first().cloned().unwrap_or_default(),
        })
    }
}

impl Program<'_> {
    /// Becomes the program; returns only on failure.
    pub(crate) fn start(self) -> Error {
        if let Some(filter) = self.filter
            && let Err(error) = filter.load()
        {
            return error;
        }
        let error = sys::process::exec(&self.path, &self.arguments, &self.environment);
        Error::Reported {
            kind: model::ErrorKind::Unknown,
            message: format!("exec {}: {}", self.name, plain(&error)),
        }
    }
}

/// Sets the limits of a process; 0 is the caller.
pub(crate) fn set_rlimits(pid: i32, process: &Process) -> Result<()> {
    for limit in &process.rlimits {
        let Some(resource) = Resource::from_name(&limit.kind) else {
            continue;
        };
        rlimit::set(pid, resource, limit.soft, limit.hard).map_err(|error| {
            Error::step(
                format!("set {} to {}:{}", limit.kind, limit.soft, limit.hard),
                error,
            )
        })?;
    }
    Ok(())
}

/// Changes to the working folder. It is looked up by names below the root, so that a link of /proc can't lead to a
/// folder of the host that somebody left open, and then asked for its own path.
fn enter_cwd(root: BorrowedFd<'_>, cwd: &str) -> Result<()> {
    let step = |error: io::Error| Error::step(format!("chdir to cwd {cwd:?}"), error);
    let place = walk(root, cwd, Missing::Fail).map_err(step)?;
    rustix::process::fchdir(&place.fd).map_err(|error| step(error.into()))?;
    let seen = rustix::process::getcwd(Vec::new()).map_err(|error| step(error.into()))?;
    if seen.as_bytes().starts_with(b"/") {
        Ok(())
    } else {
        Err(step(io::Error::other(
            "it is outside of the container's root",
        )))
    }
}

fn environment(process: &Process, home: &str) -> Vec<String> {
    let mut environment = process.env.clone();
    let set = |variable: &String| {
        variable
            .strip_prefix("HOME=")
            .is_some_and(|home| !home.is_empty())
    };
    if !environment.iter().any(set) {
        environment.retain(|variable| !variable.starts_with("HOME="));
        environment.push(format!("HOME={home}"));
    }
    environment
}

fn strings(list: &[String]) -> Vec<CString> {
    list.iter()
        .filter_map(|item| CString::new(item.as_str()).ok())
        .collect()
}

/// The system's message alone, as C libraries write it.
fn plain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) => "no such file or directory".to_owned(),
        Some(libc::EACCES) => "permission denied".to_owned(),
        Some(libc::ENOEXEC) => "exec format error".to_owned(),
        Some(libc::EISDIR) => "is a directory".to_owned(),
        _ => error.to_string(),
    }
}

/// Finds the program as `execvp` does; the words of the failure are those that clients look for.
fn find(process: &Process, environment: &[String]) -> Result<CString> {
    let name = process.args.first().map_or("", String::as_str);
    let failed = |kind, message: String| Error::Reported {
        kind,
        message: format!("exec: {name:?}: {message}"),
    };
    let not_found = model::ErrorKind::NotFound;
    if name.contains('/') {
        return match usable(name) {
            Ok(()) => Ok(CString::new(name).unwrap_or_default()),
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
                Err(failed(model::ErrorKind::PermissionDenied, plain(&error)))
            }
            Err(error) => Err(failed(not_found, format!("stat {name}: {}", plain(&error)))),
        };
    }
    let path = environment
        .iter()
        .rev()
        .find_map(|variable| variable.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH);
    let mut denied = false;
    for folder in path.split(':').filter(|_| !name.is_empty()) {
        let folder = if folder.is_empty() { "." } else { folder };
        let candidate = format!("{folder}/{name}");
        match usable(&candidate) {
            Ok(()) => return Ok(CString::new(candidate).unwrap_or_default()),
            Err(error) => denied |= error.raw_os_error() == Some(libc::EACCES),
        }
    }
    if denied {
        return Err(failed(
            model::ErrorKind::PermissionDenied,
            "permission denied".to_owned(),
        ));
    }
    Err(failed(
        not_found,
        "executable file not found in $PATH".to_owned(),
    ))
}

fn usable(path: &str) -> io::Result<()> {
    let stat = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR.into());
    }
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?;
    Ok(())
}
