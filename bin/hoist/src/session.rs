//! One process of a container attached to our own terminal or pipes.

use std::io::{self, Write as _};
use std::process::ExitCode;

use client::{Client, Error};
use proto::containerd::services::tasks::v1::{
    CloseIoRequest, KillRequest, ResizePtyRequest, WaitRequest,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::fifo::Fifos;
use crate::terminal::{Detach, Input, Raw, size};

/// Bytes moved at once.
const CHUNK_BYTES: usize = 32 << 10;
/// Time for the last output after the process ended, should somebody else hold its pipes open.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(2);

/// A process and how we are attached to it.
#[derive(Debug)]
pub(crate) struct Session {
    /// The daemon.
    pub client: Client,
    /// The container.
    pub container: String,
    /// The exec, `""` for the first process.
    pub exec: String,
    /// Whether it has a terminal.
    pub terminal: bool,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The process ended with a status.
    Exited(u32),
    /// The user detached; the process goes on.
    Detached,
}

impl Ended {
    /// Our own status.
    pub(crate) fn code(self) -> ExitCode {
        match self {
            Self::Exited(status) => ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)),
            Self::Detached => ExitCode::SUCCESS,
        }
    }
}

/// Our ends of the pipes, opened once the process exists.
#[derive(Debug)]
pub(crate) struct Attached {
    outputs: Vec<JoinHandle<io::Result<()>>>,
    input: Option<pipe::Sender>,
}

impl Attached {
    /// Opens the output ends before the process is created.
    pub(crate) fn outputs(fifos: &Fifos) -> io::Result<(pipe::Receiver, Option<pipe::Receiver>)> {
        Ok((fifos.output()?, fifos.error()?))
    }

    /// Begins to copy output; the process must exist, or its ends would read as closed.
    pub(crate) fn begin(
        fifos: &Fifos,
        (output, error): (pipe::Receiver, Option<pipe::Receiver>),
    ) -> io::Result<Self> {
        let mut outputs = vec![tokio::spawn(copy(output, tokio::io::stdout()))];
        if let Some(error) = error {
            outputs.push(tokio::spawn(copy(error, tokio::io::stderr())));
        }
        Ok(Self {
            outputs,
            input: fifos.input()?,
        })
    }
}

async fn copy(
    mut from: pipe::Receiver,
    mut to: impl tokio::io::AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut broken = false;
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        // Our reader may go away (`| head`); the process must not hang on a full pipe for it.
        if !broken {
            broken = to.write_all(&buffer[..length]).await.is_err() || to.flush().await.is_err();
        }
    }
}

impl Session {
    /// Waits for the end of the process; begin to wait before it is started.
    pub(crate) fn wait(&self) -> JoinHandle<Result<u32, tonic::Status>> {
        let mut tasks = self.client.tasks();
        let request = WaitRequest {
            container_id: self.container.clone(),
            exec_id: self.exec.clone(),
        };
        tokio::spawn(async move { Ok(tasks.wait(request).await?.into_inner().exit_status) })
    }

    /// Passes input, signals and sizes on until the process ends or the user detaches.
    pub(crate) async fn run(
        &self,
        attached: Attached,
        mut waiting: JoinHandle<Result<u32, tonic::Status>>,
    ) -> anyhow::Result<Ended> {
        let Attached { outputs, input } = attached;
        let raw = (self.terminal && input.is_some())
            .then(Raw::enter)
            .transpose()?;
        if self.terminal {
            self.resize().await;
        }
        let detached = tokio::sync::Notify::new();
        let pumping = self.pump(input, raw.is_some(), &detached);
        tokio::pin!(pumping);
        let signals = self.forward_signals();
        tokio::pin!(signals);
        let mut pumped = false;
        let ended = loop {
            tokio::select! {
                status = &mut waiting => {
                    let status = status?.map_err(Error::call("wait for the process"))?;
                    break Ended::Exited(status);
                }
                () = detached.notified() => break Ended::Detached,
                result = &mut signals => result?,
                () = &mut pumping, if !pumped => pumped = true,
            }
        };
        if matches!(ended, Ended::Exited(_)) {
            for output in outputs {
                // Time out: a process that the container left behind may keep the pipe for ever.
                if let Ok(copied) = tokio::time::timeout(DRAIN, output).await {
                    copied??;
                }
            }
        }
        drop(raw);
        if ended == Ended::Detached {
            writeln!(io::stderr(), "detached: {} goes on", self.container)?;
        }
        Ok(ended)
    }

    /// Moves standard input; ends at its end, and tells the process.
    async fn pump(&self, input: Option<pipe::Sender>, raw: bool, detached: &tokio::sync::Notify) {
        let Some(mut input) = input else { return };
        let mut stdin = tokio::io::stdin();
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut detach = Detach::default();
        loop {
            let length = match stdin.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(length) => length,
            };
            let passed = if raw {
                detach.filter(&buffer[..length])
            } else {
                Input::Pass(buffer[..length].to_vec())
            };
            let (bytes, leave) = match passed {
                Input::Pass(bytes) => (bytes, false),
                Input::Detached(bytes) => (bytes, true),
            };
            if input.write_all(&bytes).await.is_err() {
                return;
            }
            if leave {
                detached.notify_one();
                return;
            }
        }
        drop(input);
        let request = CloseIoRequest {
            container_id: self.container.clone(),
            exec_id: self.exec.clone(),
            stdin: true,
        };
        // The process may have ended first, which closed its input as well.
        let _ended_first = self.client.tasks().close_io(request).await;
    }

    async fn resize(&self) {
        let Some((width, height)) = size() else {
            return;
        };
        let request = ResizePtyRequest {
            container_id: self.container.clone(),
            exec_id: self.exec.clone(),
            width,
            height,
        };
        // A process that just ended has no size.
        let _ended = self.client.tasks().resize_pty(request).await;
    }

    /// Forwards what asks us to end to the process, and sizes to its terminal.
    async fn forward_signals(&self) -> anyhow::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut quit = signal(SignalKind::quit())?;
        let mut user1 = signal(SignalKind::user_defined1())?;
        let mut user2 = signal(SignalKind::user_defined2())?;
        let mut window = signal(SignalKind::window_change())?;
        loop {
            let number = tokio::select! {
                _ = interrupt.recv() => 2,
                _ = terminate.recv() => 15,
                _ = hangup.recv() => 1,
                _ = quit.recv() => 3,
                _ = user1.recv() => 10,
                _ = user2.recv() => 12,
                _ = window.recv() => {
                    if self.terminal {
                        self.resize().await;
                    }
                    continue;
                }
            };
            let request = KillRequest {
                container_id: self.container.clone(),
                exec_id: self.exec.clone(),
                signal: number,
                all: false,
            };
            match self.client.tasks().kill(request).await {
                Err(status) if status.code() != tonic::Code::NotFound => {
                    return Err(Error::call("pass a signal on")(status).into());
                }
                _ => {}
            }
        }
    }
}
