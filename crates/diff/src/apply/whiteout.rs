//! Deletions (OCI image-spec, layer.md#whiteouts).
//!
//! A deletion concerns the layers below. Names that this layer brought itself stay, before or after the mark.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Gid, Mode, RawDir, Uid, chownat, mknodat};
use rustix::io::Errno;
use sys::beneath::open_beneath;

use super::tree::{self, FOLDER, Folder, is_folder};
use super::{Applier, Deletions};
use crate::Error;
use crate::tar::Entry;

/// Starts the name of a deletion.
pub(super) const PREFIX: &[u8] = b".wh.";
/// Starts the names that aufs kept for itself.
const META_PREFIX: &[u8] = b".wh..wh.";
/// Hides all that the layers below have in a folder.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Folders inside each other that one deletion may have to look through.
const PURGE_DEPTH_MAX: usize = 512;

impl Applier<'_> {
    pub(super) fn whiteout(
        &mut self,
        entry: &Entry,
        parent: &[u8],
        folder: &Folder,
        name: &[u8],
    ) -> Result<(), Error> {
        if name == OPAQUE {
            if self.deletions != Deletions::Remove {
                self.mark_opaque(parent)?;
            }
            return self.purge(entry, folder);
        }
        if name.starts_with(META_PREFIX) {
            return Ok(());
        }
        let deleted = &name[PREFIX.len()..];
        if matches!(deleted, b"" | b"." | b"..") {
            return Err(self.refuse(entry, "deletion of the folder itself or the one above"));
        }
        if self.own.contains(&self.key(folder, deleted)) {
            return self.delete_below_own(entry, parent, folder, deleted);
        }
        let failed = || Error::io("delete", &entry.path);
        self.remove(folder, deleted).map_err(failed())?;
        if self.deletions == Deletions::Remove {
            return Ok(());
        }
        let mark = || -> io::Result<()> {
            mknodat(
                &folder.fd,
                deleted,
                FileType::CharacterDevice,
                Mode::empty(),
                0,
            )?;
            chownat(
                &folder.fd,
                deleted,
                Some(Uid::from_raw(entry.uid)),
                Some(Gid::from_raw(entry.gid)),
                AtFlags::SYMLINK_NOFOLLOW,
            )?;
            Ok(())
        };
        mark().map_err(failed())
    }

    /// The layer brought the same name: only what the layers below have under it is deleted.
    fn delete_below_own(
        &mut self,
        entry: &Entry,
        parent: &[u8],
        folder: &Folder,
        name: &[u8],
    ) -> Result<(), Error> {
        if !is_folder(&folder.fd, name) {
            return Ok(());
        }
        if self.deletions != Deletions::Remove {
            let path = if parent.is_empty() {
                name.to_vec()
            } else {
                [parent, b"/", name].concat()
            };
            self.mark_opaque(&path)?;
        }
        let opened = open_beneath(&folder.fd, name, FOLDER, Mode::empty());
        let inner = opened
            .and_then(Folder::new)
            .map_err(Error::io("open folder", &entry.path))?;
        self.purge(entry, &inner)
    }

    fn remove(&mut self, folder: &Folder, name: &[u8]) -> io::Result<()> {
        if tree::kind_of(&folder.fd, name)
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        {
            return Ok(());
        }
        self.tree.forget();
        self.removed = true;
        tree::remove(&folder.fd, name)
    }

    /// Tells overlayfs to show nothing from below in the folder at `path`.
    pub(super) fn mark_opaque(&mut self, path: &[u8]) -> Result<(), Error> {
        if self.deletions == Deletions::OverlayUser {
            let Some(folder) = self.tree.find(path)? else {
                return Err(Error::io("mark opaque", path)(Errno::NOENT.into()));
            };
            return sys::xattr::set(&folder.fd, b"user.overlay.opaque", b"y")
                .map_err(Error::io("mark opaque", path));
        }
        let canonical = self.tree.canonical(path)?.join(&b'/');
        (self.hooks.opaque)(&canonical)
    }

    /// Removes what this layer did not bring, inside what it brought as well.
    fn purge(&mut self, entry: &Entry, folder: &Folder) -> Result<(), Error> {
        let failed = || Error::io("empty", &entry.path);
        let first = folder
            .fd
            .try_clone()
            .and_then(Folder::new)
            .map_err(failed())?;
        let names = names(&first.fd).map_err(failed())?;
        let mut levels = vec![(first, names)];
        while let Some((folder, names)) = levels.last_mut() {
            let Some(name) = names.pop() else {
                levels.pop();
                continue;
            };
            let name = name.as_bytes();
            if !self.own.contains(&self.hasher_key(folder.inode, name)) {
                self.tree.forget();
                self.removed = true;
                tree::remove(&folder.fd, name).map_err(failed())?;
            } else if is_folder(&folder.fd, name) {
                let opened = open_beneath(&folder.fd, name, FOLDER, Mode::empty());
                let inner = opened.and_then(Folder::new).map_err(failed())?;
                if levels.len() == PURGE_DEPTH_MAX {
                    return Err(Error::Limit {
                        what: "folders inside each other in a deletion",
                        limit: PURGE_DEPTH_MAX as u64,
                    });
                }
                let names = self::names(&inner.fd).map_err(failed())?;
                levels.push((inner, names));
            }
        }
        Ok(())
    }
}

fn names(folder: &OwnedFd) -> io::Result<Vec<CString>> {
    // A descriptor of its own: the position of a folder belongs to the open file.
    let own = open_beneath(folder, b".", FOLDER, Mode::empty())?;
    let mut buffer = vec![MaybeUninit::uninit(); 16 << 10];
    let mut entries = RawDir::new(own, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
