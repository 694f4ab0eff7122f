//! Blobs: visibility, sharing, ingests.

use model::{ErrorKind, Kinded};

use super::*;

/// Commits `bytes` under `view` and answers their digest.
pub(crate) async fn blob(view: &View, bytes: &[u8], labels: Labels) -> Digest {
    let name = format!("ref-{}", String::from_utf8_lossy(bytes));
    let mut writer = view.content().writer(&name, None, None).await.unwrap();
    writer.write(bytes).unwrap();
    writer.commit(None, None, labels).await.unwrap().digest
}

#[tokio::test]
async fn a_blob_shows_in_its_namespace_only_and_is_linked_by_others() {
    let store = store().await;
    let one = store.db.namespace(&namespace("one"), None);
    let two = store.db.namespace(&namespace("two"), None);
    let digest = blob(&one, b"hello", labels(&[("k", "v")])).await;
    assert_eq!(one.content().info(&digest).unwrap().size, 5);
    let error = two.content().info(&digest).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("content digest {digest}: not found")
    );
    assert!(two.content().reader(&digest).is_err());

    let again = one
        .content()
        .writer("r", None, Some(&digest))
        .await
        .unwrap_err();
    assert_eq!(
        again.to_string(),
        format!("content {digest}: already exists")
    );
    let wrong = two
        .content()
        .writer("w", Some(4), Some(&digest))
        .await
        .unwrap();
    assert!(!wrong.is_complete(), "another size is another thing");
    let link = two
        .content()
        .writer("r", Some(5), Some(&digest))
        .await
        .unwrap();
    assert!(link.is_complete());
    assert_eq!(link.status().offset, 5);
    link.commit(Some(5), Some(&digest), Labels::new())
        .await
        .unwrap();
    let mut bytes = [0; 9];
    let read = two
        .content()
        .reader(&digest)
        .unwrap()
        .read_at(&mut bytes, 0)
        .unwrap();
    assert_eq!(&bytes[..read], b"hello");

    // The bytes stay until nobody names them.
    one.content().delete(&digest).await.unwrap();
    store.db.gc().run().await.unwrap();
    assert!(
        store.db.content_store().info(&digest).is_err(),
        "no root: both names are garbage"
    );
}

#[tokio::test]
async fn a_linked_blob_that_is_written_to_becomes_a_copy() {
    let store = store().await;
    let one = store.db.namespace(&namespace("one"), None);
    let two = store.db.namespace(&namespace("two"), None);
    let digest = blob(&one, b"hello", Labels::new()).await;
    let mut link = two
        .content()
        .writer("r", None, Some(&digest))
        .await
        .unwrap();
    link.write(b"!").unwrap();
    let info = link.commit(None, None, Labels::new()).await.unwrap();
    assert_eq!(info.size, 6);
    store.db.set_sharing(Sharing::Isolated);
    let three = store.db.namespace(&namespace("three"), None);
    let own = three
        .content()
        .writer("r", None, Some(&digest))
        .await
        .unwrap();
    assert!(!own.is_complete());
    drop(own);
    let share = labels(&[("containerd.io/namespace.shareable", "true")]);
    let names = store.db.namespaces();
    names
        .update(&namespace("one"), share, Vec::new())
        .await
        .unwrap();
    assert!(
        three
            .content()
            .writer("r", None, Some(&digest))
            .await
            .unwrap()
            .is_complete()
    );
}

#[tokio::test]
async fn ingests_are_locked_resumed_listed_aborted_and_expire() {
    let store = store().await;
    let view = store.db.namespace(&namespace("ns"), None);
    let content = view.content();
    let mut writer = content.writer("r", Some(9), None).await.unwrap();
    writer.write(b"abc").unwrap();
    let locked = content.writer("r", None, None).await.unwrap_err();
    assert_eq!(locked.kind(), ErrorKind::Unavailable);
    assert!(model::chain(&locked).contains("locked for"));
    drop(writer);
    assert_eq!(content.status("r").unwrap().offset, 3);
    assert_eq!(
        content.statuses(&paths(&["ref==r"])).unwrap()[0].reference,
        "r"
    );
    let writer = content.writer("r", None, None).await.unwrap();
    assert_eq!(writer.offset(), 3);
    let error = writer
        .commit(Some(4), None, Labels::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    // An ingest that is not over is no garbage, and its bytes are still there.
    store.db.gc().run().await.unwrap();
    assert_eq!(content.status("r").unwrap().offset, 3);
    content.abort("r").await.unwrap();
    assert_eq!(
        content.abort("r").await.unwrap_err().to_string(),
        "reference r: not found"
    );
    assert!(store.db.content_store().statuses().unwrap().is_empty());
    // Under a lease it has no time limit but the lease's.
    view.leases().create("l", Labels::new()).await.unwrap();
    let leased = store.db.namespace(&namespace("ns"), Some("l"));
    drop(leased.content().writer("s", None, None).await.unwrap());
    store.db.gc().run().await.unwrap();
    assert!(content.status("s").is_ok());
    view.leases().delete("l").await.unwrap();
    assert_eq!(store.db.gc().run().await.unwrap().files.ingests, 1);
    assert!(store.db.content_store().statuses().unwrap().is_empty());
}
