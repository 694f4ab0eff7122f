//! The native driver runs the suite; its mounts to the letter.

use model::Labels;
use sys::file::Hit;

use super::*;
use crate::testing::driver_suite;

#[test]
fn native_conforms() {
    driver_suite(&|root| Box::new(Native::open(root, Config::default()).unwrap()));
}

#[test]
fn mounts_are_containerds_to_the_letter() {
    let room = tempfile::tempdir().unwrap();
    let driver = Native::open(room.path(), Config::default()).unwrap();
    let (one, two) = (SnapshotId(1), SnapshotId(2));
    for (kind, parents, source, access) in [
        (Kind::Active, &[][..], two, "rw"),
        (Kind::View, &[], two, "ro"),
        (Kind::Active, &[one], two, "rw"),
        (Kind::View, &[one], one, "ro"),
    ] {
        let mounts = driver.mounts(two, kind, parents, &Labels::new()).unwrap();
        assert_eq!(
            mounts[0].source,
            driver.room.path(source).display().to_string()
        );
        assert_eq!(mounts[0].options, ["rbind", access]);
    }
}

#[test]
fn its_steps_are_listed() {
    let room = tempfile::tempdir().unwrap();
    let files = Files::recording();
    let config = Config {
        files: files.clone(),
        removal: Removal::AtCleanup,
    };
    let driver = Native::open(room.path(), config).unwrap();
    let none = Labels::new();
    let (one, two) = (SnapshotId(1), SnapshotId(2));
    driver.create(one, Kind::Active, &[], &none).unwrap();
    driver.commit(one, &[], Durability::Sync).unwrap();
    driver.create(two, Kind::Active, &[one], &none).unwrap();
    driver.remove(two).unwrap();
    assert!(room.path().join("snapshots/rm-hoist-2").exists());
    driver.cleanup().unwrap();
    assert!(!room.path().join("snapshots/rm-hoist-2").exists());
    for name in files.hits().iter().map(Hit::to_string) {
        assert!(points::ALL.contains(&&*name), "{name} is not listed");
    }
}
