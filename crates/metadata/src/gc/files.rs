//! Removing the files that no record names any more, from the list that removals of records leave behind.
//!
//! A row of the list goes only when the files are gone or somebody names them again; so a crash loses nothing.

use std::collections::HashSet;
use std::sync::Arc;

use model::{Digest, ErrorKind, Kinded};
use snapshots::SnapshotId;

use crate::content::is_named;
use crate::db::{Db, blocking};
use crate::error::Error;
use crate::key::{Key, SNAPSHOTS, TRASH};
use crate::owner::{NEXT, Rows};
use crate::snapshots::Row;

/// How many files are removed before their rows are taken from the list; blobs stay claimed as long.
const BATCH_FILES: usize = 64;

/// What was removed of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Blobs.
    pub blobs: usize,
    /// Ingests.
    pub ingests: usize,
    /// Snapshots.
    pub snapshots: usize,
}

/// An entry of the list.
enum Trash {
    Blob(Digest),
    Ingest(String),
    Snapshot(String, SnapshotId),
}

fn parse(row: &[u8]) -> Option<Trash> {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let (kind, rest) = row.get(1..)?.split_first()?;
    match kind {
        b'b' => Some(Trash::Blob(text(rest)?.parse().ok()?)),
        b'g' => Some(Trash::Ingest(text(rest)?)),
        b's' => {
            let (driver, number) = rest.split_at_checked(rest.len().checked_sub(8)?)?;
            let number = u64::from_be_bytes(number.try_into().ok()?);
            Some(Trash::Snapshot(
                text(driver.strip_suffix(b"\0")?)?,
                SnapshotId(number),
            ))
        }
        _ => None,
    }
}

/// Removes what the list names.
pub(super) async fn remove(db: &Db) -> Result<Removed, Error> {
    note_orphans(db).await?;
    let mut rows = {
        let db = db.clone();
        blocking(move || db.snapshot()?.keys(&[TRASH])).await??
    };
    // Children have higher numbers than their parents and go first.
    rows.reverse();
    let mut removed = Removed::default();
    let mut drivers = HashSet::new();
    for batch in rows.chunks(BATCH_FILES) {
        remove_batch(db, batch.to_vec(), &mut removed, &mut drivers).await?;
    }
    for name in drivers {
        let Some(loaded) = db.inner.drivers.get(&name).map(Arc::clone) else {
            continue;
        };
        if let Err(error) = blocking(move || loaded.driver.cleanup()).await?
            && error.kind() != ErrorKind::Unimplemented
        {
            tracing::warn!(
                driver = name,
                error = model::chain(&error),
                "files of removed snapshots stay"
            );
        }
    }
    Ok(removed)
}

async fn remove_batch(
    db: &Db,
    batch: Vec<Key>,
    removed: &mut Removed,
    drivers: &mut HashSet<String>,
) -> Result<(), Error> {
    let mut claims = Vec::new();
    let mut gone = Vec::new();
    let mut named = Vec::new();
    for row in batch {
        match parse(&row) {
            Some(Trash::Blob(digest)) => {
                // Whoever works with it now names it, or puts it on the list again.
                let Some(claim) = db.inner.pins.claim(&digest) else {
                    continue;
                };
                claims.push(claim);
                if is_named(&db.snapshot()?, digest.as_str())? {
                    named.push((row, digest));
                    continue;
                }
                let store = Arc::clone(&db.inner.content);
                let done = blocking(move || store.delete(&digest)).await?;
                removed.blobs += settle(done, row, &mut gone);
            }
            Some(Trash::Ingest(reference)) => {
                let store = Arc::clone(&db.inner.content);
                let done = blocking(move || store.abort(&reference)).await?;
                removed.ingests += settle(done, row, &mut gone);
            }
            Some(Trash::Snapshot(name, id)) => {
                // A driver that is not loaded now may be loaded at another start.
                let Some(loaded) = db.inner.drivers.get(&name).map(Arc::clone) else {
                    continue;
                };
                let done = blocking(move || loaded.driver.remove(id)).await?;
                removed.snapshots += settle(done, row, &mut gone);
                drivers.insert(name);
            }
            None => tracing::warn!(?row, "row of the list of files to be removed is none"),
        }
    }
    let forgotten = db.write(move |tx| {
        tx.quiet();
        for row in gone {
            tx.delete(row);
        }
        for (row, digest) in named {
            if is_named(tx, digest.as_str())? {
                tx.delete(row);
            }
        }
        Ok(())
    });
    forgotten.await?;
    drop(claims);
    Ok(())
}

/// Notes a row whose files are gone; says how many went.
fn settle<E: Kinded + 'static>(done: Result<(), E>, row: Key, gone: &mut Vec<Key>) -> usize {
    match done {
        Ok(()) => {
            gone.push(row);
            1
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            gone.push(row);
            0
        }
        Err(error) => {
            tracing::warn!(error = model::chain(&error), "removal will be tried again");
            0
        }
    }
}

/// Puts snapshots on the list whose maker went away before it knew whether they are recorded.
async fn note_orphans(db: &Db) -> Result<(), Error> {
    let orphans = db.inner.take_orphans();
    if orphans.is_empty() {
        return Ok(());
    }
    db.write(move |tx| {
        tx.quiet();
        let mut recorded = HashSet::new();
        tx.each(&[SNAPSHOTS], &mut |key, bytes| {
            if let (Some([_, driver, _]), Ok(row)) =
                (crate::key::parts::<3>(key), Row::decode(bytes))
            {
                recorded.insert((driver.to_owned(), row.id));
            }
            NEXT
        })?;
        for orphan in orphans {
            if !recorded.contains(&orphan) {
                let row = crate::key::trash_snapshot(&orphan.0, orphan.1.0);
                tx.put(row, Vec::new());
            }
        }
        Ok(())
    })
    .await
}
