//! The hold that a running operation has on its entry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::Namespace;

use crate::entry::{Entry, Progress, UNKNOWN};
use crate::{FINISHED_MAX, JobId, Outcome, RUNNING_MAX, Shared, TEXT_BYTES_MAX};

/// A running operation; dropping it ends its entry, as a success unless [`Job::fail`] was called.
#[derive(Debug)]
pub struct Job {
    shared: Arc<Shared>,
    id: JobId,
    progress: Arc<Progress>,
    error: Option<String>,
}

pub(crate) fn begin(
    shared: &Arc<Shared>,
    parent: Option<JobId>,
    kind: &'static str,
    target: String,
) -> Job {
    let progress = Arc::new(Progress {
        done: AtomicU64::new(0),
        total: AtomicU64::new(UNKNOWN),
    });
    let now = shared.clock.now();
    let mut table = shared.lock();
    table.last_id += 1;
    let id = JobId(table.last_id);
    if table.running.len() < RUNNING_MAX {
        let namespace = parent
            .and_then(|parent| table.running.get(&parent))
            .and_then(|parent| parent.namespace.clone());
        let entry = Entry {
            parent,
            kind,
            namespace,
            target: cut(target),
            stage: String::new(),
            since: now,
            stage_since: now,
            waits_for: None,
            progress: Arc::clone(&progress),
        };
        table.running.insert(id, entry);
    }
    drop(table);
    shared.changed();
    Job {
        shared: Arc::clone(shared),
        id,
        progress,
        error: None,
    }
}

impl Job {
    /// The name under which the table lists the job.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Says for which namespace the job works; its later children inherit it.
    #[must_use]
    pub fn in_namespace(self, namespace: &Namespace) -> Self {
        self.edit(|entry| entry.namespace = Some(namespace.clone()));
        self
    }

    /// Enters a part of this job, such as one layer of a pull.
    pub fn child(&self, kind: &'static str, target: impl Into<String>) -> Self {
        begin(&self.shared, Some(self.id), kind, target.into())
    }

    /// Enters a stage; whatever the job waited for came.
    pub fn stage(&self, stage: impl Into<String>) {
        let now = self.shared.clock.now();
        let stage = cut(stage.into());
        self.edit(|entry| {
            entry.stage = stage;
            entry.stage_since = now;
            entry.waits_for = None;
        });
    }

    /// Says how much is done and how much there is, if known.
    pub fn progress(&self, done: u64, total: Option<u64>) {
        self.progress.done.store(done, Ordering::Relaxed);
        self.progress
            .total
            .store(total.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    /// Adds to what is done.
    pub fn advance(&self, more: u64) {
        self.progress.done.fetch_add(more, Ordering::Relaxed);
    }

    /// Says what the job waits for from now on; `None` when it goes on.
    pub fn waits_for(&self, what: Option<&str>) {
        let what = what.map(|what| cut(what.to_owned()));
        self.edit(|entry| entry.waits_for = what);
    }

    /// Ends the job as failed.
    pub fn fail(mut self, error: impl Into<String>) {
        self.error = Some(cut(error.into()));
    }

    fn edit(&self, change: impl FnOnce(&mut Entry)) {
        let mut table = self.shared.lock();
        let Some(entry) = table.running.get_mut(&self.id) else {
            return;
        };
        change(entry);
        drop(table);
        self.shared.changed();
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let at = self.shared.clock.now();
        let mut table = self.shared.lock();
        let Some(entry) = table.running.remove(&self.id) else {
            return;
        };
        let mut info = entry.info(self.id);
        info.outcome = Some(Outcome {
            at,
            error: self.error.take(),
        });
        if table.finished.len() == FINISHED_MAX {
            table.finished.pop_front();
        }
        table.finished.push_back(info);
        drop(table);
        self.shared.changed();
    }
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX)
            .rev()
            .find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
    }
    text
}
