//! The error of a step on a durable file.

use std::io;
use std::path::{Path, PathBuf};

use model::{ErrorKind, Kinded};

/// A step on a file failed.
#[derive(Debug, thiserror::Error)]
#[error("{act} {}", path.display())]
pub struct Error {
    /// What was being done, such as `create` or `rename to`.
    pub act: &'static str,
    /// The file or folder it was done to.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

impl Error {
    /// Puts act and path to a failure.
    pub fn new(act: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self {
            act,
            path: path.as_ref().to_owned(),
            source: source.into(),
        }
    }

    /// For `map_err`: puts act and path to a failure.
    pub fn of<E: Into<io::Error>>(
        act: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::new(act, path, source)
    }

    /// True when the object was absent.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// True when the object was there already.
    pub fn is_already_exists(&self) -> bool {
        self.source.kind() == io::ErrorKind::AlreadyExists
    }
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        kind_of(&self.source)
    }
}

/// The kind under which callers handle a failure of the operating system.
pub fn kind_of(error: &io::Error) -> ErrorKind {
    match error.raw_os_error() {
        Some(libc::ENOENT) => ErrorKind::NotFound,
        Some(libc::EEXIST) => ErrorKind::AlreadyExists,
        Some(libc::EACCES | libc::EPERM) => ErrorKind::PermissionDenied,
        Some(libc::ENOSPC | libc::EDQUOT | libc::EMFILE | libc::ENFILE | libc::ENOMEM) => {
            ErrorKind::ResourceExhausted
        }
        Some(libc::EROFS) => ErrorKind::FailedPrecondition,
        Some(libc::EBUSY | libc::EAGAIN | libc::ETIMEDOUT) => ErrorKind::Unavailable,
        Some(libc::ENOSYS | libc::EOPNOTSUPP) => ErrorKind::Unimplemented,
        _ => match error.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            io::ErrorKind::InvalidInput => ErrorKind::InvalidArgument,
            _ => ErrorKind::Unknown,
        },
    }
}
