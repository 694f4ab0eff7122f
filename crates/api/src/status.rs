//! The one edge where errors become gRPC statuses, and statuses errors.

use model::{ErrorKind, Kinded};
use prost::Message;
use tonic::{Code, Status};

/// Longest message of a status, in bytes: it travels in a header, where each byte may take three.
pub const STATUS_MESSAGE_BYTES_MAX: usize = 4096;

/// The code that stands for a kind.
pub fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Unknown => Code::Unknown,
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::FailedPrecondition => Code::FailedPrecondition,
        ErrorKind::Aborted => Code::Aborted,
        ErrorKind::OutOfRange => Code::OutOfRange,
        ErrorKind::Unimplemented => Code::Unimplemented,
        ErrorKind::Internal => Code::Internal,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::DataLoss => Code::DataLoss,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Canceled => Code::Cancelled,
    }
}

/// The kind that a code stands for; `Ok` is no error and becomes [`ErrorKind::Unknown`].
pub fn kind(code: Code) -> ErrorKind {
    match code {
        Code::Ok | Code::Unknown => ErrorKind::Unknown,
        Code::InvalidArgument => ErrorKind::InvalidArgument,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::PermissionDenied => ErrorKind::PermissionDenied,
        Code::ResourceExhausted => ErrorKind::ResourceExhausted,
        Code::FailedPrecondition => ErrorKind::FailedPrecondition,
        Code::Aborted => ErrorKind::Aborted,
        Code::OutOfRange => ErrorKind::OutOfRange,
        Code::Unimplemented => ErrorKind::Unimplemented,
        Code::Internal => ErrorKind::Internal,
        Code::Unavailable => ErrorKind::Unavailable,
        Code::DataLoss => ErrorKind::DataLoss,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        Code::Cancelled => ErrorKind::Canceled,
    }
}

/// The status of an error: the code of its kind, and the messages of it and all its sources.
///
/// Made for `map_err(status::of)`.
#[expect(
    clippy::needless_pass_by_value,
    reason = "map_err hands the error over"
)]
pub fn of<E: Kinded + 'static>(error: E) -> Status {
    of_ref(&error)
}

/// As [`of`], for an error that is still needed.
pub fn of_ref<E: Kinded + 'static>(error: &E) -> Status {
    Status::new(code(error.kind()), shortened(model::chain(error)))
}

/// As [`of`], with typed details that containerd's clients turn back into errors of their own.
pub fn of_with_details<E: Kinded + 'static>(error: &E, details: Vec<proto::Any>) -> Status {
    let rpc = proto::google::rpc::Status {
        details,
        ..to_rpc(&of_ref(error))
    };
    let code = code(error.kind());
    Status::with_details(code, rpc.message.clone(), rpc.encode_to_vec().into())
}

/// A status as a message, for places that carry one in a body: ttrpc, the plugins of introspection.
pub fn to_rpc(status: &Status) -> proto::google::rpc::Status {
    let details = proto::google::rpc::Status::decode(status.details())
        .map(|rpc| rpc.details)
        .unwrap_or_default();
    proto::google::rpc::Status {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details,
    }
}

/// What a peer answered instead of what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RemoteError {
    /// The kind under which to handle it.
    pub kind: ErrorKind,
    /// The peer's message.
    pub message: String,
}

impl Kinded for RemoteError {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<Status> for RemoteError {
    fn from(status: Status) -> Self {
        Self {
            kind: kind(status.code()),
            message: status.message().to_owned(),
        }
    }
}

impl From<proto::google::rpc::Status> for RemoteError {
    fn from(status: proto::google::rpc::Status) -> Self {
        Self {
            kind: kind(Code::from_i32(status.code)),
            message: status.message,
        }
    }
}

/// Cuts a message to [`STATUS_MESSAGE_BYTES_MAX`], keeping the start, which names the object.
fn shortened(mut message: String) -> String {
    const MARK: &str = " …";
    if message.len() > STATUS_MESSAGE_BYTES_MAX {
        let mut end = STATUS_MESSAGE_BYTES_MAX - MARK.len();
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push_str(MARK);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("open {name}")]
    struct Outer {
        name: String,
        source: std::io::Error,
        kind: ErrorKind,
    }

    impl Kinded for Outer {
        fn kind(&self) -> ErrorKind {
            self.kind
        }
    }

    fn error(name: &str, kind: ErrorKind) -> Outer {
        let source = std::io::Error::other("no luck");
        let name = name.to_owned();
        Outer { name, source, kind }
    }

    /// Every kind, with the number of its code (gRPC, statuscodes.md).
    const KINDS: [(ErrorKind, i32); 16] = [
        (ErrorKind::Canceled, 1),
        (ErrorKind::Unknown, 2),
        (ErrorKind::InvalidArgument, 3),
        (ErrorKind::DeadlineExceeded, 4),
        (ErrorKind::NotFound, 5),
        (ErrorKind::AlreadyExists, 6),
        (ErrorKind::PermissionDenied, 7),
        (ErrorKind::ResourceExhausted, 8),
        (ErrorKind::FailedPrecondition, 9),
        (ErrorKind::Aborted, 10),
        (ErrorKind::OutOfRange, 11),
        (ErrorKind::Unimplemented, 12),
        (ErrorKind::Internal, 13),
        (ErrorKind::Unavailable, 14),
        (ErrorKind::DataLoss, 15),
        (ErrorKind::Unauthenticated, 16),
    ];

    #[test]
    fn kinds_and_codes_are_a_bijection() {
        for (wanted, number) in KINDS {
            assert_eq!(code(wanted) as i32, number);
            assert_eq!(kind(Code::from_i32(number)), wanted);
            let status = of(error("x", wanted));
            assert_eq!(RemoteError::from(status).kind, wanted);
        }
    }

    #[test]
    fn the_message_is_the_whole_chain() {
        let status = of(error("/x", ErrorKind::NotFound));
        assert_eq!(status.message(), "open /x: no luck");
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let status = of(error(&"ä".repeat(4000), ErrorKind::Internal));
        assert!(status.message().len() <= STATUS_MESSAGE_BYTES_MAX);
        assert!(status.message().starts_with("open ä") && status.message().ends_with("ä …"));
    }

    #[test]
    fn details_travel() {
        let detail =
            proto::typeurl::pack_json(proto::typeurl::REGISTRY_UNEXPECTED_STATUS, b"{}".to_vec());
        let status = of_with_details(&error("x", ErrorKind::Unavailable), vec![detail.clone()]);
        let rpc = to_rpc(&status);
        assert_eq!((rpc.code, rpc.details), (14, vec![detail]));
        assert_eq!(to_rpc(&of(error("x", ErrorKind::Unknown))).details, vec![]);
    }
}
