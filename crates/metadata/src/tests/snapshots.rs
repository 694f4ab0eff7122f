//! Snapshots over a driver.

use ::snapshots::{CommitOptions, LABEL_REF, Snapshotter};
use model::{ErrorKind, Kinded};

use super::*;

/// Keeps the folder of the store as long as the suite keeps the snapshotter.
#[tokio::test(flavor = "multi_thread")]
async fn the_conformance_suite_holds() {
    let exchange = Arc::new(Exchange::new(Arc::new(SystemClock)));
    let make = async |root: std::path::PathBuf| {
        std::fs::create_dir_all(&root).unwrap();
        let db = open(&root, &exchange).await;
        db.namespace(&namespace("ns"), None)
            .snapshots("native")
            .unwrap()
    };
    ::snapshots::testing::snapshotter_suite(make).await;
}

pub(super) async fn layer(view: &View, name: &str, parent: Option<&str>, set: Labels) {
    let snapshots = view.snapshots("native").unwrap();
    let key = format!("extract {name}");
    snapshots
        .prepare(&key, parent, Labels::new())
        .await
        .unwrap();
    let options = CommitOptions {
        labels: set,
        ..CommitOptions::default()
    };
    snapshots.commit(name, &key, options).await.unwrap();
}

#[tokio::test]
async fn keys_belong_to_namespaces_and_words_are_upstreams() {
    let store = store().await;
    let mut events = store.exchange.subscribe::<&str>(&[]).unwrap();
    let one = store.db.namespace(&namespace("one"), None);
    let two = store.db.namespace(&namespace("two"), None);
    assert!(one.snapshots("zfs").is_none());
    layer(&one, "base", None, Labels::new()).await;
    layer(&two, "base", None, Labels::new()).await;
    let snapshots = one.snapshots("native").unwrap();
    let stat = snapshots.stat("x").await.unwrap_err();
    assert_eq!(stat.kind(), ErrorKind::NotFound);
    assert!(model::chain(&stat).ends_with("snapshot x does not exist: not found"));
    let parent = snapshots
        .prepare("k", Some("x"), Labels::new())
        .await
        .unwrap_err();
    assert!(model::chain(&parent).ends_with("parent snapshot x does not exist: not found"));
    snapshots
        .prepare("k", Some("base"), Labels::new())
        .await
        .unwrap();
    let busy = snapshots.remove("base").await.unwrap_err();
    assert!(
        model::chain(&busy).ends_with("cannot remove snapshot with child: failed precondition")
    );
    snapshots.remove("k").await.unwrap();
    snapshots.remove("base").await.unwrap();
    assert_eq!(
        one.namespaces()
            .delete(&namespace("two"))
            .await
            .unwrap_err()
            .to_string(),
        "namespace \"two\" must be empty, but it still has snapshots on \"native\" snapshotter: failed precondition"
    );
    let mut topics = Vec::new();
    while let Some(event) = events.try_recv() {
        topics.push(format!("{}{}", event.namespace, event.topic));
    }
    assert_eq!(
        topics,
        [
            "one/snapshot/prepare",
            "one/snapshot/commit",
            "two/snapshot/prepare",
            "two/snapshot/commit",
            "one/snapshot/prepare",
            "one/snapshot/remove",
            "one/snapshot/remove"
        ]
    );
}

#[tokio::test]
async fn a_target_that_is_there_stops_a_prepare_and_is_leased() {
    let store = store().await;
    let name = namespace("ns");
    let view = store.db.namespace(&name, None);
    view.leases().create("l", Labels::new()).await.unwrap();
    layer(&view, "chain", None, Labels::new()).await;
    let leased = store
        .db
        .namespace(&name, Some("l"))
        .snapshots("native")
        .unwrap();
    let target = labels(&[(LABEL_REF, "chain")]);
    let error = leased.prepare("k", None, target).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(model::chain(&error).ends_with("target snapshot \"chain\": already exists"));
    // A commit takes the key from the lease and adds the name.
    leased
        .prepare("k", Some("chain"), Labels::new())
        .await
        .unwrap();
    leased
        .commit("top", "k", CommitOptions::default())
        .await
        .unwrap();
    let held: Vec<_> = view
        .leases()
        .resources("l")
        .unwrap()
        .into_iter()
        .map(|r| r.id)
        .collect();
    assert_eq!(held, ["chain", "top"]);
    store.db.gc().run().await.unwrap();
    assert!(leased.stat("chain").await.is_ok());
    view.leases().delete("l").await.unwrap();
    assert_eq!(store.db.gc().run().await.unwrap().files.snapshots, 2);
    assert_eq!(
        leased.stat("chain").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}
