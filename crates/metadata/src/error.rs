//! What can go wrong in the store.

use std::path::PathBuf;
use std::sync::Arc;

use model::{ErrorKind, Kinded};

/// A failure of the metadata store; clients match on parts of these texts, which are therefore containerd's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The named object does not exist.
    #[error("{what}: not found")]
    NotFound {
        /// Kind and name of the object.
        what: String,
    },
    /// The named object exists already.
    #[error("{what}: already exists")]
    AlreadyExists {
        /// Kind and name of the object.
        what: String,
    },
    /// The request itself is wrong.
    #[error("{what}: invalid argument")]
    InvalidArgument {
        /// What is wrong.
        what: String,
    },
    /// The object is not in the state that the request needs.
    #[error("{what}: failed precondition")]
    FailedPrecondition {
        /// What stands in the way.
        what: String,
    },
    /// Not built, or not possible with this snapshotter.
    #[error("{what}: not implemented")]
    Unimplemented {
        /// What was asked for.
        what: String,
    },
    /// A filter of a list does not parse.
    #[error(transparent)]
    Filter(#[from] model::filter::InvalidFilter),
    /// The database failed.
    #[error("{act} in the metadata store {}", path.display())]
    Database {
        /// What was tried.
        act: &'static str,
        /// The file of the store.
        path: PathBuf,
        /// Why it failed.
        source: Arc<redb::Error>,
    },
    /// A stored record is damaged, or of a form that this version does not know.
    #[error("read record {key:?} of the metadata store: {what}")]
    Damaged {
        /// The key of the record, as text.
        key: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The files behind the records failed: blobs, ingests or the folders of a snapshot.
    #[error("{act}")]
    Backend {
        /// What was tried, with its object.
        act: String,
        /// The kind of the cause, which is the kind of this failure.
        kind: ErrorKind,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store was closed, or its owner ended.
    #[error("the metadata store is closed")]
    Closed,
    /// A cycle of garbage collection failed; the reason was logged where it stopped.
    #[error("gc failed")]
    Collection,
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Self::InvalidArgument { .. } | Self::Filter(_) => ErrorKind::InvalidArgument,
            Self::FailedPrecondition { .. } => ErrorKind::FailedPrecondition,
            Self::Unimplemented { .. } => ErrorKind::Unimplemented,
            Self::Database { .. } | Self::Collection => ErrorKind::Unknown,
            Self::Damaged { .. } => ErrorKind::DataLoss,
            Self::Backend { kind, .. } => *kind,
            Self::Closed => ErrorKind::Unavailable,
        }
    }
}

pub(crate) fn not_found(what: impl Into<String>) -> Error {
    Error::NotFound { what: what.into() }
}

pub(crate) fn exists(what: impl Into<String>) -> Error {
    Error::AlreadyExists { what: what.into() }
}

pub(crate) fn invalid(what: impl Into<String>) -> Error {
    Error::InvalidArgument { what: what.into() }
}

pub(crate) fn precondition(what: impl Into<String>) -> Error {
    Error::FailedPrecondition { what: what.into() }
}

/// As [`invalid`], for a cause whose text says its kind already.
pub(crate) fn invalid_because(what: &str, cause: &dyn std::error::Error) -> Error {
    let cause = cause.to_string();
    let cause = cause.strip_suffix(": invalid argument").unwrap_or(&cause);
    invalid(format!("{what}: {cause}"))
}

/// Wraps a failure of the files behind the records.
pub(crate) fn backend(
    act: impl Into<String>,
    source: impl Kinded + Send + Sync + 'static,
) -> Error {
    Error::Backend {
        act: act.into(),
        kind: source.kind(),
        source: Box::new(source),
    }
}
