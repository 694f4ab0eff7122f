//! Overlay's own promises: the mounts to the letter, the labels, the crashes.

use std::fs;
use std::os::unix::fs::MetadataExt;

use model::{ErrorKind, Kinded};
use sys::file::{FailPlan, Failure, Hit};

use super::*;
use crate::testing::{can_mount, driver_suite};

fn open(root: &Path, files: Files) -> Result<Overlay> {
    let config = Config {
        files,
        ..Config::default()
    };
    Overlay::open(root, config)
}

#[test]
fn overlay_conforms() {
    driver_suite(&|root| Box::new(open(root, Files::real()).unwrap()));
}

#[test]
fn mounts_are_containerds_to_the_letter() {
    if !can_mount("overlay mounts") {
        return;
    }
    let room = tempfile::tempdir().unwrap();
    let root = room.path().to_str().unwrap();
    let config = Config {
        mount_options: vec!["index=on".to_owned(), "volatile".to_owned()],
        upperdir_label: true,
        ..Config::default()
    };
    let driver = Overlay::open(root, config).unwrap();
    let map: Labels = [(LABEL_UID_MAPPING.to_owned(), "0:1000:10".to_owned())].into();
    let id = |number| SnapshotId(number);
    let show = |kind, parents: &[SnapshotId], labels: &Labels| {
        let mounts = driver.mounts(id(9), kind, parents, labels).unwrap();
        assert_eq!(mounts.len(), 1);
        let Mount {
            kind,
            source,
            options,
            ..
        } = &mounts[0];
        format!("{kind} {source} {}", options.join(",")).replace(root, "R")
    };
    let none = Labels::new();
    let remap = if driver.remap_ids {
        "uidmap=0:1000:10,"
    } else {
        ""
    };
    for (kind, parents, labels, expected) in [
        (
            Kind::Active,
            &[][..],
            &none,
            "bind R/snapshots/9/fs rw,rbind",
        ),
        (Kind::View, &[], &none, "bind R/snapshots/9/fs ro,rbind"),
        (
            Kind::View,
            &[id(1)],
            &none,
            "bind R/snapshots/1/fs ro,rbind",
        ),
        (
            Kind::Active,
            &[id(1)],
            &none,
            "overlay overlay workdir=R/snapshots/9/work,upperdir=R/snapshots/9/fs,lowerdir=R/snapshots/1/fs,index=on,volatile",
        ),
        (
            Kind::View,
            &[id(2), id(1)],
            &none,
            "overlay overlay lowerdir=R/snapshots/2/fs:R/snapshots/1/fs,index=on,volatile",
        ),
        (
            Kind::Active,
            &[],
            &map,
            &format!("bind R/snapshots/9/fs {remap}rw,rbind"),
        ),
    ] {
        assert_eq!(show(kind, parents, labels), expected);
    }
    let upper = driver.shown_labels(id(9));
    assert_eq!(
        upper[LABEL_OVERLAY_UPPERDIR],
        format!("{root}/snapshots/9/fs")
    );
}

#[test]
fn mapped_snapshots_belong_to_the_mapped_root() {
    if !can_mount("mapped owners") {
        return;
    }
    let room = tempfile::tempdir().unwrap();
    let driver = open(room.path(), Files::real()).unwrap();
    let labels: Labels = [
        (LABEL_UID_MAPPING.to_owned(), "0:1000:10".to_owned()),
        (LABEL_GID_MAPPING.to_owned(), "0:2000:10".to_owned()),
    ]
    .into();
    let id = SnapshotId(1);
    driver.create(id, Kind::Active, &[], &labels).unwrap();
    let metadata = fs::metadata(driver.upper(id)).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (1000, 2000));
    for bad in ["x", "5:1000:10", "0:1:2:3"] {
        let labels: Labels = [(LABEL_UID_MAPPING.to_owned(), bad.to_owned())].into();
        let refused = driver.create(SnapshotId(2), Kind::Active, &[], &labels);
        assert_eq!(
            refused.unwrap_err().kind(),
            ErrorKind::InvalidArgument,
            "{bad}"
        );
    }
    assert_eq!(driver.list().unwrap(), [id]);
}

#[test]
fn a_root_that_can_not_be_an_option_is_refused() {
    let room = tempfile::tempdir().unwrap();
    for name in ["a:b", "a,b", "a\\b"] {
        let error = open(&room.path().join(name), Files::real()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unimplemented, "{error}");
    }
}

/// A driver's whole life; every step of it is a fail point.
fn life(root: &Path, files: Files) -> Result<()> {
    let driver = open(root, files)?;
    let labels = Labels::new();
    let (one, two) = (SnapshotId(1), SnapshotId(2));
    driver.create(one, Kind::Active, &[], &labels)?;
    driver.commit(one, &[], Durability::Sync)?;
    driver.create(two, Kind::Active, &[one], &labels)?;
    driver.remove(two)?;
    driver.cleanup()
}

#[test]
fn any_step_may_fail_or_be_the_last() {
    if !can_mount("overlay crash sweep") {
        return;
    }
    let recorded = Files::recording();
    life(tempfile::tempdir().unwrap().path(), recorded.clone()).unwrap();
    for hit in recorded.hits() {
        for nth in 1..=hit.count {
            for failure in [Failure::Halt, Failure::Errno(28)] {
                let room = tempfile::tempdir().unwrap();
                let plan = FailPlan::new().at(hit.to_string(), nth, failure);
                life(room.path(), Files::failing(plan)).unwrap_err();
                let driver = open(room.path(), Files::real()).unwrap();
                driver.cleanup().unwrap();
                for id in driver.list().unwrap() {
                    for part in ["fs", "work"] {
                        assert!(driver.room.path(id).join(part).is_dir(), "{hit} {nth}");
                    }
                    driver.remove(id).unwrap();
                }
                let left = fs::read_dir(room.path().join("snapshots")).unwrap();
                assert_eq!(left.count(), 0, "{hit} {nth}");
                life(room.path(), Files::real()).unwrap();
            }
        }
    }
    let taken: Vec<String> = recorded.hits().iter().map(Hit::to_string).collect();
    for name in taken {
        assert!(points::ALL.contains(&&*name), "{name} is not listed");
    }
}
