//! Pulls that fail, and what they leave.

use std::sync::Arc;

use model::{Descriptor, ErrorKind, Kinded, Reference};
use registry::testing::{Fault, Image, Layer, Registry};
use registry::{Anonymous, Client, Hosts, Scheme};
use serde_json::json;
use snapshots::Kind;
use transfer::{Error, Source};

use crate::world::World;

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
