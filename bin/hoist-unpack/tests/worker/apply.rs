//! What arrives: kinds, owners, modes, times, attributes, holes, and the same tree as other readers make.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

use super::archive::{Archive, Head};
use super::stage::{Stage, is_root};

fn meta(stage: &Stage, path: &str) -> std::fs::Metadata {
    std::fs::symlink_metadata(stage.target().join(path)).unwrap()
}

fn xattr(stage: &Stage, path: &str, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0u8; 65_536];
    let path = stage.target().join(path);
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

#[test]
fn kinds_owners_modes_and_times() {
    if !is_root() {
        return;
    }
    let head = |name: &'static str, flag, mode| Head {
        name: name.as_bytes(),
        flag,
        mode,
        owner: (1000, 2000),
        ..Head::default()
    };
    let layer = Archive::default()
        .head(&head("d/", b'5', 0o1777))
        .head(&head("d/suid", b'0', 0o6755))
        .head(&Head {
            link: b"nowhere",
            ..head("d/link", b'2', 0o777)
        })
        .head(&Head {
            device: (1, 3),
            ..head("d/null", b'3', 0o666)
        })
        .head(&Head {
            device: (7, 9),
            ..head("d/loop", b'4', 0o660)
        })
        .head(&head("d/pipe", b'6', 0o644))
        .pax(&[("mtime", b"1234567890.125"), ("atime", b"1")])
        .head(&head("d/timed", b'0', 0))
        .head(&Head {
            mtime: 1 << 40,
            ..head("d/future", b'0', 0o600)
        })
        .file("implicit/deep/file", b"x")
        .end();
    let stage = Stage::new();
    let applied = stage.plain(&layer).unwrap();
    assert_eq!((applied.entries, applied.skipped), (9, 0));
    for (path, mode) in [
        ("d", 0o1777),
        ("d/suid", 0o6755),
        ("d/null", 0o666),
        ("d/loop", 0o660),
        ("d/pipe", 0o644),
        ("d/timed", 0),
    ] {
        let meta = meta(&stage, path);
        assert_eq!(meta.mode() & 0o7777, mode, "{path}");
        assert_eq!((meta.uid(), meta.gid()), (1000, 2000), "{path}");
    }
    let link = meta(&stage, "d/link");
    assert_eq!((link.uid(), link.mtime()), (1000, 1_000_000_000));
    assert_eq!(meta(&stage, "d").mtime(), 1_000_000_000);
    assert!(meta(&stage, "d/pipe").file_type().is_fifo());
    assert!(meta(&stage, "d/loop").file_type().is_block_device());
    let timed = meta(&stage, "d/timed");
    assert_eq!(
        (timed.mtime(), timed.mtime_nsec(), timed.atime()),
        (1_234_567_890, 125_000_000, 1_234_567_890)
    );
    assert_eq!(meta(&stage, "d/future").mtime(), 0);
    assert_eq!(meta(&stage, "implicit/deep").mode() & 0o7777, 0o755);
}

#[test]
fn attributes_that_are_a_layers_to_set() {
    if !is_root() {
        return;
    }
    // VFS_CAP_REVISION_2 with CAP_NET_BIND_SERVICE, effective.
    let capability = [1u8, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layer = Archive::default()
        .pax(&[
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.user.note", b"a\0b"),
            ("SCHILY.xattr.user.empty", b""),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.ima", b"x"),
            ("SCHILY.xattr.trusted.other", b"y"),
        ])
        .head(&Head {
            name: b"capable",
            owner: (5, 5),
            mode: 0o755,
            ..Head::default()
        })
        .pax(&[
            ("SCHILY.xattr.user.x", b"1"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ])
        .dir("d", 0o755)
        .pax(&[("SCHILY.xattr.user.x", b"1")])
        .symlink("l", "capable")
        .hardlink("again", "capable")
        .end();
    let stage = Stage::new();
    let applied = stage.plain(&layer).unwrap();
    // Three on the file, one on the folder, one on the link.
    assert_eq!(applied.skipped, 5);
    assert_eq!(xattr(&stage, "capable", "user.note").unwrap(), b"a\0b");
    assert_eq!(xattr(&stage, "capable", "user.empty").unwrap(), b"");
    assert_eq!(xattr(&stage, "d", "user.x").unwrap(), b"1");
    for (path, name) in [
        ("capable", "trusted.overlay.opaque"),
        ("capable", "security.ima"),
        ("d", "trusted.overlay.redirect"),
    ] {
        assert_eq!(xattr(&stage, path, name), None, "{name}");
    }
    // The link entry names another owner, which takes the capability away, as chown does.
    assert_eq!(xattr(&stage, "again", "security.capability"), None);
    let layer = Archive::default()
        .pax(&[("SCHILY.xattr.security.capability", &capability)])
        .head(&Head {
            name: b"capable",
            mode: 0o644,
            ..Head::default()
        })
        .hardlink("again", "capable")
        .end();
    let stage = Stage::new();
    stage.plain(&layer).unwrap();
    assert!(xattr(&stage, "again", "security.capability").is_some());
}

#[test]
fn one_kind_replaces_another() {
    if !is_root() {
        return;
    }
    let stage = Stage::new();
    let first = Archive::default()
        .dir("a", 0o755)
        .file("a/b/c", b"1")
        .file("f", b"2")
        .symlink("l", "f")
        .end();
    stage.plain(&first).unwrap();
    let second = Archive::default()
        .file("a", b"file")
        .dir("f", 0o700)
        .file("f/x", b"3")
        .dir("l", 0o711)
        .end();
    stage.plain(&second).unwrap();
    assert_eq!(stage.read("a").unwrap(), b"file");
    assert_eq!(stage.read("f/x").unwrap(), b"3");
    assert_eq!(meta(&stage, "l").mode() & 0o7777, 0o711);
    assert!(meta(&stage, "l").is_dir());
    let merged = Archive::default().dir("f", 0o750).file("f/y", b"4").end();
    stage.plain(&merged).unwrap();
    assert_eq!(
        (
            stage.read("f/x").is_some(),
            meta(&stage, "f").mode() & 0o777
        ),
        (true, 0o750)
    );
    let through = Archive::default().file("a/b", b"").end();
    assert!(stage.plain(&through).is_err(), "a file is no folder");
}

#[test]
fn deletions_spare_what_the_layer_brought() {
    if !is_root() {
        return;
    }
    let stage = Stage::new();
    stage
        .plain(
            &Archive::default()
                .file("d/old", b"1")
                .file("d/sub/old", b"2")
                .file("gone", b"3")
                .end(),
        )
        .unwrap();
    let layer = Archive::default()
        .file("d/new", b"4")
        .dir("d/sub", 0o755)
        .file("d/sub/new", b"5")
        .file("d/.wh..wh..opq", b"")
        .file("d/late", b"6")
        .file(".wh.gone", b"")
        .file(".wh.missing", b"")
        .file("d/.wh.new", b"")
        .file(".wh..wh.plnk", b"aufs")
        .end();
    stage.plain(&layer).unwrap();
    for (path, there) in [
        ("d/old", false),
        ("d/sub/old", false),
        ("gone", false),
        ("d/new", true),
        ("d/sub/new", true),
        ("d/late", true),
        (".wh..wh.plnk", false),
        ("d/.wh..wh..opq", false),
    ] {
        assert_eq!(stage.read(path).is_some(), there, "{path}");
    }
}

/// A mixed layer by Python's writer, applied by us and by GNU tar: the trees must be equal.
#[test]
fn same_tree_as_gnu_tar() {
    if !is_root() || Command::new("python3").arg("-c").arg("").status().is_err() {
        eprintln!("SKIPPED: comparing with GNU tar needs root and python3");
        return;
    }
    for format in ["PAX_FORMAT", "GNU_FORMAT", "USTAR_FORMAT"] {
        let stage = Stage::new();
        let archive = stage.folder("work").join("mixed.tar");
        let script = format!("FORMAT='{format}'\nOUT='{}'\n{MIXED}", archive.display());
        assert!(
            Command::new("python3")
                .arg("-c")
                .arg(script)
                .status()
                .unwrap()
                .success()
        );
        let bytes = std::fs::read(&archive).unwrap();
        stage.plain(&super::archive::gzip(&bytes)).unwrap();
        let theirs = stage.folder("theirs");
        let status = Command::new("tar")
            .args(["--numeric-owner", "-p", "--xattrs", "--same-owner", "-xf"])
            .arg(&archive)
            .arg("-C")
            .arg(&theirs)
            .status();
        assert!(status.unwrap().success());
        let (ours, theirs) = (list(&stage.target()), list(&theirs));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs, "{format}");
        }
        assert_eq!(ours.len(), theirs.len(), "{format}");
    }
}

/// Sparse files of every version GNU tar writes, unpacked with their holes.
#[test]
fn sparse_files_keep_their_holes() {
    if !is_root() {
        return;
    }
    for version in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let stage = Stage::new();
        let work = stage.folder("work");
        let file = std::fs::File::create(work.join("sparse")).unwrap();
        for at in [0u64, 1 << 20, 5 << 20, 6 << 20, 7 << 20, 20 << 20, 33 << 20] {
            std::os::unix::fs::FileExt::write_all_at(&file, &[7u8; 5000], at).unwrap();
        }
        file.set_len(64 << 20).unwrap();
        std::fs::File::create(work.join("hole"))
            .unwrap()
            .set_len(1 << 20)
            .unwrap();
        std::fs::write(work.join("after"), b"after").unwrap();
        let archive = work.join("a.tar");
        let made = Command::new("tar")
            .args(version)
            .arg("-Scf")
            .arg(&archive)
            .arg("-C")
            .arg(&work)
            .args(["sparse", "hole", "after"])
            .status();
        assert!(made.unwrap().success());
        let bytes = std::fs::read(&archive).unwrap();
        assert!(bytes.len() < 1 << 20, "the archive is sparse");
        stage
            .plain(&bytes)
            .unwrap_or_else(|error| panic!("{version:?}: {error}"));
        for name in ["sparse", "hole", "after"] {
            assert!(
                stage.read(name).unwrap() == std::fs::read(work.join(name)).unwrap(),
                "{version:?} {name}"
            );
        }
        assert!(
            meta(&stage, "sparse").blocks() * 512 < 1 << 20,
            "{version:?}"
        );
    }
}

fn list(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_file() {
                format!(
                    "{:?} links {}",
                    Sha256::digest(std::fs::read(&path).unwrap()),
                    meta.nlink()
                )
            } else {
                format!("{:?} rdev {}", std::fs::read_link(&path).ok(), meta.rdev())
            };
            if meta.is_dir() {
                todo.push(path.clone());
            }
            found.push(format!(
                "{:?} {:o} {}:{} {} {content}",
                path.strip_prefix(root).unwrap(),
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.mtime(),
            ));
        }
    }
    found.sort();
    found
}

const MIXED: &str = r#"
import tarfile, io
t = tarfile.open(OUT, "w", format=getattr(tarfile, FORMAT))
def add(name, type=tarfile.REGTYPE, data=b"", **kw):
    i = tarfile.TarInfo(name); i.type = type; i.size = len(data); i.mtime = 1500000000
    i.mode = 0o755 if type == tarfile.DIRTYPE else 0o644
    for k, v in kw.items(): setattr(i, k, v)
    t.addfile(i, io.BytesIO(data))
add("usr", tarfile.DIRTYPE)
add("usr/bin", tarfile.DIRTYPE, mode=0o711)
add("usr/bin/su", data=b"\x7fELF" * 300, mode=0o4755)
add("usr/bin/sg", data=b"x", mode=0o2755, gid=42)
add("usr/bin/su2", tarfile.LNKTYPE, linkname="usr/bin/su", mode=0o4755)
add("tmp", tarfile.DIRTYPE, mode=0o1777)
add("bin", tarfile.SYMTYPE, linkname="usr/bin")
add("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
add("blk", tarfile.BLKTYPE, devmajor=7, devminor=1, mode=0o660)
add("pipe", tarfile.FIFOTYPE)
add("empty")
add("big", data=bytes(range(256)) * 5000)
add("owner", data=b"o", uid=65534, gid=100000)
long = "dir/" + "n" * 90 + "/" + "m" * 60
add("dir", tarfile.DIRTYPE); add("dir/" + "n" * 90, tarfile.DIRTYPE); add(long, data=b"long")
if FORMAT != "USTAR_FORMAT":
    deep = "/".join(["d" * 50] * 10)
    for n in range(1, 11): add("/".join(["d" * 50] * n), tarfile.DIRTYPE)
    add(deep + "/f", data=b"deep")
    add("longlink", tarfile.SYMTYPE, linkname="t" * 300)
    add("umlaut-\u00e4\u00f6", data=b"u")
    add("bigowner", data=b"o", uid=3000000, gid=2999999)
t.close()
"#;
