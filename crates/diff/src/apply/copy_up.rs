//! What a layer needs from the layers below it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{FileType, Mode, OFlags, Stat, Timespec, Timestamps, fstat};
use sys::beneath::open_in_root;

use super::entry::{create, write_at};
use super::tree::{FOLDER, Folder, Made};
use super::{Applier, meta};
use crate::Error;

/// Bytes copied at once.
const COPY_BYTES: usize = 64 << 10;

impl Applier<'_> {
    /// Gives a folder that no entry names the looks it has in the nearest layer below.
    pub(super) fn like_below(&mut self, made: &Made) -> Result<(), Error> {
        let failed = || Error::io("copy attributes of", &made.path);
        for parent in &self.tree.parents {
            let below = match open_in_root(parent, &made.path, FOLDER, Mode::empty()) {
                Ok(below) => below,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // Another kind of entry: the folder replaces it and inherits nothing.
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => break,
                Err(error) => return Err(failed()(error)),
            };
            let found = fstat(&below).map_err(io::Error::from).map_err(failed())?;
            let xattrs = sys::xattr::list(&below).map_err(failed())?;
            meta::open_file(
                made.folder.fd.as_fd(),
                looks(&found),
                &xattrs,
                self.deletions,
            )
            .map_err(failed())?;
            self.times.push((made.path.clone(), times(&found)));
            break;
        }
        Ok(())
    }

    /// Copies the file `name` of a canonical folder from the nearest layer below; `None` when no layer shows one.
    pub(super) fn copy_up(
        &mut self,
        folder: &[Vec<u8>],
        name: &[u8],
    ) -> Result<Option<Rc<Folder>>, Error> {
        let mut path = folder.join(&b'/');
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let failed = || Error::io("copy up", &path);
        for at in 0..self.tree.parents.len() {
            let flags = OFlags::PATH | OFlags::NOFOLLOW;
            let below = match open_in_root(&self.tree.parents[at], &path, flags, Mode::empty()) {
                Ok(below) => below,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
                Err(error) => return Err(failed()(error)),
            };
            let found = fstat(&below).map_err(io::Error::from).map_err(failed())?;
            // A whiteout or any other kind hides what lies further below.
            if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
                return Ok(None);
            }
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let source = open_in_root(&self.tree.parents[at], &path, flags, Mode::empty());
            let source = source.map_err(failed())?;
            let folder = self.make_folders(folder)?;
            let file = create(&folder, name).map_err(failed())?;
            copy(&source, &file).map_err(failed())?;
            let xattrs = sys::xattr::list(&source).map_err(failed())?;
            meta::open_file(file.as_fd(), looks(&found), &xattrs, self.deletions)
                .map_err(failed())?;
            meta::file_times(&file, &times(&found)).map_err(failed())?;
            return Ok(Some(folder));
        }
        Ok(None)
    }
}

fn looks(found: &Stat) -> (u32, u32, u32) {
    (found.st_uid, found.st_gid, found.st_mode & 0o7777)
}

fn times(found: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    Timestamps {
        last_access: time(found.st_atime as _, found.st_atime_nsec as _),
        last_modification: time(found.st_mtime as _, found.st_mtime_nsec as _),
    }
}

fn copy(source: &OwnedFd, file: &OwnedFd) -> io::Result<()> {
    let mut buffer = vec![0u8; COPY_BYTES];
    let mut at = 0;
    loop {
        let length = rustix::io::read(source, &mut buffer[..])?;
        if length == 0 {
            return Ok(());
        }
        write_at(file, &buffer[..length], at)?;
        at += length as u64;
    }
}
