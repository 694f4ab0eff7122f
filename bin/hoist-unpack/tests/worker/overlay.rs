//! Layers above each other, seen through real overlay mounts.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use diff::{Limits, Target};
use model::Mount;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::archive::{Archive, Head};
use super::stage::{Stage, apply, is_root, unpacker};

/// Layers of one image, lowest first, each applied above those before it.
fn stack(stage: &Stage, layers: &[Vec<u8>], extra: &[&str]) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        let upper = stage.folder(&format!("layer{at}/fs"));
        let work = stage.folder(&format!("layer{at}/work"));
        let mount = match at {
            0 => Mount {
                kind: "bind".into(),
                source: upper.display().to_string(),
                target: String::new(),
                options: vec!["rw".into(), "rbind".into()],
            },
            _ => Mount {
                kind: "overlay".into(),
                source: "overlay".into(),
                target: String::new(),
                options: [
                    format!("workdir={}", work.display()),
                    format!("upperdir={}", upper.display()),
                    format!("lowerdir={}", joined(&folders)),
                ]
                .into_iter()
                .chain(extra.iter().map(|option| (*option).to_owned()))
                .collect(),
            },
        };
        let target = Target::from_mounts(&[mount]).unwrap();
        let session = unpacker().session().unwrap();
        apply(&session, target, layer, Limits::default()).unwrap();
        folders.push(upper);
    }
    folders
}

fn joined(folders: &[PathBuf]) -> String {
    let nearest_first: Vec<_> = folders
        .iter()
        .rev()
        .map(|path| path.display().to_string())
        .collect();
    nearest_first.join(":")
}

/// The merged view, unmounted when dropped.
struct Merged(PathBuf);

impl Merged {
    fn new(stage: &Stage, folders: &[PathBuf], extra: &str) -> Self {
        let at = stage.folder("merged");
        let options = format!("lowerdir={}{extra}", joined(folders));
        let options = std::ffi::CString::new(options).unwrap();
        mount(
            "overlay",
            &at,
            "overlay",
            MountFlags::RDONLY,
            options.as_c_str(),
        )
        .unwrap();
        Self(at)
    }

    fn has(&self, path: &str) -> bool {
        std::fs::symlink_metadata(self.0.join(path)).is_ok()
    }
}

impl Drop for Merged {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn deletions_hide_what_lies_below() {
    if !is_root() {
        return;
    }
    let base = Archive::default()
        .dir("d", 0o751)
        .file("d/old", b"1")
        .file("d/sub/old", b"2")
        .file("gone", b"3")
        .file("tree/a/b", b"4")
        .file("back/old", b"5")
        .end();
    let top = Archive::default()
        .file("d/before", b"6")
        .file("d/.wh..wh..opq", b"")
        .file("d/after", b"7")
        .head(&Head {
            name: b".wh.gone",
            owner: (3, 4),
            ..Head::default()
        })
        .file(".wh.tree", b"")
        .file(".wh.back", b"")
        .dir("back", 0o755)
        .file("back/new", b"8")
        .end();
    for (extra, view) in [("", ""), ("userxattr", ",userxattr")] {
        let stage = Stage::new();
        let options: &[&str] = if extra.is_empty() { &[] } else { &[extra] };
        let folders = stack(&stage, &[base.clone(), top.clone()], options);
        let whiteout = std::fs::symlink_metadata(folders[1].join("gone")).unwrap();
        assert_eq!(
            (whiteout.mode() & 0o170_000, whiteout.rdev(), whiteout.uid()),
            (0o020_000, 0, 3)
        );
        let merged = Merged::new(&stage, &folders, view);
        for (path, there) in [
            ("d/old", false),
            ("d/sub", false),
            ("gone", false),
            ("tree", false),
            ("d/before", true),
            ("d/after", true),
            ("back/new", true),
            ("back/old", false),
        ] {
            assert_eq!(merged.has(path), there, "{extra} {path}");
        }
        let opaque = if extra.is_empty() {
            "trusted.overlay.opaque"
        } else {
            "user.overlay.opaque"
        };
        let mut value = [0u8; 8];
        assert_eq!(
            rustix::fs::lgetxattr(folders[1].join("d"), opaque, &mut value[..]).unwrap(),
            1
        );
        // No entry names the folder: it looks like the one below.
        assert_eq!(
            std::fs::metadata(folders[1].join("d")).unwrap().mode() & 0o7777,
            0o751
        );
    }
}

#[test]
fn a_hard_link_reaches_into_the_layers_below() {
    if !is_root() {
        return;
    }
    let base = Archive::default()
        .dir("lib", 0o710)
        .pax(&[("SCHILY.xattr.user.note", b"kept")])
        .head(&Head {
            name: b"lib/one",
            size: 3,
            owner: (7, 8),
            mode: 0o640,
            ..Head::default()
        })
        .body(b"low")
        .file("lib/hidden", b"x")
        .symlink("usrlib", "lib")
        .end();
    let middle = Archive::default()
        .file("other", b"")
        .file("lib/.wh.hidden", b"")
        .end();
    let link = Head {
        name: b"bin/two",
        link: b"lib/one",
        flag: b'1',
        owner: (7, 8),
        mode: 0o640,
        ..Head::default()
    };
    let top = Archive::default().head(&link).end();
    let stage = Stage::new();
    let folders = stack(&stage, &[base.clone(), middle.clone(), top], &[]);
    let up = std::fs::metadata(folders[2].join("lib/one")).unwrap();
    assert_eq!(
        (up.uid(), up.gid(), up.mode() & 0o7777, up.nlink()),
        (7, 8, 0o640, 2)
    );
    assert_eq!(std::fs::read(folders[2].join("bin/two")).unwrap(), b"low");
    let mut note = [0u8; 8];
    assert_eq!(
        rustix::fs::lgetxattr(folders[2].join("bin/two"), "user.note", &mut note[..]).unwrap(),
        4
    );
    assert_eq!(
        std::fs::metadata(folders[2].join("lib")).unwrap().mode() & 0o7777,
        0o710
    );
    // Unchanged below: the copy is a new file.
    assert_eq!(
        std::fs::metadata(folders[0].join("lib/one"))
            .unwrap()
            .nlink(),
        1
    );
    let stage = Stage::new();
    let folders = stack(&stage, &[base, middle], &[]);
    let target = Target::Overlay {
        upper: super::stage::open(&stage.folder("upper")),
        parents: folders
            .iter()
            .rev()
            .map(|path| super::stage::open(path))
            .collect(),
        userxattr: false,
    };
    let hidden = Archive::default().hardlink("x", "lib/hidden").end();
    let outcome = apply(
        &unpacker().session().unwrap(),
        target,
        &hidden,
        Limits::default(),
    );
    assert!(outcome.is_err(), "a deleted file can't be linked");
}

#[test]
fn many_layers_below_are_handed_over() {
    if !is_root() {
        return;
    }
    let stage = Stage::new();
    let below = stage.folder("below");
    std::fs::write(below.join("f"), b"deep").unwrap();
    let empty = stage.folder("empty");
    let mut parents: Vec<_> = (0..300).map(|_| super::stage::open(&empty)).collect();
    parents.push(super::stage::open(&below));
    let target = Target::Overlay {
        upper: super::stage::open(&stage.target()),
        parents,
        userxattr: false,
    };
    let layer = Archive::default().hardlink("g", "f").end();
    apply(
        &unpacker().session().unwrap(),
        target,
        &layer,
        Limits::default(),
    )
    .unwrap();
    assert_eq!(stage.read("g").unwrap(), b"deep");
}

#[test]
fn a_layer_above_a_planted_link_stays_inside() {
    if !is_root() {
        return;
    }
    let stage = Stage::new();
    let evil = Archive::default().symlink("d", &stage.outside()).end();
    let use_it = Archive::default()
        .file("d/planted", b"p")
        .file("d/.wh.secret", b"")
        .hardlink("stolen", "d/secret")
        .end();
    let lower = stage.folder("lower");
    let target = |upper: &Path, parents: Vec<_>| Target::Overlay {
        upper: super::stage::open(upper),
        parents,
        userxattr: false,
    };
    let session = unpacker().session().unwrap();
    apply(
        &session,
        target(&lower, Vec::new()),
        &evil,
        Limits::default(),
    )
    .unwrap();
    let parents = vec![super::stage::open(&lower)];
    let outcome = apply(
        &session,
        target(&stage.target(), parents),
        &use_it,
        Limits::default(),
    );
    assert!(outcome.is_err());
    stage.assert_untouched();
    assert!(stage.read("stolen").is_none());
}
