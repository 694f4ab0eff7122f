//! Processes as descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Opens the process; `ESRCH` when there is none.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Sends a signal. `number` 0 only asks whether that would be allowed.
#[allow(unsafe_code, reason = "real-time signals have no safe constructor")]
pub fn send_signal(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    if !(1..=64).contains(&number) {
        return Err(Errno::INVAL.into());
    }
    // SAFETY: the number lies in the kernel's range of signals; we install no handler for it.
    let signal = unsafe { Signal::from_raw_unchecked(number) };
    Ok(pidfd_send_signal(pidfd, signal)?)
}

/// Waits at most `limit` until the process has ended; says whether it has. `None` waits for ever.
pub fn wait_end(pidfd: BorrowedFd<'_>, limit: Option<std::time::Duration>) -> io::Result<bool> {
    let timeout = limit.map(|limit| Timespec {
        tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    });
    let mut fds = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    let ready = rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref()))?;
    Ok(ready > 0)
}
