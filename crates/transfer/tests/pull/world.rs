//! A registry, stores and a transfer between them.

use std::sync::Arc;
use std::time::Duration;

use jobs::Jobs;
use model::{Descriptor, Labels, Namespace, Platform, PlatformMatcher, Reference, SystemClock};
use registry::testing::{Entry, Image, Layer, PushedImage, Registry};
use registry::{Anonymous, Client, Hosts, Scheme};
use snapshots::Kind;
use transfer::{Config, Error, PullRequest, Source, Stores, Transfer, Unpack};

use crate::stores::{Book, Content, Disk, Hash, Shelf};

pub struct World {
    pub registry: Registry,
    pub disk: Arc<Disk>,
    pub book: Arc<Book>,
    pub shelf: Arc<Shelf>,
    pub hash: Arc<Hash>,
    pub jobs: Jobs,
    pub transfer: Transfer,
}

impl World {
    pub async fn new() -> Self {
        let hash = Arc::new(Hash::default());
        let jobs = Jobs::new(Arc::new(SystemClock));
        let config = Config {
            abandon_after: Duration::from_millis(50),
            ..Config::new(hash.clone(), jobs.clone(), Arc::new(SystemClock))
        };
        Self {
            registry: Registry::start().await,
            disk: Disk::new(),
            book: Arc::default(),
            shelf: Arc::default(),
            hash,
            jobs,
            transfer: Transfer::new(config),
        }
    }

    pub fn request(&self, name: &str) -> PullRequest {
        let reference = Reference::parse(&self.registry.name(name)).unwrap();
        let config = registry::Config {
            backoff: Duration::from_millis(1),
            first_byte: Duration::from_millis(500),
            idle: Duration::from_millis(500),
            retries: 1,
            resumes: 1,
            ..registry::Config::default()
        };
        let hosts = Hosts::direct(self.registry.authority(), Some(Scheme::Http));
        let repository = Client::new(config)
            .unwrap()
            .repository(&reference, &hosts, &(Arc::new(Anonymous) as _))
            .unwrap();
        let host = PlatformMatcher::only(&Platform::host());
        PullRequest {
            namespace: "test".parse::<Namespace>().unwrap(),
            identity: Some("me".into()),
            source: Source::Registry(repository),
            name: reference.to_string(),
            labels: Labels::new(),
            extra_references: Vec::new(),
            platforms: Some(host.clone()),
            all_metadata: false,
            manifest_limit: 1,
            unpacks: vec![Unpack {
                platform: host,
                name: "test".into(),
                snapshotter: self.shelf.clone(),
                labels: Labels::new(),
            }],
            stores: Stores {
                blobs: Arc::new(Content(self.disk.clone())),
                names: self.book.clone(),
            },
        }
    }

    pub async fn pull(&self, name: &str) -> Result<Descriptor, Arc<Error>> {
        self.transfer.pull(self.request(name)).finish().await
    }

    pub fn push(&self, layers: usize) -> PushedImage {
        let layer = |place: usize| {
            let bytes = (0..400_000)
                .map(|at| u8::try_from((at * (place + 3)) % 251).unwrap())
                .collect();
            Layer::tar(&[Entry::File(format!("file{place}"), 0o644, bytes)])
        };
        let image = Image {
            layers: (0..layers).map(layer).collect(),
            ..Image::default()
        };
        self.registry.push_image("app", "1", &image)
    }

    pub fn assert_nothing_named(&self) {
        assert!(self.book.0.lock().unwrap().is_empty());
        let active: Vec<_> = self
            .shelf
            .kinds()
            .into_iter()
            .filter(|(_, kind)| *kind != Kind::Committed)
            .collect();
        assert!(active.is_empty(), "{active:?}");
        assert!(self.jobs.list().is_empty(), "{:?}", self.jobs.list());
    }
}
