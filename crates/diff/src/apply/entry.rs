//! One entry of each kind.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, fchmod, fchown, fstat, ftruncate, linkat, makedev, mkdirat,
    mknodat, symlinkat,
};
use rustix::io::Errno;
use sys::beneath::open_beneath;

use super::tree::{self, FOLDER, Folder, clean, components, kind_of, split};
use super::{Applier, Deletions, meta, times_of};
use crate::Error;
use crate::compression::Layer;
use crate::limits::NAME_BYTES_MAX;
use crate::tar::{Entry, Kind, Reader};

/// Bytes of one file after which its write-back starts.
const WRITE_BACK_BYTES: u64 = 8 << 20;

/// What stood at a name before an entry took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Former {
    Nothing,
    Whiteout,
    Other,
}

impl Applier<'_> {
    pub(super) fn entry<R: Read>(
        &mut self,
        entry: &Entry,
        reader: &mut Reader<Layer<R>>,
    ) -> Result<(), Error> {
        let path = clean(&entry.path);
        let (parent, name) = split(&path);
        // The root belongs to whoever made the target, as upstream has it.
        if name.is_empty() {
            return Ok(());
        }
        if components(&path).any(|part| part.len() > NAME_BYTES_MAX) {
            return Err(Error::Limit {
                what: "bytes in a file name",
                limit: NAME_BYTES_MAX as u64,
            });
        }
        let folder = self.parent(parent)?;
        if name.starts_with(super::whiteout::PREFIX) {
            return self.whiteout(entry, parent, &folder, name);
        }
        match entry.kind {
            Kind::Directory => self.directory(entry, &path, &folder, name)?,
            Kind::Regular => self.regular(entry, reader, &folder, name)?,
            Kind::HardLink => self.hard_link(entry, &folder, name)?,
            Kind::Symlink | Kind::Fifo | Kind::Char | Kind::Block => {
                self.special(entry, &folder, name)?;
            }
        }
        let key = self.key(&folder, name);
        self.own.insert(key);
        Ok(())
    }

    /// The folder of an entry; what is missing of it is made like in the nearest layer below that has it.
    pub(super) fn parent(&mut self, path: &[u8]) -> Result<Rc<Folder>, Error> {
        if let Some(folder) = self.tree.find(path)? {
            return Ok(folder);
        }
        let names = self.tree.canonical(path)?;
        let folder = self.make_folders(&names)?;
        self.tree.remember(path, folder.clone());
        Ok(folder)
    }

    pub(super) fn make_folders(&mut self, names: &[Vec<u8>]) -> Result<Rc<Folder>, Error> {
        let (folder, made) = self.tree.make(names)?;
        for made in made {
            let (_, name) = split(&made.path);
            let key = self.key(&made.above, name);
            self.own.insert(key);
            self.like_below(&made)?;
        }
        Ok(folder)
    }

    /// Runs `make` and, where the name is taken, once more after removing what has it.
    fn make<T>(
        &mut self,
        entry: &Entry,
        folder: &Folder,
        name: &[u8],
        make: impl Fn() -> io::Result<T>,
    ) -> Result<T, Error> {
        let failed = || Error::io("make", &entry.path);
        match make() {
            Err(error)
                if matches!(
                    Errno::from_io_error(&error),
                    Some(Errno::EXIST | Errno::LOOP)
                ) =>
            {
                self.replace(folder, name).map_err(failed())?;
                make().map_err(failed())
            }
            other => other.map_err(failed()),
        }
    }

    fn replace(&mut self, folder: &Folder, name: &[u8]) -> io::Result<Former> {
        let former = match kind_of(&folder.fd, name) {
            Ok((FileType::CharacterDevice, 0)) => Former::Whiteout,
            Ok(_) => Former::Other,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Former::Nothing),
            Err(error) => return Err(error),
        };
        self.tree.forget();
        self.removed = true;
        tree::remove(&folder.fd, name)?;
        Ok(former)
    }

    fn directory(
        &mut self,
        entry: &Entry,
        path: &[u8],
        folder: &Folder,
        name: &[u8],
    ) -> Result<(), Error> {
        let failed = || Error::io("make folder", &entry.path);
        let make = || mkdirat(&folder.fd, name, Mode::from_raw_mode(0o700));
        let mut former = Former::Nothing;
        match make() {
            Err(Errno::EXIST) if tree::is_folder(&folder.fd, name) => {}
            Err(Errno::EXIST) => {
                former = self.replace(folder, name).map_err(failed())?;
                make().map_err(io::Error::from).map_err(failed())?;
            }
            other => other.map_err(io::Error::from).map_err(failed())?,
        }
        let opened = open_beneath(&folder.fd, name, FOLDER, Mode::empty());
        let made = Rc::new(opened.and_then(Folder::new).map_err(failed())?);
        self.skipped += meta::open_file(
            made.fd.as_fd(),
            (entry.uid, entry.gid, entry.mode),
            &entry.xattrs,
            self.deletions,
        )
        .map_err(Error::io("set attributes of", &entry.path))?;
        self.times.push((path.to_vec(), times_of(entry)));
        self.tree.remember(path, made);
        // The same layer deleted what the layers below have there: the new folder must not show it again.
        if former == Former::Whiteout && self.deletions != Deletions::Remove {
            self.mark_opaque(path)?;
        }
        Ok(())
    }

    fn regular<R: Read>(
        &mut self,
        entry: &Entry,
        reader: &mut Reader<Layer<R>>,
        folder: &Folder,
        name: &[u8],
    ) -> Result<(), Error> {
        let file = self.make(entry, folder, name, || create(folder, name))?;
        let mut written_back = 0;
        while let Some((at, bytes)) = reader.chunk()? {
            let end = at + bytes.len() as u64;
            write_at(&file, bytes, at).map_err(Error::io("write", &entry.path))?;
            if self.options.write_back && end - written_back >= WRITE_BACK_BYTES {
                sys::writeback::start(&file, written_back, end - written_back)
                    .map_err(Error::io("write back", &entry.path))?;
                written_back = end;
            }
            self.report(reader)?;
        }
        if entry.sparse {
            ftruncate(&file, entry.size)
                .map_err(io::Error::from)
                .map_err(Error::io("extend", &entry.path))?;
        }
        self.skipped += meta::open_file(
            file.as_fd(),
            (entry.uid, entry.gid, entry.mode),
            &entry.xattrs,
            self.deletions,
        )
        .map_err(Error::io("set attributes of", &entry.path))?;
        meta::file_times(&file, &times_of(entry)).map_err(Error::io("set times of", &entry.path))
    }

    fn special(&mut self, entry: &Entry, folder: &Folder, name: &[u8]) -> Result<(), Error> {
        let kind = match entry.kind {
            Kind::Symlink if entry.link.is_empty() => {
                return Err(self.refuse(entry, "symbolic link without a target"));
            }
            Kind::Symlink => FileType::Symlink,
            Kind::Fifo => FileType::Fifo,
            Kind::Block => FileType::BlockDevice,
            _ => FileType::CharacterDevice,
        };
        let device = matches!(entry.kind, Kind::Char | Kind::Block);
        if device && self.options.skip_devices {
            self.skipped += 1;
            return Ok(());
        }
        let number = makedev(entry.major, entry.minor);
        let mode = Mode::from_raw_mode(entry.mode);
        self.make(entry, folder, name, || {
            match kind {
                FileType::Symlink => symlinkat(entry.link.as_slice(), &folder.fd, name)?,
                _ => mknodat(
                    &folder.fd,
                    name,
                    kind,
                    mode,
                    if device { number } else { 0 },
                )?,
            }
            Ok(())
        })?;
        self.skipped += meta::unopened(
            folder.fd.as_fd(),
            name,
            (entry.uid, entry.gid),
            &entry.xattrs,
            self.deletions,
        )
        .map_err(Error::io("set attributes of", &entry.path))?;
        meta::entry_times(&folder.fd, name, &times_of(entry))
            .map_err(Error::io("set times of", &entry.path))
    }

    fn hard_link(&mut self, entry: &Entry, folder: &Folder, name: &[u8]) -> Result<(), Error> {
        let Some(target) = components(&entry.link)
            .next_back()
            .filter(|last| *last != b"..")
        else {
            return Err(self.refuse(entry, "hard link without a target"));
        };
        let last = components(&entry.link).count() - 1;
        let above: Vec<&[u8]> = components(&entry.link).take(last).collect();
        let above = above.join(&b'/');
        let source = self.link_source(entry, &above, target)?;
        if source.inode == folder.inode && target == name {
            return Err(self.refuse(entry, "hard link to itself"));
        }
        self.make(entry, folder, name, || {
            Ok(linkat(
                &source.fd,
                target,
                &folder.fd,
                name,
                AtFlags::empty(),
            )?)
        })?;
        self.linked(entry, folder, name)
            .map_err(Error::io("set attributes of", &entry.path))
    }

    /// The folder that holds the target of a hard link, which is brought up from a layer below where needed.
    fn link_source(
        &mut self,
        entry: &Entry,
        above: &[u8],
        name: &[u8],
    ) -> Result<Rc<Folder>, Error> {
        let mut folder = self.tree.find(above)?;
        let mut names = None;
        if folder.is_none() {
            let canonical = self.tree.canonical(above)?;
            folder = self.tree.find(&canonical.join(&b'/'))?;
            names = Some(canonical);
        }
        if let Some(folder) = folder
            && let Ok(kind) = kind_of(&folder.fd, name)
        {
            if kind == (FileType::CharacterDevice, 0) && self.deletions != Deletions::Remove {
                return Err(self.refuse(entry, "hard link to a deleted file"));
            }
            return Ok(folder);
        }
        let names = match names {
            Some(names) => names,
            None => self.tree.canonical(above)?,
        };
        match self.copy_up(&names, name)? {
            Some(folder) => Ok(folder),
            None => Err(self.refuse(entry, "hard link to a missing file")),
        }
    }

    /// A link entry repeats the attributes of its target. They are set only where they differ: setting an equal owner
    /// would take capabilities away that the link's own header need not repeat.
    fn linked(&mut self, entry: &Entry, folder: &Folder, name: &[u8]) -> io::Result<()> {
        let times = times_of(entry);
        if kind_of(&folder.fd, name)?.0 != FileType::RegularFile {
            return meta::entry_times(&folder.fd, name, &times);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = open_beneath(&folder.fd, name, flags, Mode::empty())?;
        let found = fstat(&file)?;
        if (found.st_uid, found.st_gid) != (entry.uid, entry.gid) {
            fchown(
                &file,
                Some(rustix::fs::Uid::from_raw(entry.uid)),
                Some(rustix::fs::Gid::from_raw(entry.gid)),
            )?;
            fchmod(&file, Mode::from_raw_mode(entry.mode))?;
        }
        if !entry.xattrs.is_empty() || found.st_mode & 0o7777 != entry.mode {
            self.skipped += meta::open_file(
                file.as_fd(),
                (entry.uid, entry.gid, entry.mode),
                &entry.xattrs,
                self.deletions,
            )?;
        }
        meta::file_times(&file, &times)
    }
}

/// Makes a new empty file, never opening one that exists.
pub(super) fn create(folder: &Folder, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    open_beneath(&folder.fd, name, flags, Mode::from_raw_mode(0o600))
}

pub(super) fn write_at(file: &OwnedFd, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => {
                bytes = &bytes[length..];
                at += length as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
