//! Garbage collection: what no root reaches is removed.
//!
//! One cycle:
//! ```text
//! watch   the owner begins to remember which rows are written
//! mark    on a view of one moment, beside all writers: everything reachable (gc/mark.rs, gc/refs.rs)
//! sweep   in small batches through the owner: what was written meanwhile, and all that it reaches, is marked
//!         first; then what is still not marked loses its record
//! files   outside of any transaction: what the list of files to be removed names, if no record names it again
//! ```
//! No reference can be missed: one that was there at the mark was followed, one that was made later was written.
//! The labels are containerd's, but for `gc.cond.*`, which is not built.

mod files;
mod labels;
pub mod mark;
mod refs;
mod schedule;
mod sweep;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::db::{Db, blocking};
use crate::error::Error;

pub use files::Removed;
pub use labels::LABEL_EXPIRE;
pub use schedule::Schedule;

/// Counts what happened since the last collection, and wakes the scheduler.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    mutations: AtomicU64,
    dirty: AtomicU64,
    changed: tokio::sync::Notify,
}

impl Pulse {
    pub(crate) fn beat(&self, mutations: u32, dirty: u32) {
        self.mutations.fetch_add(mutations.into(), Ordering::AcqRel);
        self.dirty.fetch_add(dirty.into(), Ordering::AcqRel);
        self.changed.notify_one();
    }
}

/// One cycle at a time; a caller that waits while one begins shares it.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    begun: AtomicU64,
    last: tokio::sync::Mutex<(u64, Stats)>,
}

/// What one cycle did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// How many objects are reachable.
    pub kept: usize,
    /// How many records were removed.
    pub removed: usize,
    /// What was removed of files.
    pub files: Removed,
    /// From the first look to the last record removed.
    pub elapsed: Duration,
}

/// Collection of one store.
#[derive(Debug, Clone)]
pub struct Gc {
    pub(crate) db: Db,
}

impl Gc {
    /// Runs a full cycle that begins after this call, and waits for it, files included.
    ///
    /// A dropped call leaves a cycle unfinished, which harms nothing. The cause of a failure is in the log.
    pub async fn run(&self) -> Result<Stats, Error> {
        let turn = &self.db.inner.turn;
        let seen = turn.begun.load(Ordering::Acquire);
        let mut last = turn.last.lock().await;
        if last.0 > seen {
            return Ok(last.1);
        }
        let number = turn.begun.fetch_add(1, Ordering::AcqRel) + 1;
        match self.cycle().await {
            Ok(stats) => {
                *last = (number, stats);
                tracing::debug!(?stats, "garbage collected");
                Ok(stats)
            }
            Err(error) => {
                tracing::error!(error = model::chain(&error), "garbage collection failed");
                Err(Error::Collection)
            }
        }
    }

    async fn cycle(&self) -> Result<Stats, Error> {
        let inner = &self.db.inner;
        let begin = Instant::now();
        inner.pulse.mutations.store(0, Ordering::Release);
        inner.pulse.dirty.store(0, Ordering::Release);
        let watch = Arc::new(());
        let watching = Arc::downgrade(&watch);
        self.db
            .write(move |tx| {
                tx.watch(watching);
                Ok(())
            })
            .await?;
        let (db, now) = (self.db.clone(), inner.clock.now());
        let (cycle, garbage) = blocking(move || sweep::begin(&db.snapshot()?, now)).await??;
        let (kept, removed) = sweep::sweep(&self.db, cycle, garbage).await?;
        drop(watch);
        let elapsed = begin.elapsed();
        let files = files::remove(&self.db).await?;
        Ok(Stats {
            kept,
            removed,
            files,
            elapsed,
        })
    }
}
