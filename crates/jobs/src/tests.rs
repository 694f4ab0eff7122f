//! The table as its readers see it.

use std::sync::Arc;

use model::{Namespace, SystemClock};

use crate::{FINISHED_MAX, Jobs, TEXT_BYTES_MAX};

fn jobs() -> Jobs {
    Jobs::new(Arc::new(SystemClock))
}

#[test]
fn a_job_is_listed_with_its_stage_and_progress_until_dropped() {
    let jobs = jobs();
    let pull = jobs
        .begin("pull", "alpine")
        .in_namespace(&Namespace::new("k8s.io").unwrap());
    pull.stage("fetch");
    let layer = pull.child("layer", "sha256:1");
    layer.progress(1, Some(10));
    layer.advance(4);
    layer.waits_for(Some("lock"));

    let tree = jobs.tree(pull.id());
    assert_eq!(tree.len(), 2);
    assert_eq!((tree[0].kind, tree[0].stage.as_str()), ("pull", "fetch"));
    assert_eq!((tree[1].done, tree[1].total), (5, Some(10)));
    assert_eq!(tree[1].waits_for.as_deref(), Some("lock"));
    assert_eq!(tree[1].parent, Some(pull.id()));
    assert_eq!(tree[1].namespace.as_ref().unwrap().as_str(), "k8s.io");

    let (pull_id, layer_id) = (pull.id(), layer.id());
    layer.fail("connection reset");
    drop(pull);
    assert!(jobs.list().is_empty());
    let failed = jobs.get(layer_id).unwrap().outcome.unwrap();
    assert_eq!(failed.error.as_deref(), Some("connection reset"));
    assert_eq!(jobs.get(pull_id).unwrap().outcome.unwrap().error, None);
}

#[test]
fn history_and_texts_are_bounded() {
    let jobs = jobs();
    for number in 0..FINISHED_MAX + 10 {
        drop(jobs.begin("gc", number.to_string()));
    }
    let finished = jobs.finished();
    assert_eq!(finished.len(), FINISHED_MAX);
    assert_eq!(finished[0].target, "10");
    let long = jobs.begin("pull", "ä".repeat(TEXT_BYTES_MAX));
    assert!(jobs.get(long.id()).unwrap().target.len() <= TEXT_BYTES_MAX);
}

#[tokio::test]
async fn a_subscriber_sees_changes_and_the_end() {
    let jobs = jobs();
    let job = jobs.begin("push", "x");
    let mut changes = jobs.subscribe(job.id());
    job.stage("upload");
    assert_eq!(changes.next().await.unwrap()[0].stage, "upload");
    let end = tokio::spawn(async move { while changes.next().await.is_some() {} });
    drop(job);
    end.await.unwrap();
}
