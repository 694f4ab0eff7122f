//! What can go wrong with snapshots.

use model::{ErrorKind, Kinded};

/// Result of a call on snapshots.
pub type Result<T> = std::result::Result<T, Error>;

/// A call on snapshots failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step on a file failed.
    #[error(transparent)]
    File(#[from] sys::file::Error),
    /// There is no such snapshot.
    #[error("snapshot {key}: not found")]
    NotFound {
        /// Key, name or number.
        key: String,
    },
    /// The key, name or number is taken.
    #[error("snapshot {key}: already exists")]
    AlreadyExists {
        /// Key, name or number.
        key: String,
    },
    /// The snapshot is not in the state that the call needs.
    #[error("snapshot {key}: {reason}")]
    Precondition {
        /// Key, name or number.
        key: String,
        /// What is missing.
        reason: String,
    },
    /// The request is wrong.
    #[error("{reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
    /// The driver can't work on this host or under this root: it is skipped.
    #[error("snapshot driver {driver} is not possible under {root}: {reason}")]
    Unsupported {
        /// The driver.
        driver: &'static str,
        /// Its folder.
        root: String,
        /// What is missing, and what to do about it.
        reason: String,
    },
    /// The call is not built for this driver.
    #[error("{act} is not implemented by snapshot driver {driver}")]
    Unimplemented {
        /// The driver.
        driver: String,
        /// The call.
        act: &'static str,
    },
    /// The store behind a snapshotter failed.
    #[error("{act} snapshot {key}")]
    Backend {
        /// What was being done.
        act: &'static str,
        /// Key or name.
        key: String,
        /// Its kind, which is this error's kind.
        kind: ErrorKind,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::File(error) => error.kind(),
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Self::Precondition { .. } => ErrorKind::FailedPrecondition,
            Self::Invalid { .. } => ErrorKind::InvalidArgument,
            Self::Unsupported { .. } | Self::Unimplemented { .. } => ErrorKind::Unimplemented,
            Self::Backend { kind, .. } => *kind,
        }
    }
}
