//! The pseudo terminal of a process, made in the container's own devpts.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, fstatfs, openat};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use spec::runtime::Process;

use super::resolve::{Missing, walk};
use crate::error::{Error, Result};
use crate::options::Stdio;

/// `DEVPTS_SUPER_MAGIC` of `linux/magic.h`.
const DEVPTS_MAGIC: u64 = 0x1cd1;

/// Both ends of a pseudo terminal.
#[derive(Debug)]
pub(crate) struct Console {
    master: OwnedFd,
    slave: OwnedFd,
}

fn step(error: impl Into<io::Error>) -> Error {
    Error::step("make a terminal in the container", error)
}

/// Makes a terminal and shows it as /dev/console.
pub(crate) fn open(root: BorrowedFd<'_>, process: &Process) -> Result<Console> {
    let console = make(root, process)?;
    // The terminal comes from the master's own descriptor: a name in /dev/pts could be another by now.
    let copy = sys::mount::clone_tree(console.slave.as_fd(), "", false).map_err(step)?;
    let place = walk(root, "/dev/console", Missing::File).map_err(step)?;
    sys::mount::attach(copy.as_fd(), place.fd.as_fd())
        .map_err(|error| Error::step("mount the terminal at /dev/console", error))?;
    Ok(console)
}

/// Makes a terminal.
pub(crate) fn make(root: BorrowedFd<'_>, process: &Process) -> Result<Console> {
    let pts = walk(root, "/dev/pts", Missing::Fail).map_err(step)?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let master = openat(&pts.fd, "ptmx", flags, Mode::empty()).map_err(step)?;
    if fstatfs(&master).map_err(step)?.f_type as u64 != DEVPTS_MAGIC {
        return Err(step(io::Error::other(
            "/dev/pts/ptmx is not of a devpts file system",
        )));
    }
    unlockpt(&master).map_err(step)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).map_err(step)?;
    if let Some(size) = &process.console_size {
        let size = Winsize {
            ws_row: size.height.try_into().unwrap_or(u16::MAX),
            ws_col: size.width.try_into().unwrap_or(u16::MAX),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).map_err(step)?;
    }
    Ok(Console { master, slave })
}

/// The master and the standard streams of the process.
pub(crate) fn split(
    console: Option<Console>,
    stdio: Stdio,
) -> Result<(Option<OwnedFd>, [OwnedFd; 3])> {
    match (console, stdio) {
        (None, Stdio::Fds(fds)) => Ok((None, fds)),
        (Some(console), _) => {
            let again = || rustix::io::fcntl_dupfd_cloexec(&console.slave, 3).map_err(step);
            let copies = [again()?, again()?];
            let [first, second] = copies;
            Ok((Some(console.master), [first, second, console.slave]))
        }
        (None, Stdio::Terminal) => Err(step(io::Error::other("no terminal was made"))),
    }
}

/// Makes the terminal the controlling one of our session.
pub(crate) fn control(stdio: &[OwnedFd; 3]) -> Result<()> {
    rustix::process::ioctl_tiocsctty(&stdio[0]).map_err(step)
}
