//! Namespaces: labels, and whether anything is left inside.

use model::filter::{Fields, Filters};
use model::{Labels, Namespace, check_labels};

use crate::codec::{Reader, Writer};
use crate::db::Db;
use crate::error::{Error, exists, invalid_because, not_found, precondition};
use crate::key::{
    BLOBS, CONTAINERS, IMAGES, INGESTS, LEASES, NAMESPACES, RESOURCES, SANDBOXES, SNAPSHOTS, key,
    parts, prefix,
};
use crate::message::Message;
use crate::owner::{NEXT, Rows, STOP, Tx};
use crate::record::{damaged, mask_labels};

const FORM: u8 = 1;

/// The namespaces of the store. They come into being with their first object, too.
#[derive(Debug, Clone)]
pub struct Namespaces {
    pub(crate) db: Db,
}

pub(crate) fn encode(labels: &Labels) -> Vec<u8> {
    let mut writer = Writer::new(FORM);
    writer.labels(labels);
    writer.finish()
}

pub(crate) fn labels(rows: &impl Rows, namespace: &str) -> Result<Option<Labels>, Error> {
    let key = key(NAMESPACES, &[namespace]);
    let Some(bytes) = rows.get(&key)? else {
        return Ok(None);
    };
    let decode = || Reader::new(&bytes, FORM)?.labels();
    decode()
        .map(Some)
        .map_err(|malformed| damaged(&key, malformed))
}

impl Namespaces {
    /// All namespaces in order, with their labels.
    pub fn list(&self) -> Result<Vec<(Namespace, Labels)>, Error> {
        let rows = self.db.snapshot()?;
        let mut names = Vec::new();
        rows.each(&[NAMESPACES], &mut |key, _| {
            let name = parts::<1>(key).and_then(|[name]| Namespace::new(name).ok());
            names.extend(name);
            NEXT
        })?;
        names
            .into_iter()
            .map(|name| {
                let labels = labels(&rows, name.as_str())?.unwrap_or_default();
                Ok((name, labels))
            })
            .collect()
    }

    /// The labels of a namespace; none when it does not exist, as upstream.
    pub fn labels(&self, namespace: &Namespace) -> Result<Labels, Error> {
        Ok(labels(&self.db.snapshot()?, namespace.as_str())?.unwrap_or_default())
    }

    /// Creates a namespace; fails when it exists.
    pub async fn create(&self, namespace: &Namespace, labels: Labels) -> Result<(), Error> {
        check_labels(&labels).map_err(|error| invalid_because("namespace.Labels", &error))?;
        let namespace = namespace.clone();
        self.db
            .write(move |tx| {
                let key = key(NAMESPACES, &[namespace.as_str()]);
                if tx.has(&key)? {
                    return Err(exists(format!("namespace \"{namespace}\"")));
                }
                tx.put(key, encode(&labels));
                publish(tx, &namespace, "create", &labels);
                Ok(())
            })
            .await
    }

    /// Changes labels: all of them, or those that `mask` names as `labels.<key>`. Creates the namespace if needed.
    pub async fn update(
        &self,
        namespace: &Namespace,
        labels: Labels,
        mask: Vec<String>,
    ) -> Result<Labels, Error> {
        check_labels(&labels).map_err(|error| invalid_because("namespace.Labels", &error))?;
        let namespace = namespace.clone();
        self.db
            .write(move |tx| {
                let mut stored = self::labels(tx, namespace.as_str())?.unwrap_or_default();
                if mask.is_empty() {
                    stored.clone_from(&labels);
                }
                for path in &mask {
                    if !path.starts_with("labels.")
                        || !mask_labels(path, "labels", &mut stored, &labels)
                    {
                        return Err(crate::error::invalid(format!(
                            "cannot update {path:?} field"
                        )));
                    }
                }
                stored.retain(|_, value| !value.is_empty());
                tx.put(key(NAMESPACES, &[namespace.as_str()]), encode(&stored));
                publish(tx, &namespace, "update", &labels);
                Ok(stored)
            })
            .await
    }

    /// Deletes a namespace in which there are no images, blobs, containers or snapshots.
    pub async fn delete(&self, namespace: &Namespace) -> Result<(), Error> {
        let namespace = namespace.clone();
        self.db
            .write(move |tx| {
                let left = remains(tx, namespace.as_str())?;
                if !left.is_empty() {
                    return Err(precondition(format!(
                        "namespace \"{namespace}\" must be empty, but it still has {}",
                        left.join(", ")
                    )));
                }
                let row = key(NAMESPACES, &[namespace.as_str()]);
                if !tx.has(&row)? {
                    return Err(not_found(format!("namespace \"{namespace}\"")));
                }
                for table in [LEASES, RESOURCES, SANDBOXES] {
                    for key in tx.keys(&prefix(table, &[namespace.as_str()]))? {
                        tx.delete(key);
                    }
                }
                for key in tx.keys(&prefix(INGESTS, &[namespace.as_str()]))? {
                    crate::content::discard_ingest(tx, key)?;
                }
                tx.delete(row);
                let event = Message::new("containerd.events.NamespaceDelete")
                    .text(1, namespace.as_str())
                    .any();
                tx.publish(&namespace, "/namespaces/delete", event);
                tx.mark_dirty();
                Ok(())
            })
            .await
    }

    /// The namespaces whose `name` and `labels` match.
    pub fn matching(&self, filters: &[String]) -> Result<Vec<(Namespace, Labels)>, Error> {
        let filters = Filters::parse(filters)?;
        let mut all = self.list()?;
        all.retain(|(name, labels)| filters.matches(&Named(name, labels)));
        Ok(all)
    }
}

struct Named<'a>(&'a Namespace, &'a Labels);

impl Fields for Named<'_> {
    fn field(&self, path: &[&str]) -> Option<std::borrow::Cow<'_, str>> {
        match path {
            ["name"] => model::filter::text_field(self.0.as_str()),
            ["labels", key @ ..] => model::filter::map_field(key, self.1),
            _ => None,
        }
    }
}

fn publish(tx: &mut Tx<'_>, namespace: &Namespace, act: &str, labels: &Labels) {
    let (name, topic) = match act {
        "create" => ("containerd.events.NamespaceCreate", "/namespaces/create"),
        _ => ("containerd.events.NamespaceUpdate", "/namespaces/update"),
    };
    let event = Message::new(name)
        .text(1, namespace.as_str())
        .labels(2, labels);
    tx.publish(namespace, topic, event.any());
}

/// Which kinds of objects a namespace still holds, in upstream's words.
fn remains(tx: &Tx<'_>, namespace: &str) -> Result<Vec<String>, Error> {
    let mut left = Vec::new();
    for (table, word) in [
        (IMAGES, "images"),
        (BLOBS, "blobs"),
        (CONTAINERS, "containers"),
    ] {
        if tx.any(&prefix(table, &[namespace]))? {
            left.push(word.to_owned());
        }
    }
    // One look per driver: from the first key of one to the first key behind all of its keys.
    let mut from = prefix(SNAPSHOTS, &[namespace]);
    let all = from.clone();
    loop {
        let mut driver = None;
        tx.each_from(&from, &all, &mut |key, _| {
            driver = parts::<3>(key).map(|[_, driver, _]| driver.to_owned());
            STOP
        })?;
        let Some(driver) = driver else { break };
        left.push(format!("snapshots on {driver:?} snapshotter"));
        from = key(SNAPSHOTS, &[namespace, &driver]);
        from.push(1);
    }
    Ok(left)
}
