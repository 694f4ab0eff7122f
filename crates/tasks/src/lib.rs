//! Tasks: the running side of container records.
//!
//! [`Tasks`] finds a container's record, gives its specification, its root file system and its streams to a shim, and
//! asks that shim from then on. What a client sends as `Any` passes through as it is. The state of a task is the
//! shim's; nothing of it is stored here.
//!
//! Calls for one task reach its shim in the order in which they are made; creation and deletion exclude each other,
//! and both go on when their caller goes away.

mod error;
mod process;
mod records;
mod report;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use jobs::Jobs;
use model::{Clock, ContainerId, Descriptor, ExecId, Mount, Namespace};
use proto::Any;
use shims::{Exit, Manager, Runtime, Shim, StartRequest, Stdio};

pub use error::Error;
pub use records::{from_store, known_to_store};
pub use report::{Metric, Report};

/// What a task needs of its container's record.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Container {
    /// The runtime with its options.
    pub runtime: Runtime,
    /// The runtime specification: JSON of type [`proto::typeurl::RUNTIME_SPEC`].
    pub spec: Option<Any>,
    /// The sandbox that the container belongs to.
    pub sandbox: Option<ContainerId>,
}

/// Finds a container's record; the program decides where.
pub type Containers = dyn Fn(&Namespace, &ContainerId) -> Result<Container, Error> + Send + Sync;

/// A task to create.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// What to mount as the root file system; empty when the specification names a folder.
    pub rootfs: Vec<Mount>,
    /// The streams of the first process.
    pub stdio: Stdio,
    /// A checkpoint to start from.
    pub checkpoint: Option<Descriptor>,
    /// Options for the shim instead of the container's.
    pub options: Option<Any>,
    /// A shim instead of the one that the container's runtime means.
    pub runtime_path: Option<PathBuf>,
}

/// All tasks; clones share them.
#[derive(Clone)]
pub struct Tasks {
    shims: Manager,
    containers: Arc<Containers>,
    jobs: Jobs,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Tasks")
            .field("shims", &self.shims)
            .finish_non_exhaustive()
    }
}

impl Tasks {
    /// Tasks of the shims that `shims` knows.
    pub fn new(
        shims: Manager,
        containers: Arc<Containers>,
        jobs: Jobs,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            shims,
            containers,
            jobs,
            clock,
        }
    }

    /// The shims behind the tasks.
    pub fn shims(&self) -> &Manager {
        &self.shims
    }

    /// Creates a task; answers the id of its first process. Goes on when the caller goes away.
    pub async fn create(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        request: CreateRequest,
    ) -> Result<u32, Error> {
        let (tasks, namespace, id) = (self.clone(), namespace.clone(), id.clone());
        joined(tokio::spawn(async move {
            tasks.create_now(&namespace, &id, request).await
        }))
        .await
    }

    async fn create_now(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        request: CreateRequest,
    ) -> Result<u32, Error> {
        let mut container = self.container(namespace, id).await?;
        if request.checkpoint.is_some() {
            return Err(Error::Unimplemented {
                what: "create a task from a checkpoint",
            });
        }
        let job = self
            .jobs
            .begin("task create", id.as_str())
            .in_namespace(namespace);
        job.stage("start shim");
        if request.runtime_path.is_some() {
            container.runtime.path = request.runtime_path;
        }
        let options = request
            .options
            .or_else(|| container.runtime.options.clone());
        let started = self.shims.start(StartRequest {
            namespace: namespace.clone(),
            id: id.clone(),
            runtime: container.runtime,
            config: container.spec.map(|spec| spec.value),
            sandbox: container.sandbox,
        });
        let shim = match started.await {
            Ok(shim) => shim,
            Err(error) => return Err(failed(job, error)),
        };
        job.stage("create");
        let created = shim
            .create(&request.rootfs, request.stdio, String::new(), options)
            .await;
        match created {
            Ok(pid) => Ok(pid),
            Err(error) => {
                job.stage("clean up");
                self.shims.abandon(&shim).await;
                Err(failed(job, error))
            }
        }
    }

    /// Starts the first process, or an exec; answers its process id.
    pub async fn start(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        exec: Option<&ExecId>,
    ) -> Result<u32, Error> {
        Ok(self.shim(namespace, id)?.start(exec).await?)
    }

    /// Deletes an ended task; answers how it ended. Goes on when the caller goes away.
    pub async fn delete(&self, namespace: &Namespace, id: &ContainerId) -> Result<Exit, Error> {
        // As upstream: a task whose record is gone is not found.
        self.container(namespace, id).await?;
        let (tasks, namespace, id) = (self.clone(), namespace.clone(), id.clone());
        joined(tokio::spawn(async move {
            let _job = tasks
                .jobs
                .begin("task delete", id.as_str())
                .in_namespace(&namespace);
            Ok(tasks.shims.delete(&namespace, &id).await?)
        }))
        .await
    }

    /// Deletes an ended exec; answers how it ended.
    pub async fn delete_process(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        exec: &ExecId,
    ) -> Result<Exit, Error> {
        Ok(self.shim(namespace, id)?.delete(Some(exec)).await?)
    }

    fn shim(&self, namespace: &Namespace, id: &ContainerId) -> Result<Shim, Error> {
        Ok(self.shims.get(namespace, id)?)
    }

    async fn container(&self, namespace: &Namespace, id: &ContainerId) -> Result<Container, Error> {
        let (containers, namespace, id) =
            (Arc::clone(&self.containers), namespace.clone(), id.clone());
        joined(tokio::task::spawn_blocking(move || {
            containers(&namespace, &id)
        }))
        .await
    }
}

fn failed(job: jobs::Job, error: shims::Error) -> Error {
    job.fail(model::chain(&error));
    error.into()
}

async fn joined<T>(task: tokio::task::JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    // A task of ours is cancelled only when the program ends.
    task.await.unwrap_or(Err(Error::Interrupted))
}
