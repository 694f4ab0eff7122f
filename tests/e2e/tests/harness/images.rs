//! Images made from nothing but busybox, as OCI layouts.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::Run;

/// An image as an OCI layout with one index entry, `latest`.
pub(crate) struct Image {
    folder: TempDir,
}

impl Image {
    /// The layout's folder.
    pub(crate) fn layout(&self) -> PathBuf {
        self.folder.path().join("layout")
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let hex: String = Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let blobs = self.layout().join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("the blobs' folder");
        fs::write(blobs.join(&hex), bytes).expect("a blob");
        json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len()})
    }
}

/// An image with busybox in one layer and a file `/layer2` in another, for each platform's architecture.
pub(crate) fn busybox(architectures: &[&str]) -> Image {
    let folder = tempfile::Builder::new()
        .prefix("hoist-image-")
        .tempdir()
        .expect("a temporary folder");
    let image = Image { folder };
    let manifests: Vec<Value> = architectures
        .iter()
        .map(|architecture| manifest(&image, architecture))
        .collect();
    let entry = if manifests.len() == 1 {
        manifests[0].clone()
    } else {
        let kind = "application/vnd.oci.image.index.v1+json";
        let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests});
        image.blob(kind, index.to_string().as_bytes())
    };
    let mut entry = entry;
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(image.layout().join("index.json"), index.to_string()).expect("the index");
    fs::write(
        image.layout().join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .expect("the layout");
    image
}

fn manifest(image: &Image, architecture: &str) -> Value {
    let mut layers = Vec::new();
    let mut diff_ids = Vec::new();
    let first = image.folder.path().join(format!("{architecture}-1"));
    busybox_root(&first);
    fs::write(first.join("etc/architecture"), architecture).expect("a file");
    let second = image.folder.path().join(format!("{architecture}-2"));
    fs::create_dir_all(&second).expect("a folder");
    fs::write(second.join("layer2"), "second layer\n").expect("a file");
    for root in [first, second] {
        let (compressed, diff_id) = layer(&root);
        layers.push(image.blob("application/vnd.oci.image.layer.v1.tar+gzip", &compressed));
        diff_ids.push(diff_id);
    }
    let config = json!({
        "created": "2024-01-01T00:00:00Z", "architecture": architecture, "os": "linux",
        "config": {"Env": ["PATH=/bin:/sbin:/usr/bin", "FROM_IMAGE=yes"], "Cmd": ["sh"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": "busybox"}, {"created_by": "layer2"}],
    });
    let config = image.blob(
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    );
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
    let mut entry = image.blob(kind, manifest.to_string().as_bytes());
    entry["platform"] = json!({"architecture": architecture, "os": "linux"});
    entry
}

/// Fills a folder with busybox and the files that a user database needs.
fn busybox_root(root: &Path) {
    for folder in [
        "bin",
        "etc",
        "tmp",
        "proc",
        "sys",
        "dev",
        "root",
        "home/tester",
    ] {
        fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox (package busybox-static)");
    let applets = Run::of(Command::new("/bin/busybox").arg("--list")).ok();
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).expect("a link");
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\ntester:x:1000:1000::/home/tester:/bin/sh\n",
    )
    .expect("passwd");
    fs::write(
        root.join("etc/group"),
        "root:x:0:\ntester:x:1000:\nextra:x:2000:tester\n",
    )
    .expect("group");
}

/// A layer of a folder: gzip bytes, and the digest of the tar.
fn layer(root: &Path) -> (Vec<u8>, String) {
    let tar = root.with_extension("tar");
    let flags = [
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mtime=2024-01-01",
    ];
    Run::of(
        Command::new("tar")
            .args(flags)
            .arg("-cf")
            .arg(&tar)
            .arg("-C")
            .arg(root)
            .arg("."),
    )
    .ok();
    let bytes = fs::read(&tar).expect("the tar");
    let hex: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Run::of(Command::new("gzip").args(["-n", "-1"]).arg(&tar)).ok();
    (
        fs::read(tar.with_extension("tar.gz")).expect("the layer"),
        format!("sha256:{hex}"),
    )
}
