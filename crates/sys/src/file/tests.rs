//! What the seam promises, step by step.

use std::fs;

use model::{ErrorKind, Kinded};

use super::*;

const POINT: Point = Point::new("test.write");

#[test]
fn atomic_write_is_whole_or_not_at_all() {
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("f");
    let recording = Files::recording();
    recording.atomic_write(POINT, &path, b"old", 0o640).unwrap();
    let steps: Vec<String> = recording.hits().iter().map(Hit::to_string).collect();
    assert_eq!(
        steps,
        [
            "test.write:create",
            "test.write:set-length",
            "test.write:write",
            "test.write:sync-data",
            "test.write:rename",
            "test.write:sync-dir"
        ]
    );
    for step in &steps {
        for failure in [Failure::Errno(libc::ENOSPC), Failure::Halt] {
            fs::write(&path, "old").unwrap();
            let files = Files::failing(FailPlan::new().at(step, 1, failure));
            let error = files.atomic_write(POINT, &path, b"new", 0o640).unwrap_err();
            let expected = match failure {
                Failure::Halt => ErrorKind::Unknown,
                _ => ErrorKind::ResourceExhausted,
            };
            assert_eq!(error.kind(), expected, "{step}");
            let content = fs::read(&path).unwrap();
            let renamed = step.ends_with(":sync-dir");
            assert_eq!(content, if renamed { b"new" } else { b"old" }, "{step}");
            Files::real()
                .atomic_write(POINT, &path, b"next", 0o640)
                .unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"next");
            assert_eq!(fs::read_dir(room.path()).unwrap().count(), 1, "{step}");
        }
    }
}

#[test]
fn rename_refuses_to_replace() {
    let room = tempfile::tempdir().unwrap();
    let (from, to) = (room.path().join("a"), room.path().join("b"));
    fs::write(&from, "a").unwrap();
    fs::write(&to, "b").unwrap();
    let files = Files::real();
    let error = files.rename_noreplace(POINT, &from, &to).unwrap_err();
    assert!(error.is_already_exists());
    assert_eq!(error.to_string(), format!("rename to {}", to.display()));
    files.rename_replace(POINT, &from, &to).unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"a");
}

#[test]
fn a_plan_fails_only_the_nth_time() {
    let room = tempfile::tempdir().unwrap();
    let files =
        Files::failing(FailPlan::new().at("test.write:create", 2, Failure::Errno(libc::EMFILE)));
    assert!(
        files
            .create_excl(POINT, room.path().join("1"), 0o600)
            .is_ok()
    );
    assert!(
        files
            .create_excl(POINT, room.path().join("2"), 0o600)
            .is_err()
    );
    assert!(
        files
            .create_excl(POINT, room.path().join("2"), 0o600)
            .is_ok()
    );
    assert_eq!(files.hits()[0].count, 3);
}

#[test]
fn a_link_in_the_last_place_is_refused() {
    let room = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("target", room.path().join("link")).unwrap();
    let files = Files::real();
    assert!(
        files
            .open_or_create(POINT, room.path().join("link"), 0o600)
            .is_err()
    );
    assert!(!room.path().join("target").exists());
}

#[test]
fn folders_are_made_with_their_mode() {
    use std::os::unix::fs::PermissionsExt;
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("a/b/c");
    Files::real().make_dir_all(POINT, &path, 0o711).unwrap();
    Files::real().make_dir_all(POINT, &path, 0o700).unwrap();
    for folder in ["a", "a/b", "a/b/c"] {
        let mode = fs::metadata(room.path().join(folder))
            .unwrap()
            .permissions();
        assert_eq!(mode.mode() & 0o7777, 0o711);
    }
}
