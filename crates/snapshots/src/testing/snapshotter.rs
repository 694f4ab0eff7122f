//! What every snapshotter has to do.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use model::{ErrorKind, Kinded, Labels};

use super::{can_mount, mounted};
use crate::{CommitOptions, Info, Kind, Result, Snapshotter, WALK_PAGE_MAX};

/// Runs all cases against snapshotters that `make` opens in a folder that it is given. It is given a folder that it
/// knows once more, after the first snapshotter was dropped, to see that everything is found.
///
/// # Panics
/// When the snapshotter breaks a promise of [`Snapshotter`].
pub async fn snapshotter_suite<S: Snapshotter>(make: impl AsyncFn(PathBuf) -> S) {
    if !can_mount("snapshotter suite") {
        return;
    }
    let rooms: Vec<tempfile::TempDir> = (0..9).map(|_| tempfile::tempdir().unwrap()).collect();
    let root = |number: usize| rooms[number].path().join("snapshotter");
    Box::pin(chain(&make(root(0)).await)).await;
    Box::pin(keys(&make(root(1)).await)).await;
    Box::pin(kinds(&make(root(2)).await)).await;
    Box::pin(updates(&make(root(3)).await)).await;
    Box::pin(removals(&make(root(4)).await)).await;
    Box::pin(walks(&make(root(5)).await)).await;
    Box::pin(usages(&make(root(6)).await)).await;
    Box::pin(commit_labels(&make(root(7)).await)).await;
    let first = make(root(8)).await;
    layer(&first, "kept", None, |root| write(root, "file", "x")).await;
    prepare(&first, "going", Some("kept")).await;
    drop(first);
    Box::pin(reopened(&make(root(8)).await)).await;
}

fn write(root: &Path, name: &str, text: &str) {
    fs::write(root.join(name), text).unwrap();
}

fn read(root: &Path, name: &str) -> String {
    fs::read_to_string(root.join(name)).unwrap()
}

async fn prepare(s: &impl Snapshotter, key: &str, parent: Option<&str>) -> Vec<model::Mount> {
    s.prepare(key, parent, Labels::new()).await.unwrap()
}

async fn commit(s: &impl Snapshotter, name: &str, key: &str) -> Result<()> {
    s.commit(name, key, CommitOptions::default()).await
}

async fn layer(
    s: &impl Snapshotter,
    name: &str,
    parent: Option<&str>,
    change: impl FnOnce(&Path) + Send,
) {
    let key = format!("extract-{name}");
    mounted(&prepare(s, &key, parent).await, change);
    commit(s, name, &key).await.unwrap();
}

fn kind_of<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// Contents add up over prepare, commit and view; parents stay as they were.
async fn chain(s: &impl Snapshotter) {
    layer(s, "one", None, |root| {
        fs::create_dir(root.join("dir")).unwrap();
        write(root, "dir/below", "1");
        write(root, "changed", "1");
        write(root, "deleted", "1");
    })
    .await;
    layer(s, "two", Some("one"), |root| {
        write(root, "changed", "2");
        fs::remove_file(root.join("deleted")).unwrap();
        fs::remove_dir_all(root.join("dir")).unwrap();
        fs::create_dir(root.join("dir")).unwrap();
        write(root, "dir/new", "2");
    })
    .await;
    let look = |root: &Path| {
        assert_eq!(read(root, "changed"), "2");
        assert_eq!(read(root, "dir/new"), "2");
        assert!(!root.join("deleted").exists() && !root.join("dir/below").exists());
    };
    let view = s.view("view", Some("two"), Labels::new()).await.unwrap();
    mounted(&view, |root| {
        look(root);
        let refused = fs::write(root.join("x"), "").unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    });
    mounted(&prepare(s, "active", Some("two")).await, |root| {
        look(root);
        write(root, "x", "");
    });
    mounted(&s.mounts("active").await.unwrap(), |root| {
        assert!(
            root.join("x").exists(),
            "mounts of an active snapshot show what was written"
        );
    });
    assert_eq!(s.mounts("view").await.unwrap(), view);
    let old = s.view("old", Some("one"), Labels::new()).await.unwrap();
    mounted(&old, |root| {
        assert_eq!(read(root, "changed"), "1");
        assert!(root.join("deleted").exists() && !root.join("x").exists());
    });
}

/// Keys and names are one space; each call refuses what it has to.
async fn keys(s: &impl Snapshotter) {
    layer(s, "base", None, |_| ()).await;
    prepare(s, "active", Some("base")).await;
    s.view("view", Some("base"), Labels::new()).await.unwrap();
    for taken in ["base", "active", "view"] {
        let none = Labels::new;
        assert_eq!(
            kind_of(s.prepare(taken, None, none()).await),
            ErrorKind::AlreadyExists
        );
        assert_eq!(
            kind_of(s.view(taken, Some("base"), none()).await),
            ErrorKind::AlreadyExists
        );
    }
    assert_eq!(
        kind_of(commit(s, "base", "active").await),
        ErrorKind::AlreadyExists
    );
    assert_eq!(
        kind_of(commit(s, "new", "view").await),
        ErrorKind::FailedPrecondition
    );
    assert_eq!(
        kind_of(commit(s, "new", "base").await),
        ErrorKind::FailedPrecondition
    );
    assert_eq!(
        kind_of(commit(s, "new", "absent").await),
        ErrorKind::NotFound
    );
    assert_eq!(
        kind_of(s.prepare("k", Some("absent"), Labels::new()).await),
        ErrorKind::NotFound
    );
    for parent in ["active", "view"] {
        let refused = s.prepare("k", Some(parent), Labels::new()).await;
        assert_eq!(
            kind_of(refused),
            ErrorKind::InvalidArgument,
            "parent {parent}"
        );
    }
    assert_eq!(
        kind_of(s.mounts("base").await),
        ErrorKind::FailedPrecondition
    );
    assert_eq!(kind_of(s.mounts("absent").await), ErrorKind::NotFound);
    assert_eq!(kind_of(s.stat("absent").await), ErrorKind::NotFound);
    assert_eq!(kind_of(s.usage("absent").await), ErrorKind::NotFound);
    assert_eq!(kind_of(s.remove("absent").await), ErrorKind::NotFound);
    for result in [
        s.prepare("", None, Labels::new()).await,
        s.view("", Some("base"), Labels::new()).await,
    ] {
        assert_eq!(kind_of(result), ErrorKind::InvalidArgument);
    }
    // What was refused left nothing.
    assert_eq!(kind_of(s.stat("k").await), ErrorKind::NotFound);
    assert_eq!(kind_of(s.stat("new").await), ErrorKind::NotFound);
    commit(s, "active", "active").await.unwrap_err();
}

/// Stat tells kind, parent, times and labels, before and after a commit.
async fn kinds(s: &impl Snapshotter) {
    layer(s, "base", None, |_| ()).await;
    let labels = Labels::from([("containerd.io/snapshot/a".to_owned(), "b".to_owned())]);
    s.prepare("active", Some("base"), labels.clone())
        .await
        .unwrap();
    let active = s.stat("active").await.unwrap();
    let seen = (&*active.name, active.parent.as_deref(), active.kind);
    assert_eq!(seen, ("active", Some("base"), Kind::Active));
    assert!(
        labels
            .iter()
            .all(|(key, value)| active.labels.get(key) == Some(value))
    );
    assert!(active.created <= active.updated);
    s.view("view", None, Labels::new()).await.unwrap();
    let view = s.stat("view").await.unwrap();
    assert_eq!((view.parent, view.kind), (None, Kind::View));
    commit(s, "done", "active").await.unwrap();
    let done = s.stat("done").await.unwrap();
    let seen = (&*done.name, done.parent.as_deref(), done.kind);
    assert_eq!(seen, ("done", Some("base"), Kind::Committed));
    assert_eq!(kind_of(s.stat("active").await), ErrorKind::NotFound);
    // The key is free again.
    prepare(s, "active", Some("done")).await;
}

/// The labels of a committed snapshot are those of the commit.
async fn commit_labels(s: &impl Snapshotter) {
    let pair =
        |key: &str| Labels::from([(format!("containerd.io/snapshot/{key}"), "1".to_owned())]);
    s.prepare("key", None, pair("active")).await.unwrap();
    let options = CommitOptions {
        labels: pair("committed"),
        ..CommitOptions::default()
    };
    s.commit("name", "key", options).await.unwrap();
    let labels = s.stat("name").await.unwrap().labels;
    assert!(
        labels.contains_key("containerd.io/snapshot/committed"),
        "{labels:?}"
    );
    assert!(
        !labels.contains_key("containerd.io/snapshot/active"),
        "{labels:?}"
    );
}

/// Labels are replaced whole or one by one; nothing else can be changed.
async fn updates(s: &impl Snapshotter) {
    layer(s, "name", None, |_| ()).await;
    let before = s.stat("name").await.unwrap();
    let labels = |pairs: &[(&str, &str)]| -> Labels {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(own).collect()
    };
    let info = |pairs: &[(&str, &str)]| Info {
        labels: labels(pairs),
        ..before.clone()
    };
    let fields =
        |paths: &[&str]| -> Vec<String> { paths.iter().map(|path| (*path).to_owned()).collect() };
    // (labels sent, fields, labels afterwards)
    type Step<'a> = (
        &'a [(&'a str, &'a str)],
        Option<&'a [&'a str]>,
        &'a [(&'a str, &'a str)],
    );
    let steps: [Step<'_>; 6] = [
        (
            &[("a", "1"), ("b.c", "2")],
            None,
            &[("a", "1"), ("b.c", "2")],
        ),
        (
            &[("a", "3"), ("x", "9")],
            Some(&["labels.a"]),
            &[("a", "3"), ("b.c", "2")],
        ),
        (
            &[("b.c", "4")],
            Some(&["labels.b.c", "labels.d"]),
            &[("a", "3"), ("b.c", "4")],
        ),
        (&[], Some(&["labels.a"]), &[("b.c", "4")]),
        (&[("n", "5")], Some(&["labels"]), &[("n", "5")]),
        (&[("m", "6")], Some(&[]), &[("m", "6")]),
    ];
    for (sent, paths, expected) in steps {
        let paths = paths.map(fields);
        let answered = s.update(&info(sent), paths.as_deref()).await.unwrap();
        let seen = s.stat("name").await.unwrap();
        let visible = |labels: &Labels| -> BTreeMap<String, String> {
            let own = |key: &String| !key.starts_with(crate::LABEL_PREFIX);
            labels
                .clone()
                .into_iter()
                .filter(|(key, _)| own(key))
                .collect()
        };
        // A label of a field that is not sent may be kept as empty.
        let mut shown = visible(&seen.labels);
        shown.retain(|_, value| !value.is_empty());
        assert_eq!(shown, labels(expected), "{sent:?} {paths:?}");
        assert_eq!(answered.labels, seen.labels);
        assert!(seen.updated >= before.updated);
        let fixed = (seen.kind, seen.parent, seen.created);
        assert_eq!(fixed, (before.kind, before.parent.clone(), before.created));
    }
    for path in ["parent", "kind", "created", "nonsense"] {
        let refused = s.update(&info(&[]), Some(&fields(&[path]))).await;
        assert_eq!(kind_of(refused), ErrorKind::InvalidArgument, "{path}");
    }
    let absent = Info {
        name: "absent".to_owned(),
        ..before
    };
    assert_eq!(kind_of(s.update(&absent, None).await), ErrorKind::NotFound);
}

/// A parent can't be removed before its children.
async fn removals(s: &impl Snapshotter) {
    layer(s, "base", None, |root| write(root, "file", "x")).await;
    layer(s, "middle", Some("base"), |_| ()).await;
    prepare(s, "top", Some("middle")).await;
    for parent in ["base", "middle"] {
        assert_eq!(
            kind_of(s.remove(parent).await),
            ErrorKind::FailedPrecondition
        );
    }
    mounted(&s.mounts("top").await.unwrap(), |root| {
        assert_eq!(read(root, "file"), "x");
    });
    for key in ["top", "middle", "base"] {
        s.remove(key).await.unwrap();
        assert_eq!(kind_of(s.stat(key).await), ErrorKind::NotFound);
        assert_eq!(kind_of(s.remove(key).await), ErrorKind::NotFound);
    }
    match s.cleanup().await {
        Err(error) if error.kind() != ErrorKind::Unimplemented => panic!("cleanup: {error}"),
        _ => {}
    }
    // A removed key starts empty.
    let again = prepare(s, "top", None).await;
    mounted(&again, |root| {
        assert_eq!(fs::read_dir(root).unwrap().count(), 0);
    });
}

/// The names that a walk shows, and the sizes of its pages.
async fn walked(s: &impl Snapshotter, filters: &[&str]) -> Result<(Vec<String>, Vec<usize>)> {
    let filters: Vec<String> = filters.iter().map(|text| (*text).to_owned()).collect();
    let seen = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let page = Arc::clone(&seen);
    let mut take = move |infos: Vec<Info>| -> crate::PageFuture {
        let mut seen = page.lock().unwrap();
        seen.1.push(infos.len());
        seen.0.extend(infos.into_iter().map(|info| info.name));
        Box::pin(std::future::ready(ControlFlow::Continue(())))
    };
    s.walk(&filters, &mut take).await?;
    let seen = seen.lock().unwrap().clone();
    Ok(seen)
}

/// Walks filter, come in pages and stop when told.
async fn walks(s: &impl Snapshotter) {
    assert_eq!(walked(s, &[]).await.unwrap().0, [""; 0]);
    layer(s, "base", None, |_| ()).await;
    let labels = Labels::from([("containerd.io/snapshot/color".to_owned(), "blue".to_owned())]);
    s.prepare("child", Some("base"), labels).await.unwrap();
    s.view("seen", Some("base"), Labels::new()).await.unwrap();
    for (filters, expected) in [
        (&[][..], &["base", "child", "seen"][..]),
        (&["kind==active"], &["child"]),
        (&["kind==view", "kind==committed"], &["base", "seen"]),
        (&["parent==base"], &["child", "seen"]),
        (&["parent==base,kind==view"], &["seen"]),
        (&["name==base"], &["base"]),
        (&["name~=/^s/"], &["seen"]),
        (
            &[r#"labels."containerd.io/snapshot/color"==blue"#],
            &["child"],
        ),
        (&["name==absent"], &[]),
    ] {
        let mut names = walked(s, filters).await.unwrap().0;
        names.sort();
        assert_eq!(names, expected, "{filters:?}");
    }
    let wrong = walked(s, &["name=="]).await;
    assert_eq!(kind_of(wrong), ErrorKind::InvalidArgument);
    for number in 0..WALK_PAGE_MAX {
        s.view(&format!("n{number}"), None, Labels::new())
            .await
            .unwrap();
    }
    let (names, pages) = walked(s, &[]).await.unwrap();
    assert_eq!(names.len(), WALK_PAGE_MAX + 3);
    assert!(
        pages
            .iter()
            .all(|length| (1..=WALK_PAGE_MAX).contains(length)),
        "{pages:?}"
    );
    let mut calls = 0;
    let mut stop = |_: Vec<Info>| -> crate::PageFuture {
        calls += 1;
        Box::pin(std::future::ready(ControlFlow::Break(())))
    };
    s.walk(&[], &mut stop).await.unwrap();
    assert_eq!(calls, 1);
}

/// Usage counts a snapshot alone, and stays as committed.
async fn usages(s: &impl Snapshotter) {
    let mounts = prepare(s, "active", None).await;
    let empty = s.usage("active").await.unwrap();
    mounted(&mounts, |root| {
        fs::write(root.join("file"), vec![7; 1 << 20]).unwrap();
    });
    let full = s.usage("active").await.unwrap();
    assert_eq!(full.inodes, empty.inodes + 1);
    assert!(full.size >= empty.size + (1 << 20));
    commit(s, "base", "active").await.unwrap();
    assert_eq!(s.usage("base").await.unwrap().inodes, full.inodes);
}

/// What an earlier snapshotter under the same root has made.
async fn reopened(s: &impl Snapshotter) {
    assert_eq!(s.stat("kept").await.unwrap().kind, Kind::Committed);
    mounted(&s.mounts("going").await.unwrap(), |root| {
        assert_eq!(read(root, "file"), "x");
        write(root, "more", "y");
    });
    commit(s, "gone", "going").await.unwrap();
    let view = s.view("view", Some("gone"), Labels::new()).await.unwrap();
    mounted(&view, |root| assert_eq!(read(root, "more"), "y"));
    assert_eq!(
        kind_of(s.remove("kept").await),
        ErrorKind::FailedPrecondition
    );
}
