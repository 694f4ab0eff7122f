//! Leases: what a client holds while it works.

use std::borrow::Cow;

use model::filter::{Fields, Filters, map_field, text_field};
use model::{Digest, Labels, Timestamp};

use crate::codec::{Malformed, Reader, Writer};
use crate::db::View;
use crate::error::{Error, exists, invalid, not_found};
use crate::key::{LEASES, RESOURCES, checked, key, parts, prefix};
use crate::owner::{NEXT, Rows};
use crate::record::{Record, key_of, list, settle_labels};

const FORM: u8 = 1;

/// A lease. It keeps its resources, and what they reference, until it is deleted or expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The id.
    pub id: String,
    /// Labels; `containerd.io/gc.expire` and `containerd.io/gc.flat` have a meaning.
    pub labels: Labels,
    /// When it was created.
    pub created: Timestamp,
}

/// Something that a lease holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// `content`, `ingests`, `images` or `snapshots/<snapshotter>`.
    pub kind: String,
    /// Digest, ref, name or key.
    pub id: String,
}

impl Fields for Lease {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["id", ..] => text_field(&self.id),
            ["labels", key @ ..] => map_field(key, &self.labels),
            _ => None,
        }
    }
}

impl Record for Lease {
    const TABLE: u8 = LEASES;

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(FORM);
        writer.time(self.created).labels(&self.labels);
        writer.finish()
    }

    fn decode(name: &str, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, FORM)?;
        Ok(Self {
            id: name.to_owned(),
            created: reader.time()?,
            labels: reader.labels()?,
        })
    }
}

/// The leases of one namespace.
#[derive(Debug, Clone)]
pub struct Leases {
    pub(crate) view: View,
}

impl Leases {
    /// Creates a lease. The caller chooses the id, a random one if the client gave none.
    pub async fn create(&self, id: &str, mut labels: Labels) -> Result<Lease, Error> {
        checked("lease id", id)?;
        settle_labels("lease.Labels", &mut labels)?;
        let namespace = self.view.namespace.clone();
        let id = id.to_owned();
        self.view
            .db
            .write(move |tx| {
                let key = key_of::<Lease>(namespace.as_str(), &id);
                if tx.has(&key)? {
                    return Err(exists(format!("lease {id:?}")));
                }
                tx.ensure_namespace(&namespace)?;
                let lease = Lease {
                    id,
                    labels,
                    created: tx.now(),
                };
                tx.put(key, lease.encode());
                Ok(lease)
            })
            .await
    }

    /// Deletes a lease; what only it held is garbage afterwards.
    pub async fn delete(&self, id: &str) -> Result<(), Error> {
        let namespace = self.view.namespace.clone();
        let id = id.to_owned();
        self.view
            .db
            .write(move |tx| {
                let row = key_of::<Lease>(namespace.as_str(), &id);
                if !tx.has(&row)? {
                    return Err(missing(&id));
                }
                for resource in tx.keys(&prefix(RESOURCES, &[namespace.as_str(), &id]))? {
                    tx.delete(resource);
                }
                tx.delete(row);
                tx.mark_dirty();
                Ok(())
            })
            .await
    }

    /// All leases that match one of the filters, in order of their ids.
    pub fn list(&self, filters: &[String]) -> Result<Vec<Lease>, Error> {
        let filters = Filters::parse(filters)?;
        let rows = self.view.db.snapshot()?;
        list(&rows, self.view.namespace.as_str(), |lease| {
            filters.matches(lease)
        })
    }

    /// Adds a resource, which need not exist.
    pub async fn add_resource(&self, lease: &str, resource: Resource) -> Result<(), Error> {
        self.change(lease, resource, |tx, row| tx.put(row, Vec::new()))
            .await
    }

    /// Takes a resource from a lease.
    pub async fn delete_resource(&self, lease: &str, resource: Resource) -> Result<(), Error> {
        self.change(lease, resource, |tx, row| {
            tx.delete(row);
            tx.mark_dirty();
        })
        .await
    }

    async fn change(
        &self,
        lease: &str,
        resource: Resource,
        apply: impl FnOnce(&mut crate::owner::Tx<'_>, Vec<u8>) + Send + 'static,
    ) -> Result<(), Error> {
        let namespace = self.view.namespace.clone();
        let lease = lease.to_owned();
        self.view
            .db
            .write(move |tx| {
                if !tx.has(&key_of::<Lease>(namespace.as_str(), &lease))? {
                    return Err(missing(&lease));
                }
                validate(&resource)?;
                let parts = [namespace.as_str(), &lease, &resource.kind, &resource.id];
                apply(tx, key(RESOURCES, &parts));
                Ok(())
            })
            .await
    }

    /// What a lease holds, by kind and id.
    pub fn resources(&self, lease: &str) -> Result<Vec<Resource>, Error> {
        let rows = self.view.db.snapshot()?;
        let namespace = self.view.namespace.as_str();
        if !rows.has(&key_of::<Lease>(namespace, lease))? {
            return Err(missing(lease));
        }
        let mut resources = Vec::new();
        rows.each(&prefix(RESOURCES, &[namespace, lease]), &mut |key, _| {
            if let Some([_, _, kind, id]) = parts::<4>(key) {
                resources.push(Resource {
                    kind: kind.to_owned(),
                    id: id.to_owned(),
                });
            }
            NEXT
        })?;
        Ok(resources)
    }
}

fn missing(id: &str) -> Error {
    not_found(format!("lease {id:?}"))
}

fn validate(resource: &Resource) -> Result<(), Error> {
    let Resource { kind, id } = resource;
    checked("resource id", id)?;
    let (first, rest) = match kind.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (kind.as_str(), None),
    };
    match (first, rest) {
        ("content", None) => match id.parse::<Digest>() {
            Ok(_) => Ok(()),
            Err(error) => Err(invalid(format!(
                "invalid content resource id {id}: {error}"
            ))),
        },
        ("ingests" | "images", None) => Ok(()),
        ("content" | "ingests" | "images", Some(_)) => {
            Err(invalid(format!("invalid resource type {kind}")))
        }
        ("snapshots", Some(name)) if !name.contains(['/', '\0']) => Ok(()),
        ("snapshots", _) => Err(invalid(format!("invalid snapshot resource type {kind}"))),
        _ => Err(Error::Unimplemented {
            what: format!("resource type {kind} not supported yet"),
        }),
    }
}
