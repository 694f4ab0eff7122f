//! Owner, attributes, mode and times, in the order that keeps set-uid bits and capabilities.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, Timestamps, Uid, chownat, fchmod, fchown, futimens, utimensat,
};
use rustix::io::Errno;
use sys::xattr;

use super::Deletions;

/// Owner, attributes and mode of an open file or folder; counts attributes that were left out.
pub(super) fn open_file(
    file: BorrowedFd<'_>,
    (uid, gid, mode): (u32, u32, u32),
    xattrs: &[(Vec<u8>, Vec<u8>)],
    deletions: Deletions,
) -> io::Result<u64> {
    fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    // After the owner, which takes security.capability away; before the mode, which an ACL would change.
    let skipped = set_all(xattrs, deletions, |name, value| {
        xattr::set(file, name, value)
    })?;
    // After the owner, which takes set-uid away.
    fchmod(file, Mode::from_raw_mode(mode))?;
    Ok(skipped)
}

/// Owner and attributes of an entry that can't be opened: a link, a pipe, a device.
pub(super) fn unopened(
    folder: BorrowedFd<'_>,
    name: &[u8],
    (uid, gid): (u32, u32),
    xattrs: &[(Vec<u8>, Vec<u8>)],
    deletions: Deletions,
) -> io::Result<u64> {
    chownat(
        folder,
        name,
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    set_all(xattrs, deletions, |key, value| {
        xattr::set_entry(folder, name, key, value)
    })
}

fn set_all(
    xattrs: &[(Vec<u8>, Vec<u8>)],
    deletions: Deletions,
    set: impl Fn(&[u8], &[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let mut skipped = 0;
    for (name, value) in xattrs {
        if !is_wanted(name, deletions) {
            skipped += 1;
            continue;
        }
        match set(name, value) {
            Ok(()) => {}
            Err(error) if is_unable(&error, name) => skipped += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(skipped)
}

/// `trusted.` steers overlayfs, and other `security.` names steer the host's own policy: neither is a layer's to set.
fn is_wanted(name: &[u8], deletions: Deletions) -> bool {
    let steers_overlay = deletions == Deletions::OverlayUser && name.starts_with(b"user.overlay.");
    let steers_host = name.starts_with(b"security.") && name != b"security.capability";
    !(steers_overlay || steers_host || name.starts_with(b"trusted."))
}

/// No room for such a name on this file system, or on this kind of entry.
fn is_unable(error: &io::Error, name: &[u8]) -> bool {
    match Errno::from_io_error(error) {
        Some(Errno::OPNOTSUPP) => true,
        Some(Errno::PERM) => name.starts_with(b"user."),
        _ => false,
    }
}

pub(super) fn file_times(file: impl AsFd, times: &Timestamps) -> io::Result<()> {
    Ok(futimens(file, times)?)
}

/// Times of an entry itself, links not followed.
pub(super) fn entry_times(folder: impl AsFd, name: &[u8], times: &Timestamps) -> io::Result<()> {
    Ok(utimensat(folder, name, times, AtFlags::SYMLINK_NOFOLLOW)?)
}
