//! What the store promises, and what stands after each step of it was cut off.

use std::os::unix::fs::PermissionsExt;

use model::{ErrorKind, Kinded, SystemClock};
use sha2::Digest as _;
use sys::file::{FailPlan, Failure, Hit};
use tempfile::TempDir;

use super::*;
use crate::Committed;

fn open(room: &TempDir, files: Files) -> Local {
    Local::open(room.path().join("content"), files, Arc::new(SystemClock)).unwrap()
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_sha256(sha2::Sha256::digest(bytes).into())
}

fn put(store: &Local, reference: &str, bytes: &[u8]) -> Result<Committed> {
    let expected = sha256(bytes);
    let mut ingest = store.writer(reference, Some(bytes.len() as u64), Some(&expected))?;
    if ingest.offset() > 0 {
        ingest.truncate(0)?;
    }
    ingest.write(bytes)?;
    ingest.commit(Some(bytes.len() as u64), Some(&expected))
}

fn content(store: &Local, digest: &Digest) -> Vec<u8> {
    let blob = store.reader(digest).unwrap();
    let mut bytes = vec![0; usize::try_from(blob.size).unwrap()];
    assert_eq!(blob.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

fn digests(store: &Local) -> Vec<Digest> {
    let mut found = Vec::new();
    store
        .walk(|info| {
            found.push(info.digest);
            ControlFlow::Continue(())
        })
        .unwrap();
    found.sort();
    found
}

#[test]
fn a_blob_is_read_back_and_deleted() {
    let room = tempfile::tempdir().unwrap();
    let store = open(&room, Files::real());
    let committed = put(&store, "default/1/layer", b"bytes").unwrap();
    assert_eq!((committed.size, &committed.digest), (5, &sha256(b"bytes")));
    assert_eq!(content(&store, &committed.digest), b"bytes");
    let info = store.info(&committed.digest).unwrap();
    assert_eq!(info.size, 5);
    let path = store.shared.blob_path(&committed.digest);
    assert_eq!(fs::metadata(path).unwrap().permissions().mode(), 0o100_444);
    assert_eq!(store.statuses().unwrap(), []);
    store.delete(&committed.digest).unwrap();
    for kind in [
        store.delete(&committed.digest).unwrap_err().kind(),
        store.info(&committed.digest).unwrap_err().kind(),
        store.reader(&committed.digest).unwrap_err().kind(),
    ] {
        assert_eq!(kind, ErrorKind::NotFound);
    }
}

#[test]
fn layout_is_containerds() {
    let room = tempfile::tempdir().unwrap();
    let store = open(&room, Files::real());
    let mut ingest = store.writer("default/1/a", Some(3), None).unwrap();
    ingest.write(b"ab").unwrap();
    let folder = room
        .path()
        .join("content/ingest")
        .join(folder_of_ref("default/1/a"));
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["data", "ref", "startedat", "total", "updatedat"]);
    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(
        (text("ref"), text("total")),
        ("default/1/a".into(), "3".into())
    );
    assert_eq!(
        text("startedat").parse::<Timestamp>().unwrap(),
        ingest.status().started
    );
    assert_eq!(text("data"), "ab");
}

#[test]
fn a_write_is_resumed_with_its_digest() {
    let room = tempfile::tempdir().unwrap();
    let store = open(&room, Files::real());
    let mut ingest = store.writer("r", Some(6), None).unwrap();
    ingest.write(b"abc").unwrap();
    let started = ingest.status().started;
    assert_eq!(
        store.writer("r", None, None).unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    drop(ingest);
    drop(store);
    let store = open(&room, Files::real());
    assert_eq!(store.statuses().unwrap()[0].offset, 3);
    let mut ingest = store.writer("r", None, None).unwrap();
    let status = ingest.status();
    assert_eq!(
        (status.offset, status.total, status.started),
        (3, 6, started)
    );
    assert_eq!(ingest.digest(), sha256(b"abc"));
    ingest.write(b"def").unwrap();
    let committed = ingest.commit(None, None).unwrap();
    assert_eq!(content(&store, &committed.digest), b"abcdef");
    // Another total means another object.
    store
        .writer("s", Some(6), None)
        .unwrap()
        .write(b"abc")
        .unwrap();
    assert_eq!(store.writer("s", Some(7), None).unwrap().offset(), 0);
}

#[test]
fn wrong_size_or_digest_keeps_the_bytes() {
    let room = tempfile::tempdir().unwrap();
    let store = open(&room, Files::real());
    let mut ingest = store.writer("r", None, None).unwrap();
    ingest.write(b"abc").unwrap();
    let error = ingest.commit(None, Some(&sha256(b"x"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    let text = format!(
        "unexpected commit digest {}, expected {}",
        sha256(b"abc"),
        sha256(b"x")
    );
    assert_eq!(error.to_string(), text);
    let error = store
        .writer("r", None, None)
        .unwrap()
        .commit(Some(4), None)
        .unwrap_err();
    assert_eq!(error.to_string(), "unexpected commit size 3, expected 4");
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    store
        .writer("r", None, None)
        .unwrap()
        .commit(Some(3), None)
        .unwrap();
    let mut again = store.writer("r", None, None).unwrap();
    assert_eq!(again.offset(), 0);
    again.write(b"abc").unwrap();
    let error = again.commit(None, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(store.status("r").unwrap_err().kind(), ErrorKind::NotFound);
    let refused = store.writer("r", None, Some(&sha256(b"abc")));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::AlreadyExists);
    // A refused writer lets go of its ref.
    store.writer("r", None, None).unwrap();
}

#[test]
fn a_resumed_write_that_is_wrong_starts_over() {
    let room = tempfile::tempdir().unwrap();
    let store = open(&room, Files::real());
    store
        .writer("r", Some(6), None)
        .unwrap()
        .write(b"\0\0\0")
        .unwrap();
    let mut ingest = store.writer("r", Some(6), None).unwrap();
    ingest.write(b"def").unwrap();
    ingest
        .commit(Some(6), Some(&sha256(b"abcdef")))
        .unwrap_err();
    assert_eq!(store.status("r").unwrap().offset, 0);
    put(&store, "r", b"abcdef").unwrap();
}

#[test]
fn other_algorithms_are_computed_when_expected() {
    let room = tempfile::tempdir().unwrap();
    let store = open(&room, Files::real());
    let digest: Digest = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        .parse()
        .unwrap();
    let mut ingest = store.writer("early", None, Some(&digest)).unwrap();
    ingest.write(b"abc").unwrap();
    assert_eq!(ingest.digest(), digest);
    drop(ingest);
    let mut late = store.writer("late", None, None).unwrap();
    late.write(b"abc").unwrap();
    assert_eq!(late.commit(None, Some(&digest)).unwrap().digest, digest);
    assert_eq!(digests(&store), [digest]);
}

#[test]
fn refs_are_bounded_and_never_paths() {
    let room = tempfile::tempdir().unwrap();
    let store = open(&room, Files::real());
    for reference in ["../../etc/passwd", "/", ".", "a\0b", "ä\n"] {
        let mut ingest = store.writer(reference, None, None).unwrap();
        ingest.write(b"x").unwrap();
        drop(ingest);
        assert_eq!(store.status(reference).unwrap().reference, reference);
        store.abort(reference).unwrap();
        assert_eq!(
            store.abort(reference).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }
    for bad in ["".to_owned(), "x".repeat(REF_BYTES_MAX + 1)] {
        let error = store.writer(&bad, None, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
    store
        .writer(&"x".repeat(REF_BYTES_MAX), None, None)
        .unwrap();
    assert_eq!(fs::read_dir(room.path()).unwrap().count(), 1);
}

#[test]
fn foreign_names_stay_and_broken_folders_can_go() {
    let room = tempfile::tempdir().unwrap();
    let store = open(&room, Files::real());
    let root = store.root();
    let blob = put(&store, "r", b"abc").unwrap().digest;
    let broken = folder_of_ref("broken");
    for folder in ["blobs/md5", "ingest/foreign"] {
        fs::create_dir(root.join(folder)).unwrap();
    }
    fs::create_dir(root.join("ingest").join(&broken)).unwrap();
    for file in [
        "blobs/sha256/foreign",
        "blobs/md5/x",
        "ingest/foreign/data",
        "note",
    ] {
        fs::write(root.join(file), "x").unwrap();
    }
    let link = root.join("blobs/sha256").join("a".repeat(64));
    std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
    let linked: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
    assert!(store.reader(&linked).is_err());
    assert_eq!(digests(&store), [blob]);
    assert_eq!(store.statuses().unwrap(), []);
    let mut folders = Vec::new();
    let all = store.walk_ingests(|folder| {
        folders.push(folder);
        ControlFlow::Continue(())
    });
    all.unwrap();
    assert_eq!(folders.len(), 1);
    assert_eq!((&folders[0].name, &folders[0].status), (&broken, &None));
    store.discard(&broken).unwrap();
    for bad in [&*broken, "foreign", ".."] {
        assert_eq!(store.discard(bad).unwrap_err().kind(), ErrorKind::NotFound);
    }
    for file in [
        "blobs/sha256/foreign",
        "blobs/md5/x",
        "ingest/foreign/data",
        "note",
    ] {
        assert!(root.join(file).exists(), "{file}");
    }
}

/// Everything the store can do, once.
fn everything(store: &Local) -> Result<()> {
    put(store, "one", b"first content")?;
    let mut ingest = store.writer("two", None, None)?;
    ingest.write(b"wrong")?;
    ingest.truncate(0)?;
    ingest.write(b"second content")?;
    ingest.commit(None, None)?;
    drop(store.writer("three", None, None)?);
    store.abort("three")?;
    store.delete(&sha256(b"first content"))
}

#[test]
fn the_list_of_points_is_whole() {
    let room = tempfile::tempdir().unwrap();
    let files = Files::recording();
    everything(&open(&room, files.clone())).unwrap();
    let mut taken: Vec<String> = files.hits().iter().map(Hit::to_string).collect();
    taken.sort();
    let mut listed = points::ALL.to_vec();
    listed.sort_unstable();
    assert_eq!(taken, listed);
}

/// A room in memory where there is one: a sweep syncs thousands of times.
fn fast_room() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// After any failure or crash: each blob is whole, and the same work succeeds on the next start.
#[test]
fn any_step_may_fail_or_be_the_last() {
    let recorded = Files::recording();
    everything(&open(&fast_room(), recorded.clone())).unwrap();
    let mut cuts = 0;
    for hit in recorded.hits() {
        for nth in 1..=hit.count {
            for failure in [
                Failure::Halt,
                Failure::Errno(libc_errno::ENOSPC),
                Failure::Errno(libc_errno::EIO),
            ] {
                let room = fast_room();
                let files = Files::failing(FailPlan::new().at(hit.to_string(), nth, failure));
                let clock = Arc::new(SystemClock);
                let root = room.path().join("content");
                let outcome = Local::open(&root, files, clock).and_then(|store| everything(&store));
                let finished = hit.to_string() == "content.finish:remove";
                assert!(outcome.is_err() || finished, "{hit} {nth} {failure:?}");
                let store = open(&room, Files::real());
                for digest in digests(&store) {
                    assert_eq!(sha256(&content(&store, &digest)), digest, "{hit} {nth}");
                }
                for bytes in [&b"first content"[..], b"second content"] {
                    match put(&store, "one", bytes) {
                        Ok(_) => {}
                        Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{hit}"),
                    }
                    assert_eq!(content(&store, &sha256(bytes)), bytes);
                }
                cuts += 1;
            }
        }
    }
    assert!(cuts > 60, "{cuts}");
}

/// A sync that failed once is never taken for a success later ("fsyncgate").
#[test]
fn bytes_whose_sync_failed_are_not_kept() {
    let room = tempfile::tempdir().unwrap();
    let eio = Failure::Errno(libc_errno::EIO);
    let plan = FailPlan::new().at("content.commit:sync-data", 1, eio);
    let store = open(&room, Files::failing(plan));
    put(&store, "r", b"abc").unwrap_err();
    assert_eq!(store.status("r").unwrap().offset, 0);
    assert_eq!(digests(&store), []);
    put(&store, "r", b"abc").unwrap();
}

#[test]
fn a_name_whose_sync_failed_is_taken_back() {
    let room = tempfile::tempdir().unwrap();
    let eio = Failure::Errno(libc_errno::EIO);
    let plan = FailPlan::new().at("content.commit:sync-dir", 1, eio);
    let store = open(&room, Files::failing(plan));
    put(&store, "r", b"abc").unwrap_err();
    assert_eq!(digests(&store), []);
    assert_eq!(store.status("r").unwrap().offset, 3);
    put(&store, "r", b"abc").unwrap();
}

mod libc_errno {
    pub(super) const EIO: i32 = rustix::io::Errno::IO.raw_os_error();
    pub(super) const ENOSPC: i32 = rustix::io::Errno::NOSPC.raw_os_error();
}
