//! Why a text or message of the contract is refused.

use model::{ErrorKind, Kinded};

/// Why a text or message of the contract is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are no message of this kind.
    #[error("decode {what}")]
    Decode {
        /// The expected message.
        what: &'static str,
        /// Why not.
        source: prost::DecodeError,
    },
    /// The text is no JSON document of this kind.
    #[error("read {what}")]
    Json {
        /// The expected document.
        what: &'static str,
        /// Why not.
        source: serde_json::Error,
    },
    /// The shim speaks a later version of the contract.
    #[error("unsupported shim version ({version})")]
    Version {
        /// Its version.
        version: i32,
    },
    /// The options are not those of this runtime.
    #[error("runtime options of type {type_url:?} are not known here")]
    OptionsType {
        /// The type of the options.
        type_url: String,
    },
    /// A field of the stdio of a task can't be understood.
    #[error("stdio {uri:?}: {reason}")]
    Stdio {
        /// The field.
        uri: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A record holds a value that can't be.
    #[error("exit record: {reason}")]
    Record {
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Version { .. } => ErrorKind::Unimplemented,
            Self::Record { .. } => ErrorKind::DataLoss,
            Self::Decode { .. }
            | Self::Json { .. }
            | Self::OptionsType { .. }
            | Self::Stdio { .. } => ErrorKind::InvalidArgument,
        }
    }
}
