//! What can go wrong with a task.

use model::{ErrorKind, Kinded};

/// A failure of an operation on a task.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The shim, or what is done to get one, failed.
    #[error(transparent)]
    Shim(#[from] shims::Error),
    /// The container's record can't be had.
    #[error("{message}")]
    Container {
        /// What the store said, with its whole story.
        message: String,
        /// Its kind.
        kind: ErrorKind,
    },
    /// Not built.
    #[error("{what} is not implemented")]
    Unimplemented {
        /// What was asked for.
        what: &'static str,
    },
    /// A filter does not parse.
    #[error("parse filters")]
    Filter {
        /// What is wrong and where.
        source: model::filter::InvalidFilter,
    },
    /// The daemon stops.
    #[error("operation was interrupted: the daemon stops")]
    Interrupted,
}

impl Error {
    /// The error of a store, for [`crate::Containers`].
    pub fn container(error: &(impl Kinded + 'static)) -> Self {
        Self::Container {
            message: model::chain(error),
            kind: error.kind(),
        }
    }
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Shim(error) => error.kind(),
            Self::Container { kind, .. } => *kind,
            Self::Unimplemented { .. } => ErrorKind::Unimplemented,
            Self::Filter { .. } => ErrorKind::InvalidArgument,
            Self::Interrupted => ErrorKind::Canceled,
        }
    }
}
