//! Stores for tests: content on disk as the daemon's, names and snapshots in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use content::{Ingest, Local};
use model::{Descriptor, Digest, ErrorKind, Kinded, Labels, Mount, SystemClock};
use sha2::Digest as _;
use snapshots::{CommitOptions, Info, Kind, Page, Snapshotter, Usage};
use transfer::{Applied, Applier, Begin, Blobs, Error, Names, Progressed, Session, Writing};

#[derive(Debug)]
pub struct Disk {
    pub local: Local,
    pub labels: Mutex<BTreeMap<Digest, Labels>>,
    _root: tempfile::TempDir,
}

impl Disk {
    pub fn new() -> Arc<Self> {
        let root = tempfile::tempdir().unwrap();
        let local =
            Local::open(root.path(), sys::file::Files::real(), Arc::new(SystemClock)).unwrap();
        Arc::new(Self {
            local,
            labels: Mutex::default(),
            _root: root,
        })
    }

    pub fn has(&self, digest: &Digest) -> bool {
        self.labels.lock().unwrap().contains_key(digest)
    }

    pub fn label(&self, digest: &Digest, key: &str) -> Option<String> {
        self.labels.lock().unwrap().get(digest)?.get(key).cloned()
    }
}

/// [`Blobs`] over a disk, shared by all pulls of a test.
#[derive(Debug, Clone)]
pub struct Content(pub Arc<Disk>);

#[async_trait]
impl Blobs for Content {
    async fn labels(&self, digest: &Digest) -> Result<Option<Labels>, Error> {
        Ok(self.0.labels.lock().unwrap().get(digest).cloned())
    }

    async fn set_labels(&self, digest: &Digest, labels: Labels) -> Result<(), Error> {
        self.0
            .labels
            .lock()
            .unwrap()
            .get_mut(digest)
            .expect("labelled content exists")
            .extend(labels);
        Ok(())
    }

    async fn open(&self, digest: &Digest) -> Result<File, Error> {
        self.0
            .local
            .reader(digest)
            .map(|blob| blob.file)
            .map_err(|error| Error::store("open", digest, error))
    }

    async fn begin(&self, reference: &str, descriptor: &Descriptor) -> Result<Begin, Error> {
        match self
            .0
            .local
            .writer(reference, Some(descriptor.size), Some(&descriptor.digest))
        {
            Ok(ingest) => Ok(Begin::Write(Box::new(Write {
                disk: self.0.clone(),
                ingest,
            }))),
            Err(error) => match error.kind() {
                ErrorKind::AlreadyExists => Ok(Begin::Exists),
                ErrorKind::Unavailable => Ok(Begin::Locked),
                _ => Err(Error::store("begin", reference, error)),
            },
        }
    }
}

#[derive(Debug)]
struct Write {
    disk: Arc<Disk>,
    ingest: Ingest,
}

#[async_trait]
impl Writing for Write {
    fn offset(&self) -> u64 {
        self.ingest.offset()
    }

    fn digest(&self) -> Option<Digest> {
        Some(self.ingest.digest())
    }

    fn file(&self) -> Result<File, Error> {
        Ok(self.ingest.file().try_clone().unwrap())
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.ingest
            .write(&bytes)
            .map_err(|error| Error::store("write", "", error))
    }

    async fn restart(&mut self) -> Result<(), Error> {
        self.ingest
            .truncate(0)
            .map_err(|error| Error::store("restart", "", error))
    }

    async fn commit(self: Box<Self>, descriptor: &Descriptor, labels: Labels) -> Result<(), Error> {
        let digest = &descriptor.digest;
        self.ingest
            .commit(Some(descriptor.size), Some(digest))
            .map_err(|error| Error::store("commit", digest, error))?;
        self.disk
            .labels
            .lock()
            .unwrap()
            .insert(digest.clone(), labels);
        Ok(())
    }
}

#[derive(Debug, Default)]
pub struct Book(pub Mutex<BTreeMap<String, (Descriptor, Labels)>>);

#[async_trait]
impl Names for Book {
    async fn put(&self, name: &str, target: &Descriptor, labels: Labels) -> Result<(), Error> {
        self.0
            .lock()
            .unwrap()
            .insert(name.into(), (target.clone(), labels));
        Ok(())
    }
}

/// Snapshots that are names only; what was applied stands in the applier.
#[derive(Debug, Default)]
pub struct Shelf {
    pub all: Mutex<BTreeMap<String, Info>>,
    /// Chain ids that appear by themselves when somebody prepares them.
    pub remote: Mutex<Vec<String>>,
}

impl Shelf {
    pub fn kinds(&self) -> Vec<(String, Kind)> {
        self.all
            .lock()
            .unwrap()
            .values()
            .map(|info| (info.name.clone(), info.kind))
            .collect()
    }

    fn put(&self, name: &str, parent: Option<&str>, kind: Kind, labels: Labels) {
        let info = Info {
            name: name.into(),
            parent: parent.map(str::to_owned),
            kind,
            created: model::Timestamp::default(),
            updated: model::Timestamp::default(),
            labels,
        };
        self.all.lock().unwrap().insert(name.into(), info);
    }
}

fn missing(key: &str) -> snapshots::Error {
    snapshots::Error::NotFound { key: key.into() }
}

#[async_trait]
impl Snapshotter for Shelf {
    async fn stat(&self, key: &str) -> snapshots::Result<Info> {
        self.all
            .lock()
            .unwrap()
            .get(key)
            .cloned()
            .ok_or_else(|| missing(key))
    }

    async fn update(&self, info: &Info, _fields: Option<&[String]>) -> snapshots::Result<Info> {
        Ok(info.clone())
    }

    async fn usage(&self, _key: &str) -> snapshots::Result<Usage> {
        Ok(Usage::default())
    }

    async fn mounts(&self, _key: &str) -> snapshots::Result<Vec<Mount>> {
        Ok(Vec::new())
    }

    async fn prepare(
        &self,
        key: &str,
        parent: Option<&str>,
        labels: Labels,
    ) -> snapshots::Result<Vec<Mount>> {
        let chain = labels
            .get(snapshots::LABEL_REF)
            .cloned()
            .unwrap_or_default();
        if self.remote.lock().unwrap().contains(&chain) {
            self.put(&chain, parent, Kind::Committed, labels);
            return Err(snapshots::Error::AlreadyExists { key: chain });
        }
        if let Some(parent) = parent {
            assert_eq!(self.stat(parent).await?.kind, Kind::Committed);
        }
        self.put(key, parent, Kind::Active, labels);
        Ok(vec![Mount {
            kind: "test".into(),
            source: key.into(),
            target: String::new(),
            options: Vec::new(),
        }])
    }

    async fn view(
        &self,
        _key: &str,
        _parent: Option<&str>,
        _labels: Labels,
    ) -> snapshots::Result<Vec<Mount>> {
        Ok(Vec::new())
    }

    async fn commit(&self, name: &str, key: &str, options: CommitOptions) -> snapshots::Result<()> {
        let active = self
            .all
            .lock()
            .unwrap()
            .remove(key)
            .ok_or_else(|| missing(key))?;
        self.put(
            name,
            active.parent.as_deref(),
            Kind::Committed,
            options.labels,
        );
        Ok(())
    }

    async fn remove(&self, key: &str) -> snapshots::Result<()> {
        self.all
            .lock()
            .unwrap()
            .remove(key)
            .map(|_| ())
            .ok_or_else(|| missing(key))
    }

    async fn walk(&self, _filters: &[String], _page: &mut Page<'_>) -> snapshots::Result<()> {
        Ok(())
    }

    async fn cleanup(&self) -> snapshots::Result<()> {
        Ok(())
    }
}

/// Hashes plain layers and remembers them.
#[derive(Debug, Default)]
pub struct Hash {
    pub applied: Arc<Mutex<Vec<Digest>>>,
    pub sessions: Mutex<usize>,
}

#[async_trait]
impl Applier for Hash {
    async fn session(&self) -> Result<Box<dyn Session>, Error> {
        *self.sessions.lock().unwrap() += 1;
        Ok(Box::new(HashSession(self.applied.clone())))
    }
}

#[derive(Debug)]
struct HashSession(Arc<Mutex<Vec<Digest>>>);

#[async_trait]
impl Session for HashSession {
    async fn apply(
        &mut self,
        _descriptor: &Descriptor,
        layer: OwnedFd,
        mounts: &[Mount],
        _progress: Progressed,
    ) -> Result<Applied, Error> {
        assert_eq!(mounts.len(), 1);
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            File::from(layer).read_to_end(&mut bytes).map(|_| bytes)
        });
        let bytes = read.await.unwrap().unwrap();
        let diff_id = Digest::from_sha256(sha2::Sha256::digest(&bytes).into());
        self.0.lock().unwrap().push(diff_id.clone());
        Ok(Applied {
            diff_id,
            durable: false,
        })
    }
}
