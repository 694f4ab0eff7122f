//! Signals as a descriptor, and the ends of children.
#![allow(
    unsafe_code,
    reason = "signal sets and signalfd have no safe interface"
)]

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::{WaitOptions, WaitStatus};

/// Signals that wait to be read instead of interrupting. They stay blocked in this thread and its future children.
#[derive(Debug)]
pub struct Signals {
    file: File,
}

impl Signals {
    /// Blocks `numbers` and makes the descriptor: non-blocking, closed on exec.
    ///
    /// # Errors
    /// Those of `sigprocmask` and `signalfd`.
    pub fn new(numbers: &[i32]) -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set before it is used; the calls take pointers to live memory only.
        let raw = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for number in numbers {
                libc::sigaddset(set.as_mut_ptr(), *number);
            }
            if libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) < 0 {
                return Err(io::Error::last_os_error());
            }
            libc::signalfd(-1, set.as_ptr(), libc::SFD_NONBLOCK | libc::SFD_CLOEXEC)
        };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the number was just returned by the kernel and belongs to nobody else.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(raw) });
        Ok(Self { file })
    }

    /// The number of a signal that waits.
    ///
    /// # Errors
    /// Those of `read` except that nothing waits.
    pub fn take(&mut self) -> io::Result<Option<i32>> {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        match self.file.read(&mut info) {
            // The number is the first field of signalfd_siginfo (signalfd(2)).
            Ok(_) => Ok(Some(i32::from_ne_bytes([
                info[0], info[1], info[2], info[3],
            ]))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Reaps one ended child, whichever: its process id, and its exit code or 128 plus its signal. Never waits.
///
/// # Errors
/// Those of `waitpid` except that there is no child.
pub fn reap() -> io::Result<Option<(i32, u32)>> {
    match rustix::process::wait(WaitOptions::NOHANG) {
        Ok(ended) => Ok(ended.map(|(pid, status)| (pid.as_raw_nonzero().get(), code(status)))),
        Err(rustix::io::Errno::CHILD) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn code(status: WaitStatus) -> u32 {
    let number = status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
        .unwrap_or(255);
    number.unsigned_abs()
}
