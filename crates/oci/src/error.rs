//! Why no specification came to be.

use model::{ErrorKind, Kinded};

/// A specification can't be made as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A user or group has no entry.
    #[error("find {what} {name:?} in {file}")]
    NoSuchUser {
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
        /// `/etc/passwd` or `/etc/group`.
        file: &'static str,
    },
    /// A number is no user or group id.
    #[error("invalid USER value {user:?}: {what} out of range")]
    IdOutOfRange {
        /// The whole text.
        user: String,
        /// `uid` or `gid`.
        what: &'static str,
    },
    /// The user is not `user` or `user:group`.
    #[error("invalid USER value {user:?}")]
    InvalidUser {
        /// The whole text.
        user: String,
    },
    /// A database of users is too long.
    #[error("{file} exceeds {limit} bytes")]
    FileTooLong {
        /// Which.
        file: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// An option or the finished specification contradicts the rules.
    #[error("invalid {what} {value:?}: {why}")]
    Invalid {
        /// The option or field.
        what: &'static str,
        /// What it holds.
        value: String,
        /// The rule.
        why: &'static str,
    },
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchUser { .. } => ErrorKind::NotFound,
            Self::FileTooLong { .. } => ErrorKind::ResourceExhausted,
            Self::IdOutOfRange { .. } | Self::InvalidUser { .. } | Self::Invalid { .. } => {
                ErrorKind::InvalidArgument
            }
        }
    }
}
