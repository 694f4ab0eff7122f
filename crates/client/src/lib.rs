//! The smart client: any daemon that speaks containerd's API, from Rust.
//!
//! [`Client`] is one connection with its services in a namespace. On top of the plain services it reads images for a
//! platform, writes blobs, and pulls with progress.

mod blob;
mod connection;
mod image;
mod pull;

use std::error::Error as StdError;
use std::path::PathBuf;

pub use blob::DOCUMENT_BYTES_MAX;
pub use connection::{Client, Headers, Scoped};
pub use image::Image;
pub use pull::PullOptions;

/// Why a client's call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The daemon can't be reached.
    #[error("connect to {path:?}: is the daemon running?")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The daemon refused or failed.
    #[error("{act}: {}", status.message())]
    Call {
        /// What was asked.
        act: String,
        /// The answer.
        status: Box<tonic::Status>,
    },
    /// What was given is wrong.
    #[error("{what}")]
    Invalid {
        /// What and why.
        what: String,
    },
}

impl Error {
    /// Makes the error of a refused call.
    pub fn call(act: impl Into<String>) -> impl Fn(tonic::Status) -> Self {
        let act = act.into();
        move |status| Self::Call {
            act: act.clone(),
            status: Box::new(status),
        }
    }

    /// The gRPC code, when the daemon refused.
    pub fn code(&self) -> Option<tonic::Code> {
        match self {
            Self::Call { status, .. } => Some(status.code()),
            _ => None,
        }
    }
}
