//! Pulls from a registry that behaves and one that does not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::expect_used, unreachable_pub, reason = "a test is one program")]

mod stores;

use std::sync::Arc;
use std::time::Duration;

use jobs::Jobs;
use model::{
    Descriptor, ErrorKind, Kinded, Labels, Namespace, Platform, PlatformMatcher, Reference,
    SystemClock,
};
use registry::testing::{Entry, Fault, Image, Layer, PushedImage, Registry};
use registry::{Anonymous, Client, Hosts, Scheme};
use serde_json::json;
use snapshots::Kind;
use stores::{Book, Content, Disk, Hash, Shelf};
use transfer::{Config, Error, ExtraReference, PullRequest, Source, Stores, Transfer, Unpack};

struct World {
    registry: Registry,
    disk: Arc<Disk>,
    book: Arc<Book>,
    shelf: Arc<Shelf>,
    hash: Arc<Hash>,
    jobs: Jobs,
    transfer: Transfer,
}

impl World {
    async fn new() -> Self {
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

    fn request(&self, name: &str) -> PullRequest {
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

    async fn pull(&self, name: &str) -> Result<Descriptor, Arc<Error>> {
        self.transfer.pull(self.request(name)).finish().await
    }

    fn push(&self, layers: usize) -> PushedImage {
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

    fn assert_nothing_named(&self) {
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

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_unpacked_labelled_and_named() {
    let world = World::new().await;
    let pushed = world.push(4);
    let mut pulling = world.transfer.pull(world.request("app:1"));
    let mut progress = pulling.progress();
    assert_eq!(pulling.finish().await.unwrap(), pushed.manifest);
    drop(pulling);
    let mut events = Vec::new();
    while let Some(message) = progress.next().await {
        events.push(message.event);
    }
    let name = world.registry.name("app:1");
    assert_eq!(events.first(), Some(&format!("Resolving from {name}")));
    assert_eq!(
        events[events.len() - 2..],
        ["saved".to_owned(), format!("Completed pull from {name}")]
    );
    for event in [
        "fetching image content",
        "waiting",
        "downloading",
        "complete",
        "extracting",
        "extracted",
    ] {
        assert!(
            events.iter().any(|each| each == event),
            "{event}: {events:?}"
        );
    }

    let chain = images::chain_ids(&pushed.diff_ids);
    assert_eq!(*world.hash.applied.lock().unwrap(), pushed.diff_ids);
    assert_eq!(*world.hash.sessions.lock().unwrap(), 1);
    for (place, chain_id) in chain.iter().enumerate() {
        let info = world.shelf.all.lock().unwrap()[chain_id.as_str()].clone();
        assert_eq!(
            info.parent.as_deref(),
            place.checked_sub(1).map(|below| chain[below].as_str())
        );
        assert_eq!(
            info.labels["containerd.io/snapshot/diff-id"],
            pushed.diff_ids[place].as_str()
        );
        let layer = &pushed.layers[place].digest;
        assert_eq!(
            world
                .disk
                .label(layer, "containerd.io/uncompressed")
                .unwrap(),
            pushed.diff_ids[place].as_str()
        );
        let label = format!("containerd.io/gc.ref.content.l.{place}");
        assert_eq!(
            world.disk.label(&pushed.manifest.digest, &label).unwrap(),
            layer.as_str()
        );
    }
    let top = world
        .disk
        .label(&pushed.config.digest, "containerd.io/gc.ref.snapshot.test")
        .unwrap();
    assert_eq!(top, chain[3].as_str());
    let source = "containerd.io/distribution.source.127.0.0.1";
    assert_eq!(
        world.disk.label(&pushed.layers[0].digest, source).unwrap(),
        "app"
    );
    assert_eq!(world.book.0.lock().unwrap()[&name].0, pushed.manifest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_pull_finds_everything() {
    let world = World::new().await;
    world.push(4);
    world.pull("app:1").await.unwrap();
    let before = world.registry.count("GET", "");
    world.pull("app:1").await.unwrap();
    assert_eq!(world.registry.count("GET", ""), before);
    assert_eq!(world.hash.applied.lock().unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_there_is_unpacked_from_the_store() {
    let world = World::new().await;
    let pushed = world.push(2);
    let mut request = world.request("app:1");
    request.unpacks.clear();
    world.transfer.pull(request).finish().await.unwrap();
    assert!(world.shelf.kinds().is_empty());
    let before = world.registry.count("GET", "");
    world.pull("app:1").await.unwrap();
    assert_eq!(world.registry.count("GET", ""), before);
    assert_eq!(*world.hash.applied.lock().unwrap(), pushed.diff_ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_the_store_is_unpacked_without_a_registry() {
    let world = World::new().await;
    let pushed = world.push(2);
    let from_store = |world: &World| PullRequest {
        source: Source::Store(Box::new(pushed.manifest.clone())),
        name: String::new(),
        ..world.request("app:1")
    };
    let error = world
        .transfer
        .pull(from_store(&world))
        .finish()
        .await
        .unwrap_err();
    assert!(matches!(*error, Error::Missing { .. }), "{error}");
    let mut request = world.request("app:1");
    request.unpacks.clear();
    world.transfer.pull(request).finish().await.unwrap();
    let before = world.registry.requests().len();
    world
        .transfer
        .pull(from_store(&world))
        .finish()
        .await
        .unwrap();
    assert_eq!(world.registry.requests().len(), before);
    assert_eq!(*world.hash.applied.lock().unwrap(), pushed.diff_ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshotter_that_has_the_layer_saves_the_download() {
    let world = World::new().await;
    let pushed = world.push(3);
    let chain = images::chain_ids(&pushed.diff_ids);
    *world.shelf.remote.lock().unwrap() = vec![chain[0].to_string(), chain[1].to_string()];
    world.pull("app:1").await.unwrap();
    assert!(!world.disk.has(&pushed.layers[0].digest) && !world.disk.has(&pushed.layers[1].digest));
    assert_eq!(*world.hash.applied.lock().unwrap(), pushed.diff_ids[2..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_leave_no_name_and_no_snapshot() {
    for fault in [
        Fault::WrongBytes,
        Fault::Short(1000),
        Fault::ResetAfter(1000),
        Fault::Endless,
        Fault::RedirectLoop,
        Fault::Html,
        Fault::Status(404, vec![], String::new()),
        Fault::Status(500, vec![], String::new()),
    ] {
        let world = World::new().await;
        let pushed = world.push(3);
        let bad = &pushed.layers[1].digest;
        world.registry.fault(format!("blobs/{bad}"), fault.clone());
        let error = world.pull("app:1").await.expect_err(&format!("{fault:?}"));
        assert!(
            !matches!(error.kind(), ErrorKind::Canceled),
            "{fault:?}: {}",
            model::chain(&error)
        );
        assert!(!world.disk.has(bad), "{fault:?}");
        world.assert_nothing_named();
        // Once the registry behaves the pull goes on.
        world.registry.clear_faults();
        world
            .pull("app:1")
            .await
            .unwrap_or_else(|error| panic!("{fault:?}: {}", model::chain(&error)));
        assert_eq!(world.shelf.kinds().len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_download_is_resumed_by_the_next_pull() {
    let world = World::new().await;
    let pushed = world.push(1);
    let blob = format!("blobs/{}", pushed.layers[0].digest);
    world.registry.fault(&*blob, Fault::ResetAfter(100_000));
    let error = world.pull("app:1").await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Unavailable,
        "{}",
        model::chain(&error)
    );
    world.registry.clear_faults();
    world.pull("app:1").await.unwrap();
    let last = world
        .registry
        .requests()
        .into_iter()
        .rfind(|request| request.target.contains(&blob))
        .unwrap();
    let range = last.header("range").expect("the pull resumes");
    assert!(
        range
            .trim_start_matches("bytes=")
            .trim_end_matches('-')
            .parse::<u64>()
            .unwrap()
            >= 200_000,
        "{range}"
    );
    assert_eq!(
        *world.hash.applied.lock().unwrap().last().unwrap(),
        pushed.diff_ids[0]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_fetched_again() {
    let world = World::new().await;
    let pushed = world.push(2);
    let blob = format!("blobs/{}", pushed.layers[1].digest);
    world.registry.fault_times(blob, Fault::WrongBytes, 1);
    // The only host lied once and is not trusted with this content again.
    assert!(world.pull("app:1").await.is_err());
    world.assert_nothing_named();
    world.pull("app:1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_lies_costs_time_only() {
    let world = World::new().await;
    let pushed = world.push(2);
    let mirror = Registry::start().await;
    mirror.fault("manifests", Fault::Status(404, vec![], String::new()));
    mirror.fault(
        format!("blobs/{}", pushed.layers[1].digest),
        Fault::Body(
            "application/octet-stream".into(),
            vec![0; usize::try_from(pushed.layers[1].size).unwrap()],
        ),
    );
    let mut request = world.request("app:1");
    let mut hosts = Hosts::direct(world.registry.authority(), Some(Scheme::Http));
    hosts
        .hosts
        .insert(0, registry::Host::new(Scheme::Http, mirror.authority()));
    let reference = Reference::parse(&world.registry.name("app:1")).unwrap();
    let client = Client::new(registry::Config::default()).unwrap();
    request.source = Source::Registry(
        client
            .repository(&reference, &hosts, &(Arc::new(Anonymous) as _))
            .unwrap(),
    );
    world.transfer.pull(request).finish().await.unwrap();
    assert_eq!(mirror.count("GET", pushed.layers[1].digest.as_str()), 1);
    assert_eq!(world.shelf.kinds().len(), 2);
    assert!(
        world
            .shelf
            .kinds()
            .iter()
            .all(|(_, kind)| *kind == Kind::Committed)
    );
    assert_eq!(
        world.hash.applied.lock().unwrap().last(),
        pushed.diff_ids.last()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_are_not_what_the_configuration_says_are_not_committed() {
    let world = World::new().await;
    let mut image = Image {
        layers: vec![Layer::tar(&[]), Layer::file("a", b"b")],
        ..Image::default()
    };
    image.layers[1].tar = b"something else".to_vec();
    world.registry.push_image("app", "1", &image);
    let error = world.pull("app:1").await.unwrap_err();
    assert!(matches!(*error, Error::WrongDiffId { .. }), "{error}");
    assert_eq!(world.shelf.kinds().len(), 1);
    world.assert_nothing_named();
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_images_are_refused() {
    let world = World::new().await;
    let pushed = world.push(1);
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let index = "application/vnd.oci.image.index.v1+json";
    let shown = |each: &Descriptor| json!({"mediaType": each.media_type, "digest": each.digest.as_str(), "size": each.size});
    let both = json!({"schemaVersion": 2, "config": shown(&pushed.config), "layers": [shown(&pushed.layers[0])], "manifests": []});
    world
        .registry
        .push_manifest("both", "1", kind, both.to_string().into_bytes());
    let error = world.pull("both:1").await.unwrap_err();
    assert!(
        model::chain(&error).contains("found an index"),
        "{}",
        model::chain(&error)
    );

    let mut inner = pushed.manifest.clone();
    for _ in 0..10 {
        let entry = json!({"schemaVersion": 2, "mediaType": index, "manifests": [shown(&inner)]});
        inner = world
            .registry
            .push_manifest("deep", "1", index, entry.to_string().into_bytes());
    }
    let error = world.pull("deep:1").await.unwrap_err();
    assert!(
        matches!(*error, Error::TooMany { .. } | Error::Image { .. }),
        "{error}"
    );

    let few = json!({"schemaVersion": 2, "config": shown(&pushed.config), "layers": []});
    world
        .registry
        .push_manifest("app", "few", kind, few.to_string().into_bytes());
    let error = world.pull("app:few").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "number of layers and diffIDs don't match: 0 != 1"
    );

    let encrypted = Descriptor {
        media_type: "application/vnd.oci.image.layer.v1.tar+encrypted".into(),
        ..pushed.layers[0].clone()
    };
    let locked =
        json!({"schemaVersion": 2, "config": shown(&pushed.config), "layers": [shown(&encrypted)]});
    world
        .registry
        .push_manifest("app", "locked", kind, locked.to_string().into_bytes());
    assert_eq!(
        world.pull("app:locked").await.unwrap_err().kind(),
        ErrorKind::Unimplemented
    );
    world.registry.fault("manifests", Fault::Html);
    let error = world.pull("app:1").await.unwrap_err();
    assert!(
        model::chain(&error).contains("text/html"),
        "{}",
        model::chain(&error)
    );
    world.assert_nothing_named();
}

#[tokio::test(flavor = "multi_thread")]
async fn platforms_are_chosen_from_an_index() {
    let world = World::new().await;
    let pushed = world.push(1);
    let other = Image {
        layers: vec![Layer::tar(&[])],
        architecture: "s390x".into(),
        ..Image::default()
    };
    let other = world.registry.push_image("app", "", &other);
    let host = format!("linux/{}", Platform::host().architecture);
    world.registry.push_index(
        "app",
        "all",
        &[("linux/s390x", &other.manifest), (&host, &pushed.manifest)],
    );
    world.pull("app:all").await.unwrap();
    assert!(world.disk.has(&pushed.layers[0].digest) && !world.disk.has(&other.manifest.digest));

    let mut request = world.request("app:all");
    (request.all_metadata, request.manifest_limit) = (true, 0);
    world.transfer.pull(request).finish().await.unwrap();
    assert!(world.disk.has(&other.config.digest) && !world.disk.has(&other.layers[0].digest));

    let mut request = world.request("app:all");
    request.platforms = Some(PlatformMatcher::only(
        &Platform::parse("linux/riscv64").unwrap(),
    ));
    let error = world.transfer.pull(request).finish().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        model::chain(&error).contains("no match for platform"),
        "{}",
        model::chain(&error)
    );

    let mut request = world.request("app:all");
    (request.platforms, request.manifest_limit) = (None, 0);
    world.transfer.pull(request).finish().await.unwrap();
    assert!(world.disk.has(&other.layers[0].digest));
    assert_eq!(world.shelf.kinds().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_pulls_are_one_and_abandoned_pulls_end() {
    let world = World::new().await;
    world.push(3);
    let pulls: Vec<_> = (0..8)
        .map(|_| world.transfer.pull(world.request("app:1")))
        .collect();
    for pull in &pulls {
        pull.finish().await.unwrap();
    }
    assert_eq!(world.registry.count("HEAD", "manifests"), 1);
    drop(pulls);

    let slow = World::new().await;
    let pushed = slow.push(2);
    slow.registry
        .fault(format!("blobs/{}", pushed.layers[1].digest), Fault::Silence);
    let mut request = slow.request("app:1");
    request.identity = None;
    drop(slow.transfer.pull(request));
    tokio::time::sleep(Duration::from_millis(400)).await;
    slow.assert_nothing_named();
}

#[tokio::test(flavor = "multi_thread")]
async fn different_pulls_share_layers() {
    let world = World::new().await;
    let pushed = world.push(3);
    let bytes = String::from_utf8(world_manifest(&world, &pushed)).unwrap();
    world.registry.push_manifest(
        "app",
        "2",
        &pushed.manifest.media_type,
        bytes.replace('}', "} ").into_bytes(),
    );
    let (one, two) = tokio::join!(world.pull("app:1"), world.pull("app:2"));
    assert_ne!(one.unwrap().digest, two.unwrap().digest);
    assert_eq!(world.registry.count("GET", "blobs"), 4);
    assert_eq!(world.hash.applied.lock().unwrap().len(), 3);
}

fn world_manifest(_: &World, pushed: &PushedImage) -> Vec<u8> {
    let shown = |each: &Descriptor| json!({"mediaType": each.media_type, "digest": each.digest.as_str(), "size": each.size});
    let layers: Vec<_> = pushed.layers.iter().map(shown).collect();
    json!({"schemaVersion": 2, "config": shown(&pushed.config), "layers": layers})
        .to_string()
        .into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn more_names_point_to_the_same_image() {
    let world = World::new().await;
    let pushed = world.push(1);
    let mut request = world.request("app:1");
    request.name = "short".into();
    request.extra_references = vec![
        ExtraReference {
            name: "digested".into(),
            is_prefix: true,
            add_digest: true,
        },
        ExtraReference {
            name: "skipped".into(),
            is_prefix: true,
            add_digest: false,
        },
        ExtraReference {
            name: "other".into(),
            ..ExtraReference::default()
        },
    ];
    world.transfer.pull(request).finish().await.unwrap();
    let book = world.book.0.lock().unwrap();
    let names: Vec<&String> = book.keys().collect();
    assert_eq!(
        names,
        [
            &format!("digested@{}", pushed.manifest.digest),
            "other",
            "short"
        ]
    );
    assert_eq!(book["other"].1["containerd.io/gc.bref.image"], "short");
    assert!(!book["short"].1.contains_key("containerd.io/gc.bref.image"));
}
