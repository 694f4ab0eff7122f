//! Finds the shims of an earlier run, and removes what dead ones left.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::{ContainerId, ErrorKind, Kinded, Namespace};
use shim_protocol::bootstrap::BootstrapResult;
use shim_protocol::bundle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::shim::Found;
use crate::{Bundle, Error, Manager, Shim, exits, external};

/// Bundles that are worked on beside each other.
const PARALLEL_MAX: usize = 64;
/// Bundles that one look at the disk takes in.
const BUNDLES_MAX: usize = 262_144;

/// An exit that no event told of for so long is told from its record: longer than a shim tries to send it.
const LOST_AFTER: Duration = Duration::from_secs(30);

/// What a restart found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// Tasks whose shim answers, or at least listens.
    pub alive: usize,
    /// Tasks whose shim is dead; what it left is being removed.
    pub dead: usize,
    /// Tasks whose shim can't be reached and may still live; they are tried again later.
    pub unclear: usize,
    /// Bundles without our mark, which stay as they are.
    pub foreign: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Alive,
    Dead,
    Unclear,
}

/// What is behind a bundle.
enum Behind {
    /// A shim that answers, or at least takes connections.
    Shim(Shim),
    /// A shim without this task: it was never created, or is deleted already.
    Nothing,
    /// No process.
    Dead(Error),
    /// Nobody knows: a shim may be there, so nothing is touched.
    Unclear(Error),
}

impl Manager {
    /// Finds the shims of an earlier run; `known` tells whether a container still has its record.
    ///
    /// Answers once every live shim is known, after the limit `load` at the latest; the removal of what dead shims
    /// left goes on beside. Exits that happened meanwhile are told from their records.
    pub async fn restore<F>(&self, known: F) -> Restored
    where
        F: Fn(&Namespace, &ContainerId) -> bool + Send + Sync + 'static,
    {
        let (ours, foreign) = self.scan().await;
        for bundle in &foreign {
            tracing::warn!(bundle = %bundle.path.display(), "bundle of another daemon stays as it is");
        }
        let known = Arc::new(known);
        let places = Arc::new(Semaphore::new(PARALLEL_MAX));
        let mut work = JoinSet::new();
        for bundle in ours {
            let (manager, known) = (self.clone(), Arc::clone(&known));
            let places = Arc::clone(&places);
            work.spawn(async move {
                let _place = places.acquire().await;
                let wanted = known(&bundle.namespace, &bundle.id);
                manager.restore_one(bundle, wanted).await
            });
        }
        let mut restored = Restored {
            foreign: foreign.len(),
            ..Restored::default()
        };
        while let Some(outcome) = work.join_next().await {
            match outcome {
                Ok(Outcome::Alive) => restored.alive += 1,
                Ok(Outcome::Dead) => restored.dead += 1,
                _ => restored.unclear += 1,
            }
        }
        restored
    }

    async fn restore_one(&self, bundle: Bundle, wanted: bool) -> Outcome {
        let Ok(reservation) = self.reserve(&bundle.namespace, &bundle.id) else {
            return Outcome::Alive;
        };
        match self.behind(&bundle).await {
            Behind::Shim(shim) if wanted => {
                // Entered before anything is told, so that the same news from the shim is known as old.
                self.enter(reservation, &shim);
                self.tell_records(&shim, Duration::ZERO).await;
                Outcome::Alive
            }
            Behind::Shim(shim) => {
                let manager = self.clone();
                self.enter(reservation, &shim);
                tokio::spawn(async move {
                    tracing::info!(namespace = %bundle.namespace, id = %bundle.id, "container is gone: ending its task");
                    manager.end(&shim).await;
                });
                Outcome::Dead
            }
            Behind::Nothing => {
                let manager = self.clone();
                tokio::spawn(async move {
                    manager.clean_up_dead(&bundle).await;
                    drop(reservation);
                });
                Outcome::Dead
            }
            Behind::Dead(error) => {
                tracing::info!(namespace = %bundle.namespace, id = %bundle.id, error = %model::chain(&error), "shim is gone");
                let manager = self.clone();
                tokio::spawn(async move {
                    manager.bury(&bundle, None, Some(reservation)).await;
                });
                Outcome::Dead
            }
            Behind::Unclear(error) => {
                tracing::warn!(namespace = %bundle.namespace, id = %bundle.id, error = %model::chain(&error), "shim can't be reached: trying again later");
                Outcome::Unclear
            }
        }
    }

    /// Finds out what is behind a bundle; only the refusal of a connection proves that nobody listens.
    async fn behind(&self, bundle: &Bundle) -> Behind {
        let config = &self.inner.config;
        let files = bundle.clone();
        let read = tokio::task::spawn_blocking(move || read_files(&files)).await;
        let found = match read {
            Ok(Ok(found)) => found,
            Ok(Err(error @ (Error::Gone { .. } | Error::Protocol { .. }))) => {
                return Behind::Dead(error);
            }
            Ok(Err(error)) => return Behind::Unclear(error),
            Err(_) => {
                return Behind::Unclear(Error::Gone {
                    id: bundle.id.to_string(),
                });
            }
        };
        let limit = config.timeouts.load;
        let open = tokio::time::timeout(limit, Shim::open(found, config.timeouts));
        let shim = match open.await {
            Ok(Ok(shim)) => shim,
            Ok(Err(Error::Io { act, path, source })) => {
                let refused = matches!(
                    source.kind(),
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
                );
                let error = Error::Io { act, path, source };
                return if refused {
                    Behind::Dead(error)
                } else {
                    Behind::Unclear(error)
                };
            }
            Ok(Err(error)) => return Behind::Unclear(error),
            Err(_) => {
                return Behind::Unclear(Error::Timeout {
                    method: "connect",
                    limit,
                });
            }
        };
        match shim.pids_within(limit).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if let Err(error) = shim.shutdown(false).await {
                    tracing::warn!(id = %bundle.id, error = %model::chain(&error), "shim without task does not shut down");
                }
                Behind::Nothing
            }
            Err(error @ Error::Gone { .. }) => Behind::Dead(error),
            _ => Behind::Shim(shim),
        }
    }

    /// Tells of the exits that a live shim recorded at least `age` ago.
    async fn tell_records(&self, shim: &Shim, age: Duration) {
        let bundle = shim.bundle().clone();
        let records = tokio::task::spawn_blocking(move || exits::read_all(&bundle)).await;
        let now = self.inner.clock.now();
        for (exec, exit) in records.unwrap_or_default() {
            let old = now.duration_since(exit.at).unsigned_abs() >= age;
            if old && shim.tells_first(exec.as_ref(), exit.pid) {
                let (namespace, id) = (shim.namespace(), shim.id());
                exits::publish_exit(&self.inner.events, namespace, id, exec.as_ref(), exit);
            }
        }
    }

    /// Kills a task that nobody knows any more and removes its bundle.
    async fn end(&self, shim: &Shim) {
        const SIGKILL: u32 = 9;
        shim.release();
        let killed = shim.kill(None, SIGKILL, true).await;
        let limit = self.inner.config.timeouts.cleanup;
        if killed.is_ok() {
            // Whether it ended or not, the deletion says.
            drop(tokio::time::timeout(limit, shim.wait(None)).await);
        }
        if let Err(error) = shim.delete(None).await {
            tracing::warn!(id = %shim.id(), error = %model::chain(&error), "task can't be deleted");
        }
        self.dispose(shim, false).await;
    }

    /// Compares what we know with what is there: finds shims that could not be reached before, removes what could not
    /// be removed, and tells of exits whose events were lost on the way. Called every now and then.
    pub async fn reconcile(&self) {
        let (ours, _) = self.scan().await;
        for bundle in ours {
            if let Ok(reservation) = self.reserve(&bundle.namespace, &bundle.id) {
                match self.behind(&bundle).await {
                    Behind::Shim(shim) => {
                        self.enter(reservation, &shim);
                        self.tell_records(&shim, Duration::ZERO).await;
                    }
                    Behind::Nothing | Behind::Dead(_) => self.clean_up_dead(&bundle).await,
                    Behind::Unclear(_) => {}
                }
            } else if let Ok(shim) = self.get(&bundle.namespace, &bundle.id) {
                self.tell_records(&shim, LOST_AFTER).await;
            }
        }
    }

    /// Makes way for a new task of this name, if what is left of an old one is dead.
    pub(crate) async fn make_way(&self, bundle: &Bundle) -> Result<(), Error> {
        match self.behind(bundle).await {
            Behind::Nothing | Behind::Dead(_) => {
                self.clean_up_dead(bundle).await;
                Ok(())
            }
            Behind::Shim(_) | Behind::Unclear(_) => Err(Error::AlreadyExists {
                id: bundle.id.to_string(),
            }),
        }
    }

    /// All bundles: ours, and those of others.
    async fn scan(&self) -> (Vec<Bundle>, Vec<Bundle>) {
        let state = self.inner.config.state.clone();
        let scanned = tokio::task::spawn_blocking(move || bundles(&state)).await;
        scanned
            .unwrap_or_default()
            .into_iter()
            .partition(Bundle::is_ours)
    }

    /// Removes what a dead shim left, without telling anybody.
    pub(crate) async fn clean_up_dead(&self, bundle: &Bundle) {
        let ours = bundle.clone();
        if !tokio::task::spawn_blocking(move || ours.is_ours())
            .await
            .unwrap_or(false)
        {
            return;
        }
        let deleted = match external::program_of(bundle) {
            Ok(program) => external::delete(&self.inner.config, &program, bundle).await,
            Err(error) => Err(error),
        };
        if let Err(error) = deleted {
            tracing::warn!(namespace = %bundle.namespace, id = %bundle.id, error = %model::chain(&error), "dead shim's delete failed");
        }
        let gone = bundle.clone();
        let removed = tokio::task::spawn_blocking(move || gone.remove()).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(namespace = %bundle.namespace, id = %bundle.id, error = %model::chain(&error), "dead shim's bundle stays");
        }
    }
}

fn read_files(bundle: &Bundle) -> Result<Found, Error> {
    let gone = || Error::Gone {
        id: bundle.id.to_string(),
    };
    let document = match bundle.read(bundle::BOOTSTRAP)? {
        Some(document) => document,
        None => bundle.read(bundle::ADDRESS)?.ok_or_else(gone)?,
    };
    let bootstrap = BootstrapResult::parse(&document).map_err(|source| Error::Protocol {
        what: "bootstrap.json",
        source: Box::new(source),
    })?;
    Ok(Found {
        bootstrap,
        program: external::program_of(bundle)?,
        log: Some(bundle.make_log()?),
        bundle: bundle.clone(),
    })
}

fn bundles(state: &Path) -> Vec<Bundle> {
    let mut found = Vec::new();
    for namespace in names(state).filter_map(|name| Namespace::new(name).ok()) {
        let folder = state.join(namespace.as_str());
        // Names that start with a dot are on their way out, and no identifiers.
        let ids = names(&folder).filter_map(|name| ContainerId::new(name).ok());
        found.extend(
            ids.take(BUNDLES_MAX.saturating_sub(found.len()))
                .map(|id| Bundle::of(state, &namespace, &id)),
        );
    }
    found
}

fn names(folder: &Path) -> impl Iterator<Item = String> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().into_string().ok())
}
