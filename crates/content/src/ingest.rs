//! One write on its way to a blob.
//!
//! ```text
//! (new) ── begin ──► writing ── commit ──► blob      durable, then the folder goes
//!                    │  ▲  └──── wrong size or digest ──► parked, bytes kept
//!                  drop begin
//!                    ▼  │
//!                   parked ── abort ──► (gone)
//! ```
//! Bytes whose sync failed are cut off at once: the kernel may call them clean afterwards, and a later commit would
//! make a name for bytes that are not on the disk.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use model::{Algorithm, Digest, Timestamp};
use sys::file::{self, Files, Output};

use crate::hasher::Hasher;
use crate::local::Guard;
use crate::{Error, Result, Status, points, stamp, status};

/// After this many bytes the kernel is asked to write back, so that the sync at the end is short.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// A write in progress: the only one of its ref. Dropping it keeps the bytes for a later resume.
#[derive(Debug)]
pub struct Ingest {
    guard: Guard,
    reference: String,
    output: Output,
    hasher: Hasher,
    offset: u64,
    /// Bytes that the kernel was already asked to write back.
    written_back: u64,
    total: u64,
    started: Timestamp,
    updated: Timestamp,
    resumed: bool,
    /// The bytes were synced for the commit that runs.
    durable: bool,
}

/// A blob that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its digest, of the algorithm that was expected (SHA-256 when nothing was).
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl Ingest {
    pub(crate) fn begin(
        guard: Guard,
        reference: &str,
        total: u64,
        expected: Option<&Digest>,
    ) -> Result<Self> {
        let path = guard.path();
        let files = &guard.shared.files;
        let resumable = match files.make_dir(points::BEGIN, &path, 0o755) {
            Err(error) if error.is_already_exists() => status::read(&path)?.filter(|status| {
                let same_total = total == 0 || status.total == 0 || total == status.total;
                status.reference == reference && same_total
            }),
            other => other.map(|()| None)?,
        };
        let now = guard.shared.clock.now();
        if resumable.is_none() {
            describe(files, &path, reference, total, now)?;
        }
        let mut output = files.open_or_create(points::BEGIN, path.join("data"), 0o644)?;
        let algorithm = expected.map_or(Algorithm::Sha256, Digest::algorithm);
        let mut hasher = Hasher::new(algorithm);
        let mut offset = 0;
        if resumable.is_some() {
            offset = hasher
                .read(output.file())
                .map_err(file::Error::of("read", output.path()))?;
            output.seek_to(offset)?;
        } else {
            output.set_len(points::BEGIN, 0)?;
        }
        let (started, updated, known) = resumable
            .as_ref()
            .map_or((now, now, 0), |old| (old.started, old.updated, old.total));
        Ok(Self {
            guard,
            reference: reference.to_owned(),
            output,
            hasher,
            offset,
            written_back: offset,
            total: if known > 0 { known } else { total },
            started,
            updated,
            resumed: offset > 0,
            durable: false,
        })
    }

    /// Appends bytes.
    ///
    /// After a failure the write must be dropped or truncated: how many of the bytes arrived is unknown.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.output.write_all(points::WRITE, bytes)?;
        self.hasher.update(bytes);
        self.offset += bytes.len() as u64;
        self.updated = self.guard.shared.clock.now();
        let waiting = self.offset - self.written_back;
        if waiting >= WRITEBACK_BYTES {
            self.output.start_writeback(self.written_back, waiting);
            self.written_back = self.offset;
        }
        Ok(())
    }

    /// Bytes written so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The digest of the bytes so far: SHA-256, unless the expected digest given at the start is of another algorithm.
    pub fn digest(&self) -> Digest {
        self.hasher.digest()
    }

    /// The file of the bytes so far, for reading at offsets while the write runs.
    pub fn file(&self) -> &File {
        self.output.file()
    }

    /// The state of the write.
    pub fn status(&self) -> Status {
        Status {
            reference: self.reference.clone(),
            offset: self.offset,
            total: self.total,
            started: self.started,
            updated: self.updated,
        }
    }

    /// Starts over. Any `size` but 0 is `InvalidArgument`.
    pub fn truncate(&mut self, size: u64) -> Result<()> {
        if size != 0 {
            return Err(Error::Truncate { size });
        }
        self.output.set_len(points::TRUNCATE, 0)?;
        self.output.seek_to(0)?;
        self.hasher = Hasher::new(self.hasher.algorithm());
        self.offset = 0;
        self.written_back = 0;
        self.resumed = false;
        Ok(())
    }

    /// Turns the write into a blob and answers when that survives a power cut.
    ///
    /// A wrong `size` or digest is `FailedPrecondition` and keeps the bytes, so that the commit can be repeated with
    /// another expectation. If the blob exists already the write is removed: `AlreadyExists`.
    pub fn commit(mut self, size: Option<u64>, expected: Option<&Digest>) -> Result<Committed> {
        let digest = self.verify(size, expected)?;
        let target = self.guard.shared.blob_path(&digest);
        if !target.exists() {
            self.make_durable()?;
        }
        let named = self.name(&digest, &target);
        if matches!(named, Ok(()) | Err(Error::AlreadyExists { .. })) {
            // The blob stands whatever happens here; what stays is a broken folder, which the next write of the ref
            // or the sweep takes over.
            let files = &self.guard.shared.files;
            drop(files.remove_tree(points::FINISH, &self.guard.path()));
        }
        named.map(|()| Committed {
            digest,
            size: self.offset,
        })
    }

    fn verify(&mut self, size: Option<u64>, expected: Option<&Digest>) -> Result<Digest> {
        let found = self.output.length()?;
        if found != self.offset {
            return Err(Error::Tampered {
                reference: self.reference.clone(),
                found,
                written: self.offset,
            });
        }
        if let Some(expected) = size.filter(|size| *size != found) {
            return Err(Error::Size {
                actual: found,
                expected,
            });
        }
        if let Some(expected) = expected
            && expected.algorithm() != self.hasher.algorithm()
        {
            let mut hasher = Hasher::new(expected.algorithm());
            hasher
                .read(self.output.file())
                .map_err(file::Error::of("read", self.output.path()))?;
            self.hasher = hasher;
        }
        let actual = self.hasher.digest();
        match expected.filter(|expected| **expected != actual) {
            None => Ok(actual),
            Some(expected) => {
                if self.resumed {
                    // What an earlier writer left can be damaged by a power cut, and no later resume would heal it.
                    self.output.set_len(points::TRUNCATE, 0)?;
                }
                Err(Error::Digest {
                    actual,
                    expected: expected.clone(),
                })
            }
        }
    }

    fn make_durable(&mut self) -> Result<()> {
        let now = self.guard.shared.clock.now();
        // Attributes go before the name, so that no name ever shows a blob that can be written.
        self.output
            .set_attributes(points::COMMIT, 0o444, now.into())?;
        if let Err(error) = self.output.sync_data(points::COMMIT) {
            drop(self.output.set_len(points::TRUNCATE, 0));
            return Err(error.into());
        }
        self.durable = true;
        Ok(())
    }

    /// Gives the blob its name, durably.
    fn name(&mut self, digest: &Digest, target: &Path) -> Result<()> {
        let shared = Arc::clone(&self.guard.shared);
        let files = &shared.files;
        let exists = || Error::AlreadyExists {
            digest: digest.clone(),
        };
        let _naming = shared.naming();
        if target.exists() {
            return Err(exists());
        }
        if !self.durable {
            // The blob was deleted since it was last looked for.
            self.make_durable()?;
        }
        let Err(error) = files.rename_noreplace(points::COMMIT, self.output.path(), target) else {
            return Ok(());
        };
        if error.path != target {
            // Renamed, but the folder could not be synced: nobody may take the name for a durable one.
            drop(files.rename_noreplace(points::COMMIT, target, self.output.path()));
        }
        Err(if error.is_already_exists() {
            exists()
        } else {
            error.into()
        })
    }
}

/// Writes what a later process needs to resume; nothing of it has to survive a power cut.
fn describe(
    files: &Files,
    folder: &Path,
    reference: &str,
    total: u64,
    now: Timestamp,
) -> Result<()> {
    let time = stamp::write(now);
    let total_text = total.to_string();
    let mut texts = vec![
        ("ref", reference),
        ("startedat", &time),
        ("updatedat", &time),
    ];
    if total > 0 {
        texts.push(("total", &total_text));
    }
    for (name, text) in texts {
        let mut output = files.open_or_create(points::BEGIN, folder.join(name), 0o644)?;
        output.set_len(points::BEGIN, 0)?;
        output.write_all(points::BEGIN, text.as_bytes())?;
    }
    Ok(())
}
