//! A tree copied with all that layers can carry: owners, modes, times, attributes, links, holes, nodes.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;
use sys::tree::{DEPTH_MAX, open_folder};

/// Most bytes of one call of `copy_file_range`.
const RANGE_BYTES: usize = 1 << 30;

/// The kernel's limit of a list of names (`XATTR_LIST_MAX`) and of a value (`XATTR_SIZE_MAX`), in bytes.
const XATTR_BYTES_MAX: usize = 65_536;

/// A folder on its way: what of it is still to be copied, and where to.
struct Level {
    from: OwnedFd,
    to: OwnedFd,
    names: Dir,
    stat: Stat,
    path: Vec<u8>,
}

/// Copies what is in `from`, and the looks of `from` itself, to the empty folder `to`.
pub(super) fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    let open = |path: &Path| -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
    };
    let top = open(to)?;
    let mut levels = vec![Level::new(open(from)?, open(to)?, Vec::new())?];
    let mut copier = Copier {
        top,
        linked: HashMap::new(),
        buffer: vec![0; XATTR_BYTES_MAX],
    };
    while let Some(level) = levels.last_mut() {
        let Some(entry) = level.names.next() else {
            let done = levels.pop().expect("the loop saw a level");
            // Last, as entries change the times of their folder.
            copier.looks(&done.from, &done.to, c".", &done.stat)?;
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = rustix::fs::statat(&level.from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mut path = level.path.clone();
        path.extend_from_slice(name.to_bytes());
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            copier.entry(&level.from, &level.to, name, &stat, path)?;
            continue;
        }
        let name: CString = name.to_owned();
        rustix::fs::mkdirat(&level.to, &*name, Mode::RWXU)?;
        path.push(b'/');
        let below = Level::new(
            open_folder(&level.from, &name)?,
            open_folder(&level.to, &name)?,
            path,
        )?;
        if levels.len() >= DEPTH_MAX {
            return Err(io::Error::from_raw_os_error(Errno::LOOP.raw_os_error()));
        }
        levels.push(below);
    }
    Ok(())
}

impl Level {
    fn new(from: OwnedFd, to: OwnedFd, path: Vec<u8>) -> io::Result<Self> {
        Ok(Self {
            names: Dir::read_from(&from)?,
            stat: rustix::fs::fstat(&from)?,
            from,
            to,
            path,
        })
    }
}

struct Copier {
    top: OwnedFd,
    /// Inodes with several names, and the path of their first copy below `top`.
    linked: HashMap<(u64, u64), CString>,
    buffer: Vec<u8>,
}

impl Copier {
    fn entry(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
        stat: &Stat,
        path: Vec<u8>,
    ) -> io::Result<()> {
        if stat.st_nlink > 1 {
            #[allow(
                clippy::unnecessary_cast,
                reason = "widths differ between architectures"
            )]
            let inode = (stat.st_dev as u64, stat.st_ino as u64);
            if let Some(first) = self.linked.get(&inode) {
                return Ok(rustix::fs::linkat(
                    &self.top,
                    &**first,
                    to,
                    name,
                    AtFlags::empty(),
                )?);
            }
            self.linked.insert(inode, CString::new(path)?);
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::RegularFile => copy_bytes(from, to, name, stat)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(&*target, to, name)?;
            }
            _ => rustix::fs::mknodat(to, name, kind, Mode::RUSR, stat.st_rdev)?,
        }
        self.looks(from, to, name, stat)
    }

    /// Gives the copy the owner, mode, attributes and times, in the order in which none undoes another.
    fn looks(&mut self, from: &OwnedFd, to: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
        let link = AtFlags::SYMLINK_NOFOLLOW;
        let owner = rustix::fs::Uid::from_raw(stat.st_uid);
        let group = rustix::fs::Gid::from_raw(stat.st_gid);
        rustix::fs::chownat(to, name, Some(owner), Some(group), link)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            rustix::fs::chmodat(to, name, mode, AtFlags::empty())?;
        }
        self.attributes(from, to, name)?;
        let time = |seconds: i64, nanoseconds: u64| Timespec {
            tv_sec: seconds,
            tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
        };
        #[allow(
            clippy::unnecessary_cast,
            reason = "widths differ between architectures"
        )]
        let times = Timestamps {
            last_access: time(stat.st_atime as i64, stat.st_atime_nsec as u64),
            last_modification: time(stat.st_mtime as i64, stat.st_mtime_nsec as u64),
        };
        Ok(rustix::fs::utimensat(to, name, &times, link)?)
    }

    fn attributes(&mut self, from: &OwnedFd, to: &OwnedFd, name: &CStr) -> io::Result<()> {
        // The calls on links themselves take paths only; the folder is pinned by its descriptor.
        let path = |folder: &OwnedFd| {
            let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
            path.extend_from_slice(name.to_bytes());
            path
        };
        let (source, target) = (path(from), path(to));
        let mut names = vec![0_u8; XATTR_BYTES_MAX];
        let length = match rustix::fs::llistxattr(&*source, &mut names[..]) {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let list = names[..length].split(|byte| *byte == 0);
        for key in list.filter(|key| !key.is_empty()) {
            let length = match rustix::fs::lgetxattr(&*source, key, &mut self.buffer[..]) {
                Ok(length) => length,
                Err(Errno::NODATA) => continue,
                Err(error) => return Err(error.into()),
            };
            let value = &self.buffer[..length];
            match rustix::fs::lsetxattr(&*target, key, value, XattrFlags::empty()) {
                Ok(()) => {}
                // Labels of security modules belong to the host; only capabilities are part of a layer.
                Err(_) if key.starts_with(b"security.") && key != b"security.capability" => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Copies the bytes: as shared blocks where the file system can, else range by range with the holes kept.
fn copy_bytes(from: &OwnedFd, to: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let from = rustix::fs::openat(from, name, read, Mode::empty())?;
    let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let to = rustix::fs::openat(to, name, write, Mode::RUSR | Mode::WUSR)?;
    if rustix::fs::ioctl_ficlone(&to, &from).is_ok() {
        return Ok(());
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    rustix::fs::ftruncate(&to, size)?;
    let mut position = 0;
    while position < size {
        let start = match rustix::fs::seek(&from, SeekFrom::Data(position)) {
            Ok(start) => start,
            // Nothing but a hole follows.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(&from, SeekFrom::Hole(start))?.min(size);
        copy_range(&from, &to, start, end)?;
        position = end.max(start + 1);
    }
    Ok(())
}

fn copy_range(from: &OwnedFd, to: &OwnedFd, start: u64, end: u64) -> io::Result<()> {
    let (mut read, mut written) = (start, start);
    while read < end {
        let wanted = usize::try_from(end - read).unwrap_or(usize::MAX);
        let range = wanted.min(RANGE_BYTES);
        let copied =
            rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), range);
        match copied {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
