//! Kinds of namespaces, and joining and leaving them.
#![allow(
    unsafe_code,
    reason = "unshare(2) of anything but CLONE_FILES is safe, the wrapper is not"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// User and group ids, capabilities.
    User,
    /// Process ids.
    Pid,
    /// The network.
    Network,
    /// Mounts.
    Mount,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host and domain name.
    Uts,
    /// The view of cgroups.
    Cgroup,
    /// Clocks.
    Time,
}

impl Kind {
    /// All kinds, the user namespace first.
    pub const ALL: [Self; 8] = [
        Self::User,
        Self::Pid,
        Self::Network,
        Self::Mount,
        Self::Ipc,
        Self::Uts,
        Self::Cgroup,
        Self::Time,
    ];

    /// The `CLONE_NEW…` flag.
    pub fn flag(self) -> u64 {
        let flag = match self {
            Self::User => libc::CLONE_NEWUSER,
            Self::Pid => libc::CLONE_NEWPID,
            Self::Network => libc::CLONE_NEWNET,
            Self::Mount => libc::CLONE_NEWNS,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::Cgroup => libc::CLONE_NEWCGROUP,
            Self::Time => libc::CLONE_NEWTIME,
        };
        flag as u64
    }

    /// The file below `/proc/<pid>/ns`.
    pub fn file(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Pid => "pid",
            Self::Network => "net",
            Self::Mount => "mnt",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }

    /// The name that the OCI runtime specification gives it (config-linux.md#namespaces).
    pub fn oci_name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Mount => "mount",
            other => other.file(),
        }
    }

    /// The kind that the OCI runtime specification calls `name`.
    pub fn from_oci_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.oci_name() == name)
    }
}

/// Joins the namespace that `fd` refers to; it must be of the given kind.
pub fn join(fd: BorrowedFd<'_>, kind: Kind) -> io::Result<()> {
    set(fd, kind.flag())
}

/// Joins the namespaces of the process that `pidfd` refers to, all kinds whose flags are given at once.
pub fn join_process(pidfd: BorrowedFd<'_>, flags: u64) -> io::Result<()> {
    set(pidfd, flags)
}

fn set(fd: BorrowedFd<'_>, flags: u64) -> io::Result<()> {
    // SAFETY: the call takes integers only.
    let result = unsafe { libc::setns(fd.as_raw_fd(), flags as libc::c_int) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Leaves the namespaces whose flags are given for new ones.
pub fn unshare(flags: u64) -> io::Result<()> {
    // SAFETY: the call takes an integer; the flags of `Kind` do not touch the table of descriptors.
    let result = unsafe { libc::unshare(flags as libc::c_int) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
