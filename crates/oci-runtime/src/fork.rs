//! The clone and the descriptors of the child: the only unsafe code of this crate.
#![allow(
    unsafe_code,
    reason = "the process has one thread, and after the clone the child owns every descriptor number"
)]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use sys::process::{CloneOptions, Cloned};

/// Clones the calling process and runs `child` in the clone, which never returns here.
///
/// The callers of this crate's public functions promise to have one thread.
pub(crate) fn clone(options: CloneOptions<'_>, child: impl FnOnce()) -> io::Result<(i32, OwnedFd)> {
    // SAFETY: `create` and `exec` are documented to be called by a process with one thread.
    match unsafe { sys::process::clone(options) }? {
        Cloned::Parent { pid, pidfd } => Ok((pid, pidfd)),
        Cloned::Child => {
            child();
            sys::process::exit_now(1)
        }
    }
}

/// Gives a descriptor a number of the child's.
pub(crate) fn place(fd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: only the child calls this; it never drops the descriptors that it inherited, so none that is still
    // owned by a value is closed or confused by this.
    unsafe { sys::process::duplicate_onto(fd, number) }
}

/// Closes all descriptors from `first` on except those in `keep`, which is sorted.
pub(crate) fn close_except(first: i32, keep: &[i32]) -> io::Result<()> {
    // SAFETY: only the child calls this, between its set-up and `execve`; it never drops what it inherited.
    unsafe { sys::process::close_except(first, keep) }
}

/// One of the standard streams of the child.
pub(crate) fn stream(number: i32) -> BorrowedFd<'static> {
    // SAFETY: `place` gave the numbers 0 to 2 before, and nothing closes them until `execve`.
    unsafe { BorrowedFd::borrow_raw(number) }
}
