//! What a transfer tells about itself, in containerd's words.

use std::time::{Duration, Instant};

use model::Descriptor;
use tokio::sync::broadcast;

/// Most messages that wait for one listener; a slower one misses the oldest.
pub const PROGRESS_MAX: usize = 1024;
/// Shortest time between two messages about the same bytes.
const PERIOD: Duration = Duration::from_millis(100);

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What happens, such as `downloading`.
    pub event: String,
    /// To what: [`ref_key`] or the image's name; empty for the whole transfer.
    pub name: String,
    /// The names of what needs it.
    pub parents: Vec<String>,
    /// Bytes done.
    pub progress: u64,
    /// Bytes in all.
    pub total: u64,
    /// The content.
    pub descriptor: Option<Descriptor>,
}

/// Messages of a transfer as they come; ends with the transfer.
#[derive(Debug)]
pub struct ProgressStream(broadcast::Receiver<Progress>);

impl ProgressStream {
    /// The next message; `None` when there will be none. Cancel-safe.
    pub async fn next(&mut self) -> Option<Progress> {
        loop {
            match self.0.recv().await {
                Ok(progress) => return Some(progress),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// Sends messages to everybody who listens, if anybody does.
#[derive(Debug, Clone)]
pub(crate) struct Sender(broadcast::Sender<Progress>);

impl Sender {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(PROGRESS_MAX))
    }

    pub(crate) fn listen(&self) -> ProgressStream {
        ProgressStream(self.0.subscribe())
    }

    pub(crate) fn say(&self, event: impl Into<String>) {
        self.send(Progress {
            event: event.into(),
            name: String::new(),
            parents: Vec::new(),
            progress: 0,
            total: 0,
            descriptor: None,
        });
    }

    pub(crate) fn about(&self, event: &str, name: &str, descriptor: &Descriptor) {
        self.send(Progress {
            event: event.into(),
            name: name.into(),
            parents: Vec::new(),
            progress: 0,
            total: 0,
            descriptor: Some(descriptor.clone()),
        });
    }

    fn send(&self, progress: Progress) {
        // Nobody listening is no failure.
        drop(self.0.send(progress));
    }
}

/// The messages about one piece of content.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    sender: Sender,
    parents: Vec<String>,
    descriptor: Descriptor,
    last: Option<Instant>,
}

impl Part {
    pub(crate) fn new(sender: &Sender, parent: String, descriptor: &Descriptor) -> Self {
        Self {
            sender: sender.clone(),
            parents: vec![parent],
            descriptor: descriptor.clone(),
            last: None,
        }
    }

    pub(crate) fn say(&self, event: &str, progress: u64) {
        self.sender.send(Progress {
            event: event.into(),
            name: ref_key(&self.descriptor),
            parents: self.parents.clone(),
            progress,
            total: self.descriptor.size,
            descriptor: Some(self.descriptor.clone()),
        });
    }

    /// Says how far it is, but not too often.
    pub(crate) fn step(&mut self, event: &str, progress: u64) {
        if self.last.is_none_or(|last| last.elapsed() >= PERIOD) {
            self.last = Some(Instant::now());
            self.say(event, progress);
        }
    }

    pub(crate) fn whole(&self, event: &str) {
        self.say(event, self.descriptor.size);
    }
}

/// The name of a piece of content in progress and as an ingest, such as `layer-sha256:…`.
pub fn ref_key(descriptor: &Descriptor) -> String {
    let kind = match descriptor.media_type.as_str() {
        kind if images::media::is_manifest(kind) => "manifest",
        kind if images::media::is_index(kind) => "index",
        kind if images::media::is_layer(kind) => "layer",
        kind if images::media::is_known_config(kind) => "config",
        images::media::ATTESTATION => "attestation",
        _ => "unknown",
    };
    let name = descriptor
        .annotations
        .get("org.opencontainers.image.ref.name");
    match name.filter(|name| name.len() <= 256) {
        Some(name) => format!("{kind}-{name}@{}", descriptor.digest),
        None => format!("{kind}-{}", descriptor.digest),
    }
}
