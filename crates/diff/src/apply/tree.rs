//! Finding and making the folders of a target.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, mkdirat, readlinkat, statat};
use rustix::io::Errno;
use sys::beneath::{open_beneath, open_in_root};

use crate::Error;
use crate::limits::LINKS_MAX;

/// Folders held open; on overflow all are closed and opened again as needed.
const FOLDERS_MAX: usize = 256;

pub(super) const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// An open folder of the target.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) fd: OwnedFd,
    pub(super) inode: u64,
}

impl Folder {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let inode = rustix::fs::fstat(&fd)?.st_ino;
        Ok(Self { fd, inode })
    }
}

/// The target, the layers below, and the folders opened so far by the path they were asked for.
#[derive(Debug)]
pub(super) struct Tree {
    root: Rc<Folder>,
    pub(super) parents: Vec<OwnedFd>,
    open: HashMap<Vec<u8>, Rc<Folder>>,
}

/// A folder that had to be made: the folder above, its name, its path below the root.
pub(super) struct Made {
    pub(super) above: Rc<Folder>,
    pub(super) folder: Rc<Folder>,
    pub(super) path: Vec<u8>,
}

impl Tree {
    pub(super) fn new(root: OwnedFd, parents: Vec<OwnedFd>) -> Result<Self, Error> {
        let root = Folder::new(root).map_err(Error::io("examine", b"target"))?;
        Ok(Self {
            root: Rc::new(root),
            parents,
            open: HashMap::new(),
        })
    }

    /// Forgets open folders: a removal may have changed what their paths lead to.
    pub(super) fn forget(&mut self) {
        self.open.clear();
    }

    pub(super) fn remember(&mut self, path: &[u8], folder: Rc<Folder>) {
        if self.open.len() >= FOLDERS_MAX {
            self.open.clear();
        }
        self.open.insert(path.to_vec(), folder);
    }

    /// The folder at `path`, links inside the target followed; `None` when something on the way is missing.
    pub(super) fn find(&mut self, path: &[u8]) -> Result<Option<Rc<Folder>>, Error> {
        if path.is_empty() {
            return Ok(Some(self.root.clone()));
        }
        if let Some(folder) = self.open.get(path) {
            return Ok(Some(folder.clone()));
        }
        let opened = open_in_root(&self.root.fd, path, FOLDER, Mode::empty());
        match opened.and_then(Folder::new) {
            Ok(folder) => {
                let folder = Rc::new(folder);
                self.remember(path, folder.clone());
                Ok(Some(folder))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open folder", path)(error)),
        }
    }

    /// The path below the root that `path` leads to when links are followed, as far as there are any.
    ///
    /// What is missing counts as an ordinary folder that is still to be made: a link may point to a folder that a
    /// later entry brings.
    pub(super) fn canonical(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut todo: Vec<Vec<u8>> = components(path).rev().map(<[u8]>::to_vec).collect();
        let mut links = 0;
        let mut here = self.open_canonical(&done)?;
        while let Some(name) = todo.pop() {
            if name == b".." {
                done.pop();
                here = self.open_canonical(&done)?;
                continue;
            }
            let target = here
                .as_ref()
                .and_then(|folder| readlinkat(folder, name.as_slice(), Vec::new()).ok());
            if let Some(target) = target {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Error::io("follow links of", path)(Errno::LOOP.into()));
                }
                let target = target.into_bytes();
                if target.first() == Some(&b'/') {
                    done.clear();
                    here = self.open_canonical(&done)?;
                }
                todo.extend(components(&target).rev().map(<[u8]>::to_vec));
                continue;
            }
            here = here.and_then(|folder| {
                open_beneath(
                    folder,
                    &name,
                    OFlags::PATH | OFlags::DIRECTORY,
                    Mode::empty(),
                )
                .ok()
            });
            done.push(name);
        }
        Ok(done)
    }

    fn open_canonical(&self, names: &[Vec<u8>]) -> Result<Option<OwnedFd>, Error> {
        let path = if names.is_empty() {
            b".".to_vec()
        } else {
            names.join(&b'/')
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match open_beneath(&self.root.fd, &path, flags, Mode::empty()) {
            Ok(folder) => Ok(Some(folder)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(Error::io("open folder", &path)(error)),
        }
    }

    /// Makes the folders of a canonical path that are missing, with mode 0755, telling of each.
    pub(super) fn make(&mut self, names: &[Vec<u8>]) -> Result<(Rc<Folder>, Vec<Made>), Error> {
        let mut folder = self.root.clone();
        let mut made = Vec::new();
        let mut path = Vec::new();
        for name in names {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            let failed = |error: io::Error| Error::io("make folder", &path)(error);
            let opened = open_beneath(&folder.fd, name, FOLDER, Mode::empty());
            let (next, new) = match opened {
                Ok(fd) => (fd, false),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    mkdirat(&folder.fd, name.as_slice(), Mode::from_raw_mode(0o755))
                        .map_err(|error| failed(error.into()))?;
                    let fd = open_beneath(&folder.fd, name, FOLDER, Mode::empty());
                    (fd.map_err(failed)?, true)
                }
                Err(error) => return Err(failed(error)),
            };
            let next = Rc::new(Folder::new(next).map_err(failed)?);
            if new {
                made.push(Made {
                    above: folder,
                    folder: next.clone(),
                    path: path.clone(),
                });
            }
            folder = next;
        }
        Ok((folder, made))
    }
}

/// The parts of a path without empty ones and `.`.
pub(super) fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
}

/// The path with `..` taken out by text, as upstream does with names of entries; above the root is the root.
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for part in components(path) {
        if part == b".." {
            kept.pop();
        } else {
            kept.push(part);
        }
    }
    kept.join(&b'/')
}

/// The folder part and the last part of a clean path.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// Whether `name` in `folder` is itself a folder.
pub(super) fn is_folder(folder: impl AsFd, name: &[u8]) -> bool {
    kind_of(folder, name).is_ok_and(|(kind, _)| kind == FileType::Directory)
}

/// The type of an entry and the device number it stands for, links not followed.
pub(super) fn kind_of(folder: impl AsFd, name: &[u8]) -> io::Result<(FileType, u64)> {
    let found = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((FileType::from_raw_mode(found.st_mode), found.st_rdev))
}

/// Removes an entry with all it holds; a missing one is no error.
pub(super) fn remove(folder: impl AsFd, name: &[u8]) -> io::Result<()> {
    match sys::tree::remove_beneath(folder, &CString::new(name)?) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_by_text() {
        for (raw, wanted) in [
            ("", ""),
            (".", ""),
            ("./", ""),
            ("/", ""),
            ("..", ""),
            ("../../a", "a"),
            ("a/../../b", "b"),
            ("/a//b/./c/", "a/b/c"),
            ("dne/../.wh.etc", ".wh.etc"),
        ] {
            assert_eq!(clean(raw.as_bytes()), wanted.as_bytes(), "{raw}");
        }
    }
}
