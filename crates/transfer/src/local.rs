//! The daemon's own stores: one namespace of the metadata store, under one lease.

use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use metadata::{Db, Image, View, Writer};
use model::{Clock, Descriptor, Digest, ErrorKind, Kinded as _, Labels, Namespace};
use snapshots::Snapshotter;

use crate::Error;
use crate::store::{Begin, Blobs, Names, Stores, Writing};

const LABEL_EXPIRE: &str = "containerd.io/gc.expire";
/// How long what a transfer brought is kept if the daemon ends in the middle of it.
const LEASE_SECONDS: i64 = 24 * 60 * 60;

/// Stores of one namespace. With a lease of its own it deletes that when it goes.
#[derive(Debug)]
pub struct LocalStores {
    db: Db,
    view: View,
    own_lease: bool,
}

impl LocalStores {
    /// The stores as `lease` sees them; without one a lease of 24 hours is made.
    ///
    /// # Errors
    /// The lease can't be made.
    pub async fn open(
        db: &Db,
        namespace: &Namespace,
        lease: Option<&str>,
        clock: &dyn Clock,
    ) -> Result<Arc<Self>, Error> {
        if let Some(lease) = lease {
            return Ok(Arc::new(Self {
                view: db.namespace(namespace, Some(lease)),
                db: db.clone(),
                own_lease: false,
            }));
        }
        let now = clock.now();
        let id = format!(
            "transfer-{}-{:08x}",
            now.as_nanosecond(),
            RandomState::new().hash_one(0_u8) >> 32
        );
        let expire = now.saturating_add(jiff_seconds(LEASE_SECONDS));
        let expire = expire.unwrap_or(now).to_string();
        let labels = Labels::from([
            (LABEL_EXPIRE.to_owned(), expire),
            (LABEL_OWN.to_owned(), "true".to_owned()),
        ]);
        let leases = db.namespace(namespace, None).leases();
        leases
            .create(&id, labels)
            .await
            .map_err(|error| Error::store("create lease", &id, error))?;
        Ok(Arc::new(Self {
            view: db.namespace(namespace, Some(&id)),
            db: db.clone(),
            own_lease: true,
        }))
    }

    /// For a request.
    pub fn stores(self: &Arc<Self>) -> Stores {
        Stores {
            blobs: self.clone(),
            names: self.clone(),
        }
    }

    /// A snapshotter of this namespace and lease; `None` if there is none of this name.
    pub fn snapshotter(&self, name: &str) -> Option<Arc<dyn Snapshotter>> {
        self.view
            .snapshots(name)
            .map(|found| Arc::new(found) as Arc<dyn Snapshotter>)
    }

    /// The namespace under the lease.
    pub fn view(&self) -> &View {
        &self.view
    }
}

/// The label of a lease that a transfer made for itself.
const LABEL_OWN: &str = "hoist.io/transfer";
/// Resources of this type are writes that the next pull goes on with.
const INGESTS: &str = "ingests";

/// Lets go of what transfers of an earlier run held when the daemon was killed: blobs and snapshots nobody named.
///
/// Their writes stay until the lease expires, so that the next pull goes on where they ended. To be called at start,
/// before any transfer.
///
/// # Errors
/// The leases can't be read or changed.
pub async fn release_interrupted(db: &Db) -> Result<(), Error> {
    let namespaces = db.namespaces().list();
    let namespaces = namespaces.map_err(|error| Error::store("list", "namespaces", error))?;
    for (namespace, _) in namespaces {
        let leases = db.namespace(&namespace, None).leases();
        let filter = format!("labels.\"{LABEL_OWN}\"==true");
        let own = leases.list(&[filter]);
        for lease in own.map_err(|error| Error::store("list leases of", &namespace, error))? {
            let id = &lease.id;
            let held = leases.resources(id);
            let held = held.map_err(|error| Error::store("read lease", id, error))?;
            let (writes, rest): (Vec<_>, Vec<_>) = held
                .into_iter()
                .partition(|resource| resource.kind == INGESTS);
            let released = if writes.is_empty() {
                leases.delete(id).await
            } else {
                let mut released = Ok(());
                for resource in rest {
                    released = released.and(leases.delete_resource(id, resource).await);
                }
                released
            };
            released.map_err(|error| Error::store("release lease", id, error))?;
        }
    }
    Ok(())
}

fn jiff_seconds(seconds: i64) -> std::time::Duration {
    std::time::Duration::from_secs(seconds.unsigned_abs())
}

impl Drop for LocalStores {
    fn drop(&mut self) {
        let Some(lease) = self
            .view
            .lease()
            .filter(|_| self.own_lease)
            .map(str::to_owned)
        else {
            return;
        };
        let leases = self.db.namespace(self.view.namespace(), None).leases();
        // Outside a runtime the lease expires by itself.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        drop(runtime.spawn(async move {
            if let Err(error) = leases.delete(&lease).await {
                tracing::warn!(lease, error = %model::chain(&error), "a transfer's lease stays until it expires");
            }
        }));
    }
}

#[async_trait]
impl Blobs for LocalStores {
    async fn labels(&self, digest: &Digest) -> Result<Option<Labels>, Error> {
        let fail = |error| Error::store("look for content", digest, error);
        let info = match self.view.content().info(digest) {
            Ok(info) => info,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error)),
        };
        if let Some(lease) = self.view.lease() {
            let resource = metadata::Resource {
                kind: "content".into(),
                id: digest.to_string(),
            };
            self.view
                .leases()
                .add_resource(lease, resource)
                .await
                .map_err(fail)?;
            // It may have been collected before the lease held it.
            return match self.view.content().info(digest) {
                Ok(info) => Ok(Some(info.labels)),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(fail(error)),
            };
        }
        Ok(Some(info.labels))
    }

    async fn set_labels(&self, digest: &Digest, labels: Labels) -> Result<(), Error> {
        let mask = labels.keys().map(|key| format!("labels.{key}")).collect();
        let updated = self.view.content().update(digest, labels, mask).await;
        match updated {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::store("label content", digest, error)),
        }
    }

    async fn open(&self, digest: &Digest) -> Result<File, Error> {
        let (content, named) = (self.view.content(), digest.clone());
        let opened = blocking(move || content.reader(&named)).await?;
        opened
            .map(|blob| blob.file)
            .map_err(|error| Error::store("open content", digest, error))
    }

    async fn begin(&self, reference: &str, descriptor: &Descriptor) -> Result<Begin, Error> {
        let content = self.view.content();
        let begun = content
            .writer(reference, Some(descriptor.size), Some(&descriptor.digest))
            .await;
        match begun {
            Ok(writer) => Ok(Begin::Write(Box::new(LocalWrite {
                content: self.db.content_store().clone(),
                writer: Some(writer),
            }))),
            Err(error) => match error.kind() {
                ErrorKind::AlreadyExists => Ok(Begin::Exists),
                ErrorKind::Unavailable => Ok(Begin::Locked),
                _ => Err(Error::store("begin ingest", reference, error)),
            },
        }
    }
}

#[async_trait]
impl Names for LocalStores {
    async fn put(&self, name: &str, target: &Descriptor, labels: Labels) -> Result<(), Error> {
        let image = Image {
            labels,
            ..Image::new(name, target.clone())
        };
        loop {
            match self.view.images().create(image.clone(), None).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::store("create image", name, error)),
            }
            match self
                .view
                .images()
                .update(image.clone(), Vec::new(), None)
                .await
            {
                Ok(_) => return Ok(()),
                // Removed in between: create it after all.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(Error::store("update image", name, error)),
            }
        }
    }
}

#[derive(Debug)]
struct LocalWrite {
    content: Arc<content::Local>,
    /// Away while a step runs; a step that was dropped in its middle leaves none.
    writer: Option<Writer>,
}

impl LocalWrite {
    async fn step(
        &mut self,
        act: &'static str,
        work: impl FnOnce(&mut Writer) -> Result<(), metadata::Error> + Send + 'static,
    ) -> Result<(), Error> {
        let mut writer = self.writer.take().ok_or_else(|| lost(act))?;
        let (writer, result) = blocking(move || {
            let result = work(&mut writer);
            (writer, result)
        })
        .await?;
        let reference = writer.reference().to_owned();
        self.writer = Some(writer);
        result.map_err(|error| Error::store(act, reference, error))
    }
}

fn lost(act: &'static str) -> Error {
    Error::Canceled {
        target: act.to_owned(),
    }
}

#[async_trait]
impl Writing for LocalWrite {
    fn offset(&self) -> u64 {
        self.writer.as_ref().map_or(0, Writer::offset)
    }

    fn digest(&self) -> Option<Digest> {
        self.writer.as_ref().and_then(Writer::digest)
    }

    fn file(&self) -> Result<File, Error> {
        let writer = self
            .writer
            .as_ref()
            .ok_or_else(|| lost("share an ingest's file"))?;
        if let Some(file) = writer.file() {
            return file.try_clone().map_err(|source| Error::Io {
                act: "share an ingest's file",
                source,
            });
        }
        // Another namespace's blob, which this one links.
        let digest = writer
            .digest()
            .ok_or_else(|| lost("share an ingest's file"))?;
        let blob = self.content.reader(&digest);
        blob.map(|blob| blob.file)
            .map_err(|error| Error::store("open content", &digest, error))
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.step("write ingest", move |writer| writer.write(&bytes))
            .await
    }

    async fn restart(&mut self) -> Result<(), Error> {
        self.step("truncate ingest", |writer| writer.truncate(0))
            .await
    }

    async fn commit(
        mut self: Box<Self>,
        descriptor: &Descriptor,
        labels: Labels,
    ) -> Result<(), Error> {
        let writer = self.writer.take().ok_or_else(|| lost("commit an ingest"))?;
        let digest = &descriptor.digest;
        match writer
            .commit(Some(descriptor.size), Some(digest), labels)
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(Error::store("commit content", digest, error)),
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| lost("a step on files"))
}
