//! An image for a run: the one that is here, the built-in one, or pulled.

use std::io::{self, Write as _};

use anyhow::Context as _;
use client::{Client, Error, Image, PullOptions};
use model::{Digest, Platform};
use proto::containerd::services::leases::v1::CreateRequest;
use proto::containerd::services::snapshots::v1::StatSnapshotRequest;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::builtin;
use crate::cli::RegistryArgs;
use crate::context::{Context, SNAPSHOTTER};
use crate::progress;

/// Reports that wait to be drawn.
const REPORTS_MAX: usize = 64;
/// How long a run's own work is kept if we vanish: RFC 3339 needs a time, so the lease carries one.
const LEASE_HOURS: i64 = 24;

/// The digest of bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// What the command line says of the registry.
pub(crate) fn pull_options(
    args: &RegistryArgs,
    platform: Option<&str>,
) -> anyhow::Result<PullOptions> {
    let credentials = match &args.credentials {
        Some(text) => {
            let (user, secret) = text
                .split_once(':')
                .context("--credentials must be USER:PASSWORD")?;
            Some((user.to_owned(), secret.to_owned()))
        }
        None => None,
    };
    Ok(PullOptions {
        platform: platform.map(Platform::parse).transpose()?,
        snapshotter: Some(SNAPSHOTTER.to_owned()),
        credentials,
        plain_http: args.plain_http,
        hosts_dir: args.hosts_dir.clone(),
    })
}

/// Pulls an image by its full name and shows how it goes.
pub(crate) async fn pull(
    client: &Client,
    name: &str,
    options: &PullOptions,
    quiet: bool,
) -> anyhow::Result<()> {
    let (sender, receiver) = mpsc::channel(REPORTS_MAX);
    let (pulled, shown) = tokio::join!(
        client.pull(name, options, sender),
        progress::show(receiver, quiet)
    );
    pulled?;
    Ok(shown?)
}

/// Finds the image, pulling it if it is not here or not unpacked; returns it with the name of its snapshot.
pub(crate) async fn ensure(
    context: &Context,
    name: &str,
    registry: &RegistryArgs,
    platform: Option<&str>,
) -> anyhow::Result<(Image, String)> {
    let client = &context.client;
    let options = pull_options(registry, platform)?;
    let wanted = options.platform.clone().unwrap_or_else(Platform::host);
    if name == builtin::NAME {
        builtin::load(client).await?;
    }
    let full = model::reference::familiar(name)?.to_string();
    for candidate in [name, &full] {
        let Some(record) = client.image_record(candidate).await? else {
            continue;
        };
        let image = client.read_image(record, &wanted).await?;
        let chain = image.chain_id(sha256).context("the image has no layers")?;
        let request = StatSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: chain.clone(),
        };
        if client.snapshots().stat(request).await.is_ok() {
            image.check_runnable()?;
            return Ok((image, chain));
        }
    }
    writeln!(io::stderr(), "image {full} is not here: pulling")?;
    pull(client, &full, &options, false).await?;
    let record = client
        .image_record(&full)
        .await?
        .context("the daemon pulled the image, but does not list it")?;
    let image = client.read_image(record, &wanted).await?;
    image.check_runnable()?;
    let chain = image.chain_id(sha256).context("the image has no layers")?;
    Ok((image, chain))
}

/// A lease that keeps what we make until it has a name of its own.
pub(crate) async fn lease(client: &Client) -> anyhow::Result<String> {
    let expire = jiff_hours(LEASE_HOURS);
    let labels = [("containerd.io/gc.expire".to_owned(), expire)].into();
    let answer = client
        .leases()
        .create(CreateRequest {
            id: String::new(),
            labels,
        })
        .await
        .map_err(Error::call("create a lease"))?;
    answer
        .into_inner()
        .lease
        .map(|lease| lease.id)
        .context("the daemon answers without a lease")
}

fn jiff_hours(hours: i64) -> String {
    let now = model::Clock::now(&model::SystemClock);
    model::Timestamp::from_second(now.as_second() + hours * 3600)
        .map_or_else(|_| now.to_string(), |time| time.to_string())
}
