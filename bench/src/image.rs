//! A root file system of one static program, brought in by calls that every daemon has.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use client::Client;
use proto::containerd::services::content::v1::{WriteAction, WriteContentRequest};
use proto::containerd::services::diff::v1::ApplyRequest;
use proto::containerd::services::leases::v1::CreateRequest;
use proto::containerd::services::snapshots::v1::{CommitSnapshotRequest, PrepareSnapshotRequest};
use proto::containerd::types::Descriptor;
use sha2::{Digest as _, Sha256};

/// The committed snapshot that containers start from.
pub(crate) const SNAPSHOT: &str = "bench-root";
/// The snapshotter.
pub(crate) const SNAPSHOTTER: &str = "overlayfs";
/// Debian's static busybox, which is every program of the root file system.
const BUSYBOX: &str = "/bin/busybox";
/// Bytes of one message of content.
const CHUNK_BYTES: usize = 1 << 20;

/// Makes the snapshot under a lease and returns the lease.
pub(crate) async fn prepare(client: &Client) -> anyhow::Result<String> {
    let lease = client
        .leases()
        .create(CreateRequest {
            id: String::new(),
            labels: BTreeMap::new(),
        })
        .await?
        .into_inner()
        .lease
        .context("the daemon answers with a lease")?
        .id;
    let client = client.with_lease(&lease)?;
    let layer = layer()?;
    let digest = format!(
        "sha256:{}",
        Sha256::digest(&layer)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    );
    write(&client, &layer, &digest).await?;
    let prepare = PrepareSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        key: "bench-unpack".to_owned(),
        ..Default::default()
    };
    let mounts = client
        .snapshots()
        .prepare(prepare)
        .await?
        .into_inner()
        .mounts;
    let diff = Descriptor {
        media_type: "application/vnd.oci.image.layer.v1.tar".to_owned(),
        digest,
        size: layer.len() as i64,
        ..Default::default()
    };
    client
        .diff()
        .apply(ApplyRequest {
            diff: Some(diff),
            mounts,
            ..Default::default()
        })
        .await?;
    let commit = CommitSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        name: SNAPSHOT.to_owned(),
        key: "bench-unpack".to_owned(),
        ..Default::default()
    };
    client.snapshots().commit(commit).await?;
    Ok(lease)
}

async fn write(client: &Client, bytes: &[u8], digest: &str) -> anyhow::Result<()> {
    let total = bytes.len() as i64;
    let mut requests: Vec<WriteContentRequest> = bytes
        .chunks(CHUNK_BYTES)
        .enumerate()
        .map(|(index, chunk)| WriteContentRequest {
            action: WriteAction::Write as i32,
            r#ref: "bench-layer".to_owned(),
            total,
            expected: digest.to_owned(),
            offset: (index * CHUNK_BYTES) as i64,
            data: chunk.to_vec().into(),
            ..Default::default()
        })
        .collect();
    requests.push(WriteContentRequest {
        action: WriteAction::Commit as i32,
        r#ref: "bench-layer".to_owned(),
        total,
        expected: digest.to_owned(),
        offset: total,
        ..Default::default()
    });
    let mut answers = client
        .content()
        .write(tokio_stream::iter(requests))
        .await?
        .into_inner();
    while let Some(answer) = answers.message().await? {
        if answer.action == WriteAction::Commit as i32 {
            return Ok(());
        }
    }
    bail!("the daemon ended the write without committing")
}

/// A tar of busybox and the folders that a default specification mounts on.
fn layer() -> anyhow::Result<Vec<u8>> {
    let busybox = std::fs::read(BUSYBOX)
        .with_context(|| format!("read {BUSYBOX} (package busybox-static)"))?;
    let mut tar = Vec::new();
    for folder in ["bin/", "proc/", "sys/", "dev/", "etc/", "run/", "tmp/"] {
        entry(&mut tar, folder, b'5', 0o755, &[], "");
    }
    entry(&mut tar, "bin/busybox", b'0', 0o755, &busybox, "");
    for applet in ["true", "sleep", "sh"] {
        entry(
            &mut tar,
            &format!("bin/{applet}"),
            b'2',
            0o777,
            &[],
            "busybox",
        );
    }
    tar.extend_from_slice(&[0; 1024]);
    Ok(tar)
}

/// Adds one entry (POSIX.1-2001 ustar).
fn entry(tar: &mut Vec<u8>, name: &str, kind: u8, mode: u32, data: &[u8], link: &str) {
    let mut header = [0_u8; 512];
    let mut put = |offset: usize, text: &str| {
        header[offset..offset + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, name);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", data.len()));
    put(136, "00000000000");
    put(148, "        ");
    put(157, link);
    put(257, "ustar\x0000");
    header[156] = kind;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend_from_slice(&header);
    tar.extend_from_slice(data);
    tar.resize(tar.len().next_multiple_of(512), 0);
}
