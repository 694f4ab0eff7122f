//! What every driver has to do.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;

use model::{ErrorKind, Kinded, Labels, Mount};

use super::{can_mount, mounted};
use crate::{Driver, Durability, Kind, Result, SnapshotId, Usage};

const ONE: SnapshotId = SnapshotId(1);
const TWO: SnapshotId = SnapshotId(2);
const THREE: SnapshotId = SnapshotId(3);
const FOUR: SnapshotId = SnapshotId(4);

/// Runs all cases against drivers that `open` makes under a folder that it is given; it is asked again for a folder
/// that it knows to see that everything is found.
///
/// # Panics
/// When the driver breaks a promise of [`Driver`].
pub fn driver_suite(open: &dyn Fn(&Path) -> Box<dyn Driver>) {
    type Case = fn(&dyn Fn(&Path) -> Box<dyn Driver>, &Path);
    if !can_mount("driver suite") {
        return;
    }
    let cases: [(&str, Case); 7] = [
        ("chain", chain),
        ("numbers", numbers),
        ("root looks", root_looks),
        ("kinds of files", kinds_of_files),
        ("usage", usage),
        ("depth", depth),
        ("rubbish", rubbish),
    ];
    for (name, case) in cases {
        let room = tempfile::tempdir().unwrap();
        eprintln!("driver suite: {name}");
        case(open, &room.path().join("driver"));
    }
}

fn create(
    driver: &dyn Driver,
    id: SnapshotId,
    kind: Kind,
    parents: &[SnapshotId],
) -> Result<Vec<Mount>> {
    let labels = Labels::new();
    driver.create(id, kind, parents, &labels)?;
    driver.mounts(id, kind, parents, &labels)
}

/// Makes a layer that `change` has written.
fn layer(
    driver: &dyn Driver,
    id: SnapshotId,
    parents: &[SnapshotId],
    change: impl FnOnce(&Path) + Send,
) -> Usage {
    let mounts = create(driver, id, Kind::Active, parents).unwrap();
    mounted(&mounts, change);
    driver.commit(id, parents, Durability::Sync).unwrap()
}

fn view(
    driver: &dyn Driver,
    id: SnapshotId,
    parents: &[SnapshotId],
    look: impl FnOnce(&Path) + Send,
) {
    let mounts = create(driver, id, Kind::View, parents).unwrap();
    mounted(&mounts, |root| {
        let refused = fs::write(root.join("written"), "x").unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        look(root);
    });
}

/// Changes add up, deletions hide, parents stay as they were, and a second opening finds all of it.
fn chain(open: &dyn Fn(&Path) -> Box<dyn Driver>, root: &Path) {
    let driver = open(root);
    layer(&*driver, ONE, &[], |root| {
        fs::create_dir_all(root.join("etc/opaque")).unwrap();
        fs::write(root.join("etc/kept"), "1").unwrap();
        fs::write(root.join("etc/changed"), "1").unwrap();
        fs::write(root.join("etc/deleted"), "1").unwrap();
        fs::write(root.join("etc/opaque/hidden"), "1").unwrap();
        fs::create_dir_all(root.join("moved/deep")).unwrap();
        fs::write(root.join("moved/deep/file"), "1").unwrap();
    });
    layer(&*driver, TWO, &[ONE], |root| {
        fs::write(root.join("etc/changed"), "2").unwrap();
        fs::remove_file(root.join("etc/deleted")).unwrap();
        fs::remove_dir_all(root.join("etc/opaque")).unwrap();
        fs::create_dir(root.join("etc/opaque")).unwrap();
        fs::write(root.join("etc/opaque/shown"), "2").unwrap();
        move_folder(&root.join("moved"), &root.join("there"));
    });
    let after = |root: &Path| {
        let text = |name: &str| fs::read_to_string(root.join(name)).unwrap();
        assert_eq!((&*text("etc/kept"), &*text("etc/changed")), ("1", "2"));
        assert_eq!(
            (&*text("etc/opaque/shown"), &*text("there/deep/file")),
            ("2", "1")
        );
        for gone in ["etc/deleted", "etc/opaque/hidden", "moved"] {
            assert!(!root.join(gone).exists(), "{gone}");
        }
    };
    view(&*driver, THREE, &[TWO, ONE], after);
    view(&*driver, FOUR, &[ONE], |root| {
        assert_eq!(fs::read_to_string(root.join("etc/changed")).unwrap(), "1");
        assert!(root.join("etc/deleted").exists() && root.join("moved/deep/file").exists());
    });
    drop(driver);
    let driver = open(root);
    driver.cleanup().unwrap();
    assert_eq!(driver.list().unwrap(), [ONE, TWO, THREE, FOUR]);
    let mounts = driver.mounts(THREE, Kind::View, &[TWO, ONE], &Labels::new());
    mounted(&mounts.unwrap(), after);
}

/// Moves as `mv` does: overlay refuses to rename a folder of a lower layer (EXDEV) and it is copied then.
fn move_folder(from: &Path, to: &Path) {
    let here = rustix::fs::CWD;
    match rustix::fs::renameat(here, from, here, to) {
        Err(rustix::io::Errno::XDEV) => {
            fs::create_dir(to).unwrap();
            for entry in fs::read_dir(from).unwrap() {
                let entry = entry.unwrap();
                let target = to.join(entry.file_name());
                if entry.file_type().unwrap().is_dir() {
                    move_folder(&entry.path(), &target);
                } else {
                    fs::copy(entry.path(), target).unwrap();
                }
            }
            fs::remove_dir_all(from).unwrap();
        }
        other => other.unwrap(),
    }
}

/// A number is taken once, leaves the list when removed, and what is absent is `NotFound`.
fn numbers(open: &dyn Fn(&Path) -> Box<dyn Driver>, root: &Path) {
    let driver = open(root);
    assert_eq!(driver.root(), root);
    assert_eq!(driver.list().unwrap(), []);
    create(&*driver, TWO, Kind::Active, &[]).unwrap();
    let taken = create(&*driver, TWO, Kind::View, &[]).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    create(&*driver, ONE, Kind::View, &[]).unwrap();
    assert_eq!(driver.list().unwrap(), [ONE, TWO]);
    driver.remove(ONE).unwrap();
    assert_eq!(driver.list().unwrap(), [TWO]);
    for error in [
        driver.remove(ONE).unwrap_err(),
        driver.usage(ONE).unwrap_err(),
        driver.commit(ONE, &[], Durability::Sync).unwrap_err(),
        create(&*driver, THREE, Kind::Active, &[ONE]).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    assert_eq!(
        driver.list().unwrap(),
        [TWO],
        "a failed create leaves nothing"
    );
    driver.commit(TWO, &[], Durability::AlreadyDurable).unwrap();
    driver.commit(TWO, &[], Durability::Sync).unwrap();
}

/// The root folder of a child has its parent's mode and owner.
fn root_looks(open: &dyn Fn(&Path) -> Box<dyn Driver>, root: &Path) {
    let driver = open(root);
    layer(&*driver, ONE, &[], |root| {
        assert_eq!(fs::metadata(root).unwrap().mode() & 0o7777, 0o755);
        lchown(root, Some(1234), Some(4321)).unwrap();
        fs::set_permissions(root, fs::Permissions::from_mode(0o1711)).unwrap();
    });
    layer(&*driver, TWO, &[ONE], |root| {
        let metadata = fs::metadata(root).unwrap();
        let seen = (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777);
        assert_eq!(seen, (1234, 4321, 0o1711));
    });
}

/// Links, nodes, holes, attributes, times and set-user-id bits show in a child as they were made.
fn kinds_of_files(open: &dyn Fn(&Path) -> Box<dyn Driver>, root: &Path) {
    use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
    let driver = open(root);
    layer(&*driver, ONE, &[], |root| {
        let file = root.join("file");
        fs::write(&file, "text").unwrap();
        fs::hard_link(&file, root.join("linked")).unwrap();
        symlink("../file", root.join("link")).unwrap();
        lchown(root.join("link"), Some(7), Some(8)).unwrap();
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(
            CWD,
            root.join("null"),
            FileType::CharacterDevice,
            mode,
            makedev(1, 3),
        )
        .unwrap();
        mknodat(CWD, root.join("fifo"), FileType::Fifo, mode, 0).unwrap();
        lchown(&file, Some(5), Some(6)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
        setxattr(&file, "trusted.test", b"\0value", XattrFlags::empty()).unwrap();
        let holes = fs::File::create(root.join("holes")).unwrap();
        std::os::unix::fs::FileExt::write_at(&holes, b"end", 8 << 20).unwrap();
        let old = std::time::UNIX_EPOCH + std::time::Duration::new(86_400, 5);
        holes.set_modified(old).unwrap();
    });
    layer(&*driver, TWO, &[ONE], |root| {
        let stat = |name: &str| fs::symlink_metadata(root.join(name)).unwrap();
        let file = stat("file");
        assert_eq!(
            (file.uid(), file.gid(), file.mode() & 0o7777),
            (5, 6, 0o4755)
        );
        assert_eq!((file.nlink(), file.ino()), (2, stat("linked").ino()));
        let link = stat("link");
        assert_eq!((link.uid(), link.gid()), (7, 8));
        assert_eq!(
            fs::read_link(root.join("link")).unwrap(),
            Path::new("../file")
        );
        assert_eq!(stat("null").rdev(), makedev(1, 3));
        assert!(stat("null").file_type().is_char_device() && stat("fifo").file_type().is_fifo());
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(root.join("file"), "trusted.test", &mut value[..]);
        assert_eq!(&value[..length.unwrap()], b"\0value");
        let holes = stat("holes");
        assert_eq!(
            (holes.len(), holes.mtime(), holes.mtime_nsec()),
            ((8 << 20) + 3, 86_400, 5)
        );
        assert!(holes.blocks() * 512 < 1 << 20, "holes stay holes");
        let bytes = fs::read(root.join("holes")).unwrap();
        assert!(bytes.ends_with(b"\0end") && bytes[..8 << 20].iter().all(|byte| *byte == 0));
    });
}

/// Usage is what the snapshot itself takes, hard links once.
fn usage(open: &dyn Fn(&Path) -> Box<dyn Driver>, root: &Path) {
    let driver = open(root);
    let empty = create(&*driver, FOUR, Kind::Active, &[]).and_then(|_| driver.usage(FOUR));
    let empty = empty.unwrap();
    assert_eq!(empty.inodes, 1, "the root folder");
    let used = layer(&*driver, ONE, &[], |root| {
        fs::write(root.join("a"), vec![7; 1 << 20]).unwrap();
        fs::hard_link(root.join("a"), root.join("b")).unwrap();
        symlink("a", root.join("c")).unwrap();
    });
    assert_eq!(used.inodes, 3);
    let size = used.size - empty.size;
    assert!(((1 << 20)..(1 << 20) + 65_536).contains(&size), "{size}");
    assert_eq!(driver.usage(ONE).unwrap(), used);
}

/// A chain of many layers can be mounted, newest first.
fn depth(open: &dyn Fn(&Path) -> Box<dyn Driver>, root: &Path) {
    const LAYERS: u64 = 24;
    let driver = open(root);
    let mut parents: Vec<SnapshotId> = Vec::new();
    for number in 1..=LAYERS {
        let id = SnapshotId(number);
        layer(&*driver, id, &parents, |root| {
            fs::write(root.join("newest"), number.to_string()).unwrap();
            fs::write(root.join(number.to_string()), "").unwrap();
        });
        parents.insert(0, id);
    }
    view(&*driver, SnapshotId(LAYERS + 1), &parents, |root| {
        let newest = fs::read_to_string(root.join("newest")).unwrap();
        assert_eq!(newest, LAYERS.to_string());
        assert!((1..=LAYERS).all(|number| root.join(number.to_string()).exists()));
    });
    let too_many: Vec<SnapshotId> = (1..=crate::PARENTS_MAX as u64 + 1)
        .map(SnapshotId)
        .collect();
    let refused = create(&*driver, SnapshotId(9999), Kind::View, &too_many).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FailedPrecondition);
}

/// What crashes leave is cleaned away; what is not the driver's stays.
fn rubbish(open: &dyn Fn(&Path) -> Box<dyn Driver>, root: &Path) {
    let driver = open(root);
    layer(&*driver, ONE, &[], |_| ());
    let folder = root.join("snapshots");
    let ours = ["new-hoist-7", "rm-hoist-8"];
    let foreign = [
        "new-123",
        "rm-5",
        "rm-hoist-",
        "new-hoist-x",
        "01",
        "+1",
        "lost+found",
    ];
    for name in ours.iter().chain(&foreign) {
        fs::create_dir_all(folder.join(name).join("fs/deep")).unwrap();
        fs::write(folder.join(name).join("fs/deep/file"), "x").unwrap();
    }
    fs::write(folder.join("6"), "a file is no snapshot").unwrap();
    driver.cleanup().unwrap();
    assert_eq!(driver.list().unwrap(), [ONE]);
    for name in ours {
        assert!(!folder.join(name).exists(), "{name}");
    }
    for name in foreign {
        assert!(folder.join(name).join("fs/deep/file").exists(), "{name}");
    }
    // A number whose making was cut off is free.
    fs::create_dir_all(folder.join("new-hoist-2/fs/half")).unwrap();
    layer(&*driver, TWO, &[], |root| {
        assert_eq!(fs::read_dir(root).unwrap().count(), 0);
    });
    // Both names after a power cut.
    fs::create_dir_all(folder.join("rm-hoist-2/x")).unwrap();
    driver.remove(TWO).unwrap();
    driver.cleanup().unwrap();
    assert!(!folder.join("rm-hoist-2").exists());
}
