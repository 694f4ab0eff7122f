//! Small images, made in memory.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use model::{Algorithm, Descriptor, Digest};
use serde_json::{Value, json};

use super::Registry;
use crate::Hasher;

const BLOCK: usize = 512;

/// One entry of a layer.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A folder with its mode.
    Folder(String, u32),
    /// A file with its mode and content.
    File(String, u32, Vec<u8>),
    /// A symbolic link and where it points to.
    Symlink(String, String),
    /// A hard link and the path that it shares.
    Hardlink(String, String),
}

/// A layer as bytes, plain and as it is pushed.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The tar.
    pub tar: Vec<u8>,
    /// Its media type when pushed.
    pub media_type: String,
    /// What is pushed.
    pub blob: Vec<u8>,
}

/// An image to push.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// Bottom first.
    pub layers: Vec<Layer>,
    /// The `config` object of the image's configuration.
    pub config: Option<Value>,
    /// The architecture; empty for this host's.
    pub architecture: String,
}

/// What was pushed.
#[derive(Debug, Clone)]
pub struct PushedImage {
    /// The manifest.
    pub manifest: Descriptor,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
    /// The layers' diff ids.
    pub diff_ids: Vec<Digest>,
}

impl Layer {
    /// An uncompressed layer.
    pub fn tar(entries: &[Entry]) -> Self {
        let tar = tar(entries);
        Self {
            blob: tar.clone(),
            tar,
            media_type: "application/vnd.oci.image.layer.v1.tar".into(),
        }
    }

    /// A gzip layer.
    pub fn gzip(entries: &[Entry]) -> Self {
        let tar = tar(entries);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&tar).unwrap();
        Self {
            blob: encoder.finish().unwrap(),
            tar,
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into(),
        }
    }

    /// A gzip layer with one file.
    pub fn file(path: &str, content: &[u8]) -> Self {
        Self::gzip(&[Entry::File(path.into(), 0o644, content.to_vec())])
    }
}

impl Registry {
    /// Pushes layers, configuration and manifest, and tags the manifest unless `tag` is empty.
    pub fn push_image(&self, repository: &str, tag: &str, image: &Image) -> PushedImage {
        let architecture = match image.architecture.as_str() {
            "" => model::Platform::host().architecture,
            other => other.to_owned(),
        };
        let diff_ids: Vec<Digest> = image
            .layers
            .iter()
            .map(|layer| Hasher::digest(Algorithm::Sha256, &layer.tar))
            .collect();
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": image.config.clone().unwrap_or_else(|| json!({})),
            "rootfs": {
                "type": "layers",
                "diff_ids": diff_ids.iter().map(Digest::as_str).collect::<Vec<_>>(),
            },
        });
        let config = self.push_blob(
            repository,
            "application/vnd.oci.image.config.v1+json",
            config.to_string().into_bytes(),
        );
        let layers: Vec<Descriptor> = image
            .layers
            .iter()
            .map(|layer| self.push_blob(repository, &layer.media_type, layer.blob.clone()))
            .collect();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": shown(&config),
            "layers": layers.iter().map(shown).collect::<Vec<_>>(),
        });
        let manifest = self.push_manifest(
            repository,
            tag,
            media_type,
            manifest.to_string().into_bytes(),
        );
        PushedImage {
            manifest,
            config,
            layers,
            diff_ids,
        }
    }

    /// Pushes an index over manifests; each comes with its platform as `os/architecture`.
    pub fn push_index(
        &self,
        repository: &str,
        tag: &str,
        manifests: &[(&str, &Descriptor)],
    ) -> Descriptor {
        let media_type = "application/vnd.oci.image.index.v1+json";
        let listed: Vec<Value> = manifests
            .iter()
            .map(|(platform, descriptor)| {
                let mut entry = shown(descriptor);
                if let Some((os, architecture)) = platform.split_once('/') {
                    entry["platform"] = json!({ "os": os, "architecture": architecture });
                }
                entry
            })
            .collect();
        let index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": listed });
        self.push_manifest(repository, tag, media_type, index.to_string().into_bytes())
    }
}

fn shown(descriptor: &Descriptor) -> Value {
    json!({
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest.as_str(),
        "size": descriptor.size,
    })
}

fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut tar = Vec::new();
    for entry in entries {
        match entry {
            Entry::Folder(path, mode) => header(&mut tar, path, *mode, 0, b'5', ""),
            Entry::File(path, mode, content) => {
                header(&mut tar, path, *mode, content.len(), b'0', "");
                tar.extend_from_slice(content);
                tar.resize(tar.len().next_multiple_of(BLOCK), 0);
            }
            Entry::Symlink(path, target) => header(&mut tar, path, 0o777, 0, b'2', target),
            Entry::Hardlink(path, target) => header(&mut tar, path, 0o644, 0, b'1', target),
        }
    }
    tar.resize(tar.len() + 2 * BLOCK, 0);
    tar
}

fn header(tar: &mut Vec<u8>, path: &str, mode: u32, size: usize, kind: u8, link: &str) {
    assert!(
        path.len() <= 100 && link.len() <= 100,
        "the test's tar writer knows short names only"
    );
    let mut block = [0_u8; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, path.as_bytes());
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{size:011o}").as_bytes());
    put(136, b"14000000000");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend_from_slice(&block);
}
