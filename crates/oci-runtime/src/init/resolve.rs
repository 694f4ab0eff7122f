//! Walking in the root file system: every step is one name below a descriptor, links are read as text.
//!
//! A program in a shared volume may swap any name at any time; a walk made of descriptors still ends inside.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, mkdirat, openat, readlinkat};
use rustix::io::Errno;

/// Symbolic links followed in one walk, as the kernel's own limit.
const LINKS_MAX: usize = 40;
/// Names in one walk.
const NAMES_MAX: usize = 4096;
/// `PROC_SUPER_MAGIC` of `linux/magic.h`.
const PROC_MAGIC: u64 = 0x9fa0;

/// Where a walk ended.
#[derive(Debug)]
pub(crate) struct Place {
    /// The file or folder, opened as a path only.
    pub(crate) fd: OwnedFd,
    /// Its path below the root with all links resolved, `/` first.
    pub(crate) path: String,
    /// Its type.
    pub(crate) kind: FileType,
    /// Its permissions.
    pub(crate) mode: u32,
}

impl Place {
    /// Whether it lies in a proc file system.
    pub(crate) fn is_proc(&self) -> bool {
        is_proc(self.fd.as_fd())
    }
}

/// Whether the descriptor lies in a proc file system.
pub(crate) fn is_proc(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|stat| stat.f_type as u64 == PROC_MAGIC)
}

/// What to do about a name that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Fail with `ENOENT`.
    Fail,
    /// Make folders.
    Folder,
    /// Make folders, and an empty file for the last name.
    File,
}

/// Walks `path` as a process whose root is `root` would.
pub(crate) fn walk(root: BorrowedFd<'_>, path: &str, missing: Missing) -> io::Result<Place> {
    let mut todo: Vec<String> = names(path);
    let mut stack: Vec<(OwnedFd, String)> = Vec::new();
    let (mut links, mut steps) = (0, 0);
    while let Some(name) = todo.pop() {
        steps += 1;
        if steps > NAMES_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        if name == ".." {
            stack.pop();
            continue;
        }
        let parent = stack.last().map_or(root, |(fd, _)| fd.as_fd());
        let fd = step(parent, &name, missing, todo.is_empty())?;
        let kind = FileType::from_raw_mode(fstat(&fd)?.st_mode);
        if kind == FileType::Symlink {
            links += 1;
            if links > LINKS_MAX {
                return Err(Errno::LOOP.into());
            }
            let target = readlinkat(&fd, "", Vec::new())?;
            let target = target.to_str().map_err(|_| Errno::ILSEQ)?;
            if target.starts_with('/') {
                stack.clear();
            }
            todo.extend(names(target));
        } else {
            stack.push((fd, name));
        }
    }
    place(root, stack)
}

/// The names of a path, last first.
fn names(path: &str) -> Vec<String> {
    path.split('/')
        .rev()
        .filter(|name| !name.is_empty() && *name != ".")
        .map(str::to_owned)
        .collect()
}

fn step(parent: BorrowedFd<'_>, name: &str, missing: Missing, last: bool) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::NOENT) if missing != Missing::Fail => {}
        other => return Ok(other?),
    }
    let made = if last && missing == Missing::File {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(parent, name, flags, Mode::from_raw_mode(0o755)).map(drop)
    } else {
        mkdirat(parent, name, Mode::from_raw_mode(0o755))
    };
    match made {
        // Somebody else made it just now: whatever it is, the walk goes on from there.
        Ok(()) | Err(Errno::EXIST) => Ok(openat(parent, name, flags, Mode::empty())?),
        Err(error) => Err(error.into()),
    }
}

fn place(root: BorrowedFd<'_>, mut stack: Vec<(OwnedFd, String)>) -> io::Result<Place> {
    let path = if stack.is_empty() {
        "/".to_owned()
    } else {
        stack.iter().fold(String::new(), |mut path, (_, name)| {
            path.push('/');
            path.push_str(name);
            path
        })
    };
    let fd = match stack.pop() {
        Some((fd, _)) => fd,
        None => reopen(root)?,
    };
    let stat = fstat(&fd)?;
    Ok(Place {
        kind: FileType::from_raw_mode(stat.st_mode),
        mode: stat.st_mode & 0o7777,
        fd,
        path,
    })
}

/// Opens a folder again, so that what was mounted on it since is seen.
fn reopen(folder: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(folder, ".", flags, Mode::empty())?)
}

/// The folder of `path`, made if need be, and the last name.
pub(crate) fn parent_of(root: BorrowedFd<'_>, path: &str) -> io::Result<(OwnedFd, String)> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    if name.is_empty() || name == "." || name == ".." {
        return Err(Errno::INVAL.into());
    }
    Ok((walk(root, folder, Missing::Folder)?.fd, name.to_owned()))
}

/// Removes a file if it is one.
pub(crate) fn remove(folder: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_end_inside() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path();
        std::fs::create_dir_all(base.join("root/a/b")).unwrap();
        for (target, link) in [
            ("/a", "absolute"),
            ("../../../../a", "upward"),
            ("a/../a/b", "relative"),
            ("/missing/deep", "dangling"),
            ("loop", "loop"),
        ] {
            symlink(target, base.join("root").join(link)).unwrap();
        }
        let root = std::fs::File::open(base.join("root")).unwrap();
        let walked = |path: &str, missing| walk(root.as_fd(), path, missing).map(|at| at.path);
        for (path, end) in [
            ("/absolute/b", "/a/b"),
            ("/upward/b", "/a/b"),
            ("/relative", "/a/b"),
            ("/../../etc", "/etc"),
            ("/dangling/x", "/missing/deep/x"),
            ("/", "/"),
        ] {
            assert_eq!(walked(path, Missing::Folder).unwrap(), end, "{path}");
        }
        assert!(base.join("root/missing/deep/x").is_dir());
        assert!(walked("/loop", Missing::Folder).is_err());
        assert!(walked("/nothing", Missing::Fail).is_err());
        assert_eq!(walked("/n/file", Missing::File).unwrap(), "/n/file");
        assert!(base.join("root/n/file").is_file());
    }
}
