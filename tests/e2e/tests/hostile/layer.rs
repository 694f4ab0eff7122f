//! Layers that try to leave their root, are broken, or grow without end.

use std::fs;
use std::process::Command;

use registry::testing::{Entry, Image, Layer};

use super::Scene;
use crate::harness::{Run, root};

fn folder(path: &str) -> Entry {
    Entry::Folder(path.into(), 0o755)
}

fn file(path: &str) -> Entry {
    Entry::File(path.into(), 0o644, b"owned\n".to_vec())
}

fn symlink(path: &str, target: &str) -> Entry {
    Entry::Symlink(path.into(), target.into())
}

fn hardlink(path: &str, target: &str) -> Entry {
    Entry::Hardlink(path.into(), target.into())
}

fn push(scene: &Scene, layers: Vec<Layer>) {
    let image = Image {
        layers,
        ..Image::default()
    };
    scene.registry.push_image("layer", "1", &image);
}

/// The paths below the snapshots with this name.
fn found(scene: &Scene, name: &str) -> Vec<String> {
    let snapshots = scene
        .daemon
        .path("root/io.containerd.snapshotter.v1.overlayfs/snapshots");
    let mut find = Command::new("find");
    let paths = Run::of(
        find.arg(&snapshots)
            .args(["-name", name, "-printf", "%P\n"]),
    )
    .ok();
    paths.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_stay_in_their_root() {
    if !root("layers_stay_in_their_root") {
        return;
    }
    let scene = Scene::new().await;
    let outside = scene.daemon.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("victim"), "untouched\n").unwrap();
    let outside = outside.to_str().unwrap().to_owned();
    let up = "../".repeat(20);
    let climbing = format!("{up}{}/escaped", &outside[1..]);
    let absolute = format!("{outside}/escaped");
    let relative_link = format!("{up}{}", &outside[1..]);
    let cases: Vec<Vec<Entry>> = vec![
        vec![file(&climbing)],
        vec![file(&absolute)],
        vec![symlink("link", &outside), file("link/escaped")],
        vec![symlink("link", &relative_link), file("link/escaped")],
        vec![
            symlink("escaped", &format!("{outside}/victim")),
            file("escaped"),
        ],
        vec![
            folder("d"),
            symlink("d/link", &relative_link),
            folder("d/link/escaped"),
        ],
        vec![
            symlink("link", &outside),
            file("link/.wh.victim"),
            file("escaped"),
        ],
        vec![
            symlink("link", &outside),
            file("link/.wh..wh..opq"),
            file("escaped"),
        ],
    ];
    for (number, entries) in cases.into_iter().enumerate() {
        push(&scene, vec![Layer::gzip(&entries)]);
        let mut pull = scene.pull("layer:1");
        let status = pull.status();
        // Refused, or applied below the layer's own root: upstream does the latter.
        let inside = found(&scene, "escaped");
        println!(
            "case {number}: status {status}, {inside:?} {}",
            pull.output().trim()
        );
        assert_eq!(
            status == 0,
            !inside.is_empty(),
            "case {number}: {}",
            pull.output()
        );
        let left: Vec<_> = fs::read_dir(&outside).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "case {number}: {left:?}");
        let victim = fs::read_to_string(format!("{outside}/victim")).unwrap();
        assert_eq!(victim, "untouched\n", "case {number}");
        scene
            .daemon
            .hoist(&format!("rmi {}", scene.registry.name("layer:1")));
        scene.gone(&format!("case {number}"));
    }
    scene.daemon.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_links_and_broken_layers_are_refused() {
    if !root("bad_links_and_broken_layers_are_refused") {
        return;
    }
    let scene = Scene::new().await;
    let secret = scene.daemon.path("secret");
    fs::write(&secret, "secret\n").unwrap();
    let secret = secret.to_str().unwrap().to_owned();
    let climbing = format!("{}{}", "../".repeat(20), &secret[1..]);
    for target in [secret.as_str(), &climbing, "nothing"] {
        push(&scene, vec![Layer::gzip(&[hardlink("stolen", target)])]);
        scene.refuses("layer:1", &["stolen", "nothing"]);
        push(
            &scene,
            vec![Layer::gzip(&[
                symlink("way", "/"),
                hardlink("stolen", &format!("way/{target}")),
            ])],
        );
        scene.refuses("layer:1", &["stolen"]);
    }
    let links = std::os::unix::fs::MetadataExt::nlink(&fs::metadata(&secret).unwrap());
    assert_eq!(links, 1);

    let mut cut = Layer::file(
        "big",
        &(0..200_000_u32)
            .flat_map(u32::to_le_bytes)
            .collect::<Vec<_>>(),
    );
    cut.blob.truncate(cut.blob.len() / 2);
    push(&scene, vec![cut]);
    scene.refuses("layer:1", &["early", "damaged"]);
    let mut noise = Layer::file("x", b"x");
    noise.blob = b"this is neither gzip nor tar".to_vec();
    push(&scene, vec![noise]);
    scene.refuses("layer:1", &["damaged", "invalid layer", "early"]);
    let mut other = Layer::file("x", b"x");
    other.tar = Layer::file("y", b"y").tar;
    push(&scene, vec![other]);
    scene.refuses("layer:1", &["diff id"]);
    scene.daemon.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_may_change_between_layers() {
    if !root("kinds_may_change_between_layers") {
        return;
    }
    let scene = Scene::new().await;
    let name = scene.registry.name("layer:1");
    push(
        &scene,
        vec![
            Layer::gzip(&[folder("a"), file("a/inner"), file("b")]),
            Layer::gzip(&[file("a"), folder("b"), file("b/inner")]),
        ],
    );
    let mut pull = scene.pull("layer:1");
    assert_eq!(pull.status(), 0, "{}", pull.output());
    let chain = scene.daemon.ctr("snapshot ls").ok();
    let rows = crate::harness::rows(&chain);
    let top = rows.iter().find(|row| row.len() == 3).unwrap()[0];
    scene
        .daemon
        .ctr(&format!("snapshot prepare seen {top}"))
        .ok();
    let mount = scene.daemon.path("mount");
    fs::create_dir(&mount).unwrap();
    let script = format!(
        "{} snapshot mounts {} seen | sh && stat -c '%F' a b b/inner && ls a/inner",
        scene.daemon.ctr_line(),
        mount.display()
    )
    .replace("stat", &format!("cd {} && stat", mount.display()));
    let shown = Run::of(Command::new("sh").args(["-c", &script]));
    Run::of(Command::new("umount").arg(&mount)).ok();
    assert_eq!(
        shown.stdout, "regular file\ndirectory\nregular file\n",
        "{shown:?}"
    );
    assert!(shown.stderr.contains("Not a directory"), "{shown:?}");
    scene.daemon.ctr("snapshot rm seen").ok();
    scene.daemon.hoist(&format!("rmi {name}")).ok();
    scene.daemon.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gigabyte_of_zeros_is_refused() {
    if !root("a_gigabyte_of_zeros_is_refused") {
        return;
    }
    let scene = Scene::new().await;
    let made = scene.daemon.path("made");
    fs::create_dir(&made).unwrap();
    let script = "truncate -s 1G zeros && tar -cf - zeros | gzip -1 > layer && rm zeros && gzip -9 < layer > again; ls -l";
    Run::of(Command::new("sh").args(["-c", script]).current_dir(&made)).ok();
    let mut bomb = Layer::file("x", b"x");
    bomb.blob = fs::read(made.join("layer")).unwrap();
    assert!(bomb.blob.len() < 6 << 20);
    push(&scene, vec![bomb]);
    scene.refuses("layer:1", &["exceeds the limit"]);
    scene.daemon.finish();
}
