//! What can go wrong between us and a registry.

use std::path::PathBuf;

use model::{Digest, ErrorKind, Kinded};

/// A failure of the distribution protocol. No variant carries a URL's query, a credential or a token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of a host's configuration can't be read.
    #[error("read {}", path.display())]
    ReadFile {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file of a host's configuration is wrong.
    #[error("invalid registry configuration {}: {reason}", path.display())]
    HostsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A host's name or settings can't be used.
    #[error("set up the connection to {host}: {reason}")]
    Setup {
        /// The host.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// No host may do what was asked.
    #[error(
        "no configured host of {host} may {capability}: allow it under `capabilities` in hosts.toml"
    )]
    NoHost {
        /// The host that the reference names.
        host: String,
        /// `resolve`, `pull` or `push`.
        capability: &'static str,
    },
    /// The reference names neither tag nor digest.
    #[error("{reference} names neither a tag nor a digest")]
    NoObject {
        /// The reference.
        reference: String,
    },
    /// The connection failed.
    #[error("reach {host}")]
    Transport {
        /// The host.
        host: String,
        /// Why, without the URL.
        source: reqwest::Error,
    },
    /// A limit of time was reached.
    #[error("{host} was silent or too slow for {seconds} s while we waited for {what}")]
    Timeout {
        /// The host.
        host: String,
        /// What was waited for.
        what: &'static str,
        /// The limit in seconds.
        seconds: u64,
    },
    /// The server refused.
    #[error("{host} refused {what}: status {status}{message}")]
    Status {
        /// The host.
        host: String,
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The server's code and message after a colon, cut and cleaned; may be empty.
        message: String,
    },
    /// The server does not have it.
    #[error("{what} not found at {host}{message}")]
    NotFound {
        /// The host.
        host: String,
        /// What was asked for.
        what: String,
        /// The server's code and message after a colon, cut and cleaned; may be empty.
        message: String,
    },
    /// The server wants credentials that we don't have, or refuses those that we have.
    #[error("{host} denies {what}: {reason}{message}; log in to {host}, or check the name")]
    Unauthenticated {
        /// The host.
        host: String,
        /// What was asked for.
        what: String,
        /// What we tried.
        reason: &'static str,
        /// The server's code and message after a colon, cut and cleaned; may be empty.
        message: String,
    },
    /// Whoever holds the credentials failed to give them.
    #[error("get credentials for {host}")]
    Credentials {
        /// The host.
        host: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server asks for authentication in a way that we refuse or can't follow.
    #[error("authenticate at {host}: {reason}")]
    Challenge {
        /// The host.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// A redirect can't be followed.
    #[error("follow a redirect of {host}: {reason}")]
    Redirect {
        /// The host that was asked first.
        host: String,
        /// Why not.
        reason: String,
    },
    /// Something that is no manifest stands under a manifest's name.
    #[error(
        "{host} answered {reference} with {media_type:?}, which is no image manifest: is this a registry?"
    )]
    NotAManifest {
        /// The host.
        host: String,
        /// What was asked for.
        reference: String,
        /// The answer's content type, cut.
        media_type: String,
    },
    /// A docker schema 1 manifest.
    #[error("schema 1 image manifests are no longer supported: {reference}")]
    Schema1 {
        /// What was asked for.
        reference: String,
    },
    /// An answer is larger than its limit.
    #[error("{what} of {host} is larger than {limit} bytes")]
    TooLarge {
        /// The host.
        host: String,
        /// What is too large.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A body is not as long as its descriptor says.
    #[error("{host} sent {actual} bytes of {digest}, its descriptor promises {expected}")]
    Length {
        /// The host.
        host: String,
        /// The content.
        digest: Digest,
        /// The promised size in bytes.
        expected: u64,
        /// The size that came or was announced, in bytes.
        actual: u64,
    },
    /// The bytes have another digest than was asked for.
    #[error("{host} sent content with digest {actual} for {expected}")]
    WrongDigest {
        /// The host.
        host: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// Every host that may answer has sent something else under this digest before.
    #[error("{host} has nothing but content with another digest for {digest}")]
    Distrusted {
        /// The host that the reference names.
        host: String,
        /// What was asked for.
        digest: Digest,
    },
    /// Every host failed.
    #[error("every host failed for {reference}: {summary}")]
    AllHosts {
        /// What was asked for.
        reference: String,
        /// What each host but the last said.
        summary: String,
        /// The failure that says most.
        source: Box<Self>,
    },
}

impl Error {
    /// Whether another try may succeed.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Transport { source, .. } => !source.is_builder(),
            Self::Timeout { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::ReadFile { .. } | Self::HostsFile { .. } | Self::Setup { .. } => {
                ErrorKind::FailedPrecondition
            }
            Self::NoHost { .. } => ErrorKind::FailedPrecondition,
            Self::NoObject { .. } | Self::Schema1 { .. } => ErrorKind::InvalidArgument,
            Self::Transport { .. } => ErrorKind::Unavailable,
            Self::Timeout { .. } => ErrorKind::DeadlineExceeded,
            Self::Status { status: 403, .. } => ErrorKind::PermissionDenied,
            Self::Status { status: 429, .. } => ErrorKind::ResourceExhausted,
            Self::Status { status: 500.., .. } => ErrorKind::Unavailable,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Unauthenticated { .. } | Self::Credentials { .. } => ErrorKind::Unauthenticated,
            Self::TooLarge { .. } => ErrorKind::ResourceExhausted,
            Self::Length { .. } | Self::WrongDigest { .. } | Self::Distrusted { .. } => {
                ErrorKind::FailedPrecondition
            }
            Self::AllHosts { source, .. } => source.kind(),
            Self::Status { .. }
            | Self::Challenge { .. }
            | Self::Redirect { .. }
            | Self::NotAManifest { .. } => ErrorKind::Unknown,
        }
    }
}
