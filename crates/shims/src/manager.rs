//! The table of shims.

mod restore;
mod start;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use events::{Envelope, Exchange};
use model::{Clock, ContainerId, ErrorKind, ExecId, Namespace};
use proto::containerd::events::TaskExit;
use proto::containerd::types::{RuntimeInfo, RuntimeRequest};

pub use restore::Restored;
pub use start::StartRequest;

use crate::{Config, Error, Exit, Runtime, Shim, external, runtime};

/// Tasks at a time, on one host.
const TASKS_MAX: usize = 65_536;

type Key = (Namespace, ContainerId);

/// Knows the shim of every task; clones share it.
#[derive(Debug, Clone)]
pub struct Manager {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) events: Arc<Exchange>,
    pub(crate) clock: Arc<dyn Clock>,
    table: Mutex<BTreeMap<Key, Slot>>,
    /// By address: held while a shim of our own is found or started.
    groups: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

#[derive(Debug)]
enum Slot {
    /// Somebody works on the bundle: a start, or the removal of what a dead shim left.
    Busy,
    Running(Shim),
}

/// The right to work on a bundle; given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    inner: Arc<Inner>,
    key: Key,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut table = self.inner.table();
        if matches!(table.get(&self.key), Some(Slot::Busy)) {
            table.remove(&self.key);
        }
    }
}

impl Inner {
    fn table(&self) -> MutexGuard<'_, BTreeMap<Key, Slot>> {
        // Every change is one insertion or removal.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Manager {
    /// A manager that knows no shim yet; [`Manager::restore`] finds those of an earlier run.
    pub fn new(config: Config, events: Arc<Exchange>, clock: Arc<dyn Clock>) -> Self {
        Self {
            inner: Arc::new(Inner {
                config,
                events,
                clock,
                table: Mutex::default(),
                groups: Mutex::default(),
            }),
        }
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The shim of a task.
    pub fn get(&self, namespace: &Namespace, id: &ContainerId) -> Result<Shim, Error> {
        match self.inner.table().get(&(namespace.clone(), id.clone())) {
            Some(Slot::Running(shim)) => Ok(shim.clone()),
            _ => Err(Error::NotFound { id: id.to_string() }),
        }
    }

    /// The shims of a namespace, by id; of all namespaces without one.
    pub fn list(&self, namespace: Option<&Namespace>) -> Vec<Shim> {
        let table = self.inner.table();
        table
            .iter()
            .filter(|((held, _), _)| namespace.is_none_or(|namespace| namespace == held))
            .filter_map(|(_, slot)| match slot {
                Slot::Running(shim) => Some(shim.clone()),
                Slot::Busy => None,
            })
            .collect()
    }

    /// Takes an event that a shim sent on to the subscribers; an exit that was told already is dropped.
    pub fn forward(&self, envelope: Envelope) -> Result<(), events::Error> {
        if envelope.topic == "/tasks/exit" && !self.is_news(&envelope) {
            return Ok(());
        }
        self.inner.events.forward(envelope)
    }

    fn is_news(&self, envelope: &Envelope) -> bool {
        let Ok(exit) = proto::typeurl::unpack::<TaskExit>(&envelope.event) else {
            return true;
        };
        let Ok(id) = ContainerId::new(exit.container_id.as_str()) else {
            return true;
        };
        let Ok(shim) = self.get(&envelope.namespace, &id) else {
            return true;
        };
        let exec = Some(exit.id.as_str())
            .filter(|exec| *exec != id.as_str())
            .and_then(|exec| ExecId::new(exec).ok());
        shim.tells_first(exec.as_ref(), exit.pid)
    }

    /// Asks a runtime's shim what it is and can do (`-info`).
    pub async fn info(&self, runtime: &Runtime) -> Result<RuntimeInfo, Error> {
        let program = runtime::resolve(&self.inner.config, runtime)?;
        let request = RuntimeRequest {
            runtime_path: String::new(),
            options: runtime.options.clone(),
        };
        external::info(&self.inner.config, &program, &request).await
    }

    /// Deletes an ended task with its shim and bundle; answers how it ended.
    ///
    /// Not cancel-safe: a caller that may be dropped runs it as a task of its own.
    pub async fn delete(&self, namespace: &Namespace, id: &ContainerId) -> Result<Exit, Error> {
        let shim = self.get(namespace, id)?;
        let answer = shim.delete(None).await;
        match &answer {
            Ok(_) => {}
            // The shim forgot the task: what is left is ours.
            Err(Error::Refused {
                kind: ErrorKind::NotFound,
                ..
            }) => {}
            Err(Error::Gone { .. }) => {
                // Its death is being worked on and tells how the task ended.
                let death = shim.death().await;
                return death.ok_or_else(|| Error::NotFound { id: id.to_string() });
            }
            Err(_) => return answer,
        }
        self.dispose(&shim, false).await;
        answer
    }

    /// Gives up a task that could not be created: whatever of it there is goes, and nobody is told.
    ///
    /// Not cancel-safe.
    pub async fn abandon(&self, shim: &Shim) {
        shim.release();
        let limit = self.inner.config.timeouts.cleanup;
        if let Ok(Err(error)) = tokio::time::timeout(limit, shim.delete(None)).await {
            tracing::debug!(id = %shim.id(), error = %model::chain(&error), "nothing to delete after a failed create");
        }
        self.dispose(shim, false).await;
    }

    /// Ends the shim (unless it has other containers), removes the bundle and forgets the task.
    pub(crate) async fn dispose(&self, shim: &Shim, now: bool) {
        shim.release();
        let reservation = self.withdraw(shim);
        let (namespace, id) = (shim.namespace().clone(), shim.id().clone());
        if let Err(error) = shim.shutdown(now).await {
            tracing::warn!(%namespace, %id, error = %model::chain(&error), "shim does not shut down");
        }
        if reservation.is_none() {
            // Somebody else is at it, or did it; the bundle may be another task's by now.
            return;
        }
        let bundle = shim.bundle().clone();
        let removed = tokio::task::spawn_blocking(move || bundle.remove()).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(%namespace, %id, error = %model::chain(&error), "bundle stays; removal is tried again later");
        }
        drop(reservation);
    }

    /// Takes a task out of the table, if it still is this one; its place stays taken until the result is dropped.
    pub(crate) fn withdraw(&self, shim: &Shim) -> Option<Reservation> {
        let key = (shim.namespace().clone(), shim.id().clone());
        let mut table = self.inner.table();
        if !matches!(table.get(&key), Some(Slot::Running(held)) if held.is(shim)) {
            return None;
        }
        table.insert(key.clone(), Slot::Busy);
        drop(table);
        Some(Reservation {
            inner: Arc::clone(&self.inner),
            key,
        })
    }

    /// Takes the right to work on a bundle that no task has.
    pub(crate) fn reserve(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
    ) -> Result<Reservation, Error> {
        let key = (namespace.clone(), id.clone());
        let mut table = self.inner.table();
        if table.contains_key(&key) {
            return Err(Error::AlreadyExists { id: id.to_string() });
        }
        if table.len() >= TASKS_MAX {
            return Err(Error::Refused {
                message: format!("more than {TASKS_MAX} tasks: resource exhausted"),
                kind: ErrorKind::ResourceExhausted,
            });
        }
        table.insert(key.clone(), Slot::Busy);
        drop(table);
        Ok(Reservation {
            inner: Arc::clone(&self.inner),
            key,
        })
    }

    /// Enters a shim in the place that was reserved, and watches over it.
    pub(crate) fn enter(&self, reservation: Reservation, shim: &Shim) {
        let key = reservation.key.clone();
        self.inner.table().insert(key, Slot::Running(shim.clone()));
        drop(reservation);
        crate::death::watch(self, shim);
    }

    /// The lock of a group of our own shims.
    pub(crate) fn group(&self, address: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut groups = self
            .inner
            .groups
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        groups.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(groups.entry(address.to_owned()).or_default())
    }
}
