//! Bounded parsing.

use serde::de::DeserializeOwned;

/// Longest index, manifest or image configuration, in bytes.
pub const IMAGE_JSON_BYTES_MAX: usize = 8 << 20;
/// Longest runtime specification, in bytes: what fits in one gRPC message.
pub const RUNTIME_JSON_BYTES_MAX: usize = 16 << 20;

/// A document can't be read: to every caller an invalid argument.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The document is longer than its limit.
    #[error("parse {what}: {length} bytes, more than {limit}")]
    TooLong {
        /// What was to be read.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The document is not JSON, nested too deep, or has a field of the wrong type or range.
    #[error("parse {what}")]
    Json {
        /// What was to be read.
        what: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
}

/// Reads a JSON document of at most `limit` bytes and at most 128 levels; `what` names it in errors.
pub fn parse<T: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
    limit: usize,
) -> Result<T, Error> {
    if bytes.len() > limit {
        return Err(Error::TooLong {
            what,
            length: bytes.len(),
            limit,
        });
    }
    serde_json::from_slice(bytes).map_err(|source| Error::Json { what, source })
}
