//! Daemons in folders of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use client::Client;
use model::Namespace;
use tempfile::TempDir;

use crate::memory;

/// The namespace of everything that is measured.
pub(crate) const NAMESPACE: &str = "bench";
/// Longest wait for a daemon to answer.
const START: Duration = Duration::from_secs(20);

/// Which daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Ours.
    Hoistd,
    /// Debian's package `containerd`, with its `runc`.
    Containerd,
}

/// A daemon under measurement.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: String,
    socket: PathBuf,
    child: Option<Child>,
    boots: Vec<f64>,
    idle_rss_kb: Option<u64>,
    _folder: Option<TempDir>,
}

impl Daemon {
    /// Starts a daemon `rounds` times on an empty root, to see how long it takes; the last one stays.
    pub(crate) async fn start(kind: Kind, stage: &Path, rounds: usize) -> anyhow::Result<Self> {
        let mut boots = Vec::new();
        for round in 0..rounds.max(1) {
            let folder = tempfile::Builder::new().prefix("hoist-bench-").tempdir()?;
            let socket = folder.path().join("d.sock");
            let mut command = command(kind, stage, folder.path(), &socket)?;
            let began = Instant::now();
            let child = command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            let mut daemon = Self {
                name: name(kind),
                socket,
                child: Some(child),
                boots: Vec::new(),
                idle_rss_kb: None,
                _folder: Some(folder),
            };
            daemon.answers(began).await?;
            boots.push(began.elapsed().as_secs_f64() * 1000.0);
            if round + 1 == rounds.max(1) {
                tokio::time::sleep(Duration::from_secs(2)).await;
                daemon.idle_rss_kb = daemon.pid().and_then(memory::rss_kb);
                daemon.boots = boots;
                return Ok(daemon);
            }
            daemon.stop()?;
        }
        bail!("no round was asked for")
    }

    /// A daemon that somebody else runs.
    pub(crate) fn running(socket: PathBuf) -> Self {
        let name = socket.display().to_string();
        Self {
            name,
            socket,
            child: None,
            boots: Vec::new(),
            idle_rss_kb: None,
            _folder: None,
        }
    }

    async fn answers(&mut self, began: Instant) -> anyhow::Result<()> {
        loop {
            if let Ok(client) = self.connect().await
                && client.version().version(()).await.is_ok()
            {
                return Ok(());
            }
            if let Some(status) = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().transpose())
            {
                bail!("{} ended with {}", self.name, status?);
            }
            if began.elapsed() > START {
                bail!("{} does not answer within {START:?}", self.name);
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }

    /// A client of this daemon.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        Ok(Client::connect(&self.socket, &Namespace::new(NAMESPACE)?).await?)
    }

    /// What the column is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The socket.
    pub(crate) fn socket(&self) -> String {
        self.socket.display().to_string()
    }

    /// The process, when we started it.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Milliseconds of each start.
    pub(crate) fn boots(&self) -> &[f64] {
        &self.boots
    }

    /// Resident memory before anything ran.
    pub(crate) fn idle_rss_kb(&self) -> Option<f64> {
        self.idle_rss_kb.map(|kilobytes| kilobytes as f64)
    }

    /// Ends the daemon if we started it.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            let killed = Command::new("kill")
                .args(["-TERM", &child.id().to_string()])
                .status()?;
            if !killed.success() {
                child.kill()?;
            }
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }
}

fn name(kind: Kind) -> String {
    match kind {
        Kind::Hoistd => "hoistd".to_owned(),
        Kind::Containerd => "containerd".to_owned(),
    }
}

fn command(kind: Kind, stage: &Path, folder: &Path, socket: &Path) -> anyhow::Result<Command> {
    let (root, state) = (folder.join("root"), folder.join("state"));
    let mut command = match kind {
        Kind::Hoistd => Command::new(stage.join("hoistd")),
        Kind::Containerd => Command::new("containerd"),
    };
    let config = folder.join("config.toml");
    let text = match kind {
        Kind::Hoistd => "version = 2\n",
        // CRI is left out, since it needs images and networks that nobody measures here.
        Kind::Containerd => {
            "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.snapshotter.v1.btrfs\", \
             \"io.containerd.snapshotter.v1.devmapper\", \"io.containerd.snapshotter.v1.zfs\", \
             \"io.containerd.snapshotter.v1.aufs\", \"io.containerd.tracing.processor.v1.otlp\"]\n"
        }
    };
    fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
    command
        .arg("--config")
        .arg(config)
        .arg("--root")
        .arg(root)
        .arg("--state")
        .arg(state)
        .arg("--address")
        .arg(socket);
    command.args(["--log-level", "error"]);
    Ok(command)
}
