//! The messages inside frames (ttrpc `request.proto`, google `rpc/status.proto`).

use model::ErrorKind;

/// A call.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// Full name of the service.
    #[prost(string, tag = "1")]
    pub service: String,
    /// Name of the method.
    #[prost(string, tag = "2")]
    pub method: String,
    /// The encoded argument.
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
    /// Time the caller allows in nanoseconds; 0 is no limit.
    #[prost(int64, tag = "4")]
    pub timeout_nano: i64,
    /// What rides along with the call; a key may occur several times.
    #[prost(message, repeated, tag = "5")]
    pub metadata: Vec<KeyValue>,
}

impl Request {
    /// The first value under `key`, which is compared without case as upstream does.
    pub fn metadata_value(&self, key: &str) -> Option<&str> {
        self.metadata
            .iter()
            .find(|pair| pair.key.eq_ignore_ascii_case(key))
            .map(|pair| pair.value.as_str())
    }
}

/// One metadata pair.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeyValue {
    /// The name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// An answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Response {
    /// The failure; absent on success.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// The encoded result.
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

impl Response {
    /// A success with an encoded result.
    pub fn ok(payload: Vec<u8>) -> Self {
        Self {
            status: None,
            payload,
        }
    }

    /// A failure.
    pub fn failed(status: Status) -> Self {
        Self {
            status: Some(status),
            payload: Vec::new(),
        }
    }
}

/// A failure as `google.rpc.Status` says it.
#[derive(Clone, PartialEq, Eq, prost::Message, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// A [`Code`] as number.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// What happened, for people.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// The codes of `google.rpc.Code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are google.rpc.Code's own")]
#[repr(i32)]
pub enum Code {
    Ok = 0,
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

const KINDS: [(Code, ErrorKind); 16] = [
    (Code::Canceled, ErrorKind::Canceled),
    (Code::Unknown, ErrorKind::Unknown),
    (Code::InvalidArgument, ErrorKind::InvalidArgument),
    (Code::DeadlineExceeded, ErrorKind::DeadlineExceeded),
    (Code::NotFound, ErrorKind::NotFound),
    (Code::AlreadyExists, ErrorKind::AlreadyExists),
    (Code::PermissionDenied, ErrorKind::PermissionDenied),
    (Code::ResourceExhausted, ErrorKind::ResourceExhausted),
    (Code::FailedPrecondition, ErrorKind::FailedPrecondition),
    (Code::Aborted, ErrorKind::Aborted),
    (Code::OutOfRange, ErrorKind::OutOfRange),
    (Code::Unimplemented, ErrorKind::Unimplemented),
    (Code::Internal, ErrorKind::Internal),
    (Code::Unavailable, ErrorKind::Unavailable),
    (Code::DataLoss, ErrorKind::DataLoss),
    (Code::Unauthenticated, ErrorKind::Unauthenticated),
];

impl Status {
    /// A failure of a kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let code = KINDS
            .iter()
            .find(|(_, known)| *known == kind)
            .map_or(Code::Unknown, |(code, _)| *code);
        Self {
            code: code as i32,
            message: message.into(),
        }
    }

    /// The failure of a call to something that does not exist here.
    pub fn unimplemented(service: &str, method: &str) -> Self {
        Self::new(
            ErrorKind::Unimplemented,
            format!("/{service}/{method} is not implemented"),
        )
    }

    /// A failure with an error's kind and its whole story.
    pub fn from_error(error: &(impl model::Kinded + 'static)) -> Self {
        Self::new(error.kind(), model::chain(error))
    }
}

impl model::Kinded for Status {
    fn kind(&self) -> ErrorKind {
        KINDS
            .iter()
            .find(|(code, _)| *code as i32 == self.code)
            .map_or(ErrorKind::Unknown, |(_, kind)| *kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Kinded;

    #[test]
    fn kinds_and_codes_are_one_to_one() {
        for (code, kind) in KINDS {
            let status = Status::new(kind, "x");
            assert_eq!(status.code, code as i32);
            assert_eq!(status.kind(), kind);
        }
    }
}
