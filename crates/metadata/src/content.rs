//! Blobs and ingests by namespace, over one backend that all namespaces share.

mod record;
mod writer;

use std::borrow::Cow;
use std::sync::Arc;

use model::filter::{Fields, Filters, map_field, text_field};
use model::{Digest, Labels, Timestamp};

use crate::db::{View, blocking};
use crate::error::{Error, backend, invalid, not_found};
use crate::key::{BLOBS, DIGESTS, INGESTS, Key, key, prefix, trash_blob, trash_ingest};
use crate::message::Message;
use crate::owner::{Rows, STOP, Tx};
use crate::record::{bad_path, key_of, list, mask_labels, read, settle_labels};

pub(crate) use record::IngestRow;
pub use writer::Writer;

/// What is known of a blob in a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentInfo {
    /// The digest.
    pub digest: Digest,
    /// The size in bytes.
    pub size: u64,
    /// Labels.
    pub labels: Labels,
    /// When it was committed in this namespace.
    pub created: Timestamp,
    /// When its record last changed.
    pub updated: Timestamp,
}

/// Who may link a blob that the backend has for another namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Everybody who names its digest.
    #[default]
    Shared,
    /// Who brings the bytes; but a namespace labelled `containerd.io/namespace.shareable=true` shares with all.
    Isolated,
}

/// The label with which a namespace shares its blobs.
const LABEL_SHAREABLE: &str = "containerd.io/namespace.shareable";

impl Fields for ContentInfo {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["digest", ..] => text_field(self.digest.as_str()),
            ["labels", key @ ..] => map_field(key, &self.labels),
            _ => None,
        }
    }
}

/// The content of one namespace.
#[derive(Debug, Clone)]
pub struct Content {
    pub(crate) view: View,
}

impl Content {
    /// What is known of a blob. A blob of another namespace only is not found.
    pub fn info(&self, digest: &Digest) -> Result<ContentInfo, Error> {
        let rows = self.view.db.snapshot()?;
        read(&rows, self.namespace(), digest.as_str())?.ok_or_else(|| missing(digest))
    }

    /// All blobs that match one of the filters, in order of their digests.
    pub fn list(&self, filters: &[String]) -> Result<Vec<ContentInfo>, Error> {
        let filters = Filters::parse(filters)?;
        let rows = self.view.db.snapshot()?;
        list(&rows, self.namespace(), |info| filters.matches(info))
    }

    /// Opens a blob of this namespace for reading. Blocks.
    pub fn reader(&self, digest: &Digest) -> Result<content::Blob, Error> {
        self.info(digest)?;
        let store = &self.view.db.inner.content;
        store
            .reader(digest)
            .map_err(|source| backend(format!("read content {digest}"), source))
    }

    /// Replaces labels: all of them, or those that `mask` names as `labels` or `labels.<key>`.
    pub async fn update(
        &self,
        digest: &Digest,
        labels: Labels,
        mask: Vec<String>,
    ) -> Result<ContentInfo, Error> {
        let (view, digest) = (self.view.clone(), digest.clone());
        self.view
            .db
            .write(move |tx| {
                let namespace = view.namespace.as_str();
                let mut info: ContentInfo =
                    read(tx, namespace, digest.as_str())?.ok_or_else(|| missing(&digest))?;
                if mask.is_empty() {
                    info.labels.clone_from(&labels);
                }
                for path in &mask {
                    if !mask_labels(path, "labels", &mut info.labels, &labels) {
                        return Err(bad_path(path, &format!("content info \"{digest}\"")));
                    }
                }
                settle_labels("info.Labels", &mut info.labels)?;
                info.updated = tx.now();
                let row = key_of::<ContentInfo>(namespace, digest.as_str());
                tx.put(row, crate::record::Record::encode(&info));
                tx.mark_dirty();
                Ok(info)
            })
            .await
    }

    /// Deletes the name of a blob in this namespace; the bytes go with the next collection.
    pub async fn delete(&self, digest: &Digest) -> Result<(), Error> {
        let (view, digest) = (self.view.clone(), digest.clone());
        self.view
            .db
            .write(move |tx| {
                let namespace = view.namespace.as_str();
                if !tx.has(&key(BLOBS, &[namespace, digest.as_str()]))? {
                    return Err(missing(&digest));
                }
                unlink_blob(tx, namespace, digest.as_str());
                view.release(tx, "content", digest.as_str());
                tx.mark_dirty();
                let event =
                    Message::new("containerd.events.ContentDelete").text(1, digest.as_str());
                tx.publish(&view.namespace, "/content/delete", event.any());
                Ok(())
            })
            .await
    }

    /// The state of one ingest. Blocks.
    pub fn status(&self, reference: &str) -> Result<content::Status, Error> {
        let rows = self.view.db.snapshot()?;
        let row: IngestRow = read(&rows, self.namespace(), reference)?
            .ok_or_else(|| not_found(format!("reference {reference}")))?;
        let store = &self.view.db.inner.content;
        let status = store.status(&row.backend);
        let mut status =
            status.map_err(|source| backend(format!("status of ingest {reference}"), source))?;
        reference.clone_into(&mut status.reference);
        Ok(status)
    }

    /// The state of every ingest that matches one of the filters. Blocks.
    pub fn statuses(&self, filters: &[String]) -> Result<Vec<content::Status>, Error> {
        let filters = Filters::parse(filters)?;
        let rows = self.view.db.snapshot()?;
        let ingests: Vec<IngestRow> = list(&rows, self.namespace(), |_| true)?;
        let mut statuses = Vec::new();
        for row in ingests {
            // One that starts complete, or that was just begun, has no files yet.
            let Ok(mut status) = self.view.db.inner.content.status(&row.backend) else {
                continue;
            };
            status.reference = row.reference;
            if filters.matches(&status) {
                statuses.push(status);
            }
        }
        Ok(statuses)
    }

    /// Gives up an ingest: its record at once, its files with it unless a writer has them open.
    pub async fn abort(&self, reference: &str) -> Result<(), Error> {
        let (view, reference) = (self.view.clone(), reference.to_owned());
        let row = self
            .view
            .db
            .write(move |tx| {
                let namespace = view.namespace.as_str();
                let row: IngestRow = read(tx, namespace, &reference)?
                    .ok_or_else(|| not_found(format!("reference {reference}")))?;
                discard_ingest(tx, key(INGESTS, &[namespace, &reference]))?;
                view.release(tx, "ingests", &reference);
                Ok(row)
            })
            .await?;
        let store = Arc::clone(&self.view.db.inner.content);
        // What is not removed now stays in the list of files to be removed.
        blocking(move || drop(store.abort(&row.backend))).await
    }

    /// Begins or resumes the ingest `reference`.
    ///
    /// `total` is the expected size in bytes. A blob `expected` that this namespace has already is an error
    /// (`AlreadyExists`) and is held by the view's lease; one that only the backend has, and that may be shared,
    /// makes an ingest that is complete from the start. Another writer of the same ref: `Unavailable`.
    pub async fn writer(
        &self,
        reference: &str,
        total: Option<u64>,
        expected: Option<&Digest>,
    ) -> Result<Writer, Error> {
        if reference.is_empty() {
            return Err(invalid("ref must not be empty"));
        }
        crate::key::checked("ref", reference)?;
        Writer::begin(self.view.clone(), reference, total, expected).await
    }

    fn namespace(&self) -> &str {
        self.view.namespace.as_str()
    }
}

pub(crate) fn missing(digest: &Digest) -> Error {
    not_found(format!("content digest {digest}"))
}

/// Whether a namespace that shares with all has the blob.
fn is_shareable(rows: &impl Rows, digest: &Digest) -> Result<bool, Error> {
    let mut owners = Vec::new();
    let start = prefix(DIGESTS, &[digest.as_str()]);
    rows.each(&start, &mut |key, _| {
        let who = key.get(start.len()..).unwrap_or_default();
        if let Some(namespace) = who.strip_prefix(b"b") {
            owners.push(String::from_utf8_lossy(namespace).into_owned());
        }
        crate::owner::NEXT
    })?;
    for namespace in owners {
        let labels = crate::namespaces::labels(rows, &namespace)?.unwrap_or_default();
        if labels
            .get(LABEL_SHAREABLE)
            .is_some_and(|value| value == "true")
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether any namespace names the blob, or an ingest expects it.
pub(crate) fn is_named(rows: &impl Rows, digest: &str) -> Result<bool, Error> {
    let mut named = false;
    rows.each(&prefix(DIGESTS, &[digest]), &mut |_, _| {
        named = true;
        STOP
    })?;
    Ok(named)
}

/// The row that says that a namespace names a blob.
pub(crate) fn blob_owner(digest: &str, namespace: &str) -> Key {
    key(DIGESTS, &[digest, &format!("b{namespace}")])
}

fn ingest_owner(digest: &str, namespace: &str, reference: &str) -> Key {
    key(DIGESTS, &[digest, &format!("g{namespace}"), reference])
}

/// Removes a blob's record, and lets its bytes be removed when nobody else names them.
pub(crate) fn unlink_blob(tx: &mut Tx<'_>, namespace: &str, digest: &str) {
    tx.delete(key(BLOBS, &[namespace, digest]));
    tx.delete(blob_owner(digest, namespace));
    tx.put(trash_blob(digest), Vec::new());
}

/// Removes the record of an ingest, with all that hangs on it, and lets its files be removed.
pub(crate) fn discard_ingest(tx: &mut Tx<'_>, row: Key) -> Result<(), Error> {
    if let Some(ingest) = forget_ingest(tx, row)? {
        tx.put(trash_ingest(&ingest.backend), Vec::new());
        if let Some(expected) = ingest.expected {
            // It may have been the last to name a blob whose other names are gone.
            tx.put(trash_blob(expected.as_str()), Vec::new());
        }
    }
    Ok(())
}

/// Removes the record of an ingest whose files are gone or became a blob.
pub(crate) fn forget_ingest(tx: &mut Tx<'_>, row: Key) -> Result<Option<IngestRow>, Error> {
    let Some(bytes) = tx.get(&row)? else {
        return Ok(None);
    };
    let Some([namespace, reference]) = crate::key::parts::<2>(&row) else {
        return Ok(None);
    };
    let ingest = <IngestRow as crate::record::Record>::decode(reference, &bytes)
        .map_err(|malformed| crate::record::damaged(&row, malformed))?;
    if let Some(expected) = &ingest.expected {
        tx.delete(ingest_owner(expected.as_str(), namespace, reference));
    }
    tx.delete(row);
    Ok(Some(ingest))
}
