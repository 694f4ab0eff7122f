//! What a start finds after a crash.

use ::snapshots::{Driver, Kind, SnapshotId, Snapshotter};
use redb::{Database, ReadableDatabase, ReadableTable};

use super::*;
use crate::owner::TABLE;

#[tokio::test]
async fn a_batch_that_was_not_committed_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let exchange = Arc::new(Exchange::new(Arc::new(SystemClock)));
    let db = open(dir.path(), &exchange).await;
    let images = db.namespace(&namespace("ns"), None).images();
    images.create(image("kept", 1), None).await.unwrap();
    // Copied while it is open and a batch is half written: what a killed process leaves.
    let copy = tempfile::tempdir().unwrap();
    let file = copy.path().join("hoist.redb");
    let database = std::sync::Arc::clone(&db.inner.database);
    tokio::task::spawn_blocking(move || {
        let transaction = database.begin_write().unwrap();
        {
            let mut table = transaction.open_table(TABLE).unwrap();
            for number in 0..1000u32 {
                let key = [b"ins\0".as_slice(), &number.to_be_bytes()].concat();
                table.insert(key.as_slice(), [0u8; 512].as_slice()).unwrap();
            }
        }
        std::fs::copy(dir.path().join("hoist.redb"), &file).unwrap();
        transaction.abort().unwrap();
        dir
    })
    .await
    .unwrap();
    let db = open(copy.path(), &exchange).await;
    let images = db.namespace(&namespace("ns"), None).images();
    let names: Vec<_> = images
        .list(&[])
        .unwrap()
        .into_iter()
        .map(|i| i.name)
        .collect();
    assert_eq!(names, ["kept"]);
    images.create(image("new", 1), None).await.unwrap();
}

#[tokio::test]
async fn a_store_of_a_later_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let exchange = Arc::new(Exchange::new(Arc::new(SystemClock)));
    assert!(open(dir.path(), &exchange).await.close());
    let path = dir.path().join("hoist.redb");
    {
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut table = transaction.open_table(TABLE).unwrap();
        table
            .insert(b"mschema".as_slice(), 7u32.to_be_bytes().as_slice())
            .unwrap();
        drop(table);
        transaction.commit().unwrap();
        let table = database.begin_read().unwrap().open_table(TABLE).unwrap();
        assert_eq!(table.iter().unwrap().count(), 1);
    }
    let content = ::content::Local::open(
        dir.path().join("content"),
        sys::file::Files::real(),
        Arc::new(SystemClock),
    );
    let config = Config {
        path,
        cache_bytes: 1 << 20,
    };
    let opened = Db::open(
        &config,
        Arc::new(content.unwrap()),
        Vec::new(),
        exchange,
        Arc::new(SystemClock),
    );
    let error = opened.await.unwrap_err().to_string();
    assert!(
        error.contains("has schema 7, this program knows up to 1"),
        "{error}"
    );
}

#[tokio::test]
async fn folders_without_record_go_only_if_we_made_them() {
    let dir = tempfile::tempdir().unwrap();
    let exchange = Arc::new(Exchange::new(Arc::new(SystemClock)));
    let db = open(dir.path(), &exchange).await;
    let view = db.namespace(&namespace("ns"), None);
    let snapshots = view.snapshots("native").unwrap();
    snapshots
        .prepare("kept", None, Labels::new())
        .await
        .unwrap();
    snapshots
        .prepare("lost", None, Labels::new())
        .await
        .unwrap();
    drop((snapshots, view));
    assert!(db.close());
    {
        let native = ::snapshots::native::Native::open(
            dir.path().join("native"),
            ::snapshots::native::Config::default(),
        )
        .unwrap();
        // Cut off between the folder and its record; somebody else's; and one whose files went away.
        native
            .create(SnapshotId(9), Kind::Active, &[], &Labels::new())
            .unwrap();
        native
            .create(SnapshotId(5000), Kind::Active, &[], &Labels::new())
            .unwrap();
        native.remove(SnapshotId(2)).unwrap();
    }
    let db = open(dir.path(), &exchange).await;
    let [found] = db.reconciled() else { panic!() };
    assert_eq!(found.abandoned, [SnapshotId(9)]);
    assert_eq!(found.foreign, [SnapshotId(5000)]);
    assert_eq!(found.missing, [("ns".into(), "lost".into(), SnapshotId(2))]);
    let stats = db.gc().run().await.unwrap();
    // The two active ones have no root: garbage as well.
    assert_eq!((stats.removed, stats.files.snapshots), (2, 2));
    assert!(dir.path().join("native/snapshots/5000").exists());
    assert!(!dir.path().join("native/snapshots/9").exists());
    // Numbers are never given twice, not even those that were only reserved.
    let view = db.namespace(&namespace("ns"), None);
    let snapshots = view.snapshots("native").unwrap();
    let mounts = snapshots
        .prepare("next", None, Labels::new())
        .await
        .unwrap();
    assert!(mounts[0].source.ends_with("/65"), "{mounts:?}");
}
