//! Records as values, and what all of them share: labels, masks, the reading of a row.

use std::collections::BTreeMap;

use events::Any;
use model::Labels;

use crate::codec::{Malformed, Reader};
use crate::error::{Error, invalid, invalid_because};
use crate::key::Key;
use crate::owner::{NEXT, Rows};

/// A record with a table of its own.
pub(crate) trait Record: Sized {
    /// The table's letter in [`crate::key`].
    const TABLE: u8;

    /// The bytes of everything but the name, which is the end of the key.
    fn encode(&self) -> Vec<u8>;

    fn decode(name: &str, bytes: &[u8]) -> Result<Self, Malformed>;
}

/// A runtime by name, with options of its own type.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Runtime {
    /// The name, such as `io.containerd.runc.v2`.
    pub name: String,
    /// Options as the client sent them.
    pub options: Option<Any>,
}

pub(crate) fn damaged(key: &[u8], malformed: Malformed) -> Error {
    Error::Damaged {
        key: String::from_utf8_lossy(key).into_owned(),
        what: malformed.0,
    }
}

/// Reads one record.
pub(crate) fn read<R: Record>(
    rows: &impl Rows,
    namespace: &str,
    name: &str,
) -> Result<Option<R>, Error> {
    let key = crate::key::key(R::TABLE, &[namespace, name]);
    rows.get(&key)?
        .map(|bytes| R::decode(name, &bytes).map_err(|malformed| damaged(&key, malformed)))
        .transpose()
}

/// Reads all records of a namespace, in the order of their names, that `keep` accepts.
pub(crate) fn list<R: Record>(
    rows: &impl Rows,
    namespace: &str,
    mut keep: impl FnMut(&R) -> bool,
) -> Result<Vec<R>, Error> {
    let prefix = crate::key::prefix(R::TABLE, &[namespace]);
    let mut records = Vec::new();
    rows.each(&prefix, &mut |key, bytes| {
        let name = std::str::from_utf8(&key[prefix.len()..])
            .map_err(|_| damaged(key, Malformed("a name that is no UTF-8")))?;
        let record = R::decode(name, bytes).map_err(|malformed| damaged(key, malformed))?;
        if keep(&record) {
            records.push(record);
        }
        NEXT
    })?;
    Ok(records)
}

/// The key of a record.
pub(crate) fn key_of<R: Record>(namespace: &str, name: &str) -> Key {
    crate::key::key(R::TABLE, &[namespace, name])
}

/// Checks labels and drops those without value: writing an empty value deletes a label.
pub(crate) fn settle_labels(what: &str, labels: &mut Labels) -> Result<(), Error> {
    model::check_labels(labels).map_err(|error| invalid_because(what, &error))?;
    labels.retain(|_, value| !value.is_empty());
    Ok(())
}

/// Applies one path of a field mask to labels; false when the path is about something else.
pub(crate) fn mask_labels(path: &str, field: &str, to: &mut Labels, from: &Labels) -> bool {
    mask_map(path, field, to, from)
}

/// As [`mask_labels`] for extensions.
pub(crate) fn mask_anys(
    path: &str,
    field: &str,
    to: &mut BTreeMap<String, Any>,
    from: &BTreeMap<String, Any>,
) -> bool {
    mask_map(path, field, to, from)
}

fn mask_map<V: Clone>(
    path: &str,
    field: &str,
    to: &mut BTreeMap<String, V>,
    from: &BTreeMap<String, V>,
) -> bool {
    let Some(rest) = path.strip_prefix(field) else {
        return false;
    };
    if rest.is_empty() {
        to.clone_from(from);
        return true;
    }
    let Some(key) = rest.strip_prefix('.') else {
        return false;
    };
    match from.get(key) {
        Some(value) => {
            to.insert(key.to_owned(), value.clone());
        }
        None => {
            to.remove(key);
        }
    }
    true
}

/// A path of a field mask that the object does not have, or that can't be changed.
pub(crate) fn bad_path(path: &str, what: &str) -> Error {
    invalid(format!("cannot update {path:?} field on {what}"))
}

pub(crate) fn runtime(reader: &mut Reader<'_>) -> Result<Runtime, Malformed> {
    Ok(Runtime {
        name: reader.text()?,
        options: reader.any()?,
    })
}
