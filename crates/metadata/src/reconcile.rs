//! What a start finds: the folders of snapshots against their records.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use model::{ErrorKind, Kinded};
use snapshots::SnapshotId;

use crate::db::{Db, blocking};
use crate::error::{Error, backend};
use crate::key::{SNAPSHOTS, ids, parts, trash_snapshot};
use crate::owner::{NEXT, Rows, counter};
use crate::record::damaged;
use crate::snapshots::Row;

/// What start-up found in the folders of one driver.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reconciled {
    /// The driver.
    pub driver: String,
    /// Folders that a crash left without a record; they go with the first collection.
    pub abandoned: Vec<SnapshotId>,
    /// Folders whose numbers were never given here; they are left alone.
    pub foreign: Vec<SnapshotId>,
    /// Recorded snapshots whose folder is not there: namespace, name, number.
    pub missing: Vec<(String, String, SnapshotId)>,
}

/// Looks at every driver. To be run before anything is prepared.
pub(crate) async fn reconcile(db: &Db) -> Result<Vec<Reconciled>, Error> {
    let mut all = Vec::new();
    for loaded in db.inner.drivers.all() {
        let driver = Arc::clone(&loaded.driver);
        let name = driver.name().to_owned();
        let present = blocking(move || {
            match driver.cleanup() {
                Err(error) if error.kind() != ErrorKind::Unimplemented => return Err(error),
                _ => {}
            }
            driver.list()
        });
        let present = present
            .await?
            .map_err(|source| backend(format!("list the folders of {name}"), source))?;
        let found = compare(db, name, present)?;
        let rows: Vec<_> = found
            .abandoned
            .iter()
            .map(|id| trash_snapshot(&found.driver, id.0))
            .collect();
        if !rows.is_empty() {
            db.write(move |tx| {
                for row in rows {
                    tx.put(row, Vec::new());
                }
                tx.mark_dirty();
                Ok(())
            })
            .await?;
        }
        report(&found);
        all.push(found);
    }
    Ok(all)
}

fn compare(db: &Db, driver: String, present: Vec<SnapshotId>) -> Result<Reconciled, Error> {
    let rows = db.snapshot()?;
    let mark = counter(&rows, &ids(&driver))?;
    let present: BTreeSet<_> = present.into_iter().collect();
    let mut recorded = HashSet::new();
    let mut missing = Vec::new();
    rows.each(&[SNAPSHOTS], &mut |key, bytes| {
        let Some([namespace, owner, name]) = parts::<3>(key) else {
            return NEXT;
        };
        if owner != driver {
            return NEXT;
        }
        let row = Row::decode(bytes).map_err(|malformed| damaged(key, malformed))?;
        recorded.insert(row.id);
        if !present.contains(&row.id) {
            missing.push((namespace.to_owned(), name.to_owned(), row.id));
        }
        NEXT
    })?;
    let unknown = present.into_iter().filter(|id| !recorded.contains(id));
    let (abandoned, foreign) = unknown.partition(|id| id.0 < mark);
    Ok(Reconciled {
        driver,
        abandoned,
        foreign,
        missing,
    })
}

fn report(found: &Reconciled) {
    let driver = &found.driver;
    if !found.abandoned.is_empty() {
        tracing::info!(
            driver,
            count = found.abandoned.len(),
            "removing folders that a crash left"
        );
    }
    if !found.foreign.is_empty() {
        tracing::warn!(driver, folders = ?found.foreign, "left alone: folders that were not made here");
    }
    for (namespace, name, id) in &found.missing {
        tracing::error!(driver, namespace, name, %id, "files of a recorded snapshot are missing");
    }
}
