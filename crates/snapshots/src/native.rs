//! Snapshots as plain copies, for file systems on which nothing better works.
//!
//! ```text
//! <root>/snapshots/<n>/   the whole file system; of a view with parent an empty folder
//! ```

mod copy;

use std::path::{Path, PathBuf};

use model::{Labels, Mount};
use sys::file::{Files, Step};

use crate::room::{self, Removal, Room};
use crate::{Driver, Durability, Kind, Result, SnapshotId, Usage, points};

/// How the driver is set up.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The way to durable files.
    pub files: Files,
    /// When the files of a removed snapshot are deleted.
    pub removal: Removal,
}

/// The native driver.
#[derive(Debug)]
pub struct Native {
    root: PathBuf,
    room: Room,
}

impl Native {
    /// Opens the driver under `root`, made when absent.
    pub fn open(root: impl Into<PathBuf>, config: Config) -> Result<Self> {
        let root = root.into();
        let room = Room::open(&root, config.files, config.removal)?;
        Ok(Self { root, room })
    }
}

impl Driver for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn capabilities(&self) -> &[&'static str] {
        &[]
    }

    fn create(
        &self,
        id: SnapshotId,
        kind: Kind,
        parents: &[SnapshotId],
        _labels: &Labels,
    ) -> Result<()> {
        room::check_parents(id, parents)?;
        self.room.create(id, 0o755, |folder| {
            if let (Kind::Active, Some(parent)) = (kind, parents.first()) {
                let parent = self.room.present(*parent)?;
                let files = &self.room.files;
                files.step(points::CREATE, Step::Write, folder, || {
                    copy::copy_tree(&parent, folder)
                })?;
            }
            Ok(())
        })
    }

    fn mounts(
        &self,
        id: SnapshotId,
        kind: Kind,
        parents: &[SnapshotId],
        _labels: &Labels,
    ) -> Result<Vec<Mount>> {
        let shown = match parents.first() {
            Some(parent) if kind != Kind::Active => *parent,
            _ => id,
        };
        let access = if kind == Kind::Active { "rw" } else { "ro" };
        Ok(vec![Mount {
            kind: "bind".to_owned(),
            source: self.room.path(shown).display().to_string(),
            target: String::new(),
            options: vec!["rbind".to_owned(), access.to_owned()],
        }])
    }

    fn commit(
        &self,
        id: SnapshotId,
        parents: &[SnapshotId],
        durability: Durability,
    ) -> Result<Usage> {
        room::check_parents(id, parents)?;
        let path = self.room.present(id)?;
        if durability == Durability::Sync || !parents.is_empty() {
            // Who wrote the changes knows nothing of the files that `create` copied.
            self.room.files.sync_tree(points::COMMIT, &path)?;
        }
        room::usage(&path)
    }

    fn usage(&self, id: SnapshotId) -> Result<Usage> {
        room::usage(&self.room.present(id)?)
    }

    fn remove(&self, id: SnapshotId) -> Result<()> {
        self.room.remove(id)
    }

    fn list(&self) -> Result<Vec<SnapshotId>> {
        self.room.list()
    }

    fn cleanup(&self) -> Result<()> {
        self.room.cleanup()
    }
}

#[cfg(test)]
mod tests;
