//! Garbage collection against its rules and against a naive model.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};

use super::blobs::blob;
use super::snapshots::layer;
use super::*;
use crate::key::{BLOBS, RESOURCES, key};
use crate::record::{Record, key_of};

const PAST: &str = "2001-01-01T00:00:00Z";
const FUTURE: &str = "2101-01-01T00:00:00Z";

async fn gc(store: &Store) -> gc::Stats {
    store.db.gc().run().await.unwrap()
}

fn digests(view: &View) -> BTreeSet<String> {
    let all = view.content().list(&[]).unwrap();
    all.into_iter()
        .map(|info| info.digest.to_string())
        .collect()
}

fn set(digests: &[&Digest]) -> BTreeSet<String> {
    digests.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn what_an_image_reaches_stays_and_goes_with_it() {
    let store = store().await;
    let mut events = store
        .exchange
        .subscribe(&["topic~=/(remove|delete)$/"])
        .unwrap();
    let view = store.db.namespace(&namespace("ns"), None);
    layer(&view, "base", None, Labels::new()).await;
    layer(&view, "top", Some("base"), Labels::new()).await;
    layer(&view, "stray", None, Labels::new()).await;
    let snapshot = labels(&[("containerd.io/gc.ref.snapshot.native/x", "top")]);
    let config = blob(&view, b"config", snapshot).await;
    let lone = blob(&view, b"lone", Labels::new()).await;
    let held = labels(&[("containerd.io/gc.ref.content.config", config.as_str())]);
    let manifest = blob(&view, b"manifest", held).await;
    let back = labels(&[("containerd.io/gc.bref.content.x", manifest.as_str())]);
    let referrer = blob(&view, b"referrer", back).await;
    let rooted = blob(
        &view,
        b"rooted",
        labels(&[("containerd.io/gc.root", "now")]),
    )
    .await;
    let timed = blob(&view, b"timed", labels(&[(gc::LABEL_EXPIRE, FUTURE)])).await;
    let over = blob(&view, b"over", labels(&[(gc::LABEL_EXPIRE, PAST)])).await;
    // A name with more behind it than a dot or slash is another label.
    let odd = labels(&[("containerd.io/gc.ref.contents", lone.as_str())]);
    let odd = blob(
        &view,
        b"odd",
        [odd, labels(&[("containerd.io/gc.root", "1")])].concat_labels(),
    )
    .await;
    let target = Descriptor::new("m", manifest.clone(), 8);
    view.images()
        .create(Image::new("i", target), None)
        .await
        .unwrap();
    let stats = gc(&store).await;
    assert_eq!(stats.files.blobs, 2, "lone and over");
    assert_eq!(
        digests(&view),
        set(&[&config, &manifest, &referrer, &rooted, &timed, &odd])
    );
    assert!(store.db.content_store().info(&over).is_err());
    let snapshots = view.snapshots("native").unwrap();
    use ::snapshots::Snapshotter;
    assert!(snapshots.stat("base").await.is_ok() && snapshots.stat("stray").await.is_err());
    assert_eq!(events.try_recv().unwrap().topic, "/snapshot/remove");
    assert!(events.try_recv().is_none());

    view.images().delete("i", None).await.unwrap();
    let stats = gc(&store).await;
    assert_eq!((stats.files.blobs, stats.files.snapshots), (3, 2));
    assert_eq!(digests(&view), set(&[&rooted, &timed, &odd]));
    assert_eq!(gc(&store).await.removed, 0);
}

trait ConcatLabels {
    fn concat_labels(self) -> Labels;
}

impl ConcatLabels for [Labels; 2] {
    fn concat_labels(self) -> Labels {
        self.into_iter().flatten().collect()
    }
}

#[tokio::test]
async fn leases_hold_flat_or_deep_until_they_expire() {
    let store = store().await;
    let name = namespace("ns");
    let view = store.db.namespace(&name, None);
    let resource = |id: &Digest| Resource {
        kind: "content".into(),
        id: id.to_string(),
    };
    let mut kept = Vec::new();
    for (lease, set) in [
        ("deep", labels(&[])),
        ("flat", labels(&[("containerd.io/gc.flat", "1")])),
        ("over", labels(&[(gc::LABEL_EXPIRE, PAST)])),
    ] {
        view.leases().create(lease, set).await.unwrap();
        let child = blob(&view, format!("child {lease}").as_bytes(), Labels::new()).await;
        let held = labels(&[("containerd.io/gc.ref.content", child.as_str())]);
        let parent = blob(&view, format!("parent {lease}").as_bytes(), held).await;
        view.leases()
            .add_resource(lease, resource(&parent))
            .await
            .unwrap();
        match lease {
            "deep" => kept.extend([child, parent]),
            "flat" => kept.push(parent),
            _ => {}
        }
    }
    gc(&store).await;
    let kept: Vec<_> = kept.iter().collect();
    assert_eq!(digests(&view), set(&kept));
    let leases: Vec<_> = view
        .leases()
        .list(&[])
        .unwrap()
        .into_iter()
        .map(|l| l.id)
        .collect();
    assert_eq!(leases, ["deep", "flat"]);
    // An expired image goes unless something refers to it.
    let mut expired = image("old", 1);
    expired.labels = labels(&[(gc::LABEL_EXPIRE, PAST)]);
    view.images().create(expired.clone(), None).await.unwrap();
    expired.name = "needed".into();
    view.images().create(expired, None).await.unwrap();
    let mut user = container("c");
    user.labels = labels(&[("containerd.io/gc.ref.image", "needed")]);
    view.containers().create(user).await.unwrap();
    gc(&store).await;
    assert!(view.images().get("old").is_err() && view.images().get("needed").is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_made_while_it_runs_is_never_taken() {
    let store = Arc::new(store().await);
    let view = store.db.namespace(&namespace("ns"), None);
    // Each round makes garbage, then saves half of it by a late reference while collection runs.
    for round in 0..8 {
        let mut blobs = Vec::new();
        for number in 0..6 {
            let bytes = format!("{round} {number}");
            blobs.push(blob(&view, bytes.as_bytes(), Labels::new()).await);
        }
        let running = {
            let gc = store.db.gc();
            tokio::spawn(async move { gc.run().await.unwrap() })
        };
        for (number, digest) in blobs.iter().enumerate().step_by(2) {
            let target = Descriptor::new("m", digest.clone(), 3);
            let name = format!("{round} {number}");
            view.images()
                .create(Image::new(name, target), None)
                .await
                .unwrap();
            // Named before its record went, it must stay; named after, it is a dead name as upstream.
            let there = view.content().info(digest).is_ok();
            if there {
                running_is_safe(&store, digest).await;
            }
        }
        running.await.unwrap();
        for image in view.images().list(&[]).unwrap() {
            let digest = &image.target.digest;
            if view.content().info(digest).is_ok() {
                assert!(
                    view.content().reader(digest).is_ok(),
                    "a name without bytes"
                );
            }
        }
    }
}

/// A blob that an image names now has its bytes now and after the next cycle.
async fn running_is_safe(store: &Store, digest: &Digest) {
    store.db.gc().run().await.unwrap();
    assert!(store.db.content_store().info(digest).is_ok());
}

#[tokio::test]
async fn the_scheduler_collects_after_a_deletion() {
    let store = store().await;
    let view = store.db.namespace(&namespace("ns"), None);
    let digest = blob(&view, b"x", Labels::new()).await;
    let settings = gc::Schedule {
        pause_threshold: 0.5,
        deletion_threshold: 0,
        mutation_threshold: 100,
        schedule_delay: std::time::Duration::ZERO,
        startup_delay: std::time::Duration::ZERO,
    };
    let running = tokio::spawn(store.db.gc().schedule(settings));
    view.content().delete(&digest).await.unwrap();
    for _ in 0..500 {
        if store.db.content_store().info(&digest).is_err() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    running.abort();
    assert!(store.db.content_store().info(&digest).is_err());
}

/// One random world: blobs with references, images, leases.
#[derive(Debug, Clone)]
struct World {
    /// For each blob: what it refers to, whose life it shares, whether it is a root.
    blobs: Vec<(Vec<usize>, Option<usize>, bool)>,
    images: Vec<(usize, bool)>,
    leases: Vec<(Vec<usize>, bool, bool)>,
}

fn worlds() -> impl Strategy<Value = World> {
    let number = 0usize..12;
    let blob = (
        prop::collection::vec(number.clone(), 0..3),
        prop::option::weighted(0.2, number.clone()),
        prop::bool::weighted(0.1),
    );
    let images = prop::collection::vec((number.clone(), any::<bool>()), 0..3);
    let lease = (
        prop::collection::vec(number, 0..3),
        any::<bool>(),
        any::<bool>(),
    );
    (
        prop::collection::vec(blob, 12),
        images,
        prop::collection::vec(lease, 0..3),
    )
        .prop_map(|(blobs, images, leases)| World {
            blobs,
            images,
            leases,
        })
}

impl World {
    /// The blobs that stay, by the words of the rules: rounds until nothing is added.
    fn kept(&self) -> BTreeSet<usize> {
        let mut deep: BTreeSet<usize> = BTreeSet::new();
        let mut flat = BTreeSet::new();
        deep.extend(
            self.images
                .iter()
                .filter(|image| !image.1)
                .map(|image| image.0),
        );
        deep.extend((0..self.blobs.len()).filter(|number| self.blobs[*number].2));
        for (held, is_flat, expired) in &self.leases {
            match (expired, is_flat) {
                (true, _) => {}
                (false, true) => flat.extend(held.iter().copied()),
                (false, false) => deep.extend(held.iter().copied()),
            }
        }
        loop {
            let mut next = deep.clone();
            for (number, (refs, parent, _)) in self.blobs.iter().enumerate() {
                if deep.contains(&number) {
                    next.extend(refs.iter().copied());
                }
                if parent.is_some_and(|parent| deep.contains(&parent)) {
                    next.insert(number);
                }
            }
            if next == deep {
                return deep.union(&flat).copied().collect();
            }
            deep = next;
        }
    }

    /// Writes the rows of all of it at once.
    async fn build(&self, db: &Db) {
        let world = self.clone();
        let build = db.write(move |tx| {
            let expiry =
                |expired: bool| labels(&[(gc::LABEL_EXPIRE, if expired { PAST } else { FUTURE })]);
            for (number, (refs, parent, root)) in world.blobs.iter().enumerate() {
                let mut set = Labels::new();
                for (index, target) in refs.iter().enumerate() {
                    let label = format!("containerd.io/gc.ref.content.{index}");
                    set.insert(label, name(*target).to_string());
                }
                if let Some(parent) = parent {
                    set.insert(
                        "containerd.io/gc.bref.content".into(),
                        name(*parent).to_string(),
                    );
                }
                if *root {
                    set.insert("containerd.io/gc.root".into(), "x".into());
                }
                let info = ContentInfo {
                    digest: name(number),
                    size: 1,
                    labels: set,
                    created: tx.now(),
                    updated: tx.now(),
                };
                tx.put(key(BLOBS, &["ns", info.digest.as_str()]), info.encode());
            }
            for (index, (target, expired)) in world.images.iter().enumerate() {
                let mut image = image(&index.to_string(), u8::try_from(*target).unwrap());
                if *expired {
                    image.labels = expiry(true);
                }
                tx.put(key_of::<Image>("ns", &image.name), image.encode());
            }
            for (index, (held, flat, expired)) in world.leases.iter().enumerate() {
                let mut set = expiry(*expired);
                if *flat {
                    set.insert("containerd.io/gc.flat".into(), "1".into());
                }
                let lease = Lease {
                    id: index.to_string(),
                    labels: set,
                    created: tx.now(),
                };
                tx.put(key_of::<Lease>("ns", &lease.id), lease.encode());
                for target in held {
                    let digest = name(*target);
                    tx.put(
                        key(RESOURCES, &["ns", &lease.id, "content", digest.as_str()]),
                        Vec::new(),
                    );
                }
            }
            Ok(())
        });
        build.await.unwrap();
    }
}

fn name(number: usize) -> Digest {
    digest(u8::try_from(number).unwrap())
}

#[test]
fn exactly_what_the_rules_reach_is_kept() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let cases = Cases {
        cases: 48,
        failure_persistence: None,
        ..Cases::default()
    };
    let run = TestRunner::new(cases).run(&worlds(), |world| {
        let kept = runtime.block_on(async {
            let store = store().await;
            world.build(&store.db).await;
            gc(&store).await;
            digests(&store.db.namespace(&namespace("ns"), None))
        });
        let expected = world
            .kept()
            .into_iter()
            .map(|number| name(number).to_string())
            .collect();
        prop_assert_eq!(kept, expected);
        Ok(())
    });
    run.unwrap();
}
