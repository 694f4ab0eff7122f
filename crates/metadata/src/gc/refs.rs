//! The graph that the rows make: its roots, its edges, and what can be garbage.

use std::collections::HashMap;

use model::{Labels, Timestamp};

use super::labels::{backward, forward, is_expired, is_flat, is_root};
use crate::codec::Malformed;
use crate::containers::Container;
use crate::content::{ContentInfo, IngestRow};
use crate::error::Error;
use crate::images::Image;
use crate::key::{
    BLOBS, CONTAINERS, IMAGES, INGESTS, Key, LEASES, RESOURCES, SANDBOXES, SNAPSHOTS, key, parts,
    prefix,
};
use crate::leases::Lease;
use crate::owner::{NEXT, Rows};
use crate::record::{Record, damaged};
use crate::sandboxes::Sandbox;
use crate::snapshots::Row;

/// A row; a flat one keeps itself (a snapshot its parents, an image its target) but follows no labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) key: Key,
    pub(super) flat: bool,
}

impl Node {
    pub(super) fn full(key: Key) -> Self {
        Self { key, flat: false }
    }
}

/// Which children ask to live as long as a row.
pub(super) type Children = HashMap<Key, Vec<Key>>;

/// Everything that a scan of all rows finds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) roots: Vec<Node>,
    pub(super) children: Children,
    pub(super) candidates: Vec<Key>,
}

fn decode<R: Record>(key: &[u8], bytes: &[u8]) -> Result<R, Error> {
    let [_, name] = parts::<2>(key).ok_or_else(|| broken(key))?;
    R::decode(name, bytes).map_err(|malformed| damaged(key, malformed))
}

fn broken(key: &[u8]) -> Error {
    damaged(key, Malformed("a key that is none"))
}

fn namespace(key: &[u8]) -> Result<&str, Error> {
    let end = key.iter().position(|byte| *byte == 0).unwrap_or(key.len());
    std::str::from_utf8(&key[1..end]).map_err(|_| broken(key))
}

/// Reads every row once.
pub(super) fn scan(rows: &impl Rows, now: Timestamp) -> Result<Scan, Error> {
    let mut scan = Scan::default();
    for table in [
        LEASES, IMAGES, INGESTS, BLOBS, CONTAINERS, SNAPSHOTS, SANDBOXES,
    ] {
        rows.each(&[table], &mut |key, bytes| {
            scan.row(rows, key, bytes, now)?;
            NEXT
        })?;
    }
    Ok(scan)
}

impl Scan {
    fn row(
        &mut self,
        rows: &impl Rows,
        key: &[u8],
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<(), Error> {
        let node = Node::full(key.to_vec());
        let collectable = !matches!(key[0], CONTAINERS | SANDBOXES);
        let root = match key[0] {
            LEASES => {
                let lease: Lease = decode(key, bytes)?;
                let alive = !is_expired(&lease.labels, now);
                if alive {
                    self.resources(rows, key, is_flat(&lease.labels))?;
                }
                alive
            }
            IMAGES => {
                let image: Image = decode(key, bytes)?;
                self.child(key, &image.labels)?;
                !is_expired(&image.labels, now)
            }
            INGESTS => {
                let ingest: IngestRow = decode(key, bytes)?;
                // One without expiry is held by a lease.
                ingest.expires.is_some_and(|time| time >= now)
            }
            BLOBS => {
                let info: ContentInfo = decode(key, bytes)?;
                self.child(key, &info.labels)?;
                is_root(&info.labels, now)
            }
            SNAPSHOTS => {
                let row = Row::decode(bytes).map_err(|malformed| damaged(key, malformed))?;
                self.child(key, &row.labels)?;
                is_root(&row.labels, now)
            }
            CONTAINERS => true,
            _ => true,
        };
        if collectable {
            self.candidates.push(key.to_vec());
        }
        if root {
            self.roots.push(node);
        }
        Ok(())
    }

    /// Notes on whose life the object's labels make it depend.
    fn child(&mut self, key: &[u8], labels: &Labels) -> Result<(), Error> {
        let mut parents = Vec::new();
        backward(namespace(key)?, labels, &mut parents);
        for parent in parents {
            self.children.entry(parent).or_default().push(key.to_vec());
        }
        Ok(())
    }

    fn resources(&mut self, rows: &impl Rows, lease: &[u8], flat: bool) -> Result<(), Error> {
        let [namespace, id] = parts::<2>(lease).ok_or_else(|| broken(lease))?;
        rows.each(&prefix(RESOURCES, &[namespace, id]), &mut |row, _| {
            let key = resource(row)?;
            self.roots.extend(key.map(|key| Node { key, flat }));
            NEXT
        })
    }
}

/// What a resource of a lease stands for.
pub(super) fn resource(row: &[u8]) -> Result<Option<Key>, Error> {
    let [namespace, _, kind, id] = parts::<4>(row).ok_or_else(|| broken(row))?;
    Ok(match kind {
        "content" => Some(key(BLOBS, &[namespace, id])),
        "images" => Some(key(IMAGES, &[namespace, id])),
        "ingests" => Some(key(INGESTS, &[namespace, id])),
        _ => kind
            .strip_prefix("snapshots/")
            .map(|driver| key(SNAPSHOTS, &[namespace, driver, id])),
    })
}

/// What a row that was just written makes reachable: itself, or for a resource what it stands for.
pub(super) fn touched(row: Key) -> Result<Option<Node>, Error> {
    match row.first() {
        Some(&RESOURCES) => Ok(resource(&row)?.map(Node::full)),
        Some(&(LEASES | IMAGES | INGESTS | BLOBS | SNAPSHOTS | CONTAINERS | SANDBOXES)) => {
            Ok(Some(Node::full(row)))
        }
        _ => Ok(None),
    }
}

/// Appends what a node refers to. A row that is not there refers to nothing.
pub(super) fn refs(
    rows: &impl Rows,
    children: &Children,
    node: &Node,
    out: &mut Vec<Node>,
) -> Result<(), Error> {
    let flat = node.flat;
    if !flat {
        let held = children.get(&node.key).into_iter().flatten().cloned();
        out.extend(held.map(Node::full));
    }
    let Some(bytes) = rows.get(&node.key)? else {
        return Ok(());
    };
    let (key, space) = (&node.key, namespace(&node.key)?);
    let mut found = Vec::new();
    match key[0] {
        IMAGES => {
            let image: Image = decode(key, &bytes)?;
            let digest = image.target.digest.as_str();
            let target = self::key(BLOBS, &[space, digest]);
            out.push(Node { key: target, flat });
            forward(space, &image.labels, &mut found);
        }
        BLOBS => forward(
            space,
            &decode::<ContentInfo>(key, &bytes)?.labels,
            &mut found,
        ),
        SNAPSHOTS => {
            let row = Row::decode(&bytes).map_err(|malformed| damaged(key, malformed))?;
            let [_, driver, _] = parts::<3>(key).ok_or_else(|| broken(key))?;
            if let Some(parent) = &row.parent {
                let key = self::key(SNAPSHOTS, &[space, driver, parent]);
                out.push(Node { key, flat });
            }
            forward(space, &row.labels, &mut found);
        }
        INGESTS => {
            if let Some(expected) = decode::<IngestRow>(key, &bytes)?.expected {
                found.push(self::key(BLOBS, &[space, expected.as_str()]));
            }
        }
        CONTAINERS => {
            let container: Container = decode(key, &bytes)?;
            if let (Some(driver), Some(name)) = (&container.snapshotter, &container.snapshot_key) {
                found.push(self::key(SNAPSHOTS, &[space, driver, name]));
            }
            forward(space, &container.labels, &mut found);
        }
        SANDBOXES => forward(space, &decode::<Sandbox>(key, &bytes)?.labels, &mut found),
        _ => {}
    }
    if !flat {
        out.extend(found.into_iter().map(Node::full));
    }
    Ok(())
}
