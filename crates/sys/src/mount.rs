//! Mounts as descriptors: made detached, changed, then attached onto a descriptor.
//!
//! No function here takes a target as a path: what a descriptor refers to can't be swapped under us. The calls exist
//! since Linux 5.2 (`mount_setattr` since 5.12), below our floor of 5.14, so there is no classic way beside them.
#![allow(unsafe_code, reason = "mount_setattr(2) has no safe wrapper")]

use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    open_tree,
};

pub use rustix::mount::MountAttrFlags as Attributes;

/// Longest value of one parameter of `fsconfig(2)`, in bytes.
pub const PARAMETER_BYTES_MAX: usize = 255;

/// A file system could not be made; says what the kernel logged.
#[derive(Debug, Clone)]
pub struct FsError {
    /// The error number.
    pub errno: Errno,
    /// Lines that the file system left in its context, joined; most often empty.
    pub log: String,
}

impl fmt::Display for FsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = io::Error::from(self.errno);
        if self.log.is_empty() {
            write!(formatter, "{error}")
        } else {
            write!(formatter, "{error} ({})", self.log)
        }
    }
}

impl std::error::Error for FsError {}

impl From<FsError> for io::Error {
    fn from(error: FsError) -> Self {
        if error.log.is_empty() {
            error.errno.into()
        } else {
            Self::new(Self::from(error.errno).kind(), error)
        }
    }
}

/// A file system that is being configured.
#[derive(Debug)]
pub struct FsContext {
    fd: OwnedFd,
}

impl FsContext {
    /// Starts to configure a file system of a type such as `tmpfs`.
    pub fn open(kind: &str) -> Result<Self, FsError> {
        match fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC) {
            Ok(fd) => Ok(Self { fd }),
            Err(errno) => Err(FsError {
                errno,
                log: String::new(),
            }),
        }
    }

    /// Sets a parameter that has a value of at most [`PARAMETER_BYTES_MAX`] bytes.
    pub fn string(&self, key: &str, value: &str) -> Result<(), FsError> {
        fsconfig_set_string(&self.fd, key, value).map_err(|errno| self.error(errno))
    }

    /// Sets a parameter that has no value.
    pub fn flag(&self, key: &str) -> Result<(), FsError> {
        fsconfig_set_flag(&self.fd, key).map_err(|errno| self.error(errno))
    }

    /// Sets a parameter that is a descriptor.
    pub fn fd(&self, key: &str, value: BorrowedFd<'_>) -> Result<(), FsError> {
        fsconfig_set_fd(&self.fd, key, value).map_err(|errno| self.error(errno))
    }

    /// Sets one option as fstab writes it: `key=value` or `key`.
    pub fn option(&self, option: &str) -> Result<(), FsError> {
        match option.split_once('=') {
            Some((key, value)) => self.string(key, value),
            None => self.flag(option),
        }
    }

    /// Makes the file system and a detached mount of it.
    pub fn mount(&self, attributes: Attributes) -> Result<OwnedFd, FsError> {
        fsconfig_create(&self.fd).map_err(|errno| self.error(errno))?;
        fsmount(&self.fd, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|errno| self.error(errno))
    }

    fn error(&self, errno: Errno) -> FsError {
        let mut lines = Vec::new();
        let mut buffer = [0; 512];
        // The kernel keeps at most 8 lines.
        for _ in 0..8 {
            match rustix::io::read(&self.fd, &mut buffer) {
                Ok(length) if length > 0 => {
                    let line = String::from_utf8_lossy(&buffer[..length]);
                    lines.push(line.trim_start_matches("e ").trim().to_owned());
                }
                _ => break,
            }
        }
        FsError {
            errno,
            log: lines.join("; "),
        }
    }
}

/// Copies the mount on which `path` below `folder` lies (an empty path is `folder` itself) as a detached mount,
/// `recursive` with everything mounted below. Links in `path` are followed.
pub fn clone_tree(folder: BorrowedFd<'_>, path: &str, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path.is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(folder, path, flags)?)
}

/// Attaches a detached mount, or moves an attached one, onto the folder or file that `target` refers to.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}

/// How mount events spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Both ways.
    Shared,
    /// Only from the peer.
    Slave,
    /// Not at all.
    Private,
    /// Not at all, and can't be bound.
    Unbindable,
}

impl Propagation {
    fn bits(self) -> u64 {
        match self {
            Self::Shared => libc::MS_SHARED,
            Self::Slave => libc::MS_SLAVE,
            Self::Private => libc::MS_PRIVATE,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// What to change of a mount.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// Attributes to set.
    pub set: Attributes,
    /// Attributes to clear.
    pub clear: Attributes,
    /// The new propagation.
    pub propagation: Option<Propagation>,
    /// Also everything mounted below.
    pub recursive: bool,
}

impl Default for Change {
    fn default() -> Self {
        Self {
            set: Attributes::empty(),
            clear: Attributes::empty(),
            propagation: None,
            recursive: false,
        }
    }
}

/// The argument of `mount_setattr(2)` in its first version.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes the mount that `mount` is the root of.
pub fn change(mount: BorrowedFd<'_>, change: Change) -> io::Result<()> {
    let mut clear = change.clear;
    // The three access time modes are one field: the kernel wants it cleared as a whole before a mode is set.
    if change.set.intersects(MountAttrFlags::MOUNT_ATTR__ATIME) {
        clear |= MountAttrFlags::MOUNT_ATTR__ATIME;
    }
    let attr = MountAttr {
        set: u64::from(change.set.bits()),
        clear: u64::from(clear.bits()),
        propagation: change.propagation.map_or(0, Propagation::bits),
        userns_fd: 0,
    };
    let mut flags = libc::AT_EMPTY_PATH;
    if change.recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a NUL-terminated constant, and `attr` outlives the call and has the size that is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Changes how events of the mount at the root of `path`, or of all below it, spread.
pub fn change_path(path: &str, propagation: Propagation, recursive: bool) -> io::Result<()> {
    let path = CString::new(path)?;
    let flags = propagation.bits() | if recursive { libc::MS_REC } else { 0 };
    // SAFETY: all pointers are null or NUL-terminated strings that outlive the call.
    let result = unsafe {
        libc::mount(
            std::ptr::null(),
            path.as_ptr(),
            std::ptr::null(),
            flags,
            std::ptr::null(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes `root`, the root of an attached mount, the root folder of the mount namespace and drops the old one.
pub fn pivot_root(root: BorrowedFd<'_>) -> io::Result<()> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    let old = openat(
        CWD,
        "/",
        OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    // The old root lies above the new one now; events of its removal must not reach the host.
    rustix::process::fchdir(old.as_fd())?;
    change_path(".", Propagation::Slave, true)?;
    rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}
