//! Blobs and ingests by namespace.

use crate::error::Error;
use crate::key::{Key, trash_ingest};
use crate::owner::{Rows, Tx};

/// Removes the record of an ingest, with all that hangs on it, and lets its files be removed.
pub(crate) fn discard_ingest(tx: &mut Tx<'_>, row: Key) -> Result<(), Error> {
    if let Some(bytes) = tx.get(&row)? {
        tx.put(trash_ingest(&String::from_utf8_lossy(&bytes)), Vec::new());
    }
    tx.delete(row);
    Ok(())
}
