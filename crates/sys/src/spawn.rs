//! Helper processes that inherit only what they are given.
#![allow(
    unsafe_code,
    reason = "the work between fork and exec needs pre_exec and raw prctl"
)]

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Given descriptors land from 3 upwards; sources are moved above this number first.
const MOVE_ABOVE: RawFd = 100;
/// Bytes of standard error that are kept.
const STDERR_BYTES_MAX: usize = 4096;

/// A started helper. Dropping it kills and reaps it: no zombie is left behind.
#[derive(Debug)]
pub struct Helper {
    child: Child,
    pidfd: OwnedFd,
    done: Option<ExitStatus>,
}

/// Starts the program open as `image` with an empty environment, in a new session, `/` as its working directory.
///
/// `fds` become descriptors 3, 4, …; all others except standard error (a pipe) are closed. The helper dies
/// with the calling **thread**, so that thread must outlive it.
///
/// # Errors
/// Those of fork, exec and `pidfd_open`; `InvalidInput` for more than 64 descriptors.
pub fn spawn(image: BorrowedFd<'_>, name: &OsStr, fds: &[BorrowedFd<'_>]) -> io::Result<Helper> {
    if fds.len() > 64 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many descriptors for a helper",
        ));
    }
    let moved = fds
        .iter()
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, MOVE_ABOVE))
        .collect::<Result<Vec<OwnedFd>, _>>()?;
    let sources: Vec<RawFd> = moved.iter().map(AsRawFd::as_raw_fd).collect();
    // The child opens the image by its number after the descriptors have taken theirs: it must not be one of them.
    let image = rustix::io::fcntl_dupfd_cloexec(image, MOVE_ABOVE)?;
    let parent = rustix::process::getpid();
    let mut command = Command::new(format!("/proc/self/fd/{}", image.as_raw_fd()));
    command
        .arg0(name)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    // SAFETY: between fork and exec the closure makes system calls only: no allocation, no lock.
    unsafe {
        command.pre_exec(move || prepare(&sources, parent));
    }
    let mut child = command.spawn()?;
    let opened = Pid::from_raw(child.id().cast_signed())
        .ok_or(rustix::io::Errno::SRCH)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
    match opened {
        Ok(pidfd) => Ok(Helper {
            child,
            pidfd,
            done: None,
        }),
        Err(error) => {
            child.kill().and_then(|()| child.wait())?;
            Err(error.into())
        }
    }
}

fn prepare(sources: &[RawFd], parent: Pid) -> io::Result<()> {
    // SAFETY: plain system calls on numbers; `sources` lie above MOVE_ABOVE, so no target is a later source.
    unsafe {
        for (target, source) in (3..).zip(sources) {
            if libc::dup2(*source, target) < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        let first = 3 + sources.len() as libc::c_uint;
        let close = libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
        if close < 0 || libc::setsid() < 0 || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0
        {
            return Err(io::Error::last_os_error());
        }
        // The parent may have died before the signal was asked for. In another pid namespace the number is 0.
        let now = libc::getppid();
        if now != 0 && now != parent.as_raw_nonzero().get() {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
    }
    Ok(())
}

impl Helper {
    /// The process, for signals that can't hit another one.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Kills the process; one that has ended already is no error.
    ///
    /// # Errors
    /// Those of `pidfd_send_signal` except `ESRCH`.
    pub fn kill(&self) -> io::Result<()> {
        kill(self.pidfd.as_fd())
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// Those of `waitpid`.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.done {
            return Ok(status);
        }
        let status = self.child.wait()?;
        self.done = Some(status);
        Ok(status)
    }

    /// Waits at most `limit` for the end, then kills.
    ///
    /// # Errors
    /// Those of `poll`, of the signal and of `waitpid`.
    pub fn wait_or_kill(&mut self, limit: std::time::Duration) -> io::Result<ExitStatus> {
        let timeout = Timespec::try_from(limit).map_err(io::Error::other)?;
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        if poll(&mut fds, Some(&timeout))? == 0 {
            self.kill()?;
        }
        self.wait()
    }

    /// What the process wrote to standard error so far, cut to 4 KiB; never waits.
    pub fn stderr(&mut self) -> String {
        let Some(pipe) = self.child.stderr.take() else {
            return String::new();
        };
        let mut buffer = [0u8; STDERR_BYTES_MAX];
        let mut fds = [PollFd::new(&pipe, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&Timespec::default())).unwrap_or(0);
        let length = if ready > 0 {
            rustix::io::read(&pipe, &mut buffer).unwrap_or(0)
        } else {
            0
        };
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    }
}

/// Kills the process behind a pidfd; one that has ended already is no error.
///
/// # Errors
/// Those of `pidfd_send_signal` except `ESRCH`.
pub fn kill(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    match pidfd_send_signal(pidfd, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Takes over a descriptor that this program was started with; `None` when it is no open socket.
///
/// The first call for a number owns it: programs call this once, before they open anything.
pub fn inherited(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: fcntl on a number that may be closed only answers an error.
    if number < 3 || unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: the descriptor is open and, as the contract says, owned by nobody else in this process.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::net::sockopt::socket_type(&fd).is_ok().then_some(fd)
}

/// How a process ended, in words.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown end".to_owned(),
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if self.done.is_none() {
            // Nothing is left to tell when even this fails; the process dies with our thread.
            drop(self.kill().and_then(|()| self.wait()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(path: &str) -> std::fs::File {
        std::fs::File::open(path).unwrap()
    }

    #[test]
    fn a_helper_sees_only_its_descriptors_and_no_environment() {
        let (left, right) = crate::fdpass::pair().unwrap();
        let shell = image("/bin/sh");
        let mut helper = spawn(shell.as_fd(), OsStr::new("sh"), &[right.as_fd()]).unwrap();
        drop(right);
        // The shell reads an empty standard input and ends; then the only other end of the pair is gone.
        assert!(helper.wait().unwrap().success());
        assert_eq!(crate::fdpass::receive(&left, &mut [0; 1]).unwrap().0, 0);
    }

    #[test]
    fn an_image_below_the_given_descriptors_is_still_found() {
        let shell = image("/bin/sh");
        // More descriptors than numbers below the image's: one of them takes its number in the child.
        let fds = vec![shell.as_fd(); 60];
        assert!(shell.as_raw_fd() < 63, "opened too late for this test");
        let mut helper = spawn(shell.as_fd(), OsStr::new("sh"), &fds).unwrap();
        assert!(helper.wait().unwrap().success());
        let (left, right) = crate::fdpass::pair().unwrap();
        let fds = vec![right.as_fd(); 60];
        let mut helper = spawn(shell.as_fd(), OsStr::new("sh"), &fds).unwrap();
        assert!(helper.wait().unwrap().success());
        drop(left);
    }

    #[test]
    fn dropping_kills_and_reaps() {
        let (_left, right) = crate::fdpass::pair().unwrap();
        let cat = image("/bin/cat");
        let helper = spawn(cat.as_fd(), OsStr::new("cat"), &[right.as_fd()]).unwrap();
        let pid = helper.child.id();
        drop(helper);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
