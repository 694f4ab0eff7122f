//! The image that is built in: one static program that greets. It is made on the spot and needs no registry.

use std::path::PathBuf;

use anyhow::Context as _;
use client::{Client, Error};
use model::{Labels, Platform};
use proto::containerd::services::diff::v1::ApplyRequest;
use proto::containerd::services::images::v1::{CreateImageRequest, Image};
use proto::containerd::services::leases::v1::DeleteRequest;
use proto::containerd::services::snapshots::v1::{
    CommitSnapshotRequest, PrepareSnapshotRequest, StatSnapshotRequest,
};
use proto::containerd::types::Descriptor;
use serde_json::json;
use spec::image::media_type;

use crate::context::SNAPSHOTTER;
use crate::image::{lease, sha256};

/// The name of the image.
pub(crate) const NAME: &str = "hoist.local/hello:latest";
/// The program, beside our own.
const PROGRAM: &str = "hoist-hello";

/// Brings the image in, unless it is there.
pub(crate) async fn load(client: &Client) -> anyhow::Result<()> {
    if client.image_record(NAME).await?.is_some() {
        return Ok(());
    }
    let lease = lease(client).await?;
    let loaded = write(&client.with_lease(&lease)?).await;
    let ended = client
        .leases()
        .delete(DeleteRequest {
            id: lease,
            sync: false,
        })
        .await;
    loaded?;
    ended.map_err(Error::call("delete a lease"))?;
    Ok(())
}

async fn write(client: &Client) -> anyhow::Result<()> {
    let program = program()?;
    let bytes = std::fs::read(&program).with_context(|| format!("read {}", program.display()))?;
    let layer = layer(&bytes);
    let layer_digest = sha256(&layer).to_string();
    let platform = Platform::host();
    let config = json!({
        "architecture": platform.architecture, "os": platform.os,
        "config": {"Entrypoint": ["/hello"], "Env": ["PATH=/"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
    })
    .to_string();
    let config_digest = sha256(config.as_bytes()).to_string();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::MANIFEST,
        "config": {"mediaType": media_type::CONFIG, "digest": config_digest, "size": config.len()},
        "layers": [{"mediaType": media_type::LAYER, "digest": layer_digest, "size": layer.len()}],
    })
    .to_string();
    let manifest_digest = sha256(manifest.as_bytes()).to_string();
    client
        .write_blob("hello-layer", &layer, &layer_digest, Labels::new())
        .await?;
    unpack(client, &layer_digest, layer.len()).await?;
    let kept = [(
        format!("containerd.io/gc.ref.snapshot.{SNAPSHOTTER}"),
        layer_digest.clone(),
    )]
    .into();
    client
        .write_blob("hello-config", config.as_bytes(), &config_digest, kept)
        .await?;
    let kept = [
        (
            "containerd.io/gc.ref.content.config".to_owned(),
            config_digest,
        ),
        ("containerd.io/gc.ref.content.l.0".to_owned(), layer_digest),
    ];
    client
        .write_blob(
            "hello-manifest",
            manifest.as_bytes(),
            &manifest_digest,
            kept.into(),
        )
        .await?;
    name(client, manifest_digest, manifest.len()).await
}

/// Writes the image record.
async fn name(client: &Client, digest: String, size: usize) -> anyhow::Result<()> {
    let target = Descriptor {
        media_type: media_type::MANIFEST.to_owned(),
        digest,
        size: size as i64,
        ..Default::default()
    };
    let image = Image {
        name: NAME.to_owned(),
        target: Some(target),
        ..Default::default()
    };
    match client
        .images()
        .create(CreateImageRequest {
            image: Some(image),
            ..Default::default()
        })
        .await
    {
        Err(status) if status.code() != tonic::Code::AlreadyExists => {
            Err(Error::call("create the image")(status).into())
        }
        _ => Ok(()),
    }
}

/// One layer on nothing: its diff id is the name of its snapshot.
async fn unpack(client: &Client, digest: &str, size: usize) -> anyhow::Result<()> {
    let stat = StatSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        key: digest.to_owned(),
    };
    if client.snapshots().stat(stat).await.is_ok() {
        return Ok(());
    }
    let key = format!("extract-{} {digest}", std::process::id());
    let prepare = PrepareSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        key: key.clone(),
        ..Default::default()
    };
    let mounts = client
        .snapshots()
        .prepare(prepare)
        .await
        .map_err(Error::call("prepare a snapshot"))?
        .into_inner()
        .mounts;
    let diff = Descriptor {
        media_type: media_type::LAYER.to_owned(),
        digest: digest.to_owned(),
        size: size as i64,
        ..Default::default()
    };
    let apply = ApplyRequest {
        diff: Some(diff),
        mounts,
        ..Default::default()
    };
    client
        .diff()
        .apply(apply)
        .await
        .map_err(Error::call("apply the layer"))?;
    let commit = CommitSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        name: digest.to_owned(),
        key,
        ..Default::default()
    };
    match client.snapshots().commit(commit).await {
        Err(status) if status.code() != tonic::Code::AlreadyExists => {
            Err(Error::call("commit the snapshot")(status).into())
        }
        _ => Ok(()),
    }
}

fn program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("find our own program")?;
    Ok(own.with_file_name(PROGRAM))
}

/// A tar of the program and the folders that a default specification mounts on (POSIX.1-2001 ustar).
fn layer(program: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    for folder in ["dev/", "proc/", "run/", "sys/", "tmp/"] {
        entry(&mut tar, folder, b'5', &[]);
    }
    entry(&mut tar, "hello", b'0', program);
    tar.extend_from_slice(&[0; 1024]);
    tar
}

fn entry(tar: &mut Vec<u8>, name: &str, kind: u8, data: &[u8]) {
    let mut header = [0_u8; 512];
    let mut put = |offset: usize, text: &str| {
        header[offset..offset + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, name);
    put(100, "0000755\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", data.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(257, "ustar\x0000");
    header[156] = kind;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend_from_slice(&header);
    tar.extend_from_slice(data);
    tar.resize(tar.len().next_multiple_of(512), 0);
}
