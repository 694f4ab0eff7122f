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
    fn empty() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("hoist-image-")
            .tempdir()
            .expect("a temporary folder");
        Self { folder }
    }

    /// The layout's folder.
    pub(crate) fn layout(&self) -> PathBuf {
        self.folder.path().join("layout")
    }

    /// The layout as one tar, for an import.
    pub(crate) fn archive(&self) -> PathBuf {
        let archive = self.folder.path().join("layout.tar");
        let mut tar = Command::new("tar");
        tar.arg("-cf").arg(&archive).arg("-C").arg(self.layout());
        Run::of(tar.arg(".")).ok();
        archive
    }

    fn manifest(&self, architecture: &str, roots: &[PathBuf], packing: Packing) -> Value {
        let kind = match packing {
            Packing::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Packing::Plain => "application/vnd.oci.image.layer.v1.tar",
        };
        let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
        for root in roots {
            let (bytes, diff_id) = layer(root, packing);
            layers.push(self.blob(kind, &bytes));
            diff_ids.push(diff_id);
        }
        let config = json!({
            "created": "2024-01-01T00:00:00Z", "architecture": architecture, "os": "linux",
            "config": {"Env": ["PATH=/bin:/sbin:/usr/bin", "FROM_IMAGE=yes"], "Cmd": ["sh"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": roots.iter().map(|root| json!({"created_by": root.file_name().map(|name| name.to_string_lossy())})).collect::<Vec<_>>(),
        });
        let config = self.blob(
            "application/vnd.oci.image.config.v1+json",
            config.to_string().as_bytes(),
        );
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
        let mut entry = self.blob(kind, manifest.to_string().as_bytes());
        entry["platform"] = json!({"architecture": architecture, "os": "linux"});
        entry
    }

    /// Names the one manifest, or an index over several, `latest`.
    fn index(&self, manifests: &[Value]) {
        let mut entry = if let [manifest] = manifests {
            manifest.clone()
        } else {
            let kind = "application/vnd.oci.image.index.v1+json";
            let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests});
            self.blob(kind, index.to_string().as_bytes())
        };
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        fs::write(self.layout().join("index.json"), index.to_string()).expect("the index");
        fs::write(
            self.layout().join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .expect("the layout");
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = sha256(bytes);
        let blobs = self.layout().join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("the blobs' folder");
        fs::write(blobs.join(&digest["sha256:".len()..]), bytes).expect("a blob");
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }
}

/// How layers are stored in a layout; skopeo compresses plain ones on the way to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// gzip.
    Gzip,
    /// A tar as it is.
    Plain,
}

/// An image with busybox in one layer and a file `/layer2` in another, for each platform's architecture.
pub(crate) fn busybox(architectures: &[&str]) -> Image {
    busybox_packed(architectures, Packing::Gzip)
}

/// The same with layers stored as asked.
pub(crate) fn busybox_packed(architectures: &[&str], packing: Packing) -> Image {
    let image = Image::empty();
    let manifests: Vec<Value> = architectures
        .iter()
        .map(|architecture| {
            let first = image.folder.path().join(format!("{architecture}-1"));
            busybox_root(&first);
            fs::write(first.join("etc/architecture"), architecture).expect("a file");
            let second = image.folder.path().join(format!("{architecture}-2"));
            fs::create_dir_all(&second).expect("a folder");
            fs::write(second.join("layer2"), "second layer\n").expect("a file");
            image.manifest(architecture, &[first, second], packing)
        })
        .collect();
    image.index(&manifests);
    image
}

/// An image of layers with one file of random bytes each, which take their time to be pulled.
pub(crate) fn random(seed: u64, layers: usize, bytes: usize) -> Image {
    let image = Image::empty();
    let mut random = super::Random::new(seed);
    let roots: Vec<PathBuf> = (0..layers)
        .map(|number| {
            let root = image.folder.path().join(format!("random-{number}"));
            fs::create_dir_all(&root).expect("a folder");
            let content: Vec<u8> = std::iter::repeat_with(|| random.next().to_le_bytes())
                .flatten()
                .take(bytes)
                .collect();
            fs::write(root.join(format!("file-{number}")), content).expect("a file");
            root
        })
        .collect();
    let manifest = image.manifest(architecture(), &roots, Packing::Gzip);
    image.index(&[manifest]);
    image
}

/// This host's architecture under Go's name.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
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

/// A layer of a folder: its bytes, and the digest of the tar.
fn layer(root: &Path, packing: Packing) -> (Vec<u8>, String) {
    let tar = root.with_extension("tar");
    let flags = [
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mtime=2024-01-01",
    ];
    let mut command = Command::new("tar");
    command.args(flags).arg("-cf").arg(&tar);
    Run::of(command.arg("-C").arg(root).arg(".")).ok();
    let bytes = fs::read(&tar).expect("the tar");
    let diff_id = sha256(&bytes);
    if packing == Packing::Plain {
        return (bytes, diff_id);
    }
    Run::of(Command::new("gzip").args(["-n", "-1"]).arg(&tar)).ok();
    let bytes = fs::read(tar.with_extension("tar.gz")).expect("the layer");
    (bytes, diff_id)
}

/// The digest of bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}
