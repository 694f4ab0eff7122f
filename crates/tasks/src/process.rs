//! What is done to the processes of a running task.

use std::collections::BTreeMap;

use model::{ContainerId, ExecId, Namespace};
use proto::Any;
use shims::{Exit, Stdio};

use crate::{Error, Tasks};

impl Tasks {
    /// Sends a signal to the first process, an exec, or with `all` to every process.
    pub async fn kill(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        exec: Option<&ExecId>,
        signal: u32,
        all: bool,
    ) -> Result<(), Error> {
        Ok(self.shim(namespace, id)?.kill(exec, signal, all).await?)
    }

    /// Adds a process, which [`Tasks::start`] starts; `spec` is an OCI process.
    pub async fn exec(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        exec: &ExecId,
        stdio: Stdio,
        spec: Option<Any>,
    ) -> Result<(), Error> {
        Ok(self.shim(namespace, id)?.exec(exec, stdio, spec).await?)
    }

    /// Changes the size of a terminal, in characters.
    pub async fn resize_pty(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        exec: Option<&ExecId>,
        (width, height): (u32, u32),
    ) -> Result<(), Error> {
        let shim = self.shim(namespace, id)?;
        Ok(shim.resize_pty(exec, width, height).await?)
    }

    /// Closes the standard input of a process.
    pub async fn close_io(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        exec: Option<&ExecId>,
        stdin: bool,
    ) -> Result<(), Error> {
        Ok(self.shim(namespace, id)?.close_io(exec, stdin).await?)
    }

    /// Freezes every process.
    pub async fn pause(&self, namespace: &Namespace, id: &ContainerId) -> Result<(), Error> {
        Ok(self.shim(namespace, id)?.pause().await?)
    }

    /// Lets every process go on.
    pub async fn resume(&self, namespace: &Namespace, id: &ContainerId) -> Result<(), Error> {
        Ok(self.shim(namespace, id)?.resume().await?)
    }

    /// All processes of the container, with what the runtime knows of them.
    pub async fn pids(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
    ) -> Result<Vec<(u32, Option<Any>)>, Error> {
        Ok(self.shim(namespace, id)?.pids().await?)
    }

    /// Changes the limits of the container; `resources` are OCI Linux resources.
    pub async fn update(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        resources: Option<Any>,
        annotations: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let shim = self.shim(namespace, id)?;
        Ok(shim.update(resources, annotations).await?)
    }

    /// Waits for the end of a process, also when its shim dies meanwhile. Cancel-safe.
    pub async fn wait(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        exec: Option<&ExecId>,
    ) -> Result<Exit, Error> {
        Ok(self.shim(namespace, id)?.wait(exec).await?)
    }

    /// Writes a checkpoint to the store: not built.
    pub async fn checkpoint(&self, namespace: &Namespace, id: &ContainerId) -> Result<(), Error> {
        self.shim(namespace, id)?;
        Err(Error::Unimplemented {
            what: "checkpoint a task",
        })
    }
}
