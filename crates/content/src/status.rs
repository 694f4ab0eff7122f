//! What is known of a write that is not committed.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use model::Timestamp;
use model::filter::{Fields, text_field};
use sys::file;

use crate::{REF_BYTES_MAX, stamp};

/// A write that runs or can be resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The ref of the write.
    pub reference: String,
    /// Bytes written.
    pub offset: u64,
    /// Bytes expected; 0 when unknown.
    pub total: u64,
    /// When the write began.
    pub started: Timestamp,
    /// When it last wrote.
    pub updated: Timestamp,
}

impl Fields for Status {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["ref", ..] => text_field(&self.reference),
            _ => None,
        }
    }
}

/// A folder of an ingest, whole or broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestDir {
    /// The folder's name: 64 hexadecimal digits.
    pub name: String,
    /// The ref, when its file can be read and belongs to this folder.
    pub reference: Option<String>,
    /// What is known of the write; `None` when the folder is broken.
    pub status: Option<Status>,
    /// When the folder last changed.
    pub changed: Timestamp,
}

/// Longest `total` file, in bytes.
const TOTAL_BYTES_MAX: usize = 32;

/// Reads a small text; a longer one is no text of ours.
fn read_small(path: &Path, bytes_max: usize) -> Result<Option<String>, file::Error> {
    let read = || -> io::Result<Option<String>> {
        let mut bytes = Vec::new();
        let mut file = File::open(path)?.take(bytes_max as u64 + 1);
        file.read_to_end(&mut bytes)?;
        Ok((bytes.len() <= bytes_max)
            .then(|| String::from_utf8(bytes).ok())
            .flatten())
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map_err(file::Error::of("read", path)),
    }
}

/// The ref of an ingest folder.
pub(crate) fn reference(folder: &Path) -> Result<Option<String>, file::Error> {
    read_small(&folder.join("ref"), REF_BYTES_MAX)
}

/// Reads the status of an ingest folder; `None` when a file is missing or is none of ours.
pub(crate) fn read(folder: &Path) -> Result<Option<Status>, file::Error> {
    let data = folder.join("data");
    let metadata = match fs::symlink_metadata(&data) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(file::Error::of("stat", &data))?,
    };
    let time = |name: &str| -> Result<Option<Timestamp>, file::Error> {
        let text = read_small(&folder.join(name), stamp::STAMP_BYTES_MAX)?;
        Ok(text.and_then(|text| stamp::read(&text)))
    };
    let (Some(reference), Some(started), Some(updated)) =
        (reference(folder)?, time("startedat")?, time("updatedat")?)
    else {
        return Ok(None);
    };
    if !metadata.is_file() {
        return Ok(None);
    }
    let total = read_small(&folder.join("total"), TOTAL_BYTES_MAX)?;
    // The time file is written only when a write is given up, so the data may be newer.
    let modified = metadata.modified().map(stamp::of_system);
    Ok(Some(Status {
        reference,
        offset: metadata.len(),
        total: total.and_then(|text| text.parse().ok()).unwrap_or(0),
        started,
        updated: updated.max(modified.unwrap_or(updated)),
    }))
}
