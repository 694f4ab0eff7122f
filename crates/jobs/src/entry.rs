//! One entry of the table.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::{Namespace, Timestamp};

/// Names a job for as long as the program runs; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What the table says about a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobInfo {
    /// Its name.
    pub id: JobId,
    /// The job of which it is a part.
    pub parent: Option<JobId>,
    /// What it does: `pull`, `layer`, `gc`.
    pub kind: &'static str,
    /// The namespace for which it works; none for the whole daemon.
    pub namespace: Option<Namespace>,
    /// What it works on.
    pub target: String,
    /// The stage it is in: `fetch`, `unpack`; empty before the first.
    pub stage: String,
    /// When it began.
    pub since: Timestamp,
    /// When the stage began.
    pub stage_since: Timestamp,
    /// How much is done, in the unit of the kind (bytes for layers).
    pub done: u64,
    /// How much there is to do, if known.
    pub total: Option<u64>,
    /// What it waits for, if it waits: `lock of ref layer-sha256:…`.
    pub waits_for: Option<String>,
    /// How it ended; none while it runs.
    pub outcome: Option<Outcome>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// When.
    pub at: Timestamp,
    /// Why it failed; none when it succeeded.
    pub error: Option<String>,
}

/// Counted without the table's lock: layers report every chunk.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) done: AtomicU64,
    /// [`UNKNOWN`] when nobody knows.
    pub(crate) total: AtomicU64,
}

/// No total is known.
pub(crate) const UNKNOWN: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) parent: Option<JobId>,
    pub(crate) kind: &'static str,
    pub(crate) namespace: Option<Namespace>,
    pub(crate) target: String,
    pub(crate) stage: String,
    pub(crate) since: Timestamp,
    pub(crate) stage_since: Timestamp,
    pub(crate) waits_for: Option<String>,
    pub(crate) progress: Arc<Progress>,
}

impl Entry {
    pub(crate) fn info(&self, id: JobId) -> JobInfo {
        let total = self.progress.total.load(Ordering::Relaxed);
        JobInfo {
            id,
            parent: self.parent,
            kind: self.kind,
            namespace: self.namespace.clone(),
            target: self.target.clone(),
            stage: self.stage.clone(),
            since: self.since,
            stage_since: self.stage_since,
            done: self.progress.done.load(Ordering::Relaxed),
            total: (total != UNKNOWN).then_some(total),
            waits_for: self.waits_for.clone(),
            outcome: None,
        }
    }
}
