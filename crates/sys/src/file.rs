//! The one seam through which durable files are made, changed and removed.
//!
//! Every step has a [`Point`]: a name that stays the same over releases. A program may hand over a [`FailPlan`] that
//! lets a chosen step fail or end the process, so that a test can cut an operation at each step and look at what a
//! later start finds. Without a plan a step costs one check of an empty option.
//!
//! Promise: what [`Files::rename_noreplace`], [`Files::rename_replace`] and [`Files::atomic_write`] have answered is
//! there after a power cut; what they have not answered is there whole or not at all.

mod error;
mod output;
mod plan;

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::{Error, kind_of};
pub use output::{Output, start_writeback};
pub use plan::{FailPlan, Failure, Hit, Point, Step};

use plan::State;

/// Result of a step on a durable file.
pub type Result<T> = std::result::Result<T, Error>;

/// The way to durable files: real, or with planned failures. Cheap to clone; clones share the plan and its counts.
#[derive(Debug, Clone, Default)]
pub struct Files {
    state: Option<Arc<State>>,
}

impl Files {
    /// Files of the host, with no planned failure.
    pub fn real() -> Self {
        Self::default()
    }

    /// Files of the host whose steps fail as planned.
    pub fn failing(plan: FailPlan) -> Self {
        Self {
            state: Some(Arc::new(State::new(plan))),
        }
    }

    /// Files of the host that remember every step taken, for [`Files::hits`].
    pub fn recording() -> Self {
        Self::failing(FailPlan::new())
    }

    /// The steps taken so far, in the order in which each was first taken, with how often; empty for [`Files::real`].
    pub fn hits(&self) -> Vec<Hit> {
        self.state
            .as_ref()
            .map_or_else(Vec::new, |state| state.hits())
    }

    /// Takes one step that this type has no method for: the plan may let it fail before, or end the process before or
    /// after it.
    pub fn step<T>(
        &self,
        point: Point,
        step: Step,
        path: &Path,
        run: impl FnOnce() -> io::Result<T>,
    ) -> Result<T> {
        let act = step.act();
        let Some(state) = &self.state else {
            return run().map_err(|source| Error::new(act, path, source));
        };
        state
            .before(point, step)
            .and_then(|()| run())
            .inspect(|_| state.after(point, step))
            .map_err(|source| Error::new(act, path, source))
    }

    /// Creates a file that must not exist and opens it for reading and writing; `mode` is applied as is, without umask.
    pub fn create_excl(&self, point: Point, path: impl Into<PathBuf>, mode: u32) -> Result<Output> {
        let mut options = OpenOptions::new();
        options.create_new(true);
        self.open(point, path.into(), mode, &options)
    }

    /// Opens a file for reading and writing, made when absent, never cut; a symbolic link as last component is refused.
    pub fn open_or_create(
        &self,
        point: Point,
        path: impl Into<PathBuf>,
        mode: u32,
    ) -> Result<Output> {
        let mut options = OpenOptions::new();
        options.create(true);
        self.open(point, path.into(), mode, &options)
    }

    fn open(
        &self,
        point: Point,
        path: PathBuf,
        mode: u32,
        options: &OpenOptions,
    ) -> Result<Output> {
        let file = self.step(point, Step::Create, &path, || {
            let file = options
                .clone()
                .read(true)
                .write(true)
                .mode(mode)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&path)?;
            rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(mode))?;
            Ok(file)
        })?;
        Ok(Output::new(self.clone(), file, path))
    }

    /// Makes one folder with exactly `mode`; it must not exist.
    pub fn make_dir(&self, point: Point, path: &Path, mode: u32) -> Result<()> {
        self.step(point, Step::MakeDir, path, || make_dir(path, mode))
    }

    /// Makes a folder and what is missing above it (each with `mode`), and makes their names durable.
    pub fn make_dir_all(&self, point: Point, path: &Path, mode: u32) -> Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            self.make_dir_all(point, parent, mode)?;
        }
        let made = self.step(point, Step::MakeDir, path, || match make_dir(path, mode) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other,
        });
        made?;
        self.sync_dir(point, folder_of(path))
    }

    /// Makes the names in a folder durable.
    pub fn sync_dir(&self, point: Point, folder: &Path) -> Result<()> {
        self.step(point, Step::SyncDir, folder, || {
            File::open(folder)?.sync_all()
        })
    }

    /// Renames without replacing (`AlreadyExists` otherwise) and makes the new name durable.
    ///
    /// Only the target's folder is synced: the file systems we run on write both sides of a rename in one transaction.
    pub fn rename_noreplace(&self, point: Point, from: &Path, to: &Path) -> Result<()> {
        self.rename(point, from, to, rustix::fs::RenameFlags::NOREPLACE)
    }

    /// Renames, replacing what is there, and makes the new name durable.
    pub fn rename_replace(&self, point: Point, from: &Path, to: &Path) -> Result<()> {
        self.rename(point, from, to, rustix::fs::RenameFlags::empty())
    }

    /// Renames without replacing; the new name becomes durable with the next [`Files::sync_dir`] of its folder.
    pub fn rename_unsynced(&self, point: Point, from: &Path, to: &Path) -> Result<()> {
        self.step(point, Step::Rename, to, || {
            let here = rustix::fs::CWD;
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            Ok(rustix::fs::renameat_with(here, from, here, to, flags)?)
        })
    }

    /// Makes all files and names below a folder durable (see [`crate::tree::sync`]).
    pub fn sync_tree(&self, point: Point, folder: &Path) -> Result<()> {
        self.step(point, Step::SyncData, folder, || {
            crate::tree::sync(File::open(folder)?)
        })
    }

    fn rename(
        &self,
        point: Point,
        from: &Path,
        to: &Path,
        flags: rustix::fs::RenameFlags,
    ) -> Result<()> {
        self.step(point, Step::Rename, to, || {
            let here = rustix::fs::CWD;
            Ok(rustix::fs::renameat_with(here, from, here, to, flags)?)
        })?;
        self.sync_dir(point, folder_of(to))
    }

    /// Removes a file. Its absence becomes durable with the next [`Files::sync_dir`] of its folder.
    pub fn remove(&self, point: Point, path: &Path) -> Result<()> {
        self.step(point, Step::Remove, path, || fs::remove_file(path))
    }

    /// Removes an empty folder. Its absence becomes durable with the next [`Files::sync_dir`] of its parent.
    pub fn remove_dir(&self, point: Point, path: &Path) -> Result<()> {
        self.step(point, Step::Remove, path, || fs::remove_dir(path))
    }

    /// Removes a tree through descriptors, never through a symbolic link (see [`crate::tree`]).
    ///
    /// A missing tree is `NotFound`.
    pub fn remove_tree(&self, point: Point, path: &Path) -> Result<()> {
        self.step(point, Step::Remove, path, || {
            let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
            let folder = File::open(folder_of(path))?;
            let name = CString::new(name.as_bytes())?;
            crate::tree::remove_beneath(&folder, &name)
        })
    }

    /// Writes a whole small file so that a reader sees the old or the new bytes, durable when answered.
    ///
    /// The bytes go to a hidden sibling first; a sibling left by a crash is overwritten by the next call.
    pub fn atomic_write(&self, point: Point, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".tmp");
        let sibling = path.with_file_name(name);
        let written = self
            .open_or_create(point, &sibling, mode)
            .and_then(|mut output| {
                output.set_len(point, 0)?;
                output.write_all(point, bytes)?;
                output.sync_data(point)
            })
            .and_then(|()| self.rename_replace(point, &sibling, path));
        if written.is_err() {
            // The error that matters is the first one; the sibling is harmless.
            drop(fs::remove_file(&sibling));
        }
        written
    }
}

fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().mode(mode).create(path)?;
    rustix::fs::chmodat(
        rustix::fs::CWD,
        path,
        rustix::fs::Mode::from_raw_mode(mode),
        rustix::fs::AtFlags::empty(),
    )?;
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => Path::new("/"),
    }
}

#[cfg(test)]
mod tests;
