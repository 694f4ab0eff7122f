//! The kinds of failure that a caller can act on.

use std::error::Error;

/// What went wrong, as the caller of any interface of ours can act on it.
///
/// The kinds are those of containerd's `errdefs`; `api` maps them to gRPC codes at one edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No kind fits; the message alone explains.
    Unknown,
    /// The request itself is wrong and would be wrong at any time.
    InvalidArgument,
    /// The named object does not exist.
    NotFound,
    /// The named object exists already.
    AlreadyExists,
    /// The caller may not do this.
    PermissionDenied,
    /// A limit was reached.
    ResourceExhausted,
    /// The system is not in the state that the request needs.
    FailedPrecondition,
    /// The operation was given up because of a concurrent one.
    Aborted,
    /// An offset or range lies outside the object.
    OutOfRange,
    /// Not built, or not possible on this host.
    Unimplemented,
    /// A promise of ours was broken.
    Internal,
    /// Try again later: the object is locked or a peer is away.
    Unavailable,
    /// Stored data is damaged.
    DataLoss,
    /// Credentials are missing or wrong.
    Unauthenticated,
    /// The time allowed ran out.
    DeadlineExceeded,
    /// The caller went away.
    Canceled,
}

/// An error that knows its kind.
pub trait Kinded: Error {
    /// The kind under which callers handle this error.
    fn kind(&self) -> ErrorKind;
}

/// Joins the messages of an error and all its sources with `": "`, outermost first.
///
/// `Display` of our errors never prints its source, so this is the one way to show the whole story.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
