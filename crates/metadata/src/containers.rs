//! Containers: what a task is made from.

use std::borrow::Cow;
use std::collections::BTreeMap;

use events::Any;
use model::filter::{Fields, Filters, map_field, text_field};
use model::{ContainerId, Labels, Timestamp};

use crate::codec::{Malformed, Reader, Writer};
use crate::db::View;
use crate::error::{Error, exists, invalid, not_found};
use crate::key::CONTAINERS;
use crate::message::Message;
use crate::owner::Rows;
use crate::record::{
    Record, Runtime, bad_path, key_of, list, mask_anys, mask_labels, read, runtime, settle_labels,
};

const FORM: u8 = 1;

/// A container's record. It says nothing about whether a task runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// The id.
    pub id: ContainerId,
    /// Labels.
    pub labels: Labels,
    /// The name of the image it was made from; it need not exist.
    pub image: Option<String>,
    /// What runs it; can't be changed.
    pub runtime: Runtime,
    /// The runtime specification, as the client sent it.
    pub spec: Option<Any>,
    /// The snapshotter of its root file system; can't be changed.
    pub snapshotter: Option<String>,
    /// The key of the snapshot of its root file system, which the container keeps alive.
    pub snapshot_key: Option<String>,
    /// When it was created; set by the store.
    pub created: Timestamp,
    /// When it last changed; set by the store.
    pub updated: Timestamp,
    /// Data of clients, by key.
    pub extensions: BTreeMap<String, Any>,
    /// The sandbox it belongs to.
    pub sandbox: Option<String>,
}

impl Container {
    /// A container to be created.
    pub fn new(id: ContainerId, runtime: Runtime, spec: Any) -> Self {
        Self {
            id,
            labels: Labels::new(),
            image: None,
            runtime,
            spec: Some(spec),
            snapshotter: None,
            snapshot_key: None,
            created: Timestamp::default(),
            updated: Timestamp::default(),
            extensions: BTreeMap::new(),
            sandbox: None,
        }
    }
}

impl Fields for Container {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["id", ..] => text_field(self.id.as_str()),
            ["runtime", "name", ..] => text_field(&self.runtime.name),
            ["image", ..] => self.image.as_deref().and_then(text_field),
            ["labels", key @ ..] => map_field(key, &self.labels),
            _ => None,
        }
    }
}

impl Record for Container {
    const TABLE: u8 = CONTAINERS;

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(FORM);
        writer
            .time(self.created)
            .time(self.updated)
            .optional(self.image.as_deref())
            .text(&self.runtime.name)
            .any(self.runtime.options.as_ref())
            .any(self.spec.as_ref())
            .optional(self.snapshotter.as_deref())
            .optional(self.snapshot_key.as_deref())
            .optional(self.sandbox.as_deref())
            .labels(&self.labels)
            .anys(&self.extensions);
        writer.finish()
    }

    fn decode(name: &str, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, FORM)?;
        Ok(Self {
            id: ContainerId::new(name).map_err(|_| Malformed("a bad id"))?,
            created: reader.time()?,
            updated: reader.time()?,
            image: reader.optional()?,
            runtime: runtime(&mut reader)?,
            spec: reader.any()?,
            snapshotter: reader.optional()?,
            snapshot_key: reader.optional()?,
            sandbox: reader.optional()?,
            labels: reader.labels()?,
            extensions: reader.anys()?,
        })
    }
}

/// The containers of one namespace.
#[derive(Debug, Clone)]
pub struct Containers {
    pub(crate) view: View,
}

impl Containers {
    /// One container.
    pub fn get(&self, id: &str) -> Result<Container, Error> {
        let namespace = self.view.namespace.as_str();
        read(&self.view.db.snapshot()?, namespace, id)?
            .ok_or_else(|| not_found(format!("container {id:?} in namespace {namespace:?}")))
    }

    /// All containers that match one of the filters, in order of their ids.
    pub fn list(&self, filters: &[String]) -> Result<Vec<Container>, Error> {
        let filters = Filters::parse(filters)?;
        let rows = self.view.db.snapshot()?;
        list(&rows, self.view.namespace.as_str(), |container| {
            filters.matches(container)
        })
    }

    /// Creates a container. Neither its image nor its snapshot need exist.
    pub async fn create(&self, mut container: Container) -> Result<Container, Error> {
        validate(&mut container)
            .map_err(|error| within("create container failed validation", error))?;
        let view = self.view.clone();
        self.view
            .db
            .write(move |tx| {
                let key = key_of::<Container>(view.namespace.as_str(), container.id.as_str());
                if tx.has(&key)? {
                    return Err(exists(format!("container \"{}\"", container.id)));
                }
                tx.ensure_namespace(&view.namespace)?;
                container.created = tx.now();
                container.updated = container.created;
                tx.put(key, container.encode());
                let runtime = Message::new("")
                    .text(1, &container.runtime.name)
                    .any_field(2, container.runtime.options.as_ref());
                let event = Message::new("containerd.events.ContainerCreate")
                    .text(1, container.id.as_str())
                    .text(2, container.image.as_deref().unwrap_or_default())
                    .message(3, &runtime);
                tx.publish(&view.namespace, "/containers/create", event.any());
                Ok(container)
            })
            .await
    }

    /// Changes a container: the paths `labels`, `labels.<key>`, `spec`, `extensions`, `extensions.<key>`, `image`,
    /// `snapshotkey`; an empty mask replaces all of them and refuses another snapshotter or runtime.
    pub async fn update(
        &self,
        container: Container,
        mask: Vec<String>,
    ) -> Result<Container, Error> {
        let view = self.view.clone();
        self.view
            .db
            .write(move |tx| {
                let mut stored: Container =
                    read(tx, view.namespace.as_str(), container.id.as_str())?
                        .ok_or_else(|| not_found(format!("container \"{}\"", container.id)))?;
                apply_mask(&mut stored, &container, &mask)?;
                validate(&mut stored).map_err(|error| within("update failed validation", error))?;
                stored.updated = tx.now();
                let key = key_of::<Container>(view.namespace.as_str(), stored.id.as_str());
                tx.put(key, stored.encode());
                tx.mark_dirty();
                let event = Message::new("containerd.events.ContainerUpdate")
                    .text(1, stored.id.as_str())
                    .text(2, stored.image.as_deref().unwrap_or_default())
                    .labels(3, &stored.labels)
                    .text(4, stored.snapshot_key.as_deref().unwrap_or_default());
                tx.publish(&view.namespace, "/containers/update", event.any());
                Ok(stored)
            })
            .await
    }

    /// Deletes a container's record, whether a task runs or not.
    pub async fn delete(&self, id: &str) -> Result<(), Error> {
        let view = self.view.clone();
        let id = id.to_owned();
        self.view
            .db
            .write(move |tx| {
                let key = key_of::<Container>(view.namespace.as_str(), &id);
                if !tx.has(&key)? {
                    return Err(not_found(format!("container {id}")));
                }
                tx.delete(key);
                tx.mark_dirty();
                let event = Message::new("containerd.events.ContainerDelete").text(1, &id);
                tx.publish(&view.namespace, "/containers/delete", event.any());
                Ok(())
            })
            .await
    }
}

fn apply_mask(stored: &mut Container, new: &Container, mask: &[String]) -> Result<(), Error> {
    if mask.is_empty() {
        if stored.snapshotter != new.snapshotter {
            return Err(invalid("container.Snapshotter field is immutable"));
        }
        if stored.runtime.name != new.runtime.name {
            return Err(invalid("container.Runtime.Name field is immutable"));
        }
        stored.labels.clone_from(&new.labels);
        stored.spec.clone_from(&new.spec);
        stored.extensions.clone_from(&new.extensions);
        stored.image.clone_from(&new.image);
        stored.snapshot_key.clone_from(&new.snapshot_key);
    }
    for path in mask {
        if mask_labels(path, "labels", &mut stored.labels, &new.labels)
            || mask_anys(path, "extensions", &mut stored.extensions, &new.extensions)
        {
            continue;
        }
        match path.as_str() {
            "spec" => stored.spec.clone_from(&new.spec),
            "image" => stored.image.clone_from(&new.image),
            "snapshotkey" => stored.snapshot_key.clone_from(&new.snapshot_key),
            _ => return Err(bad_path(path, &format!("\"{}\"", new.id))),
        }
    }
    Ok(())
}

fn validate(container: &mut Container) -> Result<(), Error> {
    if container.extensions.contains_key("") {
        return Err(invalid("container.Extension keys must not be zero-length"));
    }
    settle_labels("containers.Labels", &mut container.labels)?;
    if container.runtime.name.is_empty() {
        return Err(invalid("container.Runtime.Name must be set"));
    }
    if container.spec.is_none() {
        return Err(invalid("container.Spec must be set"));
    }
    if container.snapshot_key.is_some() && container.snapshotter.is_none() {
        return Err(invalid(
            "container.Snapshotter must be set if container.SnapshotKey is set",
        ));
    }
    Ok(())
}

/// Puts what was being done before the text of a refusal.
fn within(what: &str, error: Error) -> Error {
    match error {
        Error::InvalidArgument { what: inner } => invalid(format!("{what}: {inner}")),
        other => other,
    }
}
