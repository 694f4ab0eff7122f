//! Why an image could not be moved.

use model::{Digest, ErrorKind, Kinded};

/// A transfer failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry failed.
    #[error("{act}")]
    Registry {
        /// What was attempted.
        act: &'static str,
        /// Why it failed.
        source: registry::Error,
    },
    /// The image can't be read.
    #[error("read {digest}")]
    Image {
        /// The document.
        digest: Digest,
        /// What is wrong with it.
        source: images::Error,
    },
    /// A store failed.
    #[error("{act} {object}")]
    Store {
        /// What was attempted.
        act: &'static str,
        /// With what.
        object: String,
        /// The kind of the store's failure.
        kind: ErrorKind,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The bytes have another digest than promised, from every host.
    #[error("{host} sent content with digest {actual} for {expected}")]
    WrongDigest {
        /// The host.
        host: String,
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The store lacks content, and there is no registry to get it from.
    #[error("content {digest} is not in the store: pull the image again")]
    Missing {
        /// The content.
        digest: Digest,
    },
    /// A descriptor has the size zero: its registry is broken.
    #[error("unable to fetch descriptor ({digest}) which reports content size of zero")]
    Empty {
        /// The content.
        digest: Digest,
    },
    /// The configuration does not describe the layers.
    #[error("number of layers and diffIDs don't match: {layers} != {diff_ids}")]
    Layers {
        /// Layers of the manifest.
        layers: usize,
        /// Diff ids of the configuration.
        diff_ids: usize,
    },
    /// A layer does not hold what the configuration says.
    #[error("wrong diff id {actual} calculated on extraction {expected}, layer {layer}")]
    WrongDiffId {
        /// The layer.
        layer: Digest,
        /// What the configuration says.
        expected: Digest,
        /// What was unpacked.
        actual: Digest,
    },
    /// An image has too many parts or nests too deep.
    #[error("{image} has more than {limit} {what}")]
    TooMany {
        /// The image.
        image: Digest,
        /// Of what it has too many.
        what: &'static str,
        /// How many it may have.
        limit: usize,
    },
    /// The snapshotter says that a snapshot exists and that it does not.
    #[error("prepare extraction snapshot for {chain_id}: it exists already but can't be found")]
    Unsteady {
        /// The snapshot.
        chain_id: Digest,
    },
    /// No name was given under which the image could be kept.
    #[error("no image name found")]
    NoName,
    /// The work was given up because nobody waited for it any more, or the program stops.
    #[error("transfer of {target} was canceled")]
    Canceled {
        /// What was moved.
        target: String,
    },
    /// A host resource ran out.
    #[error("{act}")]
    Io {
        /// What was attempted.
        act: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Error {
    /// A store's failure.
    pub fn store(
        act: &'static str,
        object: impl std::fmt::Display,
        error: impl Kinded + Send + Sync + 'static,
    ) -> Self {
        Self::Store {
            act,
            object: format!("{object}"),
            kind: error.kind(),
            source: Box::new(error),
        }
    }
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Registry { source, .. } => source.kind(),
            Self::Image { source, .. } => source.kind(),
            Self::Store { kind, .. } => *kind,
            Self::WrongDigest { .. } | Self::WrongDiffId { .. } => ErrorKind::FailedPrecondition,
            Self::Empty { .. } | Self::Layers { .. } | Self::TooMany { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::NoName | Self::Missing { .. } => ErrorKind::NotFound,
            Self::Unsteady { .. } => ErrorKind::Unavailable,
            Self::Canceled { .. } => ErrorKind::Canceled,
            Self::Io { .. } => ErrorKind::Internal,
        }
    }
}
