//! The record of an ended process.
//!
//! The shim writes it to [`crate::bundle::exit_record`] under another name and renames it, before it sends the event
//! and answers a waiting call. A daemon that missed the event, or finds the shim gone, reads it.

use crate::Error;
use model::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest record in bytes; a reader refuses more.
pub const RECORD_BYTES_MAX: usize = 4096;

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitRecord {
    /// The process, as the host numbered it.
    pub pid: u32,
    /// Its exit code, or 128 plus the signal that ended it.
    pub exit_status: u32,
    /// When the shim learned of it.
    pub exited_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Text {
    pid: u32,
    exit_status: u32,
    exited_at: String,
}

impl ExitRecord {
    /// The content of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let text = Text {
            pid: self.pid,
            exit_status: self.exit_status,
            exited_at: self.exited_at.to_string(),
        };
        serde_json::to_vec(&text).expect("strings and numbers can be written as JSON")
    }

    /// Reads the content of the file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(Error::Record {
                reason: "longer than a record can be",
            });
        }
        let text: Text = serde_json::from_slice(bytes).map_err(|source| Error::Json {
            what: "exit record",
            source,
        })?;
        let exited_at = text.exited_at.parse().map_err(|_| Error::Record {
            reason: "exited_at is no time",
        })?;
        Ok(Self {
            pid: text.pid,
            exit_status: text.exit_status,
            exited_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_reads_back() {
        let record = ExitRecord {
            pid: 7,
            exit_status: 137,
            exited_at: "2024-05-01T10:00:00.123456789Z".parse().unwrap(),
        };
        assert_eq!(
            record.to_bytes(),
            br#"{"pid":7,"exit_status":137,"exited_at":"2024-05-01T10:00:00.123456789Z"}"#
        );
        assert_eq!(ExitRecord::from_bytes(&record.to_bytes()).unwrap(), record);
        for bad in ["", "{}", r#"{"pid":7,"exit_status":0,"exited_at":"noon"}"#] {
            assert!(ExitRecord::from_bytes(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
