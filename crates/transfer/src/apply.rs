//! What a transfer needs of whoever unpacks layers.

use std::fmt;
use std::os::fd::OwnedFd;

use async_trait::async_trait;
use model::{Descriptor, Digest, Mount};

use crate::Error;

/// Unpacks layers.
#[async_trait]
pub trait Applier: fmt::Debug + Send + Sync {
    /// Starts what unpacks one image, one layer after the other. Dropping it stops it at once.
    async fn session(&self) -> Result<Box<dyn Session>, Error>;
}

/// One image being unpacked.
#[async_trait]
pub trait Session: fmt::Debug + Send {
    /// Unpacks a layer, whose bytes come out of `layer` until its end, over `mounts`. Tells how many of them were
    /// read so far, now and then. Dropping the future stops it.
    async fn apply(
        &mut self,
        descriptor: &Descriptor,
        layer: OwnedFd,
        mounts: &[Mount],
        progress: Progressed,
    ) -> Result<Applied, Error>;
}

/// Hears how many bytes of a layer were read.
pub type Progressed = Box<dyn FnMut(u64) + Send>;

/// What was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The digest of the uncompressed stream.
    pub diff_id: Digest,
    /// Every file that was written is on the disk already.
    pub durable: bool,
}
