//! The calls of the task service.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{ExecId, Mount, Timestamp};
use proto::Any;
use proto::containerd::task::v3::{self as wire, task_service as service};

use crate::exits::{UNKNOWN, from_proto};
use crate::{Error, Exit, Shim};

/// What a shim says of a process.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// The state, as `containerd.v1.types.Status` numbers it.
    pub status: i32,
    /// Where standard input comes from.
    pub stdin: String,
    /// Where standard output goes.
    pub stdout: String,
    /// Where standard error goes.
    pub stderr: String,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// How it ended, once it is stopped.
    pub exit_status: u32,
    /// When it ended.
    pub exited_at: Option<Timestamp>,
}

/// The streams of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stdio {
    /// Where standard input comes from: a fifo, or nothing.
    pub stdin: String,
    /// Where standard output goes: a fifo, or an address of a log.
    pub stdout: String,
    /// Where standard error goes.
    pub stderr: String,
    /// Whether the process gets a terminal.
    pub terminal: bool,
}

/// What a shim says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// The shim's process id.
    pub shim_pid: u32,
    /// The task's first process; 0 before it is created.
    pub task_pid: u32,
    /// The shim's version.
    pub version: String,
}

fn text(exec: Option<&ExecId>) -> String {
    exec.map_or_else(String::new, ToString::to_string)
}

impl Shim {
    fn id_text(&self) -> String {
        self.id().to_string()
    }

    fn short(&self) -> Option<Duration> {
        Some(self.timeouts().call)
    }

    fn long(&self) -> Option<Duration> {
        Some(self.timeouts().long_call)
    }

    /// Creates the task; answers its process id.
    pub async fn create(
        &self,
        rootfs: &[Mount],
        stdio: Stdio,
        checkpoint: String,
        options: Option<Any>,
    ) -> Result<u32, Error> {
        let request = wire::CreateTaskRequest {
            id: self.id_text(),
            bundle: self.bundle().path.to_string_lossy().into_owned(),
            rootfs: rootfs.iter().map(mount).collect(),
            terminal: stdio.terminal,
            stdin: stdio.stdin,
            stdout: stdio.stdout,
            stderr: stdio.stderr,
            checkpoint,
            options,
            ..wire::CreateTaskRequest::default()
        };
        let answer = self.call::<service::Create>(request, self.long()).await?;
        Ok(answer.pid)
    }

    /// Starts the first process, or an exec; answers its process id.
    pub async fn start(&self, exec: Option<&ExecId>) -> Result<u32, Error> {
        let request = wire::StartRequest {
            id: self.id_text(),
            exec_id: text(exec),
        };
        let answer = self.call::<service::Start>(request, self.long()).await?;
        Ok(answer.pid)
    }

    /// Removes the ended task, or an ended exec, from the shim; answers how it ended.
    pub async fn delete(&self, exec: Option<&ExecId>) -> Result<Exit, Error> {
        let request = wire::DeleteRequest {
            id: self.id_text(),
            exec_id: text(exec),
        };
        let answer = self.call::<service::Delete>(request, self.long()).await?;
        Ok(Exit {
            pid: answer.pid,
            status: answer.exit_status,
            at: from_proto(answer.exited_at).unwrap_or(Timestamp::UNIX_EPOCH),
        })
    }

    /// The state of the first process, or of an exec, within `limit`.
    pub async fn state(&self, exec: Option<&ExecId>, limit: Duration) -> Result<Process, Error> {
        let request = wire::StateRequest {
            id: self.id_text(),
            exec_id: text(exec),
        };
        let answer = self.call::<service::State>(request, Some(limit)).await?;
        Ok(Process {
            pid: answer.pid,
            status: answer.status,
            stdin: answer.stdin,
            stdout: answer.stdout,
            stderr: answer.stderr,
            terminal: answer.terminal,
            exit_status: answer.exit_status,
            exited_at: from_proto(answer.exited_at),
        })
    }

    /// All processes of the container, with what the runtime knows of them.
    pub async fn pids(&self) -> Result<Vec<(u32, Option<Any>)>, Error> {
        self.pids_within(self.timeouts().call).await
    }

    pub(crate) async fn pids_within(
        &self,
        limit: Duration,
    ) -> Result<Vec<(u32, Option<Any>)>, Error> {
        let request = wire::PidsRequest { id: self.id_text() };
        let answer = self.call::<service::Pids>(request, Some(limit)).await?;
        let processes = answer.processes.into_iter();
        Ok(processes
            .map(|process| (process.pid, process.info))
            .collect())
    }

    /// Freezes every process.
    pub async fn pause(&self) -> Result<(), Error> {
        let request = wire::PauseRequest { id: self.id_text() };
        self.call::<service::Pause>(request, self.short()).await
    }

    /// Lets every process go on.
    pub async fn resume(&self) -> Result<(), Error> {
        let request = wire::ResumeRequest { id: self.id_text() };
        self.call::<service::Resume>(request, self.short()).await
    }

    /// Sends a signal to the first process, an exec, or with `all` to every process.
    pub async fn kill(&self, exec: Option<&ExecId>, signal: u32, all: bool) -> Result<(), Error> {
        let request = wire::KillRequest {
            id: self.id_text(),
            exec_id: text(exec),
            signal,
            all,
        };
        self.call::<service::Kill>(request, self.short()).await
    }

    /// Adds a process, which [`Shim::start`] starts; `spec` is an OCI process.
    pub async fn exec(&self, exec: &ExecId, stdio: Stdio, spec: Option<Any>) -> Result<(), Error> {
        let request = wire::ExecProcessRequest {
            id: self.id_text(),
            exec_id: exec.to_string(),
            terminal: stdio.terminal,
            stdin: stdio.stdin,
            stdout: stdio.stdout,
            stderr: stdio.stderr,
            spec,
        };
        self.call::<service::Exec>(request, self.long()).await
    }

    /// Changes the size of a terminal, in characters.
    pub async fn resize_pty(
        &self,
        exec: Option<&ExecId>,
        width: u32,
        height: u32,
    ) -> Result<(), Error> {
        let request = wire::ResizePtyRequest {
            id: self.id_text(),
            exec_id: text(exec),
            width,
            height,
        };
        self.call::<service::ResizePty>(request, self.short()).await
    }

    /// Closes the standard input of a process.
    pub async fn close_io(&self, exec: Option<&ExecId>, stdin: bool) -> Result<(), Error> {
        let request = wire::CloseIoRequest {
            id: self.id_text(),
            exec_id: text(exec),
            stdin,
        };
        self.call::<service::CloseIO>(request, self.short()).await
    }

    /// Changes the limits of the container; `resources` are OCI Linux resources.
    pub async fn update(
        &self,
        resources: Option<Any>,
        annotations: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let request = wire::UpdateTaskRequest {
            id: self.id_text(),
            resources,
            annotations,
        };
        self.call::<service::Update>(request, self.short()).await
    }

    /// The metrics of the container's cgroup.
    pub async fn stats(&self) -> Result<Option<Any>, Error> {
        let request = wire::StatsRequest { id: self.id_text() };
        let answer = self.call::<service::Stats>(request, self.short()).await?;
        Ok(answer.stats)
    }

    /// Writes a checkpoint to a folder.
    pub async fn checkpoint(&self, path: String, options: Option<Any>) -> Result<(), Error> {
        let request = wire::CheckpointTaskRequest {
            id: self.id_text(),
            path,
            options,
        };
        self.call::<service::Checkpoint>(request, self.long()).await
    }

    /// Waits for the end of a process, also when the shim dies meanwhile. Cancel-safe.
    pub async fn wait(&self, exec: Option<&ExecId>) -> Result<Exit, Error> {
        let request = wire::WaitRequest {
            id: self.id_text(),
            exec_id: text(exec),
        };
        match self.call::<service::Wait>(request, None).await {
            Ok(answer) => Ok(Exit {
                pid: 0,
                status: answer.exit_status,
                at: from_proto(answer.exited_at).unwrap_or(Timestamp::UNIX_EPOCH),
            }),
            Err(Error::Gone { id }) => match self.recorded(exec).await {
                Some(exit) => Ok(exit),
                None => self.death().await.ok_or(Error::Gone { id }),
            },
            Err(error) => Err(error),
        }
    }

    async fn recorded(&self, exec: Option<&ExecId>) -> Option<Exit> {
        let bundle = self.bundle().clone();
        let exec = exec.cloned();
        let read = tokio::task::spawn_blocking(move || crate::exits::read(&bundle, exec.as_ref()));
        read.await.ok().flatten()
    }

    /// What the shim says of itself.
    pub async fn connect(&self) -> Result<Connected, Error> {
        let request = wire::ConnectRequest { id: self.id_text() };
        let answer = self.call::<service::Connect>(request, self.short()).await?;
        Ok(Connected {
            shim_pid: answer.shim_pid,
            task_pid: answer.task_pid,
            version: answer.version,
        })
    }

    /// Asks the shim to end; without `now` it stays while it has other containers.
    pub(crate) async fn shutdown(&self, now: bool) -> Result<(), Error> {
        let request = wire::ShutdownRequest {
            id: self.id_text(),
            now,
        };
        let limit = Some(self.timeouts().shutdown);
        match self.call::<service::Shutdown>(request, limit).await {
            // Some end before they answer.
            Err(Error::Gone { .. }) => Ok(()),
            other => other,
        }
    }
}

impl Exit {
    /// What is told when nobody knows how a process ended.
    pub fn unknown(at: Timestamp) -> Self {
        Self {
            pid: 0,
            status: UNKNOWN,
            at,
        }
    }
}

fn mount(mount: &Mount) -> proto::containerd::types::Mount {
    proto::containerd::types::Mount {
        r#type: mount.kind.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        options: mount.options.clone(),
    }
}
