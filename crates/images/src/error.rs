//! Why an image can't be read.

use model::{Digest, ErrorKind, Kinded};

/// An image is malformed, too large, or has nothing for a platform.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The document is no JSON or has a value of the wrong type.
    #[error("read {what}")]
    Parse {
        /// What was read.
        what: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The document is not the JSON that was expected.
    #[error("read {what}")]
    Spec {
        /// What was read.
        what: &'static str,
        /// Where and why.
        source: spec::Error,
    },
    /// The document can be understood in more than one way.
    #[error("ambiguous {what}: {reason}")]
    Ambiguous {
        /// What was read.
        what: &'static str,
        /// What is ambiguous.
        reason: String,
    },
    /// The document breaks the specification.
    #[error("invalid {what}: {reason}")]
    Invalid {
        /// What was read.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The document exceeds a limit.
    #[error("{what} has {count} {unit}, more than {limit}")]
    TooMany {
        /// What was read.
        what: &'static str,
        /// How many it has.
        count: u64,
        /// Of what.
        unit: &'static str,
        /// How many it may have.
        limit: u64,
    },
    /// Docker's first form of manifest.
    #[error("schema 1 image manifests are no longer supported")]
    Schema1,
    /// The type of the content can't be read.
    #[error("unexpected media type {media_type:?} for {digest}")]
    MediaType {
        /// The type, cut to 200 characters.
        media_type: String,
        /// The content.
        digest: Digest,
    },
    /// The layers are encrypted.
    #[error("decrypt {digest}: encrypted layers are not implemented")]
    Encrypted {
        /// The layer.
        digest: Digest,
    },
    /// The image has nothing for the wanted platforms.
    #[error("no match for platform in manifest {digest}")]
    NoMatch {
        /// The image.
        digest: Digest,
    },
    /// Content can't be had from where it should be.
    #[error("get content {digest}")]
    Content {
        /// The content.
        digest: Digest,
        /// The kind of the source's failure.
        kind: ErrorKind,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Content { kind, .. } => *kind,
            Self::NoMatch { .. } | Self::MediaType { .. } => ErrorKind::NotFound,
            Self::Encrypted { .. } => ErrorKind::Unimplemented,
            _ => ErrorKind::InvalidArgument,
        }
    }
}
