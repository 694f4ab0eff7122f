//! Garbage collection.

use std::sync::atomic::{AtomicU64, Ordering};

/// Label: the time after which a lease or image is removed, and until which content and snapshots are roots.
pub const LABEL_EXPIRE: &str = "containerd.io/gc.expire";

/// Counts what happened since the last collection, and wakes the scheduler.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    pub(crate) mutations: AtomicU64,
    pub(crate) dirty: AtomicU64,
    pub(crate) changed: tokio::sync::Notify,
}

impl Pulse {
    pub(crate) fn beat(&self, mutations: u32, dirty: u32) {
        self.mutations.fetch_add(mutations.into(), Ordering::AcqRel);
        self.dirty.fetch_add(dirty.into(), Ordering::AcqRel);
        self.changed.notify_one();
    }
}
