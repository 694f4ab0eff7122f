//! What a transfer needs of the stores: the daemon's own, or a daemon's over the wire.

use std::fmt;
use std::fs::File;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use model::{Descriptor, Digest, Labels};

use crate::Error;

/// Content of one namespace, held by one lease.
#[async_trait]
pub trait Blobs: fmt::Debug + Send + Sync {
    /// The labels of a blob, and its hold by the lease; `None` if the namespace does not have it.
    async fn labels(&self, digest: &Digest) -> Result<Option<Labels>, Error>;

    /// Sets labels of a blob and leaves its others.
    async fn set_labels(&self, digest: &Digest, labels: Labels) -> Result<(), Error>;

    /// Opens a blob for reading from its start.
    async fn open(&self, digest: &Digest) -> Result<File, Error>;

    /// Begins or resumes the write named `reference`.
    async fn begin(&self, reference: &str, descriptor: &Descriptor) -> Result<Begin, Error>;
}

/// How a write begins.
#[derive(Debug)]
pub enum Begin {
    /// The namespace has the blob.
    Exists,
    /// Somebody else writes under this reference.
    Locked,
    /// Write on from the offset that it has.
    Write(Box<dyn Writing>),
}

/// A write; dropping it keeps the bytes for a later one.
#[async_trait]
pub trait Writing: fmt::Debug + Send {
    /// Bytes so far.
    fn offset(&self) -> u64;

    /// The digest of the bytes so far; `None` after a step that failed.
    fn digest(&self) -> Option<Digest>;

    /// Another descriptor of the file that holds the bytes, for reading at offsets while the write runs.
    fn file(&self) -> Result<File, Error>;

    /// Appends bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<(), Error>;

    /// Starts over with no bytes.
    async fn restart(&mut self) -> Result<(), Error>;

    /// Makes the bytes a blob of the namespace with these labels; durable when answered. That it exists already is
    /// no error.
    async fn commit(self: Box<Self>, descriptor: &Descriptor, labels: Labels) -> Result<(), Error>;
}

/// Names of images in one namespace.
#[async_trait]
pub trait Names: fmt::Debug + Send + Sync {
    /// Creates the image, or points it to the new target and replaces its labels.
    async fn put(&self, name: &str, target: &Descriptor, labels: Labels) -> Result<(), Error>;
}

/// Where a transfer puts things.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Content.
    pub blobs: Arc<dyn Blobs>,
    /// Images.
    pub names: Arc<dyn Names>,
}
