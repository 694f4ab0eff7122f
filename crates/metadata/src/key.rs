//! Keys of the one table, drawn whole:
//!
//! ```text
//! m schema                                  version of this drawing (u32, big-endian)
//! m seq                                     last sequence number given to an ingest (u64)
//! m ids \0 driver                           first snapshot id never handed out, per driver (u64)
//! n ns                                      namespace: labels
//! i ns \0 name                              image
//! c ns \0 id                                container
//! x ns \0 id                                sandbox
//! b ns \0 digest                            blob of a namespace: labels, size
//! g ns \0 ref                               ingest
//! s ns \0 driver \0 key                     snapshot
//! k ns \0 driver \0 parent \0 child         a snapshot's children
//! l ns \0 id                                lease
//! r ns \0 lease \0 type \0 id               what a lease holds
//! d digest \0 b ns | d digest \0 g ns \0 ref  who names a blob of the backend
//! t b digest | t g backend-ref | t s driver \0 id (u64)   files to be removed
//! ```
//! A name never contains `\0`, which [`checked`] ensures, so that a prefix ends where a part ends.

use crate::error::{Error, invalid};

/// Longest name in bytes, as bbolt's longest key.
pub(crate) const NAME_BYTES_MAX: usize = 32768;

/// A row of the table.
pub(crate) type Key = Vec<u8>;

pub(crate) const META: u8 = b'm';
pub(crate) const NAMESPACES: u8 = b'n';
pub(crate) const IMAGES: u8 = b'i';
pub(crate) const CONTAINERS: u8 = b'c';
pub(crate) const SANDBOXES: u8 = b'x';
pub(crate) const BLOBS: u8 = b'b';
pub(crate) const INGESTS: u8 = b'g';
pub(crate) const SNAPSHOTS: u8 = b's';
pub(crate) const CHILDREN: u8 = b'k';
pub(crate) const LEASES: u8 = b'l';
pub(crate) const RESOURCES: u8 = b'r';
pub(crate) const DIGESTS: u8 = b'd';
pub(crate) const TRASH: u8 = b't';

pub(crate) const SCHEMA: &[u8] = b"mschema";
pub(crate) const SEQUENCE: &[u8] = b"mseq";

/// The key of `parts` in `table`.
pub(crate) fn key(table: u8, parts: &[&str]) -> Key {
    let length = parts.iter().map(|part| part.len() + 1).sum::<usize>();
    let mut key = Vec::with_capacity(length.max(1));
    key.push(table);
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            key.push(0);
        }
        key.extend_from_slice(part.as_bytes());
    }
    key
}

/// The beginning of all keys below `parts` in `table`; of all keys of the table when there are none.
pub(crate) fn prefix(table: u8, parts: &[&str]) -> Key {
    let mut key = key(table, parts);
    if !parts.is_empty() {
        key.push(0);
    }
    key
}

/// The parts of a key, of which the last may be anything.
pub(crate) fn parts<const N: usize>(key: &[u8]) -> Option<[&str; N]> {
    let text = std::str::from_utf8(key.get(1..)?).ok()?;
    let mut parts = text.splitn(N, '\0');
    let mut out = [""; N];
    for slot in &mut out {
        *slot = parts.next()?;
    }
    Some(out)
}

/// The mark of a driver's snapshot ids.
pub(crate) fn ids(driver: &str) -> Key {
    key(META, &["ids", driver])
}

pub(crate) fn trash_blob(digest: &str) -> Key {
    let mut key = vec![TRASH, b'b'];
    key.extend_from_slice(digest.as_bytes());
    key
}

pub(crate) fn trash_ingest(backend: &str) -> Key {
    let mut key = vec![TRASH, b'g'];
    key.extend_from_slice(backend.as_bytes());
    key
}

pub(crate) fn trash_snapshot(driver: &str, id: u64) -> Key {
    let mut key = vec![TRASH, b's'];
    key.extend_from_slice(driver.as_bytes());
    key.push(0);
    key.extend_from_slice(&id.to_be_bytes());
    key
}

/// Refuses a name that can't be part of a key.
pub(crate) fn checked<'a>(what: &str, name: &'a str) -> Result<&'a str, Error> {
    if name.is_empty() {
        return Err(invalid(format!("{what} must not be empty")));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(invalid(format!(
            "{what} is longer than {NAME_BYTES_MAX} bytes"
        )));
    }
    if name.contains('\0') {
        return Err(invalid(format!("{what} must not contain a null character")));
    }
    Ok(name)
}
