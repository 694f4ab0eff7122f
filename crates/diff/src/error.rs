//! Why a layer could not be applied.

use std::io;

use model::{ErrorKind, Kinded};

/// A failure to read, apply or supervise a layer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archive breaks its format, or means something that no layer may mean.
    #[error("invalid layer near byte {offset} of the tar stream: {reason}")]
    Archive {
        /// Bytes of the tar stream read so far.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The compressed stream is damaged.
    #[error("damaged {format} stream: {reason}")]
    Compression {
        /// `gzip` or `zstd`.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The stream ends in the middle of something.
    #[error("layer ends early: {what} is cut")]
    Truncated {
        /// What was being read.
        what: &'static str,
    },
    /// A limit was reached.
    #[error("layer exceeds the limit of {limit} {what}")]
    Limit {
        /// What is counted, with its unit.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A format or feature that is not supported.
    #[error("unsupported {what}")]
    Unsupported {
        /// The format or feature.
        what: String,
    },
    /// A system call failed.
    #[error("{act} {path:?}")]
    Io {
        /// What was attempted.
        act: &'static str,
        /// The entry in the layer, or the object on the host.
        path: String,
        /// The answer of the system.
        source: io::Error,
    },
    /// The worker could not give up its rights, so it refused to read the layer.
    #[error("isolate the unpack worker: {step}")]
    Sandbox {
        /// The step that failed.
        step: &'static str,
        /// The answer of the system.
        source: io::Error,
    },
    /// The worker told of a failure.
    #[error("{message}")]
    Worker {
        /// The kind the worker named.
        kind: ErrorKind,
        /// The whole message.
        message: String,
    },
    /// The worker ended without an answer.
    #[error("unpack worker ended early with {status}: {output:?}")]
    Died {
        /// Exit status or signal.
        status: String,
        /// What it wrote to standard error, cut.
        output: String,
    },
    /// The worker made no progress for too long and was killed.
    #[error("layer made no progress for {seconds} s")]
    Stalled {
        /// The time allowed.
        seconds: u64,
    },
    /// The session was canceled.
    #[error("unpack canceled")]
    Canceled,
    /// One side of the socket broke the protocol.
    #[error("unpack protocol broken: {reason}")]
    Protocol {
        /// What was not understood.
        reason: &'static str,
    },
}

impl Error {
    /// Maps a system's answer to this error, for `map_err`.
    pub(crate) fn io(act: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> Self {
        let path = String::from_utf8_lossy(path).into_owned();
        move |source| Self::Io { act, path, source }
    }
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Archive { .. } | Self::Compression { .. } | Self::Truncated { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::Limit { .. } => ErrorKind::ResourceExhausted,
            Self::Unsupported { .. } => ErrorKind::Unimplemented,
            Self::Io { source, .. } => io_kind(source),
            Self::Sandbox { .. } => ErrorKind::FailedPrecondition,
            Self::Worker { kind, .. } => *kind,
            Self::Died { .. } | Self::Protocol { .. } => ErrorKind::Internal,
            Self::Stalled { .. } => ErrorKind::DeadlineExceeded,
            Self::Canceled => ErrorKind::Canceled,
        }
    }
}

fn io_kind(source: &io::Error) -> ErrorKind {
    match source.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        io::ErrorKind::StorageFull
        | io::ErrorKind::QuotaExceeded
        | io::ErrorKind::OutOfMemory
        | io::ErrorKind::TooManyLinks => ErrorKind::ResourceExhausted,
        io::ErrorKind::InvalidFilename | io::ErrorKind::NotADirectory => ErrorKind::InvalidArgument,
        _ => ErrorKind::Unknown,
    }
}
