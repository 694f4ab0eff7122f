//! Image configurations that no container may have.

use registry::testing::{Entry, Image, Layer};
use serde_json::json;

use super::Scene;
use crate::harness::{Disk, root};

#[tokio::test(flavor = "multi_thread")]
async fn impossible_configurations_do_not_run() {
    if !root("impossible_configurations_do_not_run") {
        return;
    }
    let scene = Scene::new().await;
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let layer = Layer::gzip(&[
        Entry::Folder("bin".into(), 0o755),
        Entry::File("bin/busybox".into(), 0o755, busybox),
        Entry::Symlink("bin/sh".into(), "busybox".into()),
        Entry::Folder("proc".into(), 0o755),
        Entry::Folder("sys".into(), 0o755),
        Entry::Folder("dev".into(), 0o755),
    ]);
    for (tag, config, word) in [
        ("uid", json!({"User": "4294967296"}), "4294967296"),
        ("negative", json!({"User": "-1"}), "-1"),
        (
            "env",
            json!({"Env": ["PATH=/bin", "HOME=/root\nroot::0:0"]}),
            "HOME",
        ),
        (
            "name",
            json!({"Env": ["PATH=/bin", "A\nB=c"]}),
            "line break",
        ),
        (
            "label",
            json!({"Labels": {"big": "x".repeat(1 << 20)}}),
            "big",
        ),
    ] {
        let image = Image {
            layers: vec![layer.clone()],
            config: Some(config),
            ..Image::default()
        };
        scene.registry.push_image("config", tag, &image);
        let name = scene.registry.name(&format!("config:{tag}"));
        let run = format!("run --rm --plain-http {name} sh -c");
        let message = scene.daemon.hoist_with(&run, "id -u").fails();
        assert!(message.contains(word), "{tag}: {message}");
        assert!(message.len() < 8192, "{tag}: {} bytes", message.len());
        assert_eq!(scene.daemon.hoist("ps -a -q").ok(), "", "{tag}");
        scene.daemon.hoist(&format!("rmi {name}"));
        scene.daemon.sweep();
        scene.daemon.holds_only(&Disk::default());
    }
    scene.daemon.finish();
}
