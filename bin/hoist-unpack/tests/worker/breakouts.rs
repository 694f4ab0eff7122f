//! Layers that try to leave their target. Each is applied in one piece and, entry by entry, as a layer of its own, so
//! that what an earlier layer planted can't help a later one either.

use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};

use super::archive::{Archive, Head, gzip};
use super::stage::{Stage, is_root};

/// Applies a layer and checks that the outside is untouched; whether it is refused is up to the case.
fn contained(layer: &[u8], prepare: impl Fn(&Stage)) -> (Stage, bool) {
    let stage = Stage::new();
    prepare(&stage);
    let accepted = match stage.plain(layer) {
        Ok(_) => true,
        Err(error) => {
            assert!(!matches!(error, diff::Error::Died { .. }), "{error}");
            false
        }
    };
    stage.assert_untouched();
    (stage, accepted)
}

/// Archives by name; `OUT` stands for the sentinel tree.
fn escapes(out: &str) -> Vec<(&'static str, Vec<Archive>)> {
    let new = Archive::default;
    let up = format!("../../../../../../../../..{out}");
    vec![
        (
            "CVE-2014-6407 link to the root, then below it",
            vec![
                new().symlink("x", "/"),
                new().file(&format!("x{out}/planted"), b"p"),
            ],
        ),
        (
            "CVE-2014-9356 absolute link to a folder",
            vec![
                new().symlink("d", out),
                new().file("d/planted", b"p"),
                new().file("d/folder/file", b"p"),
            ],
        ),
        (
            "CVE-2026-46703 escape link",
            vec![new().symlink("escape", out), new().file("escape/x", b"p")],
        ),
        (
            "relative link",
            vec![new().symlink("d", &up), new().file("d/planted", b"p")],
        ),
        (
            "CVE-2021-29136 root as a link",
            vec![
                new().symlink("./", out),
                new().symlink(".", out),
                new().symlink("/", out),
                new().symlink("..", out),
                new().file("planted", b"p"),
            ],
        ),
        (
            "CVE-2021-32760 mode through a link",
            vec![
                new().symlink("s", &format!("{out}/secret")),
                new().hardlink("s2", "s"),
                new().head(&Head {
                    name: b"s",
                    mode: 0o777,
                    ..Head::default()
                }),
            ],
        ),
        (
            "hard link to a link outside, then its mode",
            vec![
                new().symlink("l", &format!("{out}/secret")),
                new().head(&Head {
                    name: b"sketchy",
                    link: b"l",
                    flag: b'1',
                    mode: 0o777,
                    ..Head::default()
                }),
            ],
        ),
        (
            "CVE-2026-33056 folder over a link",
            vec![
                new().symlink("d", out),
                new().dir("d", 0o777),
                new().dir("d/folder", 0o777),
            ],
        ),
        (
            "CVE-2018-20990 hard link outside, then content",
            vec![
                new().hardlink("h", &format!("{out}/secret")),
                new().file("h", b"p"),
            ],
        ),
        (
            "hard link with ..",
            vec![
                new().hardlink("h", &up),
                new().hardlink("i", "../outside/secret"),
                new().file("i", b"p"),
            ],
        ),
        (
            "CVE-2026-17106 hard link through an absolute link",
            vec![
                new().symlink("a", out),
                new().hardlink("h", "a/secret"),
                new().file("h", b"p"),
            ],
        ),
        (
            "CVE-2026-17106 whiteout through a link",
            vec![
                new().symlink("a", out),
                new().file("a/.wh.secret", b""),
                new().file("a/.wh.folder", b""),
                new().file("a/.wh..wh..opq", b""),
            ],
        ),
        (
            "CVE-2021-38511 link to .. and a folder",
            vec![new().symlink("u", ".."), new().dir("u/made", 0o777)],
        ),
        (
            "dots in names",
            vec![
                new().file("../planted", b"p"),
                new().file("a/../../planted", b"p"),
                new().file(&format!("{out}/planted"), b"p"),
                new().file("../outside/secret", b"p"),
            ],
        ),
        (
            "CVE-2018-1002207 links in a row",
            vec![
                new().symlink("a", "b").symlink("b", "c").symlink("c", ".."),
                new().file("a/outside/planted", b"p"),
            ],
        ),
        (
            "whiteouts of dots",
            vec![
                new().file(".wh...", b""),
                new().file(".wh..", b""),
                new().file(".wh.", b""),
            ],
        ),
        (
            "whiteout with a slash",
            vec![new().file(".wh.x/../../outside/secret", b"")],
        ),
        (
            "device where a link stands",
            vec![
                new().symlink("n", &format!("{out}/planted")),
                new().device("n", b'3', (1, 3)),
                new().device("n", b'6', (0, 0)),
            ],
        ),
        (
            "file over folder over link",
            vec![
                new()
                    .dir("foo", 0o755)
                    .dir("foo/tmp", 0o755)
                    .file("foo/tmp/x", b"1"),
                new().symlink("foo", out),
                new().file("foo/planted", b"2"),
                new().dir("foo", 0o755).file("foo/tmp/x", b"3"),
            ],
        ),
    ]
}

#[test]
fn nothing_outside_changes_in_one_layer_or_many() {
    if !is_root() {
        return;
    }
    let count = escapes("").len();
    for at in 0..count {
        let stage = Stage::new();
        let (name, parts) = escapes(&stage.outside()).swap_remove(at);
        for part in &parts {
            let outcome = stage.plain(&part.clone().end());
            assert!(
                !matches!(outcome, Err(diff::Error::Died { .. })),
                "{name}: {outcome:?}"
            );
            stage.assert_untouched();
        }
        let stage = Stage::new();
        let (name, parts) = escapes(&stage.outside()).swap_remove(at);
        let whole = parts.into_iter().map(Archive::end).map(|mut bytes| {
            bytes.truncate(bytes.len() - 1024);
            bytes
        });
        let mut whole: Vec<u8> = whole.flatten().collect();
        whole.resize(whole.len() + 1024, 0);
        let outcome = stage.plain(&gzip(&whole));
        assert!(
            !matches!(outcome, Err(diff::Error::Died { .. })),
            "{name}: {outcome:?}"
        );
        stage.assert_untouched();
    }
}

#[test]
fn links_of_any_depth_stay_inside() {
    if !is_root() {
        return;
    }
    for depth in [1, 2, 39, 40, 41, 45] {
        let mut archive = Archive::default();
        for at in 0..depth {
            let target = if at + 1 == depth {
                "../../../..".into()
            } else {
                format!("l{}", at + 1)
            };
            archive = archive.symlink(&format!("l{at}"), &target);
        }
        let (stage, accepted) = contained(&archive.file("l0/outside/secret", b"p").end(), |_| ());
        assert_eq!(accepted, depth <= 40, "{depth}");
        assert_eq!(
            stage.read("outside/secret").is_some(),
            depth <= 40,
            "{depth}"
        );
    }
}

#[test]
fn links_resolve_inside_the_target() {
    if !is_root() {
        return;
    }
    let new = || {
        Archive::default()
            .dir("etc", 0o770)
            .file("/etc/passwd", b"inside")
    };
    for (name, archive) in [
        (
            "relative",
            new()
                .dir("b", 0o755)
                .symlink("b/d1", "../../etc")
                .hardlink("b/mine", "/b/d1/passwd"),
        ),
        (
            "down and out",
            new()
                .dir("b", 0o755)
                .dir("downandout", 0o755)
                .symlink("b/d1", "../downandout/../../etc")
                .hardlink("b/mine", "/b/d1/passwd"),
        ),
        (
            "absolute",
            new().symlink("l", "/etc").hardlink("b/mine", "/l/passwd"),
        ),
        (
            "long",
            new()
                .symlink("l", "../../../../../../../etc")
                .hardlink("b/mine", "/l/passwd"),
        ),
        (
            "missing on the way",
            new()
                .symlink("l", "upandout/../../../etc")
                .hardlink("b/mine", "/l/passwd"),
        ),
        (
            "direct relative",
            new().hardlink("b/mine", "../../../../../etc/passwd"),
        ),
        ("direct", new().hardlink("b/mine", "/etc/passwd")),
        (
            "parent as link",
            new()
                .symlink("..", "/etc/")
                .hardlink("b/mine", "/etc/passwd"),
        ),
        (
            "empty name",
            new().symlink("", "/etc/").hardlink("b/mine", "/etc/passwd"),
        ),
    ] {
        let (stage, accepted) = contained(&archive.end(), |_| ());
        assert!(accepted, "{name}");
        let inode = |path: &str| std::fs::metadata(stage.target().join(path)).unwrap().ino();
        assert_eq!(inode("b/mine"), inode("etc/passwd"), "{name}");
    }
}

#[test]
fn whiteouts_act_on_the_link_itself_and_on_what_it_leads_to() {
    if !is_root() {
        return;
    }
    let prepare = |stage: &Stage| {
        let target = stage.target();
        std::fs::create_dir(target.join("etc")).unwrap();
        std::fs::write(target.join("etc/passwd"), b"users").unwrap();
        std::fs::write(target.join("etc/gone"), b"x").unwrap();
        symlink("/etc", target.join("l")).unwrap();
        symlink("/dne", target.join("dead")).unwrap();
    };
    let (stage, accepted) = contained(&Archive::default().file(".wh.l", b"").end(), prepare);
    assert!(accepted && stage.read("etc/passwd").is_some() && stage.read("l/passwd").is_none());
    let (stage, accepted) = contained(&Archive::default().file("l/.wh.gone", b"").end(), prepare);
    assert!(accepted && stage.read("etc/gone").is_none() && stage.read("etc/passwd").is_some());
    let (stage, accepted) = contained(&Archive::default().file("dead/.wh.etc", b"").end(), prepare);
    assert!(accepted && stage.read("etc/passwd").is_some());
    let (stage, accepted) = contained(
        &Archive::default().file("dne/../.wh.etc", b"").end(),
        prepare,
    );
    assert!(accepted && stage.read("etc/passwd").is_none());
    let (stage, accepted) = contained(
        &Archive::default().file(".wh.etc/somefile", b"y").end(),
        prepare,
    );
    assert!(
        accepted && stage.read(".wh.etc/somefile").is_some() && stage.read("etc/passwd").is_some()
    );
    for bad in [".wh...", ".wh..", "etc/.wh..", "etc/.wh...", "etc/.wh."] {
        let (stage, accepted) = contained(&Archive::default().file(bad, b"").end(), prepare);
        assert!(!accepted && stage.read("etc/passwd").is_some(), "{bad}");
    }
}

#[test]
fn device_numbers_out_of_range_are_refused() {
    if !is_root() {
        return;
    }
    for (device, wanted) in [
        ((1, 3), true),
        ((4095, 1_048_575), true),
        ((4096, 0), false),
        ((0, 1_048_576), false),
        ((1 << 32, 3), false),
        ((1, 1 << 32), false),
        ((-1, 0), false),
        ((0, i64::MAX), false),
    ] {
        let (stage, accepted) =
            contained(&Archive::default().device("n", b'3', device).end(), |_| ());
        assert_eq!(accepted, wanted, "{device:?}");
        if wanted {
            let meta = std::fs::symlink_metadata(stage.target().join("n")).unwrap();
            assert!(meta.file_type().is_char_device());
            let made = rustix::fs::makedev(device.0 as u32, device.1 as u32);
            assert_eq!(meta.rdev(), made);
        }
    }
}

#[test]
fn programs_in_a_layer_are_never_run() {
    if !is_root() {
        return;
    }
    for magic in [&[0xfd, b'7', b'z', b'X', b'Z', 0, 0][..], b"BZh91AY"] {
        let stage = Stage::new();
        let error = stage.plain(magic).unwrap_err();
        assert_eq!(
            model::Kinded::kind(&error),
            model::ErrorKind::Unimplemented,
            "{error}"
        );
    }
}
