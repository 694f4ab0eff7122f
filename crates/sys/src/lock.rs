//! A lock on a file that says who holds it.
//!
//! `flock` on the whole file, as bbolt takes it on `meta.db`, so that we and another daemon exclude each other. The
//! kernel drops it with the last descriptor, however the process ends.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use model::{ErrorKind, Kinded};
use rustix::fs::FlockOperation;

use crate::file;

/// A lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another open file description has it.
    #[error("lock {}: held by {}", path.display(), holder(*pid))]
    Held {
        /// The locked file.
        path: PathBuf,
        /// The process that took it, when the kernel tells and it still lives in our pid namespace.
        pid: Option<u32>,
    },
    /// The file can't be opened or locked.
    #[error("lock {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    )
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Held { .. } => ErrorKind::Unavailable,
            Self::Io { source, .. } => file::kind_of(source),
        }
    }
}

/// An exclusive lock, held until dropped.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    path: PathBuf,
}

impl FileLock {
    /// Takes the lock on `path` (made with mode 0600 when absent) or says at once who holds it.
    pub fn try_exclusive(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(source) => return Err(Error::Io { path, source }),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { file, path }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Held {
                pid: holding_pid(&file),
                path,
            }),
            Err(error) => Err(Error::Io {
                path,
                source: error.into(),
            }),
        }
    }

    /// The locked file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The path under which it was locked.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Longest `/proc/locks` that is searched, in bytes.
const LOCKS_BYTES_MAX: u64 = 1 << 20;

/// Finds the `flock` on the inode of `file` in `/proc/locks` (proc_locks(5)).
fn holding_pid(file: &File) -> Option<u32> {
    let metadata = file.metadata().ok()?;
    let device = metadata.dev();
    let wanted = format!(
        "{:02x}:{:02x}:{}",
        rustix::fs::major(device),
        rustix::fs::minor(device),
        metadata.ino()
    );
    let mut text = String::new();
    let locks = fs::File::open("/proc/locks").ok()?;
    io::Read::read_to_string(&mut io::Read::take(locks, LOCKS_BYTES_MAX), &mut text).ok()?;
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        // A waiting lock has "->" as its second field.
        (fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&&*wanted))
            .then(|| fields[4].parse().ok())
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_taker_learns_who_holds_the_lock() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("lock");
        let first = FileLock::try_exclusive(&path).unwrap();
        let refused = FileLock::try_exclusive(&path).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        let text = refused.to_string();
        assert!(
            text.ends_with(&format!("held by process {}", std::process::id()))
                || text.ends_with("held by another process"),
            "{text}"
        );
        drop(first);
        FileLock::try_exclusive(&path).unwrap();
    }
}
