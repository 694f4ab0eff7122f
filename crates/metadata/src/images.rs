//! Images: names for content.

use std::borrow::Cow;

use model::filter::{Fields, Filters, map_field, text_field};
use model::{Descriptor, Labels, Timestamp};

use crate::codec::{Malformed, Reader, Writer};
use crate::db::View;
use crate::error::{Error, exists, invalid, not_found};
use crate::gc::LABEL_EXPIRE;
use crate::key::{IMAGES, checked};
use crate::message::Message;
use crate::owner::{Rows, Tx};
use crate::record::{Record, bad_path, key_of, list, mask_labels, read, settle_labels};

const FORM: u8 = 1;

/// An image: a name and what it points to. A root of garbage collection until it expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The name, such as `docker.io/library/alpine:3`.
    pub name: String,
    /// The index or manifest. Of it media type, digest, size and annotations are kept.
    pub target: Descriptor,
    /// Labels.
    pub labels: Labels,
    /// When it was created; set by the store.
    pub created: Timestamp,
    /// When it last changed; set by the store.
    pub updated: Timestamp,
}

impl Image {
    /// An image to be created.
    pub fn new(name: impl Into<String>, target: Descriptor) -> Self {
        Self {
            name: name.into(),
            target,
            labels: Labels::new(),
            created: Timestamp::default(),
            updated: Timestamp::default(),
        }
    }
}

impl Fields for Image {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["name", ..] => text_field(&self.name),
            ["target", "digest", ..] => text_field(self.target.digest.as_str()),
            ["target", "mediatype", ..] => text_field(&self.target.media_type),
            ["labels", key @ ..] => map_field(key, &self.labels),
            ["annotations", key @ ..] => map_field(key, &self.target.annotations),
            _ => None,
        }
    }
}

impl Record for Image {
    const TABLE: u8 = IMAGES;

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(FORM);
        writer
            .time(self.created)
            .time(self.updated)
            .text(&self.target.media_type)
            .text(self.target.digest.as_str())
            .number(self.target.size)
            .labels(&self.target.annotations)
            .labels(&self.labels);
        writer.finish()
    }

    fn decode(name: &str, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, FORM)?;
        let created = reader.time()?;
        let updated = reader.time()?;
        let media_type = reader.text()?;
        let digest = reader
            .text()?
            .parse()
            .map_err(|_| Malformed("a bad digest"))?;
        let mut target = Descriptor::new(media_type, digest, reader.number()?);
        target.annotations = reader.labels()?;
        Ok(Self {
            name: name.to_owned(),
            target,
            labels: reader.labels()?,
            created,
            updated,
        })
    }
}

/// The images of one namespace.
#[derive(Debug, Clone)]
pub struct Images {
    pub(crate) view: View,
}

impl Images {
    /// One image.
    pub fn get(&self, name: &str) -> Result<Image, Error> {
        let rows = self.view.db.snapshot()?;
        read(&rows, self.view.namespace.as_str(), name)?.ok_or_else(|| missing(name))
    }

    /// All images that match one of the filters, in order of their names.
    pub fn list(&self, filters: &[String]) -> Result<Vec<Image>, Error> {
        let filters = Filters::parse(filters)?;
        let rows = self.view.db.snapshot()?;
        list(&rows, self.view.namespace.as_str(), |image| {
            filters.matches(image)
        })
    }

    /// Creates an image; `at` replaces the present moment as its time of creation (reproducible builds).
    ///
    /// An image that expires is added to the view's lease.
    pub async fn create(&self, mut image: Image, at: Option<Timestamp>) -> Result<Image, Error> {
        validate(&mut image)?;
        let view = self.view.clone();
        self.view
            .db
            .write(move |tx| {
                let key = key_of::<Image>(view.namespace.as_str(), &image.name);
                hold_expiring(&view, tx, &image)?;
                if tx.has(&key)? {
                    return Err(exists(format!("image {:?}", image.name)));
                }
                tx.ensure_namespace(&view.namespace)?;
                image.created = at.unwrap_or_else(|| tx.now());
                image.updated = image.created;
                tx.put(key, image.encode());
                publish(&view, tx, "create", &image);
                Ok(image)
            })
            .await
    }

    /// Changes an image: the paths `labels`, `labels.<key>`, `target`, `annotations`, `annotations.<key>`; an empty
    /// mask replaces all of them.
    pub async fn update(
        &self,
        image: Image,
        mask: Vec<String>,
        at: Option<Timestamp>,
    ) -> Result<Image, Error> {
        if image.name.is_empty() {
            return Err(invalid("image name is required for update"));
        }
        let view = self.view.clone();
        self.view
            .db
            .write(move |tx| {
                let stored: Image = read(tx, view.namespace.as_str(), &image.name)?
                    .ok_or_else(|| missing(&image.name))?;
                let key = key_of::<Image>(view.namespace.as_str(), &image.name);
                let created = stored.created;
                let mut stored = masked(stored, image, &mask)?;
                validate(&mut stored)?;
                hold_expiring(&view, tx, &stored)?;
                stored.created = created;
                stored.updated = at.unwrap_or_else(|| tx.now());
                tx.put(key, stored.encode());
                // The old target may have lost its only name.
                tx.mark_dirty();
                publish(&view, tx, "update", &stored);
                Ok(stored)
            })
            .await
    }

    /// Deletes an image; with `target` only if it still points there. Waiting for the collector is the caller's.
    pub async fn delete(&self, name: &str, target: Option<model::Digest>) -> Result<(), Error> {
        let view = self.view.clone();
        let name = name.to_owned();
        self.view
            .db
            .write(move |tx| {
                let stored: Image =
                    read(tx, view.namespace.as_str(), &name)?.ok_or_else(|| missing(&name))?;
                let found = &stored.target.digest;
                if let Some(wanted) = target.filter(|wanted| wanted != found) {
                    return Err(not_found(format!(
                        "image {name:?} has target {found}, not {wanted}"
                    )));
                }
                view.release(tx, "images", &name);
                tx.delete(key_of::<Image>(view.namespace.as_str(), &name));
                tx.mark_dirty();
                publish_deleted(&view.namespace, tx, &name);
                Ok(())
            })
            .await
    }
}

pub(crate) fn publish_deleted(namespace: &model::Namespace, tx: &mut Tx<'_>, name: &str) {
    let event = Message::new("containerd.services.images.v1.ImageDelete").text(1, name);
    tx.publish(namespace, "/images/delete", event.any());
}

fn publish(view: &View, tx: &mut Tx<'_>, act: &str, image: &Image) {
    let (name, topic) = match act {
        "create" => (
            "containerd.services.images.v1.ImageCreate",
            "/images/create",
        ),
        _ => (
            "containerd.services.images.v1.ImageUpdate",
            "/images/update",
        ),
    };
    let event = Message::new(name)
        .text(1, &image.name)
        .labels(2, &image.labels);
    tx.publish(&view.namespace, topic, event.any());
}

fn missing(name: &str) -> Error {
    not_found(format!("image {name:?}"))
}

fn masked(mut stored: Image, image: Image, mask: &[String]) -> Result<Image, Error> {
    if mask.is_empty() {
        return Ok(image);
    }
    for path in mask {
        if mask_labels(path, "labels", &mut stored.labels, &image.labels) {
            continue;
        }
        let annotations = &mut stored.target.annotations;
        if mask_labels(path, "annotations", annotations, &image.target.annotations) {
            continue;
        }
        if path != "target" {
            return Err(bad_path(path, &format!("image {:?}", image.name)));
        }
        stored.target = image.target.clone();
    }
    Ok(stored)
}

fn validate(image: &mut Image) -> Result<(), Error> {
    checked("image name", &image.name)?;
    settle_labels("image.Labels", &mut image.labels)?;
    if image.target.size == 0 {
        return Err(invalid("target.Size must be greater than zero"));
    }
    if image.target.media_type.is_empty() {
        return Err(invalid("target.MediaType must be set"));
    }
    Ok(())
}

/// An image without expiry is a root by itself and needs no lease.
fn hold_expiring(view: &View, tx: &mut Tx<'_>, image: &Image) -> Result<(), Error> {
    if image.labels.contains_key(LABEL_EXPIRE) {
        view.hold(tx, "images", &image.name)?;
    }
    Ok(())
}
