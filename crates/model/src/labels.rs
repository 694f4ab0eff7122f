//! Labels: small pairs of text on every record.

use std::collections::BTreeMap;

/// The labels of one record, ordered by key.
pub type Labels = BTreeMap<String, String>;

/// Longest `key` plus `value` in bytes.
pub const LABEL_BYTES_MAX: usize = 4096;

/// A label is longer than [`LABEL_BYTES_MAX`] or has no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLabel {
    /// Key and value together are too long.
    #[error(
        "label key and value length ({length} bytes) greater than maximum size ({LABEL_BYTES_MAX} bytes), key: {key:?}: invalid argument"
    )]
    TooLong {
        /// The first 64 characters of the key.
        key: String,
        /// Bytes of key and value.
        length: usize,
    },
    /// The key is empty.
    #[error("label key must not be empty: invalid argument")]
    NoKey,
}

/// Checks one label against the limits.
pub fn check_label(key: &str, value: &str) -> Result<(), InvalidLabel> {
    let length = key.len() + value.len();
    if key.is_empty() {
        return Err(InvalidLabel::NoKey);
    }
    if length > LABEL_BYTES_MAX {
        return Err(InvalidLabel::TooLong {
            key: key.chars().take(64).collect(),
            length,
        });
    }
    Ok(())
}

/// Checks every label of a record.
pub fn check_labels(labels: &Labels) -> Result<(), InvalidLabel> {
    labels
        .iter()
        .try_for_each(|(key, value)| check_label(key, value))
}
