//! What can go wrong with content.

use model::{Digest, ErrorKind, Kinded};

/// Result of a call on the store.
pub type Result<T> = std::result::Result<T, Error>;

/// A call on the content store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step on a file failed.
    #[error(transparent)]
    File(#[from] sys::file::Error),
    /// There is no such blob.
    #[error("content {digest}: not found")]
    NotFound {
        /// The blob.
        digest: Digest,
    },
    /// The blob exists already.
    #[error("content {digest}: already exists")]
    AlreadyExists {
        /// The blob.
        digest: Digest,
    },
    /// There is no such write.
    #[error("ingest ref {reference:?}: not found")]
    NoIngest {
        /// The ref, or the name of the folder.
        reference: String,
    },
    /// The ref is empty or longer than [`crate::REF_BYTES_MAX`].
    #[error("ref must have 1 to {max} bytes, has {length}", max = crate::REF_BYTES_MAX)]
    InvalidRef {
        /// Its length in bytes.
        length: usize,
    },
    /// Another writer has the ref.
    #[error("ref {reference} locked for {locked_ms}ms (since {since})")]
    Locked {
        /// The ref.
        reference: String,
        /// For how long, in milliseconds.
        locked_ms: i64,
        /// Since when.
        since: model::Timestamp,
    },
    /// The bytes are not as many as promised.
    #[error("unexpected commit size {actual}, expected {expected}")]
    Size {
        /// Bytes written.
        actual: u64,
        /// Bytes promised.
        expected: u64,
    },
    /// The bytes are not those promised.
    #[error("unexpected commit digest {actual}, expected {expected}")]
    Digest {
        /// Of what was written.
        actual: Digest,
        /// What was promised.
        expected: Digest,
    },
    /// A write can be cut to nothing only.
    #[error("truncate ingest to {size}: unsupported size")]
    Truncate {
        /// The size asked for.
        size: u64,
    },
    /// The file of a write changed behind the store's back.
    #[error("ingest {reference}: {found} bytes on disk, {written} written")]
    Tampered {
        /// The ref.
        reference: String,
        /// Length of the file.
        found: u64,
        /// Bytes written through the store.
        written: u64,
    },
    /// A list would be longer than its limit.
    #[error("list ingests: more than {max}", max = crate::STATUSES_MAX)]
    TooMany,
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::File(error) => error.kind(),
            Self::NotFound { .. } | Self::NoIngest { .. } => ErrorKind::NotFound,
            Self::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Self::InvalidRef { .. } | Self::Truncate { .. } => ErrorKind::InvalidArgument,
            Self::Locked { .. } => ErrorKind::Unavailable,
            Self::Size { .. } | Self::Digest { .. } => ErrorKind::FailedPrecondition,
            Self::Tampered { .. } => ErrorKind::DataLoss,
            Self::TooMany => ErrorKind::ResourceExhausted,
        }
    }
}
