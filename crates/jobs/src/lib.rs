//! The table of running operations: what runs, for whom, in which stage, since when, and what it waits for.
//!
//! Whoever starts a long operation takes a [`Job`] and keeps it as long as the operation lasts; dropping it ends
//! the entry. Progress bars, `hoist ops` and "why is this stuck" all read [`Jobs::list`] and wait for the next
//! change with [`Jobs::watch`]. Progress inside a stage is counted without waking anybody: who draws it reads
//! the table on a timer of its own.
//!
//! The table never fails and never refuses an operation: above [`RUNNING_MAX`] an operation runs unlisted.

mod entry;
mod guard;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::Clock;
use tokio::sync::watch;

use entry::Entry;
pub use entry::{JobId, JobInfo, Outcome};
pub use guard::Job;

/// Most jobs listed at once; more run unlisted.
pub const RUNNING_MAX: usize = 16_384;
/// Most finished jobs that are remembered, the oldest forgotten first.
pub const FINISHED_MAX: usize = 256;
/// Longest target, stage, wait or error text, in bytes; longer ones are cut.
pub const TEXT_BYTES_MAX: usize = 512;

/// The table; clones share it.
#[derive(Debug, Clone)]
pub struct Jobs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    version: watch::Sender<u64>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Default)]
struct Table {
    last_id: u64,
    running: BTreeMap<JobId, Entry>,
    finished: VecDeque<JobInfo>,
}

impl Jobs {
    /// An empty table that takes its times from `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            shared: Arc::new(Shared {
                table: Mutex::default(),
                version: watch::Sender::new(0),
                clock,
            }),
        }
    }

    /// Enters an operation: `kind` says what it does (`pull`), `target` to what (`docker.io/library/alpine:3`).
    pub fn begin(&self, kind: &'static str, target: impl Into<String>) -> Job {
        guard::begin(&self.shared, None, kind, target.into())
    }

    /// All running jobs, by id, so that parents stand before their children.
    pub fn list(&self) -> Vec<JobInfo> {
        let table = self.shared.lock();
        table
            .running
            .iter()
            .map(|(id, entry)| entry.info(*id))
            .collect()
    }

    /// Jobs that ended, the latest last; at most [`FINISHED_MAX`].
    pub fn finished(&self) -> Vec<JobInfo> {
        self.shared.lock().finished.iter().cloned().collect()
    }

    /// One job, running or remembered.
    pub fn get(&self, id: JobId) -> Option<JobInfo> {
        let table = self.shared.lock();
        match table.running.get(&id) {
            Some(entry) => Some(entry.info(id)),
            None => table
                .finished
                .iter()
                .rev()
                .find(|job| job.id == id)
                .cloned(),
        }
    }

    /// A running job and everything below it, the job first; empty when it is not running.
    pub fn tree(&self, id: JobId) -> Vec<JobInfo> {
        let mut family: Vec<JobInfo> = Vec::new();
        // A child's id is greater than its parent's, so one pass in order finds all generations.
        for job in self.list() {
            let below = |parent| family.iter().any(|member| member.id == parent);
            if job.id == id || job.parent.is_some_and(below) {
                family.push(job);
            }
        }
        family
    }

    /// Tells when the table changed: a job began, entered a stage, began to wait, or ended.
    pub fn watch(&self) -> Changes {
        Changes {
            version: self.shared.version.subscribe(),
        }
    }

    /// Follows one job: like [`Jobs::watch`], but ends when the job does.
    pub fn subscribe(&self, id: JobId) -> JobChanges {
        JobChanges {
            jobs: self.clone(),
            changes: self.watch(),
            id,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // Each change of the table is complete before anything can panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }
}

/// Waits for changes of the table; changes in between are seen as one.
#[derive(Debug, Clone)]
pub struct Changes {
    version: watch::Receiver<u64>,
}

impl Changes {
    /// Returns at the next change that this value has not told of; false when the table is gone. Cancel-safe.
    pub async fn changed(&mut self) -> bool {
        self.version.changed().await.is_ok()
    }
}

/// Follows one job.
#[derive(Debug)]
pub struct JobChanges {
    jobs: Jobs,
    changes: Changes,
    id: JobId,
}

impl JobChanges {
    /// The job and everything below it, now; empty once it ended.
    pub fn now(&self) -> Vec<JobInfo> {
        self.jobs.tree(self.id)
    }

    /// Waits for the next change of the table; the family then, or `None` once the job ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Vec<JobInfo>> {
        if self.jobs.shared.lock().running.contains_key(&self.id) && !self.changes.changed().await {
            return None;
        }
        Some(self.now()).filter(|family| !family.is_empty())
    }
}
