//! Device nodes and links of /dev.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, fstat, makedev, mknodat, openat};
use rustix::io::Errno;
use spec::runtime::Device;
use sys::namespace::Kind;

use super::resolve::{self, Missing};
use crate::error::{Error, Result};
use crate::plan::Plan;

/// Nodes that every container has (config-linux.md#default-devices).
const DEFAULT: [(&str, i64, i64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/tty", 5, 0),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
];

/// Links that every container has (runtime-linux.md#dev-symbolic-links).
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
];

/// Makes nodes and links.
pub(crate) fn all(plan: &Plan<'_>, root: BorrowedFd<'_>) -> Result<()> {
    let bound = plan.makes(Kind::User);
    let listed = |path: &str| plan.linux.devices.iter().any(|device| device.path == path);
    for (path, major, minor) in DEFAULT {
        if listed(path) {
            continue;
        }
        let device = Device {
            path: path.to_owned(),
            kind: "c".to_owned(),
            major,
            minor,
            file_mode: Some(0o666),
            ..Device::default()
        };
        node(root, &device, bound)?;
    }
    for device in &plan.linux.devices {
        node(root, device, bound)?;
    }
    links(root)
}

fn failed(path: &str, error: impl Into<std::io::Error>) -> Error {
    Error::step(format!("make device node {path}"), error)
}

fn node(root: BorrowedFd<'_>, device: &Device, bound: bool) -> Result<()> {
    let path = device.path.as_str();
    // These two belong to devpts, whatever the list says.
    if matches!(path, "/dev/ptmx" | "/dev/console") {
        return Ok(());
    }
    if bound {
        return bind(root, path);
    }
    let kind = match device.kind.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        other => {
            return Err(Error::invalid(
                "linux.devices",
                format!("unknown type {other:?}"),
            ));
        }
    };
    let number = |value: i64| {
        u32::try_from(value)
            .map_err(|_| Error::invalid("linux.devices", format!("{value} is no device number")))
    };
    let rdev = if kind == FileType::Fifo {
        0
    } else {
        makedev(number(device.major)?, number(device.minor)?)
    };
    let mode = Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o7777);
    let (folder, name) = resolve::parent_of(root, path).map_err(|error| failed(path, error))?;
    match mknodat(&folder, name.as_str(), kind, mode, rdev) {
        Ok(()) => {}
        Err(Errno::EXIST) => return check(folder.as_fd(), &name, kind, rdev, path),
        Err(error) => return Err(failed(path, error)),
    }
    if device.uid.is_some_and(|uid| uid != 0) || device.gid.is_some_and(|gid| gid != 0) {
        let (uid, gid) = (device.uid.unwrap_or(0), device.gid.unwrap_or(0));
        rustix::fs::chownat(
            &folder,
            name.as_str(),
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(|error| failed(path, error))?;
    }
    Ok(())
}

/// An image may bring its own node; anything else under that name is an attack.
fn check(folder: BorrowedFd<'_>, name: &str, kind: FileType, rdev: u64, path: &str) -> Result<()> {
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| failed(path, error))?;
    if FileType::from_raw_mode(stat.st_mode) == kind && stat.st_rdev == rdev {
        return Ok(());
    }
    Err(failed(path, Errno::EXIST))
}

/// In a user namespace nodes can't be made: the host's are bound.
fn bind(root: BorrowedFd<'_>, path: &str) -> Result<()> {
    let step = |error: std::io::Error| failed(path, error);
    let source = sys::mount::clone_tree(CWD, path, false).map_err(step)?;
    let place = resolve::walk(root, path, Missing::File).map_err(step)?;
    sys::mount::attach(source.as_fd(), place.fd.as_fd()).map_err(step)
}

fn links(root: BorrowedFd<'_>) -> Result<()> {
    let step = |error: std::io::Error| Error::step("make the links of /dev", error);
    let dev = resolve::walk(root, "/dev", Missing::Folder)
        .map_err(step)?
        .fd;
    let core = rustix::fs::access("/proc/kcore", rustix::fs::Access::EXISTS).is_ok();
    let core = core.then_some(("/proc/kcore", "core"));
    for (target, name) in LINKS.into_iter().chain(core) {
        link(dev.as_fd(), target, name).map_err(step)?;
    }
    // /dev/ptmx of another devpts would open terminals of the host.
    resolve::remove(dev.as_fd(), "ptmx").map_err(step)?;
    link(dev.as_fd(), "pts/ptmx", "ptmx").map_err(step)
}

fn link(folder: BorrowedFd<'_>, target: &str, name: &str) -> std::io::Result<()> {
    match rustix::fs::symlinkat(target, folder, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens the host's /dev/null after making sure that it is that device.
pub(crate) fn null() -> Result<std::os::fd::OwnedFd> {
    let step = |error: Errno| Error::step("open /dev/null", error);
    let fd = openat(
        CWD,
        "/dev/null",
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(step)?;
    let stat = fstat(&fd).map_err(step)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == makedev(1, 3)
    {
        Ok(fd)
    } else {
        Err(Error::step(
            "open /dev/null",
            std::io::Error::other("it is not the null device"),
        ))
    }
}
