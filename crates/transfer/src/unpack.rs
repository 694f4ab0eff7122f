//! The layers of one image into snapshots, while they are downloaded.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use images::{Config, Manifest, chain_ids, media};
use model::{Descriptor, Digest, ErrorKind, Kinded as _, Labels, Mount};
use snapshots::{CommitOptions, Durability, Snapshotter};
use tokio::task::JoinHandle;

use crate::progress::Part;
use crate::pull::Pull;
use crate::tail::{self, Mark};
use crate::{Applied, Error, Session, Unpack};

const LABEL_DIFF_ID: &str = "containerd.io/snapshot/diff-id";
const LABEL_PARENT: &str = "containerd.io/snapshot/parent-chain-id";
const LABEL_UNCOMPRESSED: &str = "containerd.io/uncompressed";
/// How long a layer that can't be unpacked waits for the end of its download, which may say why.
const GRACE: Duration = Duration::from_secs(1);
/// Tries of a prepare that says both "exists" and "not found".
const PREPARE_MAX: usize = 3;

/// A layer on its way into the store.
struct Download {
    mark: Mark,
    task: JoinHandle<Result<(), Error>>,
    /// The task's result was taken.
    over: bool,
}

impl Download {
    /// Waits for the end; further calls return at once. Cancel-safe.
    async fn finish(&mut self) -> Result<(), Error> {
        if self.over {
            return Ok(());
        }
        let joined = (&mut self.task).await;
        self.over = true;
        joined.unwrap_or_else(|_| {
            Err(Error::Canceled {
                target: "a layer".into(),
            })
        })
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Layer<'a> {
    descriptor: &'a Descriptor,
    diff_id: &'a Digest,
    chain_id: &'a Digest,
    parent: Option<&'a Digest>,
}

impl Pull {
    /// Unpacks an image over one snapshotter and says so on its configuration.
    pub(crate) async fn unpack(
        self: &Arc<Self>,
        manifest: &Manifest,
        parent: &str,
        config: &Config,
        unpack: &Unpack,
    ) -> Result<(), Error> {
        let layers = layers_of(manifest, config)?;
        let mut downloads = Vec::new();
        let result = self
            .unpack_layers(&layers, parent, config, unpack, &mut downloads)
            .await;
        // Nothing runs on once the pull has ended.
        for mut download in downloads {
            if result.is_err() {
                download.task.abort();
            }
            drop(download.finish().await);
        }
        let top = result?;
        let label = format!("containerd.io/gc.ref.snapshot.{}", unpack.name);
        let labels = Labels::from([(label, top)]);
        self.request
            .stores
            .blobs
            .set_labels(&manifest.config.digest, labels)
            .await
    }

    /// Answers the chain id of the whole image; empty for one without layers.
    async fn unpack_layers(
        self: &Arc<Self>,
        layers: &[&Descriptor],
        parent: &str,
        config: &Config,
        unpack: &Unpack,
        downloads: &mut Vec<Download>,
    ) -> Result<String, Error> {
        let chain = chain_ids(&config.diff_ids);
        let mut first = 0;
        let mut session: Option<Box<dyn Session>> = None;
        for (place, descriptor) in layers.iter().enumerate() {
            let layer = Layer {
                descriptor,
                diff_id: &config.diff_ids[place],
                chain_id: &chain[place],
                parent: place.checked_sub(1).map(|below| &chain[below]),
            };
            let name = format!("sn://{}/{}", unpack.name, layer.chain_id);
            let _alone = self.transfer.locks.lock(name).await;
            let Some(snapshot) = self.prepare(unpack, &layer).await? else {
                continue;
            };
            // The first layer that is missing starts the downloads of all that follow.
            if downloads.is_empty() {
                first = place;
                downloads.extend(
                    layers[place..]
                        .iter()
                        .map(|layer| self.start(layer, parent)),
                );
            }
            let download = &mut downloads[place - first];
            self.layer(&mut session, unpack, &layer, snapshot, download, parent)
                .await?;
        }
        // Layers that appeared by themselves after their download began.
        for download in downloads.iter_mut() {
            download.finish().await?;
        }
        Ok(chain.last().map(ToString::to_string).unwrap_or_default())
    }

    fn start(self: &Arc<Self>, layer: &Descriptor, parent: &str) -> Download {
        let (writer, mark) = Mark::new();
        let (pull, layer, parent) = (self.clone(), layer.clone(), parent.to_owned());
        let task =
            tokio::spawn(async move { pull.fetch(&layer, &parent, Labels::new(), writer).await });
        Download {
            mark,
            task,
            over: false,
        }
    }

    /// `None`: the snapshotter has the layer.
    async fn prepare(
        &self,
        unpack: &Unpack,
        layer: &Layer<'_>,
    ) -> Result<Option<Extraction>, Error> {
        let sn = &unpack.snapshotter;
        let labels = snapshot_labels(unpack, layer);
        for _ in 0..PREPARE_MAX {
            match sn.stat(layer.chain_id.as_str()).await {
                Ok(_) => return Ok(None),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(Error::store("look for snapshot", layer.chain_id, error)),
            }
            let key = format!("extract-{} {}", self.transfer.unique(), layer.chain_id);
            match sn
                .prepare(&key, layer.parent.map(Digest::as_str), labels.clone())
                .await
            {
                Ok(mounts) => return Ok(Some(Extraction::new(sn, key, mounts))),
                // It made the layer appear by itself; the next look finds it.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::store("prepare extraction snapshot", key, error)),
            }
        }
        match sn.stat(layer.chain_id.as_str()).await {
            Ok(_) => Ok(None),
            Err(_) => Err(Error::Unsteady {
                chain_id: layer.chain_id.clone(),
            }),
        }
    }

    /// Unpacks one layer into its snapshot and commits that.
    async fn layer(
        &self,
        session: &mut Option<Box<dyn Session>>,
        unpack: &Unpack,
        layer: &Layer<'_>,
        mut snapshot: Extraction,
        download: &mut Download,
        parent: &str,
    ) -> Result<(), Error> {
        // The first time behind the download. If that had to start over, what was unpacked is worth nothing, and
        // the second time reads the blob.
        for _ in 0..2 {
            let applied = self
                .apply(session, layer, download, &snapshot.mounts, parent)
                .await;
            match applied {
                Ok(Some(applied)) => return self.commit(unpack, layer, snapshot, &applied).await,
                Ok(None) => snapshot.remove().await,
                Err(error) => {
                    snapshot.remove().await;
                    return Err(error);
                }
            }
            let digest = &layer.descriptor.digest;
            let file = self.request.stores.blobs.open(digest).await?;
            download.mark = Mark::whole(file, layer.descriptor.size);
            snapshot = match self.prepare(unpack, layer).await? {
                Some(snapshot) => snapshot,
                None => return Ok(()),
            };
        }
        snapshot.remove().await;
        Err(Error::Canceled {
            target: layer.descriptor.digest.to_string(),
        })
    }

    /// Unpacks while the bytes come; `None` if their download had to start over.
    async fn apply(
        &self,
        session: &mut Option<Box<dyn Session>>,
        layer: &Layer<'_>,
        download: &mut Download,
        mounts: &[Mount],
        parent: &str,
    ) -> Result<Option<Applied>, Error> {
        let part = Part::new(&self.progress, parent.to_owned(), layer.descriptor);
        let job = self.job.child("unpack", crate::ref_key(layer.descriptor));
        job.waits_for(Some("the first bytes of the layer"));
        // A worker that waits for its first byte would be taken for one that hangs.
        download.mark.begun().await;
        job.stage("unpacking behind the download");
        let running = match session {
            Some(running) => running,
            None => session.insert(self.transfer.config.applier.session().await?),
        };
        let (reader, writer) = tail::pipe()?;
        let mark = download.mark.clone();
        let feeder = tokio::task::spawn_blocking(move || mark.feed(writer));
        part.say("extracting", 0);
        let mut hears = part.clone();
        let progress = Box::new(move |bytes| hears.step("extracting", bytes));
        let reader = OwnedFd::from(reader);
        let applied = running
            .apply(layer.descriptor, reader, mounts, progress)
            .await;
        // The download's failure says more than what the worker made of the bytes that it got; but a layer that
        // can't be unpacked need not be downloaded to its end.
        let applied = match applied {
            Ok(applied) => {
                download.finish().await?;
                Ok(applied)
            }
            Err(error) => {
                // Its worker may be in the middle of anything.
                *session = None;
                match tokio::time::timeout(GRACE, download.finish()).await {
                    Ok(result) => result?,
                    Err(_) => return Err(error),
                }
                Err(error)
            }
        };
        match feeder.await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ok(None),
            Err(_) => {
                return Err(Error::Canceled {
                    target: layer.descriptor.digest.to_string(),
                });
            }
        }
        let applied = applied?;
        if applied.diff_id != *layer.diff_id {
            return Err(Error::WrongDiffId {
                layer: layer.descriptor.digest.clone(),
                expected: layer.diff_id.clone(),
                actual: applied.diff_id,
            });
        }
        part.whole("extracted");
        Ok(Some(applied))
    }

    async fn commit(
        &self,
        unpack: &Unpack,
        layer: &Layer<'_>,
        extraction: Extraction,
        applied: &Applied,
    ) -> Result<(), Error> {
        let options = CommitOptions {
            labels: snapshot_labels(unpack, layer),
            parent: None,
            durability: if applied.durable {
                Durability::AlreadyDurable
            } else {
                Durability::Sync
            },
        };
        let chain_id = layer.chain_id.as_str();
        match unpack
            .snapshotter
            .commit(chain_id, extraction.key(), options)
            .await
        {
            Ok(()) => extraction.keep(),
            Err(error) => {
                extraction.remove().await;
                if error.kind() != ErrorKind::AlreadyExists {
                    return Err(Error::store("commit snapshot", chain_id, error));
                }
            }
        }
        let labels = Labels::from([(LABEL_UNCOMPRESSED.to_owned(), layer.diff_id.to_string())]);
        self.request
            .stores
            .blobs
            .set_labels(&layer.descriptor.digest, labels)
            .await
    }
}

/// The layers, as many as the configuration says and none that we can't read.
fn layers_of<'a>(manifest: &'a Manifest, config: &Config) -> Result<Vec<&'a Descriptor>, Error> {
    let layers: Vec<&Descriptor> = manifest
        .layers
        .iter()
        .filter(|layer| media::is_layer(&layer.media_type))
        .collect();
    if layers.len() != config.diff_ids.len() {
        return Err(Error::Layers {
            layers: layers.len(),
            diff_ids: config.diff_ids.len(),
        });
    }
    match layers
        .iter()
        .find(|layer| media::is_encrypted(&layer.media_type))
    {
        None => Ok(layers),
        Some(layer) => Err(Error::Image {
            digest: manifest.config.digest.clone(),
            source: images::Error::Encrypted {
                digest: layer.digest.clone(),
            },
        }),
    }
}

fn snapshot_labels(unpack: &Unpack, layer: &Layer<'_>) -> Labels {
    let inherited = layer
        .descriptor
        .annotations
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()));
    let mut labels = snapshots::inherited_labels(&inherited.collect());
    labels.extend(unpack.labels.clone());
    labels.insert(snapshots::LABEL_REF.into(), layer.chain_id.to_string());
    labels.insert(LABEL_DIFF_ID.into(), layer.diff_id.to_string());
    if let Some(parent) = layer.parent {
        labels.insert(LABEL_PARENT.into(), parent.to_string());
    }
    labels
}

/// A snapshot that is gone unless it was committed, even when the pull is cancelled.
struct Extraction {
    snapshotter: Arc<dyn Snapshotter>,
    key: Option<String>,
    mounts: Vec<Mount>,
}

impl Extraction {
    fn new(snapshotter: &Arc<dyn Snapshotter>, key: String, mounts: Vec<Mount>) -> Self {
        Self {
            snapshotter: snapshotter.clone(),
            key: Some(key),
            mounts,
        }
    }

    fn key(&self) -> &str {
        self.key.as_deref().unwrap_or_default()
    }

    fn keep(mut self) {
        self.key = None;
    }

    async fn remove(mut self) {
        if let Some(key) = self.key.take() {
            remove(self.snapshotter.clone(), key).await;
        }
    }
}

impl Drop for Extraction {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            drop(tokio::spawn(remove(self.snapshotter.clone(), key)));
        }
    }
}

async fn remove(snapshotter: Arc<dyn Snapshotter>, key: String) {
    if let Err(error) = snapshotter.remove(&key).await
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(key, error = %model::chain(&error), "an extraction snapshot stays until the next collection");
    }
}
