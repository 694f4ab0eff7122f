//! Why an operation on a cgroup failed.

use std::io;
use std::path::PathBuf;

use model::{ErrorKind, Kinded};

/// The result of an operation on a cgroup.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation on a cgroup failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder of the cgroup file system failed.
    #[error("{action} {}", path.display())]
    File {
        /// What was done, such as `write 10 to`.
        action: String,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The host lacks the controller that a limit needs.
    #[error("cgroup controller {controller} is not available, needed for {setting}")]
    NoController {
        /// The controller, such as `memory`.
        controller: &'static str,
        /// The limit that needs it.
        setting: &'static str,
    },
    /// The value can't be set on any host.
    #[error("cgroup setting {setting}: {reason}")]
    Invalid {
        /// The setting.
        setting: String,
        /// What is wrong.
        reason: String,
    },
    /// No cgroup hierarchy is mounted.
    #[error("no cgroup hierarchy is mounted")]
    NotMounted,
    /// Not built.
    #[error("{what} is not supported")]
    Unimplemented {
        /// What is not built.
        what: String,
    },
    /// The cgroup still has processes after the time allowed.
    #[error("cgroup {} is still in use", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
}

impl Error {
    pub(crate) fn file(
        action: impl Into<String>,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::File {
            action: action.into(),
            path: path.into(),
            source: source.into(),
        }
    }
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
                _ => ErrorKind::Unknown,
            },
            Self::Invalid { .. } => ErrorKind::InvalidArgument,
            Self::NoController { .. } | Self::NotMounted | Self::Busy { .. } => {
                ErrorKind::FailedPrecondition
            }
            Self::Unimplemented { .. } => ErrorKind::Unimplemented,
        }
    }
}
