//! Why an operation on a container failed.

use std::io;
use std::path::PathBuf;

use model::{ErrorKind, Kinded};

/// The result of an operation on a container.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation on a container failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The specification asks for something that contradicts itself or the rules of the specification.
    #[error("invalid specification: {field}: {reason}")]
    InvalidSpec {
        /// The field, as the JSON document names it.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The specification asks for something that is not built.
    #[error("{feature} is not supported by this runtime")]
    Unimplemented {
        /// The feature.
        feature: String,
    },
    /// A file could not be read or written.
    #[error("{action} {}", path.display())]
    File {
        /// What was done, such as `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A step failed.
    #[error("{step}")]
    Step {
        /// What was done to which object, such as `mount proc at /proc`.
        step: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The process in the container, or the worker, reported a failure.
    #[error("{message}")]
    Reported {
        /// How callers handle it.
        kind: ErrorKind,
        /// The whole story.
        message: String,
    },
    /// There is no such container.
    #[error("container {id} does not exist")]
    NotFound {
        /// The identifier.
        id: String,
    },
    /// There is such a container already.
    #[error("container with id exists: {id}")]
    AlreadyExists {
        /// The identifier.
        id: String,
    },
    /// The container is not in the state that the operation needs.
    #[error("cannot {action} container {id} that is {status}")]
    WrongStatus {
        /// The operation.
        action: &'static str,
        /// The identifier.
        id: String,
        /// The state in which it is.
        status: crate::Status,
    },
    /// The cgroup could not be made, joined, read or set.
    #[error("cgroup of the container")]
    Cgroup(#[from] sys::cgroup::Error),
}

impl Error {
    /// A failed step with the system's error.
    pub(crate) fn step(step: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Step {
            step: step.into(),
            source: source.into(),
        }
    }

    /// A field that can't be taken as it is.
    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidSpec {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// A feature that is not built.
    pub(crate) fn unimplemented(feature: impl Into<String>) -> Self {
        Self::Unimplemented {
            feature: feature.into(),
        }
    }
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidSpec { .. } => ErrorKind::InvalidArgument,
            Self::Unimplemented { .. } => ErrorKind::Unimplemented,
            Self::Reported { kind, .. } => *kind,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Self::WrongStatus { .. } => ErrorKind::FailedPrecondition,
            Self::File { source, .. } | Self::Step { source, .. } => io_kind(source),
            Self::Cgroup(error) => error.kind(),
        }
    }
}

fn io_kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        io::ErrorKind::TimedOut => ErrorKind::DeadlineExceeded,
        _ => ErrorKind::Unknown,
    }
}
