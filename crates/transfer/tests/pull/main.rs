//! Pulls from a registry that behaves and one that does not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::expect_used, unreachable_pub, reason = "a test is one program")]

mod faults;
mod stores;
mod world;

use std::time::Duration;

use model::{Descriptor, ErrorKind, Kinded, Platform, PlatformMatcher};
use registry::testing::{Fault, Image, Layer, PushedImage};
use serde_json::json;
use transfer::{Error, ExtraReference, PullRequest, Source};

use crate::world::World;

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
    // Made beforehand: the first pull may end while the last request is still being made.
    let requests: Vec<_> = (0..8).map(|_| world.request("app:1")).collect();
    let pulls: Vec<_> = requests
        .into_iter()
        .map(|request| world.transfer.pull(request))
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
