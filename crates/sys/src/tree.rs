//! Whole folders through descriptors: removal and counting that no symbolic link can lead elsewhere.
//!
//! Each name is opened alone below the descriptor of its folder, links and mount points refused, so what runs inside
//! a container may swap names underneath without the walk ever leaving the tree.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Folders held open at once while removing; what lies deeper is first moved up, so depth itself has no limit.
const REMOVE_DEPTH_MAX: usize = 64;

/// Deepest folder that [`walk`] enters (one descriptor each); a deeper tree is an error (ELOOP).
pub const DEPTH_MAX: usize = 1024;

/// Most files and folders that [`sync`] syncs one by one.
pub const SYNC_FILES_MAX: usize = 128;

/// How often an open is tried again when names change at that moment.
const OPEN_TRIES_MAX: u32 = 16;

/// What a tree takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of the allocated blocks.
    pub bytes: u64,
    /// Inodes, each hard-linked one once.
    pub inodes: u64,
}

/// Opens the folder `name` below `parent`: one name, no link, no other mount.
pub fn open_folder(parent: impl AsFd, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let mut tries = 1;
    loop {
        match rustix::fs::openat2(parent.as_fd(), name, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < OPEN_TRIES_MAX => tries += 1,
            other => return Ok(other?),
        }
    }
}

/// Removes the file or tree `name` below `parent`.
///
/// A mount point in the tree is refused (EBUSY or EXDEV) and left, with what is mounted, untouched. `NotFound` when
/// there is no such name.
pub fn remove_beneath(parent: impl AsFd, name: &CStr) -> io::Result<()> {
    if unlink(parent.as_fd(), name)? {
        return Ok(());
    }
    let top = open_folder(&parent, name)?;
    let mut deep = 0_u64;
    // Emptying moves deep folders into `top`, so it takes as many rounds as the tree has slices of that depth.
    while empty(&top, &mut deep)? {}
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// Unlinks what is no folder; false when it is one.
fn unlink(parent: impl AsFd, name: &CStr) -> io::Result<bool> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

struct Level {
    folder: OwnedFd,
    entries: Dir,
    name: CString,
}

impl Level {
    fn new(folder: OwnedFd, name: CString) -> io::Result<Self> {
        let entries = Dir::read_from(&folder)?;
        Ok(Self {
            folder,
            entries,
            name,
        })
    }
}

fn next_entry(entries: &mut Dir) -> io::Result<Option<(CString, FileType)>> {
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            return Ok(Some((name.to_owned(), entry.file_type())));
        }
    }
    Ok(None)
}

/// Removes all that lies in `top`, except that folders too deep are moved up into it; true when that happened.
fn empty(top: &OwnedFd, deep: &mut u64) -> io::Result<bool> {
    let mut moved = false;
    let mut levels = vec![Level::new(top.try_clone()?, CString::default())?];
    loop {
        let full = levels.len() >= REMOVE_DEPTH_MAX;
        let Some(level) = levels.last_mut() else {
            return Ok(moved);
        };
        let Some((name, kind)) = next_entry(&mut level.entries)? else {
            let done = levels.pop();
            if let (Some(done), Some(parent)) = (done, levels.last()) {
                remove_emptied(parent, &done)?;
            }
            continue;
        };
        if kind != FileType::Directory && ignore_missing(unlink(&level.folder, &name))? {
            continue;
        }
        if !full {
            match open_folder(&level.folder, &name) {
                Ok(folder) => levels.push(Level::new(folder, name)?),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            continue;
        }
        *deep += 1;
        let target = format!(".deep-{deep}");
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&level.folder, &*name, top, &*target, flags) {
            Ok(()) => moved = true,
            // A name of that form was in the tree: the next round takes the next number.
            Err(Errno::EXIST) => {
                levels.truncate(1);
                moved = true;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn remove_emptied(parent: &Level, done: &Level) -> io::Result<()> {
    match rustix::fs::unlinkat(&parent.folder, &*done.name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        // Some file systems skip names while others are being removed: look at the folder once more.
        Err(Errno::NOTEMPTY) => {
            let mut again = Level::new(done.folder.try_clone()?, done.name.clone())?;
            while let Some((name, _)) = next_entry(&mut again.entries)? {
                remove_beneath(&again.folder, &name)?;
            }
            Ok(rustix::fs::unlinkat(
                &parent.folder,
                &*done.name,
                AtFlags::REMOVEDIR,
            )?)
        }
        Err(error) => Err(error.into()),
    }
}

fn ignore_missing(result: io::Result<bool>) -> io::Result<bool> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        other => other,
    }
}

/// Counts what the tree below `folder` takes, the folder itself included; other mounts are not entered.
///
/// Names that vanish meanwhile are left out. An inode with several names counts once.
pub fn usage(folder: impl AsFd) -> io::Result<Usage> {
    let mut seen = HashSet::new();
    let mut total = Usage::default();
    count(&mut total, &mut seen, &rustix::fs::fstat(&folder)?);
    walk(folder, |_, _, stat| {
        count(&mut total, &mut seen, stat);
        Ok(())
    })?;
    Ok(total)
}

/// Makes the bytes and names of the tree below `folder` durable; other mounts are not entered.
///
/// Up to [`SYNC_FILES_MAX`] files and folders are synced one by one, which waits for no other writer of the file
/// system; beyond that one `syncfs` is shorter than as many disk flushes.
pub fn sync(folder: impl AsFd) -> io::Result<()> {
    let mut objects = 0_usize;
    walk(&folder, |parent, name, stat| {
        if objects <= SYNC_FILES_MAX {
            objects += 1;
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                // All writing starts before the first wait.
                let file = open_to_sync(parent, name)?;
                crate::file::start_writeback(&file, 0, 0);
            }
        }
        Ok(())
    })?;
    if objects > SYNC_FILES_MAX {
        return Ok(rustix::fs::syncfs(open_folder(folder, c".")?)?);
    }
    walk(&folder, |parent, name, stat| {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(rustix::fs::fsync(open_to_sync(parent, name)?)?),
            FileType::Directory => Ok(rustix::fs::fsync(open_folder(parent, name)?)?),
            // The inodes of links and nodes are written with the folder that names them.
            _ => Ok(()),
        }
    })?;
    Ok(rustix::fs::fsync(open_folder(folder, c".")?)?)
}

fn open_to_sync(parent: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// Shows each name below `folder`, a folder before what is in it, to `visit` with the descriptor of its parent.
///
/// Other mounts are not entered and names that vanish are passed over. Deeper than [`DEPTH_MAX`]: ELOOP.
pub fn walk(
    folder: impl AsFd,
    mut visit: impl FnMut(&OwnedFd, &CStr, &rustix::fs::Stat) -> io::Result<()>,
) -> io::Result<()> {
    let mut levels = vec![Level::new(open_folder(folder, c".")?, CString::default())?];
    loop {
        let full = levels.len() >= DEPTH_MAX;
        let Some(level) = levels.last_mut() else {
            return Ok(());
        };
        let Some((name, _)) = next_entry(&mut level.entries)? else {
            levels.pop();
            continue;
        };
        let stat = match rustix::fs::statat(&level.folder, &*name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            visit(&level.folder, &name, &stat)?;
            continue;
        }
        let below = match open_folder(&level.folder, &name).map_err(|error| error.raw_os_error()) {
            Err(Some(libc::ENOENT | libc::EXDEV | libc::ENOTDIR)) => continue,
            Err(number) => {
                return Err(io::Error::from_raw_os_error(number.unwrap_or(libc::EIO)));
            }
            Ok(below) => below,
        };
        visit(&level.folder, &name, &stat)?;
        if full {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        levels.push(Level::new(below, CString::default())?);
    }
}

fn count(total: &mut Usage, seen: &mut HashSet<(u64, u64)>, stat: &rustix::fs::Stat) {
    let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    #[allow(
        clippy::unnecessary_cast,
        reason = "the widths of these fields differ between architectures"
    )]
    if stat.st_nlink > 1 && !folder && !seen.insert((stat.st_dev as u64, stat.st_ino as u64)) {
        return;
    }
    total.inodes += 1;
    total.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn links_are_removed_and_never_followed() {
        let room = tempfile::tempdir().unwrap();
        fs::create_dir_all(room.path().join("outside/kept")).unwrap();
        fs::create_dir_all(room.path().join("tree/a/b")).unwrap();
        fs::write(room.path().join("tree/a/b/file"), "x").unwrap();
        symlink("../outside", room.path().join("tree/link")).unwrap();
        symlink("/", room.path().join("tree/a/root")).unwrap();
        let folder = File::open(room.path()).unwrap();
        remove_beneath(&folder, c"tree").unwrap();
        assert!(!room.path().join("tree").exists());
        assert!(room.path().join("outside/kept").is_dir());
        symlink("outside", room.path().join("top")).unwrap();
        remove_beneath(&folder, c"top").unwrap();
        assert!(room.path().join("outside/kept").is_dir());
        let missing = remove_beneath(&folder, c"tree").unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_folder_is_opened_by_one_name_without_links() {
        let room = tempfile::tempdir().unwrap();
        fs::create_dir(room.path().join("real")).unwrap();
        symlink("real", room.path().join("link")).unwrap();
        let folder = File::open(room.path()).unwrap();
        open_folder(&folder, c"real").unwrap();
        for bad in [c"link", c"..", c"/", c"real/../.."] {
            assert!(open_folder(&folder, bad).is_err(), "{bad:?}");
        }
        let root = File::open("/").unwrap();
        let other = open_folder(&root, c"proc").unwrap_err();
        assert_eq!(other.raw_os_error(), Some(libc::EXDEV), "another mount");
    }

    #[test]
    fn depth_has_no_limit() {
        let room = tempfile::tempdir().unwrap();
        let mut folder: OwnedFd = File::open(room.path()).unwrap().into();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&folder, "d", Mode::RWXU).unwrap();
            rustix::fs::mkdirat(&folder, ".deep-1", Mode::RWXU).unwrap();
            folder = open_folder(&folder, c"d").unwrap();
        }
        let top = File::open(room.path()).unwrap();
        assert_eq!(
            usage(&top).unwrap_err().raw_os_error(),
            Some(libc::ELOOP),
            "counting has a limit"
        );
        remove_beneath(&top, c"d").unwrap();
        assert!(!room.path().join("d").exists());
    }

    #[test]
    fn many_names_in_one_folder() {
        let room = tempfile::tempdir().unwrap();
        fs::create_dir(room.path().join("t")).unwrap();
        for number in 0..5000 {
            fs::write(room.path().join(format!("t/{number}")), "").unwrap();
        }
        remove_beneath(File::open(room.path()).unwrap(), c"t").unwrap();
        assert_eq!(fs::read_dir(room.path()).unwrap().count(), 0);
    }

    #[test]
    fn trees_of_any_size_are_synced() {
        let room = tempfile::tempdir().unwrap();
        symlink("/nowhere", room.path().join("link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, room.path().join("fifo"), Mode::RWXU).unwrap();
        fs::create_dir(room.path().join("d")).unwrap();
        for limit in [3, SYNC_FILES_MAX + 1] {
            for number in 0..limit {
                fs::write(room.path().join(format!("d/{number}")), "x").unwrap();
            }
            sync(File::open(room.path()).unwrap()).unwrap();
        }
    }

    #[test]
    fn hard_links_count_once() {
        let room = tempfile::tempdir().unwrap();
        let file = room.path().join("a");
        fs::write(&file, vec![1; 10_000]).unwrap();
        fs::hard_link(&file, room.path().join("b")).unwrap();
        fs::create_dir(room.path().join("d")).unwrap();
        fs::hard_link(&file, room.path().join("d/c")).unwrap();
        let expected = [room.path(), &file, &room.path().join("d")]
            .into_iter()
            .map(|path| fs::symlink_metadata(path).unwrap().blocks() * 512)
            .sum::<u64>();
        let usage = usage(File::open(room.path()).unwrap()).unwrap();
        assert_eq!(usage.inodes, 3);
        assert_eq!(usage.bytes, expected);
    }
}
