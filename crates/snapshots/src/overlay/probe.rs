//! What overlayfs can do on this host and under this root, found out once.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::fs::FileType;
use sys::file::{self, Files};
use sys::mount::{Attributes, FsContext};

use crate::{Error, Result, points};

/// What was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// The kernel knows `index`.
    pub(super) index: bool,
    /// Overlay's attributes have to be `user.*`.
    pub(super) userxattr: bool,
    /// We are root of a user namespace only.
    pub(super) user_namespace: bool,
    /// Overlay takes layers from mounts that map ids.
    pub(super) remap_ids: bool,
}

const TMPFS: i64 = 0x0102_1994;

/// File systems that can be mounted with mapped ids (`FS_ALLOW_IDMAP`), by their magic, and since which kernel.
const IDMAPPABLE: [(i64, (u32, u32)); 5] = [
    (0xef53, (5, 19)),
    (0x5846_5342, (5, 19)),
    (0x9123_683e, (5, 19)),
    (0xf2f5_2010, (5, 19)),
    (TMPFS, (6, 3)),
];

/// Makes a mount of two layers, an upper and a work folder, that is never attached anywhere.
pub(super) fn probe(root: &Path, files: &Files) -> Result<Found> {
    let refuse = |reason: String| Error::Unsupported {
        driver: "overlayfs",
        root: root.display().to_string(),
        reason,
    };
    let text = root
        .to_str()
        .ok_or_else(|| refuse("the path is no UTF-8".to_owned()))?;
    if !root.is_absolute() || text.contains([':', ',', '\\']) {
        let reason = "the path must be absolute, without colon, comma and backslash";
        return Err(refuse(reason.to_owned()));
    }
    let magic = rustix::fs::statfs(root)
        .map_err(file::Error::of("stat file system of", root))?
        .f_type;
    #[allow(
        clippy::unnecessary_cast,
        reason = "the width differs between architectures"
    )]
    let magic = magic as i64;
    let user_namespace = !fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_ascii_whitespace().eq(["0", "0", "4294967295"]));
    let found = Found {
        index: Path::new("/sys/module/overlay/parameters/index").exists(),
        userxattr: user_namespace && magic != TMPFS,
        user_namespace,
        remap_ids: IDMAPPABLE
            .iter()
            .any(|(fs, since)| *fs == magic && kernel() >= *since),
    };
    let room = root.join("probe-hoist");
    if room.symlink_metadata().is_ok() {
        files.remove_tree(points::PROBE, &room)?;
    }
    files.make_dir(points::PROBE, &room, 0o700)?;
    let tried = try_mount(&room, files, found.userxattr);
    files.remove_tree(points::PROBE, &room)?;
    match tried? {
        None => Ok(found),
        Some(reason) => Err(refuse(reason)),
    }
}

/// `None` when it works, else why not.
fn try_mount(room: &Path, files: &Files, userxattr: bool) -> Result<Option<String>> {
    let mut folders = Vec::new();
    for name in ["lower", "lower2", "upper", "work"] {
        let path = room.join(name);
        files.make_dir(points::PROBE, &path, 0o755)?;
        folders.push(File::open(&path).map_err(file::Error::of("open", &path))?);
    }
    if !tells_types(room)? {
        let reason = "the file system does not tell types of directory entries (d_type); an xfs must be made with ftype=1";
        return Ok(Some(reason.to_owned()));
    }
    // Values are limited to 255 bytes, which the root's own path may exceed.
    let path = |index: usize| format!("/proc/self/fd/{}", folders[index].as_fd().as_raw_fd());
    let mount = || {
        let context = FsContext::open("overlay")?;
        context.string("lowerdir", &format!("{}:{}", path(0), path(1)))?;
        context.string("upperdir", &path(2))?;
        context.string("workdir", &path(3))?;
        if userxattr {
            context.flag("userxattr")?;
        }
        context.mount(Attributes::empty())
    };
    Ok(mount()
        .err()
        .map(|error| format!("overlay can't be mounted: {error}")))
}

fn tells_types(room: &Path) -> Result<bool> {
    let look = || -> std::io::Result<bool> {
        let mut known = true;
        for entry in rustix::fs::Dir::read_from(File::open(room)?)? {
            known &= entry?.file_type() != FileType::Unknown;
        }
        Ok(known)
    };
    Ok(look().map_err(file::Error::of("list", room))?)
}

/// Major and minor version of the running kernel; (0, 0) when it can't be told.
fn kernel() -> (u32, u32) {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    let mut parts = release
        .split(|letter: char| !letter.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}
