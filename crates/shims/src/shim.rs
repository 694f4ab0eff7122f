//! One shim as one task sees it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::{ContainerId, ErrorKind, ExecId, Kinded, Namespace};
use proto::Method;
use proto::containerd::task::v3::task_service;
use shim_protocol::bootstrap::BootstrapResult;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::connection::{Connection, Target};
use crate::{Bundle, Error, Exit, Program, Timeouts, log};

/// The service of shims before containerd 2.0: the same messages.
const TASK_V2: &str = "containerd.task.v2.Task";
/// Exits of one task that are remembered so that each is told once.
const EXITS_MAX: usize = 4096;

/// A task's shim; clones share it.
#[derive(Debug, Clone)]
pub struct Shim {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    bundle: Bundle,
    bootstrap: BootstrapResult,
    program: Program,
    connection: Connection,
    timeouts: Timeouts,
    speaks_v2: AtomicBool,
    /// The task was deleted in order: the end of the connection is no death.
    released: AtomicBool,
    /// How the task ended, once the shim was found dead.
    death: watch::Sender<Option<Exit>>,
    /// By exec id (empty for the first process): the process whose exit was told.
    told: Mutex<HashMap<String, u32>>,
    log: Option<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(log) = &self.log {
            log.abort();
        }
    }
}

/// How a shim was found or started.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) bundle: Bundle,
    pub(crate) bootstrap: BootstrapResult,
    pub(crate) program: Program,
    pub(crate) log: Option<PathBuf>,
}

impl Shim {
    /// Connects.
    pub(crate) async fn open(found: Found, timeouts: Timeouts) -> Result<Self, Error> {
        let id = found.bundle.id.as_str();
        let connection = Connection::open(id, &found.bootstrap).await?;
        let log = match &found.log {
            Some(path) => Some(log::copy(path, found.bundle.namespace.as_str(), id)?),
            None => None,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                speaks_v2: AtomicBool::new(found.bootstrap.version < 3),
                bundle: found.bundle,
                bootstrap: found.bootstrap,
                program: found.program,
                connection,
                timeouts,
                released: AtomicBool::new(false),
                death: watch::Sender::new(None),
                told: Mutex::default(),
                log,
            }),
        })
    }

    /// Whether both are the same connection to the same task.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// The task.
    pub fn id(&self) -> &ContainerId {
        &self.inner.bundle.id
    }

    /// The namespace of the task.
    pub fn namespace(&self) -> &Namespace {
        &self.inner.bundle.namespace
    }

    /// The task's folder.
    pub fn bundle(&self) -> &Bundle {
        &self.inner.bundle
    }

    /// Where the shim listens and what it speaks.
    pub fn bootstrap(&self) -> &BootstrapResult {
        &self.inner.bootstrap
    }

    /// The program that the shim runs.
    pub fn program(&self) -> &Program {
        &self.inner.program
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.inner.timeouts
    }

    /// Resolves once the connection is gone.
    pub(crate) async fn closed(&self) {
        self.inner.connection.closed().await;
    }

    /// Says that the connection may end without the task being dead.
    pub(crate) fn release(&self) {
        self.inner.released.store(true, Ordering::Release);
    }

    pub(crate) fn is_released(&self) -> bool {
        self.inner.released.load(Ordering::Acquire)
    }

    /// Says how the task ended.
    pub(crate) fn died(&self, exit: Exit) {
        self.inner.death.send_replace(Some(exit));
    }

    /// Waits until it is known how the task of a dead shim ended. Cancel-safe.
    pub(crate) async fn death(&self) -> Option<Exit> {
        let mut death = self.inner.death.subscribe();
        let limit = self.inner.timeouts.cleanup * 2;
        let told = tokio::time::timeout(limit, death.wait_for(Option::is_some)).await;
        told.ok()?.ok().and_then(|exit| *exit)
    }

    /// Whether the exit of this process is told for the first time.
    pub(crate) fn tells_first(&self, exec: Option<&ExecId>, pid: u32) -> bool {
        let mut told = self
            .inner
            .told
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let key = exec.map_or_else(String::new, ToString::to_string);
        if told.len() >= EXITS_MAX && !told.contains_key(&key) {
            told.clear();
        }
        told.insert(key, pid) != Some(pid)
    }

    /// Makes a call, in the older version if the shim speaks no other.
    pub(crate) async fn call<M: Method>(
        &self,
        request: M::Request,
        limit: Option<Duration>,
    ) -> Result<M::Response, Error>
    where
        M::Request: Clone + 'static,
        M::Response: 'static,
    {
        let inner = &self.inner;
        let target = Target {
            id: inner.bundle.id.as_str(),
            namespace: inner.bundle.namespace.as_str(),
            service: M::SERVICE,
            limit,
        };
        let older = Target {
            service: TASK_V2,
            ..target
        };
        if M::SERVICE != task_service::NAME {
            return inner.connection.call::<M>(target, request).await;
        }
        if inner.speaks_v2.load(Ordering::Relaxed) {
            return inner.connection.call::<M>(older, request).await;
        }
        let answer = inner.connection.call::<M>(target, request.clone()).await;
        let unimplemented = |answer: &Result<_, Error>| {
            let kind = answer.as_ref().err().map(Kinded::kind);
            kind == Some(ErrorKind::Unimplemented)
        };
        if !unimplemented(&answer) {
            return answer;
        }
        let answer = inner.connection.call::<M>(older, request).await;
        if !unimplemented(&answer) {
            inner.speaks_v2.store(true, Ordering::Relaxed);
        }
        answer
    }
}
