//! Platform choice over documents in memory.

use std::collections::HashMap;

use model::{Digest, Platform};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use spec::image::media_type as types;

use super::*;

#[derive(Debug, thiserror::Error)]
#[error("not there")]
struct Missing;

impl Kinded for Missing {
    fn kind(&self) -> ErrorKind {
        ErrorKind::NotFound
    }
}

#[derive(Default)]
struct Store(HashMap<Digest, Vec<u8>>);

impl Store {
    fn put(&mut self, media_type: &str, value: &Value) -> Descriptor {
        let bytes = value.to_string().into_bytes();
        let digest = Digest::from_sha256(Sha256::digest(&bytes).into());
        let descriptor = Descriptor::new(media_type, digest.clone(), bytes.len() as u64);
        self.0.insert(digest, bytes);
        descriptor
    }

    fn image(&mut self, architecture: &str) -> Descriptor {
        let config = self.put(
            types::CONFIG,
            &json!({"os": "linux", "architecture": architecture}),
        );
        self.put(
            types::MANIFEST,
            &json!({"schemaVersion": 2, "config": shown(&config, None), "layers": []}),
        )
    }

    fn index(&mut self, entries: &[(&Descriptor, Option<&str>)]) -> Descriptor {
        let entries: Vec<Value> = entries
            .iter()
            .map(|(each, platform)| shown(each, *platform))
            .collect();
        self.put(
            types::INDEX,
            &json!({"schemaVersion": 2, "manifests": entries}),
        )
    }

    fn select(&self, image: &Descriptor, platform: &str) -> Result<Digest, Error> {
        let matcher = PlatformMatcher::only(&Platform::parse(platform).unwrap());
        let read = |descriptor: &Descriptor| self.0.get(&descriptor.digest).cloned().ok_or(Missing);
        select(image, &matcher, read).map(|selected| selected.descriptor.digest)
    }
}

fn shown(descriptor: &Descriptor, platform: Option<&str>) -> Value {
    let mut shown = json!({"mediaType": descriptor.media_type, "digest": descriptor.digest.as_str(),
        "size": descriptor.size});
    if let Some((os, architecture)) = platform.and_then(|platform| platform.split_once('/')) {
        shown["platform"] = json!({"os": os, "architecture": architecture});
    }
    shown
}

#[test]
fn the_closest_entry_is_taken() {
    let mut store = Store::default();
    let (amd, old, arm) = (
        store.image("amd64"),
        store.image("386"),
        store.image("arm64"),
    );
    let image = store.index(&[
        (&old, Some("linux/386")),
        (&arm, Some("linux/arm64")),
        (&amd, Some("linux/amd64")),
    ]);
    assert_eq!(store.select(&image, "linux/amd64").unwrap(), amd.digest);
    assert_eq!(store.select(&image, "linux/arm64").unwrap(), arm.digest);
    let error = store.select(&image, "linux/s390x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error
            .to_string()
            .starts_with("no match for platform in manifest sha256:")
    );
    // A lone manifest is taken whatever it runs on.
    assert_eq!(store.select(&arm, "linux/amd64").unwrap(), arm.digest);
}

#[test]
fn entries_without_a_platform_are_judged_by_their_configuration() {
    let mut store = Store::default();
    let (amd, arm) = (store.image("amd64"), store.image("arm64"));
    let image = store.index(&[(&amd, None), (&arm, None)]);
    assert_eq!(store.select(&image, "linux/arm64").unwrap(), arm.digest);
    let inner = store.index(&[(&arm, Some("linux/arm64")), (&amd, Some("linux/amd64"))]);
    let outer = store.index(&[(&inner, None)]);
    assert_eq!(store.select(&outer, "linux/amd64").unwrap(), amd.digest);
    // What is not in the store does not hide what is.
    store.0.remove(&amd.digest);
    let image = store.index(&[(&amd, Some("linux/amd64")), (&inner, None), (&arm, None)]);
    assert_eq!(
        store.select(&image, "linux/amd64").unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn nesting_ends() {
    let mut store = Store::default();
    let mut image = store.image("amd64");
    for _ in 0..INDEX_DEPTH_MAX {
        image = store.index(&[(&image, None)]);
    }
    assert!(store.select(&image, "linux/amd64").is_ok());
    image = store.index(&[(&image, None)]);
    assert!(matches!(
        store.select(&image, "linux/amd64"),
        Err(Error::Invalid { .. })
    ));
    let layer = Descriptor::new(types::LAYER, image.digest.clone(), 1);
    assert!(matches!(
        store.select(&layer, "linux/amd64"),
        Err(Error::MediaType { .. })
    ));
    let huge = Descriptor {
        size: DOCUMENT_BYTES_MAX + 1,
        ..image
    };
    assert!(matches!(
        store.select(&huge, "linux/amd64"),
        Err(Error::TooMany { .. })
    ));
}
