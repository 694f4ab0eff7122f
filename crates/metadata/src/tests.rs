//! The store as its callers see it.

pub(crate) mod blobs;
mod collection;
mod crash;
mod snapshots;

use std::path::Path;
use std::sync::Arc;

use events::Exchange;
use model::{ContainerId, Descriptor, Digest, Labels, Namespace, SystemClock};

use crate::*;

pub(crate) struct Store {
    pub(crate) db: Db,
    pub(crate) exchange: Arc<Exchange>,
    _dir: tempfile::TempDir,
}

pub(crate) async fn store() -> Store {
    let dir = tempfile::tempdir().unwrap();
    let exchange = Arc::new(Exchange::new(Arc::new(SystemClock)));
    let db = open(dir.path(), &exchange).await;
    Store {
        db,
        exchange,
        _dir: dir,
    }
}

pub(crate) async fn open(dir: &Path, exchange: &Arc<Exchange>) -> Db {
    let config = Config {
        path: dir.join("hoist.redb"),
        cache_bytes: 4 << 20,
    };
    let files = sys::file::Files::real();
    let content =
        ::content::Local::open(dir.join("content"), files.clone(), Arc::new(SystemClock)).unwrap();
    let native = ::snapshots::native::Config {
        files,
        ..Default::default()
    };
    let native = ::snapshots::native::Native::open(dir.join("native"), native).unwrap();
    Db::open(
        &config,
        Arc::new(content),
        vec![Arc::new(native)],
        Arc::clone(exchange),
        Arc::new(SystemClock),
    )
    .await
    .unwrap()
}

pub(crate) fn namespace(text: &str) -> Namespace {
    Namespace::new(text).unwrap()
}

pub(crate) fn digest(number: u8) -> Digest {
    Digest::from_sha256([number; 32])
}

pub(crate) fn image(name: &str, number: u8) -> Image {
    Image::new(name, Descriptor::new("application/x", digest(number), 7))
}

pub(crate) fn container(id: &str) -> Container {
    let runtime = Runtime {
        name: "io.containerd.runc.v2".into(),
        options: None,
    };
    let spec = Any {
        type_url: "spec".into(),
        value: vec![0, 1, 255],
    };
    Container::new(ContainerId::new(id).unwrap(), runtime, spec)
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

pub(crate) fn paths(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

#[tokio::test]
async fn images_live_by_their_rules_and_words() {
    let store = store().await;
    let mut events = store.exchange.subscribe::<&str>(&[]).unwrap();
    let images = store.db.namespace(&namespace("ns"), None).images();
    assert_eq!(
        images.get("x").unwrap_err().to_string(),
        "image \"x\": not found"
    );
    let mut new = image("b", 1);
    new.labels = labels(&[("k", "v"), ("gone", "")]);
    new.target.annotations = labels(&[("a", "1")]);
    let made = images.create(new.clone(), None).await.unwrap();
    assert_eq!(made.labels, labels(&[("k", "v")]));
    assert_eq!(images.get("b").unwrap(), made);
    let error = images.create(new.clone(), None).await.unwrap_err();
    assert_eq!(error.to_string(), "image \"b\": already exists");
    images.create(image("a", 2), None).await.unwrap();
    let names: Vec<_> = images
        .list(&[])
        .unwrap()
        .into_iter()
        .map(|i| i.name)
        .collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(images.list(&paths(&["labels.k==v"])).unwrap().len(), 1);

    new.labels = labels(&[("x.y", "2")]);
    new.target = Descriptor::new("application/y", digest(3), 9);
    let changed = images
        .update(new.clone(), paths(&["labels.x.y", "labels.k"]), None)
        .await
        .unwrap();
    assert_eq!(changed.labels, labels(&[("x.y", "2")]));
    assert_eq!(changed.target, made.target);
    assert_eq!(changed.created, made.created);
    let changed = images
        .update(new.clone(), paths(&["annotations.a", "annotations"]), None)
        .await
        .unwrap();
    assert!(changed.target.annotations.is_empty());
    let error = images
        .update(new.clone(), paths(&["size"]), None)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot update \"size\" field on image \"b\": invalid argument"
    );
    let changed = images.update(new, Vec::new(), None).await.unwrap();
    assert_eq!(changed.target.digest, digest(3));

    images.delete("b", Some(digest(3))).await.unwrap();
    let mut topics = Vec::new();
    while let Some(event) = events.try_recv() {
        topics.push(event.topic.clone());
    }
    assert_eq!(
        topics,
        [
            "/images/create",
            "/images/create",
            "/images/update",
            "/images/update",
            "/images/update",
            "/images/delete"
        ]
    );
}

#[tokio::test]
async fn containers_live_by_their_rules_and_words() {
    let store = store().await;
    let containers = store.db.namespace(&namespace("ns"), None).containers();
    assert_eq!(
        containers.get("x").unwrap_err().to_string(),
        "container \"x\" in namespace \"ns\": not found"
    );
    let mut bad = container("c");
    bad.snapshot_key = Some("k".into());
    assert_eq!(
        containers.create(bad).await.unwrap_err().to_string(),
        "create container failed validation: container.Snapshotter must be set if container.SnapshotKey is set: invalid argument"
    );
    let made = containers.create(container("c")).await.unwrap();
    assert_eq!(containers.get("c").unwrap(), made);
    assert_eq!(
        containers
            .create(container("c"))
            .await
            .unwrap_err()
            .to_string(),
        "container \"c\": already exists"
    );
    let mut other = made.clone();
    other.snapshotter = Some("native".into());
    assert_eq!(
        containers
            .update(other.clone(), Vec::new())
            .await
            .unwrap_err()
            .to_string(),
        "container.Snapshotter field is immutable: invalid argument"
    );
    let extension = Any {
        type_url: "e".into(),
        value: vec![1],
    };
    other.extensions = [("one.two".to_owned(), extension.clone())].into();
    let changed = containers
        .update(other, paths(&["extensions.one.two"]))
        .await
        .unwrap();
    assert_eq!(changed.extensions.get("one.two"), Some(&extension));
    assert_eq!(changed.snapshotter, None);
    containers.delete("c").await.unwrap();
    assert_eq!(
        containers.delete("c").await.unwrap_err().to_string(),
        "container c: not found"
    );
}

#[tokio::test]
async fn namespaces_go_only_when_empty() {
    let store = store().await;
    let name = namespace("ns");
    let view = store.db.namespace(&name, None);
    let namespaces = view.namespaces();
    assert!(namespaces.labels(&name).unwrap().is_empty());
    view.images().create(image("i", 1), None).await.unwrap();
    view.containers().create(container("c")).await.unwrap();
    assert_eq!(
        namespaces
            .create(&name, Labels::new())
            .await
            .unwrap_err()
            .to_string(),
        "namespace \"ns\": already exists"
    );
    assert_eq!(
        namespaces.delete(&name).await.unwrap_err().to_string(),
        "namespace \"ns\" must be empty, but it still has images, containers: failed precondition"
    );
    view.images().delete("i", None).await.unwrap();
    view.containers().delete("c").await.unwrap();
    view.leases().create("l", Labels::new()).await.unwrap();
    namespaces
        .update(&name, labels(&[("a", "1")]), paths(&["labels.a"]))
        .await
        .unwrap();
    assert_eq!(
        namespaces.list().unwrap(),
        [(name.clone(), labels(&[("a", "1")]))]
    );
    namespaces.delete(&name).await.unwrap();
    assert!(view.leases().list(&[]).unwrap().is_empty());
    assert_eq!(
        namespaces.delete(&name).await.unwrap_err().to_string(),
        "namespace \"ns\": not found"
    );
}

#[tokio::test]
async fn leases_hold_resources() {
    let store = store().await;
    let name = namespace("ns");
    let leases = store.db.namespace(&name, None).leases();
    leases.create("l", labels(&[("k", "v")])).await.unwrap();
    assert_eq!(
        leases
            .create("l", Labels::new())
            .await
            .unwrap_err()
            .to_string(),
        "lease \"l\": already exists"
    );
    let resource = |kind: &str, id: &str| Resource {
        kind: kind.into(),
        id: id.into(),
    };
    for good in [
        resource("content", digest(1).as_str()),
        resource("ingests", "r"),
        resource("snapshots/overlayfs", "a/b c"),
    ] {
        leases.add_resource("l", good).await.unwrap();
    }
    for (bad, text) in [
        (resource("content", "x"), "invalid content resource id x"),
        (resource("images/x", "x"), "invalid resource type images/x"),
        (
            resource("snapshots", "x"),
            "invalid snapshot resource type snapshots",
        ),
        (
            resource("mounts", "x"),
            "resource type mounts not supported yet: not implemented",
        ),
    ] {
        let error = leases.add_resource("l", bad).await.unwrap_err();
        assert!(error.to_string().starts_with(text), "{error}");
    }
    leases
        .delete_resource("l", resource("ingests", "r"))
        .await
        .unwrap();
    assert_eq!(
        leases.resources("l").unwrap(),
        [
            resource("content", digest(1).as_str()),
            resource("snapshots/overlayfs", "a/b c")
        ]
    );
    leases.delete("l").await.unwrap();
    assert_eq!(
        leases.resources("l").unwrap_err().to_string(),
        "lease \"l\": not found"
    );
}

#[tokio::test]
async fn a_refusal_does_not_disturb_its_batch_and_all_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let exchange = Arc::new(Exchange::new(Arc::new(SystemClock)));
    let db = open(dir.path(), &exchange).await;
    let images = db.namespace(&namespace("ns"), None).images();
    let tries: Vec<_> = (0..64)
        .map(|number| {
            let images = images.clone();
            let name = format!("i{}", number / 2);
            tokio::spawn(async move { images.create(image(&name, 1), None).await.is_ok() })
        })
        .collect();
    let mut made = 0;
    for one in tries {
        made += usize::from(one.await.unwrap());
    }
    assert_eq!(made, 32);
    drop(images);
    assert!(db.close());
    let db = open(dir.path(), &exchange).await;
    let images = db.namespace(&namespace("ns"), None).images();
    assert_eq!(images.list(&[]).unwrap().len(), 32);
}

#[tokio::test]
async fn an_image_that_expires_goes_to_the_lease_of_its_view() {
    let store = store().await;
    let name = namespace("ns");
    let leases = store.db.namespace(&name, None).leases();
    leases.create("l", Labels::new()).await.unwrap();
    let resource = |kind: &str, id: &str| Resource {
        kind: kind.into(),
        id: id.into(),
    };
    let images = store.db.namespace(&name, Some("l")).images();
    let mut expiring = image("i", 1);
    expiring.labels = labels(&[(gc::LABEL_EXPIRE, "2099-01-01T00:00:00Z")]);
    images.create(expiring.clone(), None).await.unwrap();
    assert!(
        leases
            .resources("l")
            .unwrap()
            .contains(&resource("images", "i"))
    );
    expiring.name = "j".into();
    let nowhere = store.db.namespace(&name, Some("none")).images();
    assert_eq!(
        nowhere
            .create(expiring, None)
            .await
            .unwrap_err()
            .to_string(),
        "lease does not exist: not found"
    );
}

#[tokio::test]
async fn an_image_is_deleted_only_with_the_target_that_was_meant() {
    let store = store().await;
    let images = store.db.namespace(&namespace("ns"), None).images();
    images.create(image("b", 3), None).await.unwrap();
    let error = images.delete("b", Some(digest(9))).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("image \"b\" has target sha256:0303")
    );
    images.delete("b", Some(digest(3))).await.unwrap();
    assert!(images.delete("b", None).await.is_err());
}
