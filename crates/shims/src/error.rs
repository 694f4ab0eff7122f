//! What can go wrong between daemon and shim.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use model::{ErrorKind, Kinded};

/// A failure between daemon and shim.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The task is there already.
    #[error("task {id}: already exists")]
    AlreadyExists {
        /// The task.
        id: String,
    },
    /// No such task.
    #[error("task {id} not found: not found")]
    NotFound {
        /// The task.
        id: String,
    },
    /// The runtime's name means nothing.
    #[error("runtime {name:?}: {reason}")]
    Runtime {
        /// The name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// The program of the runtime is not there.
    #[error("runtime {name:?} binary not installed {binary:?}: file does not exist")]
    NotInstalled {
        /// The runtime's name.
        name: String,
        /// The program that was looked for.
        binary: String,
    },
    /// The shim did not come up.
    #[error("start shim of {id}: {reason}")]
    Start {
        /// The task.
        id: String,
        /// What the shim said, or how it ended.
        reason: String,
    },
    /// The shim speaks in a way that we do not.
    #[error("{what} is not implemented")]
    Unimplemented {
        /// What was asked for.
        what: String,
    },
    /// The shim refused a call.
    #[error("{message}")]
    Refused {
        /// What it said.
        message: String,
        /// The kind it gave.
        kind: ErrorKind,
    },
    /// The shim is gone.
    #[error("shim of {id} is gone")]
    Gone {
        /// The task.
        id: String,
    },
    /// The shim did not answer in time.
    #[error("no answer of the shim to {method} within {limit:?}")]
    Timeout {
        /// The method.
        method: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// A file of the bundle.
    #[error("{act} {}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A text or message of the contract can't be read.
    #[error("read shim's {what}")]
    Protocol {
        /// What was read.
        what: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::NotInstalled { .. } | Self::Runtime { .. } => ErrorKind::InvalidArgument,
            Self::Start { .. } | Self::Protocol { .. } | Self::Io { .. } => ErrorKind::Unknown,
            Self::Unimplemented { .. } => ErrorKind::Unimplemented,
            Self::Refused { kind, .. } => *kind,
            Self::Gone { .. } => ErrorKind::Unavailable,
            Self::Timeout { .. } => ErrorKind::DeadlineExceeded,
        }
    }
}

impl Error {
    pub(crate) fn io(act: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io {
            act,
            path: path.into(),
            source,
        }
    }
}
