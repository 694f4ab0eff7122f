//! A whole image from a registry.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use images::{
    DESCRIPTORS_MAX, DOCUMENT_BYTES_MAX, Document, GcLabels, INDEX_DEPTH_MAX, Manifest, children,
    gc_labels, media,
};
use model::{Descriptor, Digest, Labels, PlatformMatcher};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::Error;
use crate::flights::{Flights, Seat};
use crate::keyed::Keyed;
use crate::progress::{ProgressStream, Sender, ref_key};
use crate::request::{Config, PullRequest, Source};
use crate::tail::Mark;

/// Label: removed with the image that it names.
const LABEL_BACK_REFERENCE: &str = "containerd.io/gc.bref.image";
/// Label: may be collected from this time on.
const LABEL_EXPIRE: &str = "containerd.io/gc.expire";

/// Moves images; cheap to clone. All pulls of a program go through one.
#[derive(Debug, Clone)]
pub struct Transfer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) downloads: Semaphore,
    pub(crate) locks: Keyed,
    flights: Flights,
}

/// A pull that runs, or that this one joined. Dropping the last hold on it ends it after a while.
#[derive(Debug)]
pub struct Pulling {
    seat: Seat,
}

impl Pulling {
    /// What the pull tells: the first call hears everything since this hold began, a later one from then on.
    pub fn progress(&mut self) -> ProgressStream {
        self.seat.progress()
    }

    /// Waits until the image has its name; answers what it points to. Cancel-safe.
    ///
    /// # Errors
    /// The pull failed; it left no name and no snapshot. The error is shared with whoever joined.
    pub async fn finish(&self) -> Result<Descriptor, Arc<Error>> {
        self.seat.land().await
    }
}

impl Transfer {
    /// A transfer with no pull running.
    pub fn new(config: Config) -> Self {
        Self {
            inner: Arc::new(Inner {
                downloads: Semaphore::new(config.max_concurrent_downloads.clamp(1, 1000)),
                config,
                locks: Keyed::default(),
                flights: Flights::default(),
            }),
        }
    }

    /// Starts a pull, or joins an equal one that runs. Must be called inside a runtime.
    pub fn pull(&self, request: PullRequest) -> Pulling {
        let target = request.source.shown();
        let transfer = self.inner.clone();
        let seat =
            self.inner
                .flights
                .board(request.key(), self.inner.config.abandon_after, |progress| {
                    let job = transfer
                        .config
                        .jobs
                        .begin("pull", &*target)
                        .in_namespace(&request.namespace);
                    let pull = Pull {
                        transfer,
                        request,
                        progress,
                        job,
                    };
                    Arc::new(pull).run()
                });
        Pulling { seat }
    }
}

impl Inner {
    /// Nanoseconds of the present second and something random.
    pub(crate) fn unique(&self) -> String {
        let nanos = self.config.clock.now().subsec_nanosecond();
        format!(
            "{nanos}-{:06x}",
            RandomState::new().hash_one(nanos) & 0xff_ffff
        )
    }
}

/// One pull.
#[derive(Debug)]
pub(crate) struct Pull {
    pub(crate) transfer: Arc<Inner>,
    pub(crate) request: PullRequest,
    pub(crate) progress: Sender,
    pub(crate) job: jobs::Job,
}

/// A manifest that was fetched, and what is wanted of it.
#[derive(Debug)]
struct Found {
    descriptor: Descriptor,
    manifest: Manifest,
    /// Only its configuration is wanted.
    metadata_only: bool,
}

impl Pull {
    async fn run(self: Arc<Self>) -> Result<Descriptor, Error> {
        let request = &self.request;
        let shown = request.source.shown();
        let (target, bytes) = match &request.source {
            Source::Store(target) => ((**target).clone(), None),
            Source::Registry(repository) => {
                self.job.stage("resolving");
                self.progress.say(format!("Resolving from {shown}"));
                let resolved = repository
                    .resolve()
                    .await
                    .map_err(|source| Error::Registry {
                        act: "resolve image",
                        source,
                    })?;
                (resolved.descriptor, resolved.bytes)
            }
        };
        self.job.stage("pulling");
        self.progress.say(format!("Pulling from {shown}"));
        self.progress
            .about("fetching image content", &self.root(), &target);
        let found = self.walk(&target, bytes).await?;
        for found in &found {
            self.content(found).await?;
        }
        self.name(&target).await?;
        self.progress.say(format!("Completed pull from {shown}"));
        Ok(target)
    }

    fn root(&self) -> String {
        match self.request.name.as_str() {
            "" => self.request.source.shown(),
            name => name.to_owned(),
        }
    }

    /// Fetches indexes and manifests, parents first, and answers the manifests that are wanted.
    async fn walk(&self, target: &Descriptor, known: Option<Bytes>) -> Result<Vec<Found>, Error> {
        let mut found = Vec::new();
        let mut visited = 0;
        let mut seen: HashMap<Digest, usize> = HashMap::new();
        let mut bytes = known;
        let mut stack = vec![(target.clone(), self.root(), 0_usize)];
        while let Some((descriptor, parent, depth)) = stack.pop() {
            let too_many = |what, limit| Error::TooMany {
                image: target.digest.clone(),
                what,
                limit,
            };
            visited += 1;
            if visited > DESCRIPTORS_MAX {
                return Err(too_many("descriptors", DESCRIPTORS_MAX));
            }
            if depth > INDEX_DEPTH_MAX {
                return Err(too_many("levels of indexes", INDEX_DEPTH_MAX));
            }
            if seen.insert(descriptor.digest.clone(), depth).is_some() {
                continue;
            }
            let document = self.document(&descriptor, &parent, bytes.take()).await?;
            match document {
                Some(Document::Index(index)) => {
                    let wanted = self.wanted(index.manifests, &descriptor)?;
                    let name = ref_key(&descriptor);
                    stack.extend(
                        wanted
                            .into_iter()
                            .rev()
                            .map(|entry| (entry, name.clone(), depth + 1)),
                    );
                }
                Some(Document::Manifest(manifest)) => found.push(Found {
                    metadata_only: self.is_metadata_only(&descriptor),
                    descriptor,
                    manifest,
                }),
                None => {}
            }
        }
        Ok(found)
    }

    fn wanted(
        &self,
        entries: Vec<Descriptor>,
        index: &Descriptor,
    ) -> Result<Vec<Descriptor>, Error> {
        let all = PlatformMatcher::all();
        let matcher = self.request.platforms.as_ref().unwrap_or(&all);
        let kept = if self.request.all_metadata {
            entries
        } else {
            images::wanted(entries, matcher)
        };
        images::limit(kept, self.request.manifest_limit, index).map_err(|source| Error::Image {
            digest: index.digest.clone(),
            source,
        })
    }

    fn is_metadata_only(&self, descriptor: &Descriptor) -> bool {
        match (&self.request.platforms, &descriptor.platform) {
            (Some(matcher), Some(platform)) => !matcher.matches(platform),
            _ => false,
        }
    }

    /// Fetches one document, labels it, and reads it; `None` for what is neither index nor manifest.
    async fn document(
        &self,
        descriptor: &Descriptor,
        parent: &str,
        known: Option<Bytes>,
    ) -> Result<Option<Document>, Error> {
        let kind = descriptor.media_type.as_str();
        let image = |source| Error::Image {
            digest: descriptor.digest.clone(),
            source,
        };
        if kind == media::DOCKER_MANIFEST_1 {
            return Err(image(images::Error::Schema1));
        }
        if !media::is_index(kind) && !media::is_manifest(kind) {
            self.fetch_alone(descriptor, parent, Labels::new()).await?;
            return Ok(None);
        }
        // Looked at before it is stored: what can't be read gets no place in the store.
        let bytes = match (known, self.stored(descriptor).await?) {
            (_, Some(stored)) => stored,
            (Some(known), None) => known,
            (None, None) => self.manifest(descriptor).await?,
        };
        let document = Document::parse(kind, &bytes).map_err(image)?;
        let labels = gc_labels(&children(&document), GcLabels::All);
        self.store_document(descriptor, parent, labels, bytes)
            .await?;
        Ok(Some(document))
    }

    async fn manifest(&self, descriptor: &Descriptor) -> Result<Bytes, Error> {
        let Source::Registry(repository) = &self.request.source else {
            return Err(Error::Missing {
                digest: descriptor.digest.clone(),
            });
        };
        let read = repository.manifest(descriptor).await;
        read.map_err(|source| Error::Registry {
            act: "fetch manifest",
            source,
        })
    }

    /// The content if the namespace has it and it is small enough to be a document.
    async fn stored(&self, descriptor: &Descriptor) -> Result<Option<Bytes>, Error> {
        let blobs = &self.request.stores.blobs;
        if blobs.labels(&descriptor.digest).await?.is_none() || descriptor.size > DOCUMENT_BYTES_MAX
        {
            return Ok(None);
        }
        let file = blobs.open(&descriptor.digest).await?;
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            file.take(DOCUMENT_BYTES_MAX + 1)
                .read_to_end(&mut bytes)
                .map(|_| Bytes::from(bytes))
        });
        let read = read.await.map_err(|_| Error::Canceled {
            target: descriptor.digest.to_string(),
        })?;
        read.map(Some).map_err(|source| Error::Io {
            act: "read a manifest from the store",
            source,
        })
    }

    /// The layers and the configuration of one manifest.
    async fn content(self: &Arc<Self>, found: &Found) -> Result<(), Error> {
        let parent = ref_key(&found.descriptor);
        let manifest = &found.manifest;
        self.fetch_alone(&manifest.config, &parent, Labels::new())
            .await?;
        if found.metadata_only {
            return Ok(());
        }
        if media::is_config(&manifest.config.media_type) && !self.request.unpacks.is_empty() {
            let config = self.config(&manifest.config).await?;
            let fits = |unpack: &&crate::Unpack| {
                config.layered && unpack.platform.matches(&config.platform)
            };
            if let Some(unpack) = self.request.unpacks.iter().find(fits) {
                self.unpack(manifest, &parent, &config, unpack).await?;
                let others = manifest
                    .layers
                    .iter()
                    .filter(|layer| !media::is_layer(&layer.media_type));
                return self.fetch_all(others, &parent).await;
            }
        }
        self.fetch_all(manifest.layers.iter(), &parent).await
    }

    async fn config(&self, descriptor: &Descriptor) -> Result<images::Config, Error> {
        let bytes = self.stored(descriptor).await?;
        let image = |source| Error::Image {
            digest: descriptor.digest.clone(),
            source,
        };
        let bytes = bytes.ok_or_else(|| {
            image(images::Error::TooMany {
                what: "image configuration",
                count: descriptor.size,
                unit: "bytes",
                limit: DOCUMENT_BYTES_MAX,
            })
        })?;
        images::Config::parse(&bytes).map_err(image)
    }

    async fn fetch_all<'a>(
        self: &Arc<Self>,
        layers: impl Iterator<Item = &'a Descriptor>,
        parent: &str,
    ) -> Result<(), Error> {
        let mut tasks = JoinSet::new();
        for layer in layers {
            let (pull, layer, parent) = (self.clone(), layer.clone(), parent.to_owned());
            tasks.spawn(async move { pull.fetch_alone(&layer, &parent, Labels::new()).await });
        }
        while let Some(done) = tasks.join_next().await {
            let canceled = || Error::Canceled {
                target: "a layer".into(),
            };
            let result = done.map_err(|_| canceled()).flatten();
            if result.is_err() {
                // Nothing runs on once the pull has ended.
                tasks.shutdown().await;
                return result;
            }
        }
        Ok(())
    }

    async fn fetch_alone(
        &self,
        descriptor: &Descriptor,
        parent: &str,
        labels: Labels,
    ) -> Result<(), Error> {
        let (writer, _) = Mark::new();
        self.fetch(descriptor, parent, labels, writer).await
    }

    /// Gives the image its names: the last step, so that a name always stands for a whole image.
    async fn name(&self, target: &Descriptor) -> Result<(), Error> {
        let request = &self.request;
        let mut names: Vec<(String, Labels)> = Vec::new();
        let mut extra_labels = request.labels.clone();
        if !request.name.is_empty() {
            names.push((request.name.clone(), request.labels.clone()));
            extra_labels.insert(LABEL_BACK_REFERENCE.into(), request.name.clone());
            extra_labels.insert(
                LABEL_EXPIRE.into(),
                self.transfer.config.clock.now().to_string(),
            );
        }
        for extra in request
            .extra_references
            .iter()
            .filter(|extra| !extra.is_prefix || extra.add_digest)
        {
            let name = match extra.add_digest {
                true => format!("{}@{}", extra.name, target.digest),
                false => extra.name.clone(),
            };
            names.push((name, extra_labels.clone()));
        }
        if names.is_empty() && matches!(request.source, Source::Registry(_)) {
            return Err(Error::NoName);
        }
        for (name, labels) in names {
            request.stores.names.put(&name, target, labels).await?;
            self.progress.about("saved", &name, target);
        }
        Ok(())
    }
}
