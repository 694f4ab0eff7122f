//! Who works with a blob of the backend right now, so that collection does not remove it under their hands.
//!
//! A committer pins a digest from before the blob gets its name until its record is durable. A remover claims a
//! digest that nobody pinned, looks once more whether a record names it, removes it, and lets go.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::Digest;
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct Pins {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    pinned: HashMap<Digest, u32>,
    claimed: HashSet<Digest>,
}

/// Keeps a digest from being removed.
#[derive(Debug)]
pub(crate) struct Pin {
    pins: Arc<Pins>,
    digest: Digest,
}

/// Keeps a digest from being pinned while it is removed.
#[derive(Debug)]
pub(crate) struct Claim {
    pins: Arc<Pins>,
    digest: Digest,
}

impl Pins {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pins a digest, after its removal if that runs: one unlink, so the wait is short.
    pub(crate) async fn pin(self: &Arc<Self>, digest: &Digest) -> Pin {
        loop {
            let freed = self.freed.notified();
            let mut freed = std::pin::pin!(freed);
            freed.as_mut().enable();
            {
                let mut state = self.state();
                if !state.claimed.contains(digest) {
                    *state.pinned.entry(digest.clone()).or_default() += 1;
                    return Pin {
                        pins: Arc::clone(self),
                        digest: digest.clone(),
                    };
                }
            }
            freed.await;
        }
    }

    /// Claims a digest for removal; `None` while somebody works with it.
    pub(crate) fn claim(self: &Arc<Self>, digest: &Digest) -> Option<Claim> {
        let mut state = self.state();
        if state.pinned.contains_key(digest) || !state.claimed.insert(digest.clone()) {
            return None;
        }
        Some(Claim {
            pins: Arc::clone(self),
            digest: digest.clone(),
        })
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.pins.state();
        if let Some(count) = state.pinned.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                state.pinned.remove(&self.digest);
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.pins.state().claimed.remove(&self.digest);
        self.pins.freed.notify_waiters();
    }
}
