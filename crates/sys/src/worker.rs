//! Children of this process that never return: workers without exec, and programs with chosen descriptors.
#![allow(unsafe_code, reason = "fork, and taking descriptors by number")]

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use crate::process::{exit_now, reset_signals};

/// Descriptors given to a child are first moved above this number.
const MOVE_ABOVE: RawFd = 64;

/// Runs `work` in a forked child that keeps of all descriptors only 0 to 2 and `keep`, in the given order.
///
/// The child is not dumpable, has no signal blocked or handled, and ends with `work`'s result as its status.
/// Answers the child's process id; the caller reaps it.
///
/// # Errors
/// `EBUSY` when this process has more than one thread: the others' locks would stay locked in the child.
/// Those of `fork`.
pub fn fork(keep: Vec<OwnedFd>, work: impl FnOnce(Vec<OwnedFd>) -> i32) -> io::Result<i32> {
    if threads()? != 1 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: there is one thread, so the child may do whatever this process may.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: a plain call; a child that can be traced could hand its descriptors to a container.
            unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
            let ready = reset_signals().and_then(|()| close_all_but(&keep));
            exit_now(if ready.is_ok() { work(keep) } else { 125 })
        }
        pid => Ok(pid),
    }
}

fn threads() -> io::Result<u64> {
    // A folder's link count is two more than its folders': one for each thread.
    Ok(std::fs::metadata("/proc/self/task")?
        .nlink()
        .saturating_sub(2))
}

/// Closes every descriptor from 3 on that is not in `keep`.
fn close_all_but(keep: &[OwnedFd]) -> io::Result<()> {
    let mut kept: Vec<u32> = keep
        .iter()
        .map(|fd| fd.as_raw_fd().unsigned_abs())
        .filter(|fd| *fd > 2)
        .collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept.into_iter().chain([u32::MAX]) {
        if fd > first {
            let last = if fd == u32::MAX { fd } else { fd - 1 };
            // SAFETY: this child never drops an owner of these descriptors: it ends by exit_now.
            if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        first = fd.saturating_add(1);
    }
    Ok(())
}

/// Which program to start.
#[derive(Debug)]
pub enum Image<'a> {
    /// The file at a path; may be a script.
    Path(CString),
    /// An open file that is no script.
    File(BorrowedFd<'a>),
}

/// A program to start with chosen descriptors.
#[derive(Debug)]
pub struct Program<'a> {
    /// The program.
    pub image: Image<'a>,
    /// Its arguments, the name first.
    pub arguments: Vec<CString>,
    /// Its environment.
    pub environment: Vec<CString>,
    /// Its descriptors from 0 on, in order; all others are closed.
    pub fds: Vec<OwnedFd>,
    /// Start a session of its own.
    pub session: bool,
}

/// Starts a program in a forked child; answers its process id. A failed exec is exit status 127.
///
/// # Errors
/// Those of [`fork`] and of duplicating the descriptors.
pub fn start(program: &Program<'_>) -> io::Result<i32> {
    let mut keep = Vec::with_capacity(program.fds.len() + 1);
    for fd in &program.fds {
        keep.push(rustix::io::fcntl_dupfd_cloexec(fd, MOVE_ABOVE)?);
    }
    if let Image::File(file) = program.image {
        keep.push(rustix::io::fcntl_dupfd_cloexec(file, MOVE_ABOVE)?);
    }
    fork(keep, |keep| match become_program(program, &keep) {
        Ok(never) => match never {},
        Err(_) => 127,
    })
}

fn become_program(program: &Program<'_>, keep: &[OwnedFd]) -> io::Result<Infallible> {
    if program.session {
        rustix::process::setsid()?;
    }
    let (fds, file) = keep.split_at(program.fds.len());
    for (number, fd) in (0..).zip(fds) {
        // SAFETY: this child owns its table; the numbers lie below all sources, and nobody drops what stood there.
        if unsafe { libc::dup2(fd.as_raw_fd(), number) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let (arguments, environment) = (&program.arguments, &program.environment);
    Err(match (&program.image, file) {
        (Image::Path(path), _) => crate::process::exec(path, arguments, environment),
        (Image::File(_), [file]) => crate::process::exec_fd(file.as_fd(), arguments, environment),
        (Image::File(_), _) => io::ErrorKind::InvalidInput.into(),
    })
}

/// Takes a descriptor that whoever started this process has put there; it is closed on exec from now on.
///
/// Must be called once for a number, before anything else is opened.
///
/// # Errors
/// `EBADF` when it is not open; `InvalidInput` below 3.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: fcntl fails on a number that is not open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number is open and by the caller's promise owned by nobody in this process.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threaded_process_does_not_fork() {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let error = fork(Vec::new(), |_| 0).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
            });
        });
    }
}
