//! Snapshots as layers of overlayfs.
//!
//! ```text
//! <root>/snapshots/<n>/fs     the changes over the parents
//! <root>/snapshots/<n>/work   overlayfs' own, of active snapshots
//! ```
//! The folders and the mounts are containerd's, option for option, as clients take them apart.

mod probe;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use model::{Labels, Mount};
use sys::file::{self, Files, Step};

use crate::room::{self, Removal, Room};
use crate::{
    CAPABILITY_ONLY_REMAP_IDS, CAPABILITY_REBASE, CAPABILITY_REMAP_IDS, Driver, Durability, Error,
    IdMap, Kind, LABEL_GID_MAPPING, LABEL_OVERLAY_UPPERDIR, LABEL_UID_MAPPING, Owner, Result,
    SnapshotId, Usage, points,
};

/// How the driver is set up.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The way to durable files.
    pub files: Files,
    /// When the files of a removed snapshot are deleted (`sync_remove`).
    pub removal: Removal,
    /// Shows where the changes lie in a label (`upperdir_label`).
    pub upperdir_label: bool,
    /// Lets clients change owners file by file where mounts can't map ids (`slow_chown`).
    pub slow_chown: bool,
    /// Options put at the end of each overlay mount, not of bind mounts (`mount_options`).
    pub mount_options: Vec<String>,
}

/// The overlay driver.
#[derive(Debug)]
pub struct Overlay {
    root: PathBuf,
    room: Room,
    options: Vec<String>,
    capabilities: Vec<&'static str>,
    upperdir_label: bool,
    remap_ids: bool,
}

impl Overlay {
    /// Opens the driver under `root`, made when absent.
    ///
    /// Tries a mount that stays detached; [`Error::Unsupported`] says why this root or host can't have the driver.
    pub fn open(root: impl Into<PathBuf>, config: Config) -> Result<Self> {
        let root = root.into();
        let room = Room::open(&root, config.files.clone(), config.removal)?;
        let found = probe::probe(&root, &config.files)?;
        let mut options = config.mount_options;
        let set = |options: &[String], key: &str| {
            options
                .iter()
                .any(|option| option.split('=').next() == Some(key))
        };
        if found.userxattr && !set(&options, "userxattr") {
            options.push("userxattr".to_owned());
        }
        // The last of two equal options wins in the kernel, so ours must not follow the administrator's.
        if found.index && !set(&options, "index") {
            options.push("index=off".to_owned());
        }
        let mut capabilities = Vec::new();
        if found.remap_ids {
            capabilities.push(CAPABILITY_REMAP_IDS);
        }
        if !config.slow_chown {
            capabilities.push(CAPABILITY_ONLY_REMAP_IDS);
        }
        if !found.user_namespace {
            // Layers applied without their parents need whiteouts as device nodes.
            capabilities.push(CAPABILITY_REBASE);
        }
        Ok(Self {
            root,
            room,
            options,
            capabilities,
            upperdir_label: config.upperdir_label,
            remap_ids: found.remap_ids,
        })
    }

    /// Where the changes of a snapshot lie.
    pub fn upper(&self, id: SnapshotId) -> PathBuf {
        self.room.path(id).join("fs")
    }

    fn work(&self, id: SnapshotId) -> PathBuf {
        self.room.path(id).join("work")
    }

    fn fill(&self, folder: &Path, kind: Kind, like: &Like) -> Result<()> {
        let files = &self.room.files;
        let upper = folder.join("fs");
        files.make_dir(points::CREATE, &upper, like.mode)?;
        if kind == Kind::Active {
            files.make_dir(points::CREATE, &folder.join("work"), 0o711)?;
        }
        if let Some(Owner { uid, gid }) = like.owner {
            files.step(points::CREATE, Step::SetAttributes, &upper, || {
                std::os::unix::fs::lchown(&upper, Some(uid), Some(gid))
            })?;
        }
        Ok(())
    }

    /// What the root folder of a new snapshot is to look like: what overlay shows is the uppermost one.
    fn like(&self, parents: &[SnapshotId], labels: &Labels) -> Result<Like> {
        let mut like = Like {
            owner: None,
            mode: 0o755,
        };
        if let Some(parent) = parents.first() {
            let upper = self.upper(*parent);
            let metadata = upper
                .symlink_metadata()
                .map_err(file::Error::of("stat parent", &upper))?;
            like.mode = metadata.mode() & 0o7777;
            like.owner = Some(Owner {
                uid: metadata.uid(),
                gid: metadata.gid(),
            });
        }
        if let Some(owner) = mapped_root(labels)? {
            like.owner = Some(owner);
        }
        Ok(like)
    }

    fn mapping_options(&self, labels: &Labels) -> Result<Vec<String>> {
        let mut options = Vec::new();
        for (label, key) in [(LABEL_UID_MAPPING, "uidmap"), (LABEL_GID_MAPPING, "gidmap")] {
            if let Some(text) = labels.get(label).filter(|_| self.remap_ids) {
                parse_map(text)?;
                options.push(format!("{key}={text}"));
            }
        }
        Ok(options)
    }
}

struct Like {
    owner: Option<Owner>,
    mode: u32,
}

fn parse_map(text: &str) -> Result<IdMap> {
    text.parse()
        .map_err(|error: crate::InvalidIdMap| Error::Invalid {
            reason: error.to_string(),
        })
}

/// The owner that root inside has outside, when the labels map ids.
fn mapped_root(labels: &Labels) -> Result<Option<Owner>> {
    let (uids, gids) = (labels.get(LABEL_UID_MAPPING), labels.get(LABEL_GID_MAPPING));
    if uids.is_none() && gids.is_none() {
        return Ok(None);
    }
    let root = |text: Option<&String>| -> Result<u32> {
        let map = parse_map(text.map_or("", String::as_str))?;
        map.to_host(0).ok_or_else(|| Error::Invalid {
            reason: format!("id mapping {map} has no root"),
        })
    };
    Ok(Some(Owner {
        uid: root(uids)?,
        gid: root(gids)?,
    }))
}

fn bind(source: &Path, mut options: Vec<String>, access: &str) -> Vec<Mount> {
    options.extend([access.to_owned(), "rbind".to_owned()]);
    vec![Mount {
        kind: "bind".to_owned(),
        source: source.display().to_string(),
        target: String::new(),
        options,
    }]
}

impl Driver for Overlay {
    fn name(&self) -> &'static str {
        "overlayfs"
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn capabilities(&self) -> &[&'static str] {
        &self.capabilities
    }

    fn create(
        &self,
        id: SnapshotId,
        kind: Kind,
        parents: &[SnapshotId],
        labels: &Labels,
    ) -> Result<()> {
        room::check_parents(id, parents)?;
        let like = self.like(parents, labels)?;
        self.room
            .create(id, 0o700, |folder| self.fill(folder, kind, &like))
    }

    fn mounts(
        &self,
        id: SnapshotId,
        kind: Kind,
        parents: &[SnapshotId],
        labels: &Labels,
    ) -> Result<Vec<Mount>> {
        let mut options = self.mapping_options(labels)?;
        match (kind, parents) {
            (Kind::Active, []) => return Ok(bind(&self.upper(id), options, "rw")),
            (_, []) => return Ok(bind(&self.upper(id), options, "ro")),
            (Kind::View | Kind::Committed, [only]) => {
                return Ok(bind(&self.upper(*only), options, "ro"));
            }
            _ => {}
        }
        if kind == Kind::Active {
            options.push(format!("workdir={}", self.work(id).display()));
            options.push(format!("upperdir={}", self.upper(id).display()));
        }
        let lower: Vec<String> = parents
            .iter()
            .map(|parent| self.upper(*parent).display().to_string())
            .collect();
        options.push(format!("lowerdir={}", lower.join(":")));
        options.extend(self.options.iter().cloned());
        Ok(vec![Mount {
            kind: "overlay".to_owned(),
            source: "overlay".to_owned(),
            target: String::new(),
            options,
        }])
    }

    fn commit(
        &self,
        id: SnapshotId,
        parents: &[SnapshotId],
        durability: Durability,
    ) -> Result<Usage> {
        room::check_parents(id, parents)?;
        self.room.present(id)?;
        let upper = self.upper(id);
        if durability == Durability::Sync {
            self.room.files.sync_tree(points::COMMIT, &upper)?;
        }
        room::usage(&upper)
    }

    fn usage(&self, id: SnapshotId) -> Result<Usage> {
        self.room.present(id)?;
        room::usage(&self.upper(id))
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

    fn shown_labels(&self, id: SnapshotId) -> Labels {
        let shown = self.upperdir_label.then(|| {
            let upper = self.upper(id).display().to_string();
            (LABEL_OVERLAY_UPPERDIR.to_owned(), upper)
        });
        shown.into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
