//! File systems by key: prepare, commit, view.
//!
//! Two layers. A [`Driver`] keeps folders under numbers: it knows no names, no namespaces, no records, and never
//! decides what lives. A [`Snapshotter`] is what clients see: keys, labels, parents by name; `metadata` builds one
//! over any driver.
//!
//! Life of a snapshot:
//! ```text
//! prepare ─► active ── commit ─► committed ◄─ parent of ─ active, view, committed
//! view ────► view          remove: any kind, when nothing has it as parent
//! ```
//! Invariants a driver keeps: a folder under its number is whole (it is made under another name and renamed); a
//! committed one is durable before `commit` answers; a removed one is gone from [`Driver::list`] before its files are.
//! Names in the driver's root that are not the driver's own are never touched.

mod error;
mod idmap;
pub mod native;
pub mod overlay;
mod room;
mod snapshotter;
#[cfg(feature = "testing")]
pub mod testing;

use std::fmt;
use std::path::Path;

use model::{Labels, Mount};

pub use error::{Error, Result};
pub use idmap::{IdMap, IdMapping, InvalidIdMap, Owner};
pub use room::Removal;
pub use snapshotter::{CommitOptions, Info, Page, PageFuture, Snapshotter, WALK_PAGE_MAX};

/// Label of a prepare: the chain id that the snapshot will become.
pub const LABEL_REF: &str = "containerd.io/snapshot.ref";
/// Prefix of the labels that a backend gets to see.
pub const LABEL_PREFIX: &str = "containerd.io/snapshot/";
/// Label: `container:host:length[,…]` for users.
pub const LABEL_UID_MAPPING: &str = "containerd.io/snapshot/uidmapping";
/// Label: `container:host:length[,…]` for groups.
pub const LABEL_GID_MAPPING: &str = "containerd.io/snapshot/gidmapping";
/// Label that overlay shows when asked to: where the changes lie.
pub const LABEL_OVERLAY_UPPERDIR: &str = "containerd.io/snapshot/overlay.upperdir";
/// Capability: `commit` may name the parent.
pub const CAPABILITY_REBASE: &str = "rebase";
/// Capability: the mapping labels become mount options.
pub const CAPABILITY_REMAP_IDS: &str = "remap-ids";
/// Capability: ids are mapped by the mount or not at all (no slow chown).
pub const CAPABILITY_ONLY_REMAP_IDS: &str = "only-remap-ids";

/// Most parents of one snapshot (overlay's own limit of lower layers is 500).
pub const PARENTS_MAX: usize = 500;
/// Most snapshots that [`Driver::list`] answers.
pub const SNAPSHOTS_MAX: usize = 1 << 20;

/// Where drivers change durable files.
pub mod points {
    use sys::file::Point;

    /// Opening a driver.
    pub const OPEN: Point = Point::new("snapshots.open");
    /// Trying out what the kernel can do.
    pub const PROBE: Point = Point::new("snapshots.probe");
    /// [`crate::Driver::create`].
    pub const CREATE: Point = Point::new("snapshots.create");
    /// [`crate::Driver::commit`].
    pub const COMMIT: Point = Point::new("snapshots.commit");
    /// [`crate::Driver::remove`], up to the snapshot being gone.
    pub const REMOVE: Point = Point::new("snapshots.remove");
    /// Deleting the files of what is gone.
    pub const DELETE: Point = Point::new("snapshots.delete");

    /// All names `point:step` of a driver's life, for sweeps. A test holds this list to what is taken.
    pub const ALL: &[&str] = &[
        "snapshots.open:mkdir",
        "snapshots.open:sync-dir",
        "snapshots.probe:mkdir",
        "snapshots.probe:remove",
        "snapshots.create:mkdir",
        "snapshots.create:write",
        "snapshots.create:set-attributes",
        "snapshots.create:rename",
        "snapshots.create:sync-dir",
        "snapshots.commit:sync-data",
        "snapshots.remove:rename",
        "snapshots.delete:remove",
    ];
}

/// The number under which a driver keeps a snapshot. Never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotId(pub u64);

impl fmt::Display for SnapshotId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What a snapshot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Can be written and committed.
    Active,
    /// Can only be read.
    View,
    /// Never changes again; the only kind that can be a parent.
    Committed,
}

impl Kind {
    /// The name in filters: `active`, `view` or `committed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::View => "view",
            Self::Committed => "committed",
        }
    }
}

/// What a snapshot takes by itself, without its parents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of the allocated blocks.
    pub size: u64,
    /// Inodes, hard-linked ones once.
    pub inodes: u64,
}

impl From<sys::tree::Usage> for Usage {
    fn from(usage: sys::tree::Usage) -> Self {
        Self {
            size: usage.bytes,
            inodes: usage.inodes,
        }
    }
}

/// Whether the files of a snapshot are known to be on the disk when it is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Nobody synced: the driver does.
    #[default]
    Sync,
    /// Who wrote the files synced each of them and their folders.
    AlreadyDurable,
}

/// A store of folders under numbers. All calls block.
///
/// `parents` are nearest first and all committed. `labels` are the inherited ones (see [`inherited_labels`]).
pub trait Driver: fmt::Debug + Send + Sync {
    /// The name under which clients ask for the driver.
    fn name(&self) -> &str;

    /// Where the driver keeps its folders.
    fn root(&self) -> &Path;

    /// The `CAPABILITY_…` names that hold on this host.
    fn capabilities(&self) -> &[&'static str];

    /// Makes the folder of an active snapshot or a view, whole or not at all. `AlreadyExists` when the number is taken.
    fn create(
        &self,
        id: SnapshotId,
        kind: Kind,
        parents: &[SnapshotId],
        labels: &Labels,
    ) -> Result<()>;

    /// The mounts that show the snapshot. Touches no file.
    fn mounts(
        &self,
        id: SnapshotId,
        kind: Kind,
        parents: &[SnapshotId],
        labels: &Labels,
    ) -> Result<Vec<Mount>>;

    /// Makes an active snapshot durable as a committed one over `parents` and counts it.
    ///
    /// The caller records it as committed only after this answered; until then the call can be repeated.
    fn commit(
        &self,
        id: SnapshotId,
        parents: &[SnapshotId],
        durability: Durability,
    ) -> Result<Usage>;

    /// Counts what the snapshot takes now.
    fn usage(&self, id: SnapshotId) -> Result<Usage>;

    /// Removes the snapshot; it leaves [`Driver::list`] first, so a crash leaves only rubbish for
    /// [`Driver::cleanup`]. `NotFound` when there is none.
    fn remove(&self, id: SnapshotId) -> Result<()>;

    /// The numbers present on the disk, ascending, at most [`SNAPSHOTS_MAX`].
    fn list(&self) -> Result<Vec<SnapshotId>>;

    /// Deletes what crashed calls and deferred removals have left.
    ///
    /// To be called at start before any other call, and after removals when the driver defers them. It never touches
    /// a number or a name that is not of the driver's making.
    fn cleanup(&self) -> Result<()>;

    /// Labels that the driver itself shows on a snapshot, over the recorded ones.
    fn shown_labels(&self, _id: SnapshotId) -> Labels {
        Labels::new()
    }
}

/// The labels that a driver gets to see: those of the snapshot itself, not the collector's or the client's own.
pub fn inherited_labels(labels: &Labels) -> Labels {
    labels
        .iter()
        .filter(|(key, _)| *key == LABEL_REF || key.starts_with(LABEL_PREFIX))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
