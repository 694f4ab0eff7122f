//! Snapshots as clients see them: by key.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;

use async_trait::async_trait;
use model::filter::{Fields, map_field, text_field};
use model::{Labels, Mount, Timestamp};

use crate::{Durability, Kind, Result, Usage};

/// Most records that [`Snapshotter::walk`] hands over at once (containerd's page of a list).
pub const WALK_PAGE_MAX: usize = 100;

/// What is known of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Key of an active snapshot or view, name of a committed one.
    pub name: String,
    /// Name of the parent.
    pub parent: Option<String>,
    /// What it is for.
    pub kind: Kind,
    /// When it was prepared or committed.
    pub created: Timestamp,
    /// When its record last changed.
    pub updated: Timestamp,
    /// Its labels.
    pub labels: Labels,
}

impl Fields for Info {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path.split_first()? {
            (&"kind", _) => Some(Cow::Borrowed(self.kind.as_str())),
            (&"name", _) => text_field(&self.name),
            (&"parent", _) => self.parent.as_deref().and_then(text_field),
            (&"labels", key) => map_field(key, &self.labels),
            _ => None,
        }
    }
}

/// How a snapshot is committed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommitOptions {
    /// The labels of the committed snapshot; those of the active one are not kept.
    pub labels: Labels,
    /// The parent to commit over, for a snapshot prepared without one; needs capability `rebase`.
    pub parent: Option<String>,
    /// Whether the files were already synced.
    pub durability: Durability,
}

/// What a page callback answers: go on or stop.
pub type PageFuture = Pin<Box<dyn Future<Output = ControlFlow<()>> + Send>>;

/// Takes a page of at most [`WALK_PAGE_MAX`] records; the walk waits for it.
pub type Page<'a> = dyn FnMut(Vec<Info>) -> PageFuture + Send + 'a;

/// Snapshots by key. Keys and names share one space; an empty one is `InvalidArgument`.
///
/// No method is cancel-safe in the sense of undoing: a dropped call either happened or did not.
#[async_trait]
pub trait Snapshotter: fmt::Debug + Send + Sync {
    /// What is known of the snapshot. `NotFound`.
    async fn stat(&self, key: &str) -> Result<Info>;

    /// Replaces labels of `info.name` and answers the new record.
    ///
    /// `fields` are `labels` or `labels.<key>` (a key without a value in `info` is removed); `None` or an empty list
    /// replaces all labels; any other path is `InvalidArgument`.
    async fn update(&self, info: &Info, fields: Option<&[String]>) -> Result<Info>;

    /// What the snapshot takes: counted now for an active one, as counted at commit for a committed one.
    async fn usage(&self, key: &str) -> Result<Usage>;

    /// The mounts of an active snapshot or view. `NotFound`; `FailedPrecondition` for a committed one.
    async fn mounts(&self, key: &str) -> Result<Vec<Mount>>;

    /// Makes a snapshot to write to. The parent must be committed. `AlreadyExists` when the key is taken.
    async fn prepare(&self, key: &str, parent: Option<&str>, labels: Labels) -> Result<Vec<Mount>>;

    /// Makes a snapshot to read from, with the rules of [`Snapshotter::prepare`].
    async fn view(&self, key: &str, parent: Option<&str>, labels: Labels) -> Result<Vec<Mount>>;

    /// Turns the active snapshot `key` into the committed `name`; durable when answered. The key is free afterwards.
    async fn commit(&self, name: &str, key: &str, options: CommitOptions) -> Result<()>;

    /// Removes a snapshot without children (`FailedPrecondition` otherwise).
    async fn remove(&self, key: &str) -> Result<()>;

    /// Hands all snapshots that match the filters to `page`, in order of their names.
    async fn walk(&self, filters: &[String], page: &mut Page<'_>) -> Result<()>;

    /// Frees what removed snapshots still take. `Unimplemented` where there is nothing to free later.
    async fn cleanup(&self) -> Result<()>;
}
