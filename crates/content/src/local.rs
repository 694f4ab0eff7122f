//! The store on a local file system.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{Algorithm, Clock, Digest, Timestamp};
use sys::file::{self, Files};

use crate::hasher::folder_of_ref;
use crate::{
    Error, Ingest, IngestDir, REF_BYTES_MAX, Result, STATUSES_MAX, Status, points, stamp, status,
};

const ALGORITHMS: [Algorithm; 3] = [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512];

/// A content store under one root. Cheap to clone; clones share the table of running writes.
#[derive(Debug, Clone)]
pub struct Local {
    pub(crate) shared: Arc<Shared>,
}

/// What the store and its writers have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) root: PathBuf,
    pub(crate) files: Files,
    pub(crate) clock: Arc<dyn Clock>,
    /// Running writes: folder name of the ref, and since when. At most one entry per open [`Ingest`].
    writers: Mutex<HashMap<String, Timestamp>>,
    /// Held while a blob gets its name, so that none is seen that may yet be taken back.
    naming: Mutex<()>,
}

/// What is known of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// When it was committed.
    pub created: Timestamp,
}

/// An open blob. It stays readable when the blob is deleted meanwhile.
#[derive(Debug)]
pub struct Blob {
    /// The file, open for reading.
    pub file: File,
    /// Its size in bytes.
    pub size: u64,
}

impl Blob {
    /// Reads bytes from `offset`; fewer than asked for, possibly none, at the end.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}

impl Shared {
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs(digest.algorithm()).join(digest.hex())
    }

    pub(crate) fn blobs(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("blobs").join(algorithm.as_str())
    }

    pub(crate) fn ingest_path(&self, folder: &str) -> PathBuf {
        self.root.join("ingest").join(folder)
    }

    fn writers(&self) -> MutexGuard<'_, HashMap<String, Timestamp>> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn naming(&self) -> MutexGuard<'_, ()> {
        self.naming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self, folder: &str, reference: &str) -> Result<()> {
        let now = self.clock.now();
        let mut writers = self.writers();
        if let Some(since) = writers.get(folder) {
            return Err(Error::Locked {
                reference: reference.to_owned(),
                locked_ms: now.as_millisecond() - since.as_millisecond(),
                since: *since,
            });
        }
        writers.insert(folder.to_owned(), now);
        Ok(())
    }

    pub(crate) fn unlock(&self, folder: &str) {
        self.writers().remove(folder);
    }
}

impl Local {
    /// Opens the store under `root`, made when absent.
    ///
    /// The folders of blobs are synced: a blob that an earlier process renamed but never answered becomes durable
    /// before anybody can be told that it exists.
    pub fn open(root: impl Into<PathBuf>, files: Files, clock: Arc<dyn Clock>) -> Result<Self> {
        let root = root.into();
        files.make_dir_all(points::OPEN, &root, 0o700)?;
        let shared = Shared {
            root,
            files,
            clock,
            writers: Mutex::default(),
            naming: Mutex::default(),
        };
        let Shared { root, files, .. } = &shared;
        for algorithm in ALGORITHMS {
            let folder = shared.blobs(algorithm);
            files.make_dir_all(points::OPEN, &folder, 0o755)?;
            files.sync_dir(points::OPEN, &folder)?;
        }
        files.make_dir_all(points::OPEN, &root.join("ingest"), 0o755)?;
        files.sync_dir(points::OPEN, &root.join("blobs"))?;
        files.sync_dir(points::OPEN, root)?;
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The folder under which the store lies.
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// Begins or resumes the write named `reference`. The bytes of a resumed write are hashed again first.
    ///
    /// `total` is the expected size in bytes, if known. With `expected` present in the store: `AlreadyExists`. While
    /// another [`Ingest`] has the ref: `Unavailable`.
    pub fn writer(
        &self,
        reference: &str,
        total: Option<u64>,
        expected: Option<&Digest>,
    ) -> Result<Ingest> {
        let folder = checked_folder(reference)?;
        self.shared.lock(&folder, reference)?;
        let guard = Guard {
            shared: Arc::clone(&self.shared),
            folder,
        };
        if let Some(digest) = expected
            && {
                let _naming = self.shared.naming();
                self.shared.blob_path(digest).exists()
            }
        {
            return Err(Error::AlreadyExists {
                digest: digest.clone(),
            });
        }
        Ingest::begin(guard, reference, total.unwrap_or(0), expected)
    }

    /// Opens a blob for reading.
    pub fn reader(&self, digest: &Digest) -> Result<Blob> {
        let path = self.shared.blob_path(digest);
        let opened = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc_nofollow())
            .open(&path);
        let file = opened.map_err(|source| absent(digest, "open", &path, source))?;
        let metadata = file.metadata().map_err(file::Error::of("stat", &path))?;
        if !metadata.is_file() {
            return Err(Error::NotFound {
                digest: digest.clone(),
            });
        }
        Ok(Blob {
            size: metadata.len(),
            file,
        })
    }

    /// What is known of a blob.
    pub fn info(&self, digest: &Digest) -> Result<Info> {
        let path = self.shared.blob_path(digest);
        let metadata =
            fs::symlink_metadata(&path).map_err(|source| absent(digest, "stat", &path, source))?;
        info_of(digest.clone(), &metadata).ok_or_else(|| Error::NotFound {
            digest: digest.clone(),
        })
    }

    /// Removes a blob. After a power cut it may be back; it is then one that no record names.
    pub fn delete(&self, digest: &Digest) -> Result<()> {
        let path = self.shared.blob_path(digest);
        match self.shared.files.remove(points::DELETE, &path) {
            Err(error) if error.is_not_found() => Err(Error::NotFound {
                digest: digest.clone(),
            }),
            other => Ok(other?),
        }
    }

    /// Shows every blob to `visit` until it breaks, in no order. What is no blob is passed over.
    pub fn walk(&self, mut visit: impl FnMut(Info) -> ControlFlow<()>) -> Result<()> {
        for algorithm in ALGORITHMS {
            let folder = self.shared.blobs(algorithm);
            for entry in fs::read_dir(&folder).map_err(file::Error::of("list", &folder))? {
                let entry = entry.map_err(file::Error::of("list", &folder))?;
                let name = entry.file_name();
                let text = format!("{}:{}", algorithm.as_str(), name.to_string_lossy());
                let Ok(digest) = text.parse::<Digest>() else {
                    continue;
                };
                let info = match entry.metadata() {
                    // Deleted while we look.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    other => info_of(
                        digest,
                        &other.map_err(file::Error::of("stat", entry.path()))?,
                    ),
                };
                if info.is_some_and(|info| visit(info).is_break()) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The state of the write named `reference`.
    pub fn status(&self, reference: &str) -> Result<Status> {
        let folder = self.shared.ingest_path(&checked_folder(reference)?);
        let status = status::read(&folder)?.filter(|status| status.reference == reference);
        status.ok_or_else(|| Error::NoIngest {
            reference: reference.to_owned(),
        })
    }

    /// The state of every write that runs or can be resumed, in no order; broken folders are passed over.
    pub fn statuses(&self) -> Result<Vec<Status>> {
        let mut found = Vec::new();
        self.walk_ingests(|folder| {
            found.extend(folder.status);
            if found.len() > STATUSES_MAX {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        if found.len() > STATUSES_MAX {
            return Err(Error::TooMany);
        }
        Ok(found)
    }

    /// Shows every ingest folder, whole or broken, to `visit` until it breaks, in no order.
    pub fn walk_ingests(&self, mut visit: impl FnMut(IngestDir) -> ControlFlow<()>) -> Result<()> {
        let root = self.shared.root.join("ingest");
        for entry in fs::read_dir(&root).map_err(file::Error::of("list", &root))? {
            let entry = entry.map_err(file::Error::of("list", &root))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if !is_folder_name(&name) || !metadata.is_dir() {
                continue;
            }
            let path = entry.path();
            let reference = status::reference(&path)?.filter(|text| folder_of_ref(text) == name);
            let status = match &reference {
                Some(_) => status::read(&path)?,
                None => None,
            };
            let changed = metadata.modified().map(stamp::of_system);
            let folder = IngestDir {
                name,
                reference,
                status,
                changed: changed.unwrap_or(Timestamp::UNIX_EPOCH),
            };
            if visit(folder).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Removes the write named `reference`. An open [`Ingest`] of it can then no longer be committed.
    pub fn abort(&self, reference: &str) -> Result<()> {
        self.remove_ingest(&checked_folder(reference)?, reference)
    }

    /// Removes an ingest folder by its own name (see [`IngestDir::name`]), whole or broken.
    ///
    /// `NotFound` for a name that is none of an ingest; `Unavailable` while it is written.
    pub fn discard(&self, name: &str) -> Result<()> {
        if !is_folder_name(name) {
            return Err(Error::NoIngest {
                reference: name.to_owned(),
            });
        }
        self.shared.lock(name, name)?;
        let _guard = Guard {
            shared: Arc::clone(&self.shared),
            folder: name.to_owned(),
        };
        self.remove_ingest(name, name)
    }

    fn remove_ingest(&self, folder: &str, reference: &str) -> Result<()> {
        let path = self.shared.ingest_path(folder);
        match self.shared.files.remove_tree(points::ABORT, &path) {
            Err(error) if error.is_not_found() => Err(Error::NoIngest {
                reference: reference.to_owned(),
            }),
            other => Ok(other?),
        }
    }
}

/// Has a ref to itself; lets go of it when dropped.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) shared: Arc<Shared>,
    pub(crate) folder: String,
}

impl Guard {
    pub(crate) fn path(&self) -> PathBuf {
        self.shared.ingest_path(&self.folder)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.unlock(&self.folder);
    }
}

fn libc_nofollow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0)
}

fn checked_folder(reference: &str) -> Result<String> {
    match reference.len() {
        1..=REF_BYTES_MAX => Ok(folder_of_ref(reference)),
        length => Err(Error::InvalidRef { length }),
    }
}

fn is_folder_name(name: &str) -> bool {
    name.len() == 64
        && name
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn absent(digest: &Digest, act: &'static str, path: &Path, source: io::Error) -> Error {
    if source.kind() == io::ErrorKind::NotFound {
        return Error::NotFound {
            digest: digest.clone(),
        };
    }
    file::Error::new(act, path, source).into()
}

fn info_of(digest: Digest, metadata: &fs::Metadata) -> Option<Info> {
    metadata.is_file().then(|| Info {
        digest,
        size: metadata.len(),
        created: metadata
            .modified()
            .map_or(Timestamp::UNIX_EPOCH, stamp::of_system),
    })
}

#[cfg(test)]
mod tests;
