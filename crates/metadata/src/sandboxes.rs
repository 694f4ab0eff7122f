//! Sandboxes: what a pod is made from. Their labels can reference content and snapshots.

use std::borrow::Cow;
use std::collections::BTreeMap;

use events::Any;
use model::filter::{Fields, Filters, map_field, text_field};
use model::{Labels, SandboxId, Timestamp};

use crate::codec::{Malformed, Reader, Writer};
use crate::db::View;
use crate::error::{Error, exists, invalid, not_found};
use crate::key::SANDBOXES;
use crate::owner::Rows;
use crate::record::{
    Record, Runtime, bad_path, key_of, list, mask_anys, mask_labels, read, runtime, settle_labels,
};

const FORM: u8 = 1;

/// A sandbox's record.
#[derive(Debug, Clone, PartialEq)]
pub struct Sandbox {
    /// The id.
    pub id: SandboxId,
    /// What runs it.
    pub runtime: Runtime,
    /// Its specification, as the client sent it.
    pub spec: Option<Any>,
    /// Labels.
    pub labels: Labels,
    /// When it was created; set by the store.
    pub created: Timestamp,
    /// When it last changed; set by the store.
    pub updated: Timestamp,
    /// Data of clients, by key.
    pub extensions: BTreeMap<String, Any>,
    /// The controller that runs it, such as `shim`.
    pub sandboxer: Option<String>,
}

impl Sandbox {
    /// A sandbox to be created.
    pub fn new(id: SandboxId) -> Self {
        Self {
            id,
            runtime: Runtime::default(),
            spec: None,
            labels: Labels::new(),
            created: Timestamp::default(),
            updated: Timestamp::default(),
            extensions: BTreeMap::new(),
            sandboxer: None,
        }
    }
}

impl Fields for Sandbox {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["id", ..] => text_field(self.id.as_str()),
            ["labels", key @ ..] => map_field(key, &self.labels),
            _ => None,
        }
    }
}

impl Record for Sandbox {
    const TABLE: u8 = SANDBOXES;

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(FORM);
        writer
            .time(self.created)
            .time(self.updated)
            .text(&self.runtime.name)
            .any(self.runtime.options.as_ref())
            .any(self.spec.as_ref())
            .optional(self.sandboxer.as_deref())
            .labels(&self.labels)
            .anys(&self.extensions);
        writer.finish()
    }

    fn decode(name: &str, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, FORM)?;
        Ok(Self {
            id: SandboxId::new(name).map_err(|_| Malformed("a bad id"))?,
            created: reader.time()?,
            updated: reader.time()?,
            runtime: runtime(&mut reader)?,
            spec: reader.any()?,
            sandboxer: reader.optional()?,
            labels: reader.labels()?,
            extensions: reader.anys()?,
        })
    }
}

/// The sandboxes of one namespace.
#[derive(Debug, Clone)]
pub struct Sandboxes {
    pub(crate) view: View,
}

impl Sandboxes {
    /// One sandbox.
    pub fn get(&self, id: &str) -> Result<Sandbox, Error> {
        let rows = self.view.db.snapshot()?;
        read(&rows, self.view.namespace.as_str(), id)?.ok_or_else(|| missing(id))
    }

    /// All sandboxes that match one of the filters, in order of their ids.
    pub fn list(&self, filters: &[String]) -> Result<Vec<Sandbox>, Error> {
        let filters = Filters::parse(filters)?;
        let rows = self.view.db.snapshot()?;
        list(&rows, self.view.namespace.as_str(), |sandbox| {
            filters.matches(sandbox)
        })
    }

    /// Creates a sandbox.
    pub async fn create(&self, mut sandbox: Sandbox) -> Result<Sandbox, Error> {
        settle_labels("sandbox.Labels", &mut sandbox.labels)?;
        let namespace = self.view.namespace.clone();
        self.view
            .db
            .write(move |tx| {
                let key = key_of::<Sandbox>(namespace.as_str(), sandbox.id.as_str());
                if tx.has(&key)? {
                    return Err(exists(format!(
                        "write error: sandbox bucket \"{}\" already exists",
                        sandbox.id
                    )));
                }
                tx.ensure_namespace(&namespace)?;
                sandbox.created = tx.now();
                sandbox.updated = sandbox.created;
                tx.put(key, sandbox.encode());
                Ok(sandbox)
            })
            .await
    }

    /// Changes a sandbox: the paths `labels`, `labels.<key>`, `extensions`, `extensions.<key>`, `runtime`, `spec`; an
    /// empty mask replaces all of them and refuses another runtime.
    pub async fn update(&self, sandbox: Sandbox, mask: Vec<String>) -> Result<Sandbox, Error> {
        let namespace = self.view.namespace.clone();
        self.view
            .db
            .write(move |tx| {
                let mut stored: Sandbox = read(tx, namespace.as_str(), sandbox.id.as_str())?
                    .ok_or_else(|| missing(sandbox.id.as_str()))?;
                apply_mask(&mut stored, &sandbox, &mask)?;
                settle_labels("sandbox.Labels", &mut stored.labels)?;
                stored.updated = tx.now();
                let key = key_of::<Sandbox>(namespace.as_str(), stored.id.as_str());
                tx.put(key, stored.encode());
                tx.mark_dirty();
                Ok(stored)
            })
            .await
    }

    /// Deletes a sandbox's record.
    pub async fn delete(&self, id: &str) -> Result<(), Error> {
        let namespace = self.view.namespace.clone();
        let id = id.to_owned();
        self.view
            .db
            .write(move |tx| {
                let key = key_of::<Sandbox>(namespace.as_str(), &id);
                if !tx.has(&key)? {
                    return Err(not_found(format!("failed to delete sandbox {id:?}")));
                }
                tx.delete(key);
                tx.mark_dirty();
                Ok(())
            })
            .await
    }
}

fn missing(id: &str) -> Error {
    not_found(format!("bucket {id:?} not found"))
}

fn apply_mask(stored: &mut Sandbox, new: &Sandbox, mask: &[String]) -> Result<(), Error> {
    if mask.is_empty() {
        if stored.runtime.name != new.runtime.name {
            return Err(invalid("sandbox.Runtime.Name field is immutable"));
        }
        stored.labels.clone_from(&new.labels);
        stored.extensions.clone_from(&new.extensions);
        stored.runtime.clone_from(&new.runtime);
        stored.spec.clone_from(&new.spec);
    }
    for path in mask {
        if mask_labels(path, "labels", &mut stored.labels, &new.labels)
            || mask_anys(path, "extensions", &mut stored.extensions, &new.extensions)
        {
            continue;
        }
        match path.as_str() {
            "runtime" => stored.runtime.clone_from(&new.runtime),
            "spec" => stored.spec.clone_from(&new.spec),
            _ => return Err(bad_path(path, &format!("sandbox \"{}\"", new.id))),
        }
    }
    Ok(())
}
