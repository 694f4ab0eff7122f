//! Programs that outlive whoever starts them.
#![allow(
    unsafe_code,
    reason = "descriptors are placed between fork and exec, which needs pre_exec"
)]

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Sources of descriptors are moved above this number before the first is placed.
const MOVE_ABOVE: RawFd = 100;
/// Descriptors that one program may be given, the three standard ones included.
pub const FDS_MAX: usize = 16;

/// What to start.
#[derive(Debug)]
pub struct Program<'a> {
    /// The program as an open file, so that nobody can put another one in its place.
    pub image: BorrowedFd<'a>,
    /// The name that the program sees as its own.
    pub name: &'a OsStr,
    /// The arguments after the name.
    pub arguments: &'a [String],
    /// The working folder.
    pub folder: &'a Path,
    /// Descriptors 0, 1, 2, …; every other one is closed.
    pub fds: &'a [BorrowedFd<'a>],
}

/// A started program. Dropping it neither kills nor reaps.
#[derive(Debug)]
pub struct Detached {
    child: Child,
    pidfd: OwnedFd,
}

/// Starts a program with an empty environment in its caller's session.
///
/// # Errors
/// Those of fork, exec and `pidfd_open`; `InvalidInput` for more than [`FDS_MAX`] or fewer than three descriptors.
pub fn spawn(program: &Program<'_>) -> io::Result<Detached> {
    if !(3..=FDS_MAX).contains(&program.fds.len()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "wrong number of descriptors for a program",
        ));
    }
    let moved = program
        .fds
        .iter()
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, MOVE_ABOVE))
        .collect::<Result<Vec<OwnedFd>, _>>()?;
    let image = rustix::io::fcntl_dupfd_cloexec(program.image, MOVE_ABOVE)?;
    let sources: Vec<RawFd> = moved.iter().map(AsRawFd::as_raw_fd).collect();
    let path = PathBuf::from(format!("/proc/self/fd/{}", image.as_raw_fd()));
    let mut command = Command::new(path);
    command
        .arg0(program.name)
        .args(program.arguments)
        .env_clear()
        .current_dir(program.folder);
    // SAFETY: between fork and exec the closure makes system calls only: no allocation, no lock.
    unsafe {
        command.pre_exec(move || place(&sources));
    }
    let mut child = command.spawn()?;
    let opened = Pid::from_raw(child.id().cast_signed())
        .ok_or(rustix::io::Errno::SRCH)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
    match opened {
        Ok(pidfd) => Ok(Detached { child, pidfd }),
        Err(error) => {
            child.kill().and_then(|()| child.wait())?;
            Err(error.into())
        }
    }
}

fn place(sources: &[RawFd]) -> io::Result<()> {
    // SAFETY: plain system calls on numbers; `sources` lie above MOVE_ABOVE, so no target is a later source.
    unsafe {
        for (target, source) in (0..).zip(sources) {
            if libc::dup2(*source, target) < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        let closed = libc::syscall(
            libc::SYS_close_range,
            sources.len() as libc::c_uint,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
        if closed < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

impl Detached {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process, for signals that can't hit another one and to learn of its end.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Kills the process; one that has ended already is no error.
    ///
    /// # Errors
    /// Those of `pidfd_send_signal` except `ESRCH`.
    pub fn kill(&self) -> io::Result<()> {
        crate::spawn::kill(self.pidfd.as_fd())
    }

    /// Waits for the end and reaps. Blocks until then.
    ///
    /// # Errors
    /// Those of `waitpid`.
    pub fn wait(mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read as _;

    #[test]
    fn a_program_gets_exactly_its_descriptors() {
        let image = crate::sealed::SealedImage::from_path(Path::new("/bin/sh")).unwrap();
        let null = File::open("/dev/null").unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let arguments = [
            "-c".to_owned(),
            "pwd; readlink /proc/self/fd/3; ls /proc/self/fd".to_owned(),
        ];
        let started = spawn(&Program {
            image: image.as_fd(),
            name: OsStr::new("probe"),
            arguments: &arguments,
            folder: Path::new("/proc"),
            fds: &[null.as_fd(), writer.as_fd(), writer.as_fd(), null.as_fd()],
        })
        .unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(started.wait().unwrap().success());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..2], ["/proc", "/dev/null"]);
        // `ls` itself opens one more.
        assert_eq!(lines[2..], ["0", "1", "2", "3", "4"]);
    }
}
