//! Path resolution that can't leave a folder.
//!
//! Every open goes through `openat2`, so the kernel, not a string comparison, keeps the result inside.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

/// `EAGAIN` answers accepted before giving up: the kernel gives one when a rename raced with the walk.
const RETRIES_MAX: u32 = 128;

/// Opens `path` as a process whose root is `root` would: absolute links and `..` stay inside.
///
/// # Errors
/// Those of `openat2`; `EXDEV` where the walk would cross into another mount, `ELOOP` for magic links.
pub fn open_in_root(
    root: impl AsFd,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    open(
        root,
        path,
        flags,
        mode,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV,
    )
}

/// Opens `path` below `root` without following a symbolic link anywhere.
///
/// # Errors
/// Those of `openat2`; `ELOOP` for a link, `EXDEV` for an absolute path, for `..` above the root and for another mount.
pub fn open_beneath(
    root: impl AsFd,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    open(
        root,
        path,
        flags,
        mode,
        ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV,
    )
}

fn open(
    root: impl AsFd,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    let root = root.as_fd();
    let mut tries = 0;
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) if tries < RETRIES_MAX => {
                tries += 1;
            }
            other => return other.map_err(io::Error::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::CWD;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_inside_or_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/here"), b"x").unwrap();
        symlink("/etc", dir.path().join("abs")).unwrap();
        symlink("../../../../etc", dir.path().join("up")).unwrap();
        let root = rustix::fs::openat(
            CWD,
            dir.path(),
            OFlags::PATH | OFlags::DIRECTORY,
            Mode::empty(),
        )
        .unwrap();
        for path in ["abs/here", "up/here", "/etc/here", "../etc/here"] {
            open_in_root(&root, path.as_bytes(), OFlags::RDONLY, Mode::empty()).unwrap();
            assert!(
                open_beneath(&root, path.as_bytes(), OFlags::RDONLY, Mode::empty()).is_err(),
                "{path}"
            );
        }
        open_beneath(&root, b"etc/here", OFlags::RDONLY, Mode::empty()).unwrap();
    }
}
