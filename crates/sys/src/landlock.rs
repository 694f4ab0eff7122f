//! Landlock: a process gives up all paths except the trees it names.
#![allow(unsafe_code, reason = "the three system calls have no safe wrapper")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const CREATE_RULESET_VERSION: libc::c_uint = 1;
const RULE_PATH_BENEATH: libc::c_uint = 1;

const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE: u64 = 1 << 4 | 1 << 5;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const MAKE_FIFO: u64 = 1 << 10;
const MAKE_BLOCK: u64 = 1 << 11;
const MAKE_SYM: u64 = 1 << 12;
/// Since version 2.
const REFER: u64 = 1 << 13;
/// Since version 3.
const TRUNCATE: u64 = 1 << 14;
/// Since version 5.
const IOCTL_DEV: u64 = 1 << 15;

/// What a tree is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading files and folders.
    Read,
    /// Making, changing and removing everything but sockets; reading; never executing.
    Fill,
}

#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

/// The version of Landlock that this kernel offers; `None` where it is absent or switched off.
pub fn version() -> Option<u32> {
    // SAFETY: with this flag the kernel takes a null pointer and size 0 and only answers a number.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<RulesetAttr>(),
            0usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(answer).ok().filter(|version| *version > 0)
}

fn handled(version: u32) -> RulesetAttr {
    let mut fs = (1 << 13) - 1;
    for (since, bit) in [(2, REFER), (3, TRUNCATE), (5, IOCTL_DEV)] {
        if version >= since {
            fs |= bit;
        }
    }
    RulesetAttr {
        handled_access_fs: fs,
        // TCP bind and connect; abstract sockets and signals to processes outside.
        handled_access_net: if version >= 4 { 3 } else { 0 },
        scoped: if version >= 6 { 3 } else { 0 },
    }
}

/// Gives up every path, TCP port and outside signal except the named trees; needs `no_new_privs`.
///
/// Answers the kernel's version, or `None` (and does nothing) where there is no Landlock.
///
/// # Errors
/// Those of the three system calls.
pub fn restrict(trees: &[(BorrowedFd<'_>, Access)]) -> io::Result<Option<u32>> {
    let Some(version) = version() else {
        return Ok(None);
    };
    let attr = handled(version);
    let size = match version {
        0..=3 => 8usize,
        4 | 5 => 16,
        _ => 24,
    };
    // SAFETY: `attr` outlives the call and `size` is at most its size; the answer is a new descriptor of ours.
    let ruleset = unsafe {
        let fd = libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const attr,
            size,
            0u32,
        );
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd as i32)
    };
    for (tree, access) in trees {
        let wanted = match access {
            Access::Read => READ_FILE | READ_DIR,
            Access::Fill => {
                WRITE_FILE
                    | READ_FILE
                    | READ_DIR
                    | REMOVE
                    | MAKE_CHAR
                    | MAKE_DIR
                    | MAKE_REG
                    | MAKE_FIFO
                    | MAKE_BLOCK
                    | MAKE_SYM
                    | REFER
                    | TRUNCATE
            }
        };
        debug_assert_eq!(wanted & (EXECUTE | MAKE_SOCK | IOCTL_DEV), 0);
        let rule = PathBeneathAttr {
            allowed_access: wanted & attr.handled_access_fs,
            parent_fd: tree.as_fd().as_raw_fd(),
        };
        // SAFETY: `rule` outlives the call and has the kernel's packed layout; both descriptors are open.
        let added = unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                ruleset.as_raw_fd(),
                RULE_PATH_BENEATH,
                &raw const rule,
                0u32,
            )
        };
        if added < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: takes two numbers.
    let done =
        unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0u32) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Some(version))
}
