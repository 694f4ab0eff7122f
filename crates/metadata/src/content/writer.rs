//! Writing a blob into a namespace.

use std::sync::Arc;
use std::time::Duration;

use content::Ingest;
use model::{Algorithm, Digest, ErrorKind, Kinded, Labels, Timestamp};

use super::{ContentInfo, IngestRow, Sharing, blob_owner, ingest_owner, is_shareable};
use crate::db::{View, blocking};
use crate::error::{Error, backend, exists, precondition};
use crate::key::{BLOBS, INGESTS, SEQUENCE, key, trash_blob, trash_ingest};
use crate::message::Message;
use crate::owner::{Rows, Tx};
use crate::record::{Record, read, settle_labels};

/// How long an ingest that no lease holds is kept.
const UNLEASED: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes copied at a time when a linked blob is written to after all.
const COPY_BYTES: usize = 1 << 20;

/// A write in progress. Dropping it keeps what was written for a later writer of the same ref.
#[derive(Debug)]
pub struct Writer {
    view: View,
    reference: String,
    backend: String,
    started: Timestamp,
    bytes: Bytes,
}

/// Where the bytes are.
#[derive(Debug)]
enum Bytes {
    /// In a file of this ingest.
    Own(Box<Ingest>),
    /// In a blob of another namespace, to be linked.
    Linked { digest: Digest, size: u64 },
    /// Nowhere, after a step that failed.
    Lost,
}

/// What the first transaction found.
enum Begun {
    Exists,
    Linked { backend: String, size: u64 },
    Own { backend: String },
}

impl Writer {
    pub(super) async fn begin(
        view: View,
        reference: &str,
        total: Option<u64>,
        expected: Option<&Digest>,
    ) -> Result<Self, Error> {
        let inner = Arc::clone(&view.db.inner);
        // Held until the record that names the blob is durable.
        let mut _pin = None;
        let mut present = None;
        if let Some(digest) = expected {
            _pin = Some(inner.pins.pin(digest).await);
            let (store, digest) = (Arc::clone(&inner.content), digest.clone());
            let info = blocking(move || store.info(&digest)).await?;
            present = info.ok().map(|info| info.size);
        }
        let fits = present.filter(|size| total.is_none_or(|total| total == 0 || total == *size));
        let begun = record(&view, reference, expected.cloned(), fits).await?;
        let started = inner.clock.now();
        let (backend, bytes) = match (begun, expected) {
            (Begun::Linked { backend, size }, Some(digest)) => {
                let digest = digest.clone();
                (backend, Bytes::Linked { digest, size })
            }
            (Begun::Exists, Some(digest)) => return Err(exists(format!("content {digest}"))),
            (Begun::Own { backend }, _) => {
                let ingest = open(&view, &backend, total, expected.cloned()).await?;
                (backend, Bytes::Own(Box::new(ingest)))
            }
            // Only an expected digest can exist or be linked.
            (Begun::Exists | Begun::Linked { .. }, None) => return Err(Error::Closed),
        };
        Ok(Self {
            view,
            reference: reference.to_owned(),
            backend,
            started,
            bytes,
        })
    }

    /// The client's ref.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// Bytes there are already.
    pub fn offset(&self) -> u64 {
        match &self.bytes {
            Bytes::Own(ingest) => ingest.offset(),
            Bytes::Linked { size, .. } => *size,
            Bytes::Lost => 0,
        }
    }

    /// The digest of the bytes so far; `None` after a step that failed.
    pub fn digest(&self) -> Option<Digest> {
        match &self.bytes {
            Bytes::Own(ingest) => Some(ingest.digest()),
            Bytes::Linked { digest, .. } => Some(digest.clone()),
            Bytes::Lost => None,
        }
    }

    /// Whether the ingest links a blob that is there already, so that no byte need be sent.
    pub fn is_complete(&self) -> bool {
        matches!(self.bytes, Bytes::Linked { .. })
    }

    /// The state of the write.
    pub fn status(&self) -> content::Status {
        let mut status = match &self.bytes {
            Bytes::Own(ingest) => ingest.status(),
            Bytes::Linked { size, .. } => self.status_of(*size),
            Bytes::Lost => self.status_of(0),
        };
        self.reference.clone_into(&mut status.reference);
        status
    }

    fn status_of(&self, size: u64) -> content::Status {
        content::Status {
            reference: String::new(),
            offset: size,
            total: size,
            started: self.started,
            updated: self.started,
        }
    }

    /// The file of the bytes so far; `None` when they are in a linked blob.
    pub fn ingest(&mut self) -> Option<&mut Ingest> {
        match &mut self.bytes {
            Bytes::Own(ingest) => Some(ingest),
            Bytes::Linked { .. } | Bytes::Lost => None,
        }
    }

    /// The file of the bytes so far, for reading while the write runs; `None` when they are in a linked blob.
    pub fn file(&self) -> Option<&std::fs::File> {
        match &self.bytes {
            Bytes::Own(ingest) => Some(ingest.file()),
            Bytes::Linked { .. } | Bytes::Lost => None,
        }
    }

    /// Appends bytes; those of a linked blob are copied first. Blocks.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        let reference = self.reference.clone();
        let written = self.own(true)?.write(bytes);
        written.map_err(|source| backend(format!("write ingest {reference}"), source))
    }

    /// Starts over: `size` must be 0. Blocks.
    pub fn truncate(&mut self, size: u64) -> Result<(), Error> {
        let reference = self.reference.clone();
        let cut = self.own(false)?.truncate(size);
        cut.map_err(|source| backend(format!("truncate ingest {reference}"), source))
    }

    /// The ingest of our own; a linked blob becomes one, with a copy of its bytes if wanted.
    fn own(&mut self, copy: bool) -> Result<&mut Ingest, Error> {
        if let Bytes::Linked { digest, .. } = &self.bytes {
            let store = &self.view.db.inner.content;
            let fail = |source| backend(format!("copy content {digest}"), source);
            let mut ingest = store.writer(&self.backend, None, None).map_err(fail)?;
            if copy {
                copy_blob(store, digest, &mut ingest)?;
            }
            self.bytes = Bytes::Own(Box::new(ingest));
        }
        match &mut self.bytes {
            Bytes::Own(ingest) => Ok(ingest),
            Bytes::Linked { .. } | Bytes::Lost => Err(Error::Closed),
        }
    }

    /// Makes a blob of this namespace from the bytes and answers when it is durable.
    ///
    /// A wrong size or digest is `FailedPrecondition` and keeps the bytes. A blob that the namespace has already is
    /// `AlreadyExists`; the ingest is over then, and the blob is held by the view's lease. A dropped call either
    /// happened or did not.
    pub async fn commit(
        self,
        size: Option<u64>,
        expected: Option<&Digest>,
        labels: Labels,
    ) -> Result<ContentInfo, Error> {
        // A task of its own: a caller that goes away between the blob's rename and its record would leave a file that
        // no record names.
        let expected = expected.cloned();
        let committed =
            tokio::spawn(async move { self.commit_now(size, expected.as_ref(), labels).await });
        committed.await.map_err(|_| Error::Closed)?
    }

    async fn commit_now(
        mut self,
        size: Option<u64>,
        expected: Option<&Digest>,
        mut labels: Labels,
    ) -> Result<ContentInfo, Error> {
        settle_labels("info.Labels", &mut labels)?;
        let size = size.filter(|size| *size != 0);
        let mut pins = Vec::new();
        for digest in self.digest().iter().chain(expected) {
            pins.push(self.view.db.inner.pins.pin(digest).await);
        }
        let (digest, size) = match std::mem::replace(&mut self.bytes, Bytes::Lost) {
            Bytes::Linked {
                digest,
                size: found,
            } => {
                self.check_link(&digest, found, size, expected)?;
                (digest, found)
            }
            Bytes::Own(ingest) => {
                let (found, expected) = (ingest.offset(), expected.cloned());
                let committed =
                    blocking(move || (ingest.commit(size, expected.as_ref()), expected)).await?;
                match committed {
                    (Ok(committed), _) => (committed.digest, committed.size),
                    // Of another namespace, or left by a crash: the bytes are the same.
                    (Err(content::Error::AlreadyExists { digest }), _) => (digest, found),
                    (Err(source), _) => {
                        return Err(backend(format!("commit ingest {}", self.reference), source));
                    }
                }
            }
            Bytes::Lost => return Err(Error::Closed),
        };
        let (view, reference, backend) = (self.view.clone(), self.reference, self.backend);
        let named = digest.clone();
        let db = view.db.clone();
        let done = db.write(move |tx| name(tx, &view, &reference, &backend, &named, size, labels));
        match done.await {
            Ok(Some(info)) => Ok(info),
            Ok(None) => Err(exists(format!("content {digest}"))),
            Err(error) => {
                discard(&self.view, &digest).await;
                Err(error)
            }
        }
    }

    fn check_link(
        &self,
        digest: &Digest,
        found: u64,
        size: Option<u64>,
        expected: Option<&Digest>,
    ) -> Result<(), Error> {
        let reference = &self.reference;
        if let Some(size) = size.filter(|size| *size != found) {
            return Err(precondition(format!(
                "{reference:?} failed size validation: {found} != {size}"
            )));
        }
        if expected.is_some_and(|expected| expected != digest) {
            return Err(precondition(format!("{reference:?} unexpected digest")));
        }
        Ok(())
    }
}

/// Records the ingest, or that the blob is there already.
async fn record(
    view: &View,
    reference: &str,
    expected: Option<Digest>,
    present: Option<u64>,
) -> Result<Begun, Error> {
    let (view, reference) = (view.clone(), reference.to_owned());
    let db = view.db.clone();
    db.write(move |tx| {
        let namespace = view.namespace.as_str();
        if let Some(digest) = &expected
            && tx.has(&key(BLOBS, &[namespace, digest.as_str()]))?
        {
            view.hold(tx, "content", digest.as_str())?;
            return Ok(Begun::Exists);
        }
        let linked = match (&expected, present) {
            (Some(digest), Some(size))
                if view.db.inner.sharing() == Sharing::Shared || is_shareable(tx, digest)? =>
            {
                Some((digest.clone(), size))
            }
            _ => None,
        };
        let leased = view.hold(tx, "ingests", &reference)?;
        tx.ensure_namespace(&view.namespace)?;
        let backend = match read::<IngestRow>(tx, namespace, &reference)? {
            Some(row) => {
                if let Some(expected) = row.expected {
                    tx.delete(ingest_owner(expected.as_str(), namespace, &reference));
                }
                row.backend
            }
            None => {
                let number = tx.counter(SEQUENCE)? + 1;
                tx.put(SEQUENCE.to_vec(), number.to_be_bytes().to_vec());
                format!("{namespace}/{number}/{reference}")
            }
        };
        if let Some((digest, _)) = &linked {
            let owner = ingest_owner(digest.as_str(), namespace, &reference);
            tx.put(owner, Vec::new());
        }
        let row = IngestRow {
            reference: reference.clone(),
            backend: backend.clone(),
            expires: (!leased).then(|| tx.now() + UNLEASED),
            expected: linked.as_ref().map(|(digest, _)| digest.clone()),
        };
        tx.put(key(INGESTS, &[namespace, &reference]), row.encode());
        Ok(match linked {
            Some((_, size)) => Begun::Linked { backend, size },
            None => Begun::Own { backend },
        })
    })
    .await
}

async fn open(
    view: &View,
    reference: &str,
    total: Option<u64>,
    expected: Option<Digest>,
) -> Result<Ingest, Error> {
    let store = Arc::clone(&view.db.inner.content);
    let reference = reference.to_owned();
    // The digest only chooses the algorithm of the running hash: whether the blob is there was asked before.
    let other = expected.filter(|digest| digest.algorithm() != Algorithm::Sha256);
    let opened = blocking(move || {
        let opened = store.writer(&reference, total, other.as_ref());
        match opened {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                store.writer(&reference, total, None)
            }
            opened => opened,
        }
    });
    opened
        .await?
        .map_err(|source| backend("begin ingest", source))
}

/// Copies a linked blob into an ingest of our own.
fn copy_blob(store: &content::Local, digest: &Digest, ingest: &mut Ingest) -> Result<(), Error> {
    let fail = |source| backend(format!("copy content {digest}"), source);
    let blob = store.reader(digest).map_err(fail)?;
    ingest.truncate(0).map_err(fail)?;
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let read = blob.read_at(&mut buffer, ingest.offset());
        let read = read.map_err(|source| Error::Backend {
            act: format!("read content {digest}"),
            kind: ErrorKind::Unknown,
            source: Box::new(source),
        })?;
        if read == 0 {
            return Ok(());
        }
        ingest.write(&buffer[..read]).map_err(fail)?;
    }
}

/// Names a blob whose bytes are durable; `None` when the namespace has it already.
fn name(
    tx: &mut Tx<'_>,
    view: &View,
    reference: &str,
    backend: &str,
    digest: &Digest,
    size: u64,
    labels: Labels,
) -> Result<Option<ContentInfo>, Error> {
    let namespace = view.namespace.as_str();
    view.hold(tx, "content", digest.as_str())?;
    view.release(tx, "ingests", reference);
    let ingest: Option<IngestRow> = read(tx, namespace, reference)?;
    // Given up and begun again meanwhile: that one is somebody else's.
    if ingest.is_some_and(|row| row.backend == backend) {
        let gone = super::forget_ingest(tx, key(INGESTS, &[namespace, reference]))?;
        // A crash after the blob's rename leaves the folder of the write, and the next write only links the blob.
        if let Some(gone) = gone.filter(|gone| gone.expected.is_some()) {
            tx.put(trash_ingest(&gone.backend), Vec::new());
        }
    }
    let row = key(BLOBS, &[namespace, digest.as_str()]);
    if tx.has(&row)? {
        return Ok(None);
    }
    tx.ensure_namespace(&view.namespace)?;
    let now = tx.now();
    let info = ContentInfo {
        digest: digest.clone(),
        size,
        labels,
        created: now,
        updated: now,
    };
    tx.put(row, info.encode());
    tx.put(blob_owner(digest.as_str(), namespace), Vec::new());
    let event = Message::new("containerd.events.ContentCreate")
        .text(1, digest.as_str())
        .number(2, size);
    tx.publish(&view.namespace, "/content/create", event.any());
    Ok(Some(info))
}

/// Lets collection remove a blob that got its bytes but no name.
async fn discard(view: &View, digest: &Digest) {
    let row = trash_blob(digest.as_str());
    let noted = view.db.write(move |tx| {
        tx.put(row, Vec::new());
        Ok(())
    });
    if let Err(error) = noted.await {
        tracing::warn!(%digest, %error, "blob without a name stays");
    }
}
