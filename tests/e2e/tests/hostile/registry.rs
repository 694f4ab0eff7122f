//! Registries that lie, stall or never end.

use registry::testing::{Fault, Image, Layer};
use serde_json::json;

use super::Scene;
use crate::harness::{root, sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn image() -> Image {
    Image {
        layers: vec![
            Layer::file("one", &vec![7; 300_000]),
            Layer::file("two", b"2"),
        ],
        ..Image::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_and_short_bodies_are_refused() {
    if !root("wrong_and_short_bodies_are_refused") {
        return;
    }
    let scene = Scene::new().await;
    let pushed = scene.registry.push_image("bad", "1", &image());
    let layer = pushed.layers[0].digest.to_string();
    let config = pushed.config.digest.to_string();
    for (fault, part, words) in [
        (Fault::WrongBytes, &layer, ["digest", "damaged"]),
        (Fault::WrongBytes, &config, ["digest", "digest"]),
        (Fault::Short(10), &layer, ["bytes of", "early"]),
        (Fault::Endless, &config, ["bytes of", "larger"]),
        (Fault::Endless, &layer, ["bytes of", "larger"]),
        (Fault::Html, &layer, ["bytes of", "html"]),
        (Fault::RedirectLoop, &layer, ["redirect", "redirect"]),
        (
            Fault::Status(503, vec![], String::new()),
            &layer,
            ["503", "503"],
        ),
    ] {
        let shown = format!("{fault:?}");
        println!("{shown} {part}");
        scene.registry.fault(part.as_str(), fault);
        scene.refuses("bad:1", &words);
        scene.registry.clear_faults();
    }
    // What was fetched before may be used; the registry in order, the pull comes through.
    let mut pull = scene.pull("bad:1");
    assert_eq!(pull.status(), 0, "{}", pull.output());
    scene.daemon.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_manifest_is_refused() {
    if !root("what_is_no_manifest_is_refused") {
        return;
    }
    let scene = Scene::new().await;
    let pushed = scene.registry.push_image("bad", "1", &image());
    let target = "/v2/bad/manifests";
    let other = sha256(b"another");
    for (fault, word) in [
        (Fault::Html, "text/html"),
        (Fault::RedirectLoop, "redirect"),
        (Fault::Endless, "larger"),
        (Fault::Body(MANIFEST.into(), b"{".to_vec()), "manifest"),
        (Fault::HeaderDigest(other), "not found"),
        (Fault::Status(404, vec![], String::new()), "not found"),
        (Fault::Status(401, vec![], String::new()), "401"),
    ] {
        println!("{fault:?}");
        scene.registry.fault(target, fault);
        scene.refuses("bad:1", &[word]);
        scene.registry.clear_faults();
    }
    // A document that is manifest and index at once (CVE-2021-41190).
    let descriptor = |kind: &str| json!({"mediaType": kind, "digest": pushed.manifest.digest.as_str(), "size": pushed.manifest.size});
    for kind in [MANIFEST, INDEX] {
        let both = json!({"schemaVersion": 2, "mediaType": kind, "config": descriptor(MANIFEST),
            "layers": [descriptor(MANIFEST)], "manifests": [descriptor(MANIFEST)]});
        scene
            .registry
            .push_manifest("both", "1", kind, both.to_string().into_bytes());
        scene.refuses("both:1", &["ambiguous"]);
    }
    // An index in an index in an index.
    let mut inner = pushed.manifest;
    for depth in 0..50 {
        let tag = if depth == 49 { "1" } else { "" };
        let bytes = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [{
            "mediaType": inner.media_type, "digest": inner.digest.as_str(), "size": inner.size}]});
        inner = scene
            .registry
            .push_manifest("bad", tag, INDEX, bytes.to_string().into_bytes());
    }
    scene.refuses("bad:1", &["levels of indexes"]);
    scene.daemon.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connections_are_taken_up_again() {
    if !root("broken_connections_are_taken_up_again") {
        return;
    }
    let scene = Scene::new().await;
    let pushed = scene.registry.push_image("flaky", "1", &image());
    let layer = pushed.layers[0].digest.to_string();
    scene
        .registry
        .fault_times(&layer, Fault::ResetAfter(100), 2);
    scene.registry.fault_times(
        "/v2/flaky/manifests",
        Fault::Status(503, vec![], String::new()),
        1,
    );
    let mut pull = scene.pull("flaky:1");
    assert_eq!(pull.status(), 0, "{}", pull.output());
    let ranges = scene.registry.requests();
    let ranges = ranges.iter().filter_map(|request| request.header("range"));
    assert_eq!(ranges.collect::<Vec<_>>(), ["bytes=100-", "bytes=200-"]);
    scene.daemon.finish();
}
