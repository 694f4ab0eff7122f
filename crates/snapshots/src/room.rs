//! The folder of numbered folders that drivers share.
//!
//! ```text
//! <root>/snapshots/<n>             a snapshot, whole
//! <root>/snapshots/new-hoist-<n>   being made; rubbish after a crash
//! <root>/snapshots/rm-hoist-<n>    gone, its files not yet; rubbish
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sys::file::{self, Files};

use crate::{Error, PARENTS_MAX, Result, SNAPSHOTS_MAX, SnapshotId, points};

const NEW: &str = "new-hoist-";
const GONE: &str = "rm-hoist-";

/// When the files of a removed snapshot are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Removal {
    /// By the removal.
    #[default]
    Now,
    /// By the next [`crate::Driver::cleanup`].
    AtCleanup,
}

#[derive(Debug)]
pub(crate) struct Room {
    folder: PathBuf,
    pub(crate) files: Files,
    removal: Removal,
    /// Numbers being made at this moment, which `cleanup` must leave alone.
    making: Mutex<BTreeSet<u64>>,
}

impl Room {
    pub(crate) fn open(root: &Path, files: Files, removal: Removal) -> Result<Self> {
        files.make_dir_all(points::OPEN, root, 0o700)?;
        let folder = root.join("snapshots");
        files.make_dir_all(points::OPEN, &folder, 0o700)?;
        Ok(Self {
            folder,
            files,
            removal,
            making: Mutex::default(),
        })
    }

    pub(crate) fn path(&self, id: SnapshotId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    /// Makes the folder of a snapshot with `mode` and what `fill` puts into it.
    pub(crate) fn create(
        &self,
        id: SnapshotId,
        mode: u32,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let taken = || Error::AlreadyExists {
            key: id.to_string(),
        };
        let target = self.path(id);
        if target.symlink_metadata().is_ok() || !self.making(|making| making.insert(id.0)) {
            return Err(taken());
        }
        let fresh = self.folder.join(format!("{NEW}{id}"));
        let made = self
            .forget(&fresh)
            .and_then(|()| Ok(self.files.make_dir(points::CREATE, &fresh, mode)?))
            .and_then(|()| fill(&fresh))
            .and_then(|()| {
                let renamed = self.files.rename_noreplace(points::CREATE, &fresh, &target);
                renamed.map_err(|error| {
                    if error.is_already_exists() {
                        taken()
                    } else {
                        if error.path != target {
                            // Renamed but not durable: the number goes back to rubbish.
                            let files = &self.files;
                            drop(files.rename_unsynced(points::CREATE, &target, &fresh));
                        }
                        error.into()
                    }
                })
            });
        if made.is_err() {
            // The first failure is the one to report; what stays is rubbish for `cleanup`.
            drop(self.forget(&fresh));
        }
        self.making(|making| making.remove(&id.0));
        made
    }

    fn making<T>(&self, change: impl FnOnce(&mut BTreeSet<u64>) -> T) -> T {
        change(&mut self.making.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Deletes a tree if it is there.
    fn forget(&self, path: &Path) -> Result<()> {
        if path.symlink_metadata().is_err() {
            return Ok(());
        }
        match self.files.remove_tree(points::DELETE, path) {
            Err(error) if error.is_not_found() => Ok(()),
            other => Ok(other?),
        }
    }

    pub(crate) fn remove(&self, id: SnapshotId) -> Result<()> {
        let gone = self.folder.join(format!("{GONE}{id}"));
        let from = self.path(id);
        let rename = || self.files.rename_unsynced(points::REMOVE, &from, &gone);
        let renamed = match rename() {
            // After a power cut both names can be there.
            Err(error) if error.is_already_exists() => {
                self.forget(&gone)?;
                rename()
            }
            other => other,
        };
        match renamed {
            Err(error) if error.is_not_found() => {
                return Err(Error::NotFound {
                    key: id.to_string(),
                });
            }
            other => other?,
        }
        match self.removal {
            Removal::Now => self.forget(&gone),
            Removal::AtCleanup => Ok(()),
        }
    }

    fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        let listed = || file::Error::of::<io::Error>("list", &self.folder);
        for entry in fs::read_dir(&self.folder).map_err(listed())? {
            let entry = entry.map_err(listed())?;
            if names.len() == SNAPSHOTS_MAX {
                return Err(Error::Precondition {
                    key: self.folder.display().to_string(),
                    reason: format!("more than {SNAPSHOTS_MAX} names"),
                });
            }
            let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            names.extend(entry.file_name().into_string().ok().filter(|_| folder));
        }
        Ok(names)
    }

    pub(crate) fn list(&self) -> Result<Vec<SnapshotId>> {
        let names = self.names()?;
        let mut ids: Vec<SnapshotId> = names.iter().filter_map(|name| number(name)).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Deletes all rubbish it can and answers the first failure.
    pub(crate) fn cleanup(&self) -> Result<()> {
        let mut outcome = Ok(());
        for name in self.names()? {
            let making = name.strip_prefix(NEW).and_then(number);
            let rubbish = match making {
                Some(id) => !self.making(|making| making.contains(&id.0)),
                None => name.strip_prefix(GONE).and_then(number).is_some(),
            };
            if rubbish {
                outcome = outcome.and(self.forget(&self.folder.join(name)));
            }
        }
        outcome
    }

    /// Fails unless the snapshot is there.
    pub(crate) fn present(&self, id: SnapshotId) -> Result<PathBuf> {
        let path = self.path(id);
        if path.is_dir() {
            return Ok(path);
        }
        Err(Error::NotFound {
            key: id.to_string(),
        })
    }
}

/// Refuses chains that no mount could show.
pub(crate) fn check_parents(id: SnapshotId, parents: &[SnapshotId]) -> Result<()> {
    if parents.len() > PARENTS_MAX {
        return Err(Error::Precondition {
            key: id.to_string(),
            reason: format!("has {} parents, at most {PARENTS_MAX}", parents.len()),
        });
    }
    Ok(())
}

pub(crate) fn usage(path: &Path) -> Result<crate::Usage> {
    let counted = fs::File::open(path).and_then(sys::tree::usage);
    Ok(counted
        .map_err(file::Error::of("count", path))
        .map(crate::Usage::from)?)
}

/// A number as we write it: no sign, no leading zero.
fn number(name: &str) -> Option<SnapshotId> {
    let id = name.parse::<u64>().ok().map(SnapshotId)?;
    (id.to_string() == name).then_some(id)
}
