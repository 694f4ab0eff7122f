//! Sweeping: records that are not reachable go, in small batches between other people's mutations.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use model::{Namespace, Timestamp};

use super::mark::mark;
use super::refs::{Children, Node, refs, scan, touched};
use crate::codec::Malformed;
use crate::content::{discard_ingest, unlink_blob};
use crate::db::Db;
use crate::error::Error;
use crate::key::{BLOBS, IMAGES, INGESTS, Key, LEASES, RESOURCES, SNAPSHOTS, parts, prefix};
use crate::owner::{Rows, Snapshot, Tx};
use crate::record::damaged;
use crate::snapshots::{Row, unlink};

/// Most records removed in one mutation, so that nobody waits long behind one.
const BATCH_RECORDS: usize = 128;

/// What one cycle knows.
#[derive(Debug)]
pub(super) struct Cycle {
    reached: HashSet<Node>,
    children: Children,
}

impl Cycle {
    fn is_reached(&self, key: &Key) -> bool {
        let mut node = Node {
            key: key.clone(),
            flat: false,
        };
        self.reached.contains(&node) || {
            node.flat = true;
            self.reached.contains(&node)
        }
    }

    fn follow(&mut self, rows: &impl Rows, roots: Vec<Node>) -> Result<(), Error> {
        let children = &self.children;
        mark(roots, &mut self.reached, |node, out| {
            refs(rows, children, node, out)
        })
    }
}

/// Marks on a view of one moment; answers what is garbage if nothing changed since.
pub(super) fn begin(rows: &Snapshot, now: Timestamp) -> Result<(Cycle, Vec<Key>), Error> {
    let found = scan(rows, now)?;
    let mut cycle = Cycle {
        reached: HashSet::new(),
        children: found.children,
    };
    cycle.follow(rows, found.roots)?;
    let mut garbage = found.candidates;
    garbage.retain(|key| !cycle.is_reached(key));
    Ok((cycle, garbage))
}

/// Removes the garbage; answers how many nodes are reachable and how many records went.
pub(super) async fn sweep(
    db: &Db,
    cycle: Cycle,
    garbage: Vec<Key>,
) -> Result<(usize, usize), Error> {
    let cycle = Arc::new(Mutex::new(cycle));
    let mut removed = 0;
    for batch in garbage.chunks(BATCH_RECORDS) {
        let (cycle, batch) = (Arc::clone(&cycle), batch.to_vec());
        removed += db
            .write(move |tx| {
                let mut cycle = cycle.lock().unwrap_or_else(PoisonError::into_inner);
                remove(tx, &mut cycle, batch)
            })
            .await?;
    }
    let kept = cycle.lock().unwrap_or_else(PoisonError::into_inner);
    Ok((kept.reached.len(), removed))
}

fn remove(tx: &mut Tx<'_>, cycle: &mut Cycle, batch: Vec<Key>) -> Result<usize, Error> {
    tx.quiet();
    let mut roots = Vec::new();
    for key in tx.take_touched() {
        if let Some(node) = touched(key)? {
            // Its references may be new even if it was reached before.
            cycle.reached.remove(&node);
            roots.push(node);
        }
    }
    cycle.follow(tx, roots)?;
    let mut removed = 0;
    for key in batch {
        if !cycle.is_reached(&key) {
            removed += usize::from(remove_record(tx, key)?);
        }
    }
    Ok(removed)
}

/// Removes one record with all that hangs on it; false when it is gone already.
fn remove_record(tx: &mut Tx<'_>, key: Key) -> Result<bool, Error> {
    let Some(bytes) = tx.get(&key)? else {
        return Ok(false);
    };
    let broken = || damaged(&key, Malformed("a key that is none"));
    let [space, name] = parts::<2>(&key).ok_or_else(broken)?;
    let namespace = || Namespace::new(space).map_err(|_| broken());
    match key[0] {
        BLOBS => unlink_blob(tx, space, name),
        IMAGES => {
            crate::images::publish_deleted(&namespace()?, tx, name);
            tx.delete(key);
        }
        INGESTS => discard_ingest(tx, key)?,
        LEASES => {
            for resource in tx.keys(&prefix(RESOURCES, &[space, name]))? {
                tx.delete(resource);
            }
            tx.delete(key);
        }
        SNAPSHOTS => {
            let [_, driver, name] = parts::<3>(&key).ok_or_else(broken)?;
            let row = Row::decode(&bytes).map_err(|malformed| damaged(&key, malformed))?;
            unlink(tx, &namespace()?, driver, name, &row);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Descriptor, Labels};

    use super::*;
    use crate::tests::{blobs::blob, image, labels, namespace, store};
    use crate::{Image, Resource};

    /// Between mark and sweep garbage is saved in every way there is: by an image, by a label on something that was
    /// reachable, by a lease, by a label on itself, and through another piece of garbage.
    #[tokio::test]
    async fn what_was_referred_to_after_the_mark_stays() {
        let store = store().await;
        let view = store.db.namespace(&namespace("ns"), None);
        let root = labels(&[("containerd.io/gc.root", "x")]);
        let rooted = blob(&view, b"rooted", root.clone()).await;
        let leaf = blob(&view, b"leaf", Labels::new()).await;
        let refers = labels(&[("containerd.io/gc.ref.content.0", leaf.as_str())]);
        let mut saved = vec![leaf.clone()];
        for number in 0..4 {
            saved.push(blob(&view, format!("{number}").as_bytes(), refers.clone()).await);
        }
        let lost = blob(&view, b"lost", refers).await;

        let watch = Arc::new(());
        let weak = Arc::downgrade(&watch);
        let begin = store.db.write(move |tx| {
            tx.watch(weak);
            Ok(())
        });
        begin.await.unwrap();
        let now = store.db.inner.clock.now();
        let (cycle, garbage) = begin_on(&store.db, now);
        assert_eq!(garbage.len(), 6, "all but the root");

        let target = Descriptor::new("m", saved[1].clone(), 1);
        view.images()
            .create(Image::new("late", target), None)
            .await
            .unwrap();
        let mut more = root.clone();
        more.insert("containerd.io/gc.ref.content".into(), saved[2].to_string());
        view.content()
            .update(&rooted, more, Vec::new())
            .await
            .unwrap();
        view.leases().create("l", Labels::new()).await.unwrap();
        let resource = Resource {
            kind: "content".into(),
            id: saved[3].to_string(),
        };
        view.leases().add_resource("l", resource).await.unwrap();
        view.content()
            .update(&saved[4], root, vec!["labels.containerd.io/gc.root".into()])
            .await
            .unwrap();
        view.images()
            .create(image("elsewhere", 9), None)
            .await
            .unwrap();

        let (_, removed) = sweep(&store.db, cycle, garbage).await.unwrap();
        drop(watch);
        assert_eq!(removed, 1);
        for digest in saved {
            assert!(view.content().info(&digest).is_ok());
        }
        assert!(view.content().info(&lost).is_err());
    }

    fn begin_on(db: &Db, now: Timestamp) -> (Cycle, Vec<Key>) {
        begin(&db.snapshot().unwrap(), now).unwrap()
    }
}
