//! `hoist rm`.

use std::time::Duration;

use anyhow::bail;
use client::Error;
use proto::containerd::services::containers::v1::{
    Container, DeleteContainerRequest, GetContainerRequest,
};
use proto::containerd::services::snapshots::v1::RemoveSnapshotRequest;
use proto::containerd::services::tasks::v1::DeleteTaskRequest;
use tonic::{Code, Status};

use crate::cli::RmArgs;
use crate::commands::stop;
use crate::context::Context;
use crate::{log, output};

/// Removes containers; goes on with the others when one fails.
pub(crate) async fn rm(context: &Context, args: &RmArgs) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for name in &args.containers {
        let removed = async {
            let container = context.container(name).await?;
            if !args.force && log::running(context, &container.id).await? {
                bail!(
                    "{:?} is running: stop it first, or remove it with --force",
                    container.id
                );
            }
            remove_container(context, &container, args.force).await?;
            Ok(output::print(&format!("{}\n", container.id))?)
        };
        if let Err(error) = removed.await {
            failures.push(format!("{error:#}"));
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        bail!("{}", failures.join("\nhoist: "))
    }
}

/// Removes a container of exactly this name, or what a failed run left of it.
pub(crate) async fn remove(context: &Context, id: &str, force: bool) -> anyhow::Result<()> {
    match context
        .client
        .containers()
        .get(GetContainerRequest { id: id.to_owned() })
        .await
    {
        Ok(answer) => match answer.into_inner().container {
            Some(container) => remove_container(context, &container, force).await,
            None => Ok(()),
        },
        Err(status) if status.code() == Code::NotFound => {
            snapshot(context, crate::context::SNAPSHOTTER, id).await
        }
        Err(status) => Err(Error::call(format!("look up container {id:?}"))(status).into()),
    }
}

fn absent_is_fine<T>(answer: Result<T, Status>, act: String) -> anyhow::Result<()> {
    match answer {
        Err(status) if status.code() != Code::NotFound => Err(Error::call(act)(status).into()),
        _ => Ok(()),
    }
}

async fn remove_container(
    context: &Context,
    container: &Container,
    force: bool,
) -> anyhow::Result<()> {
    let id = &container.id;
    if force {
        stop::end(context, container, Some("KILL"), Duration::from_secs(10)).await?;
    }
    let request = DeleteTaskRequest {
        container_id: id.clone(),
    };
    absent_is_fine(
        context.client.tasks().delete(request).await,
        format!("delete the task of {id:?}"),
    )?;
    let request = DeleteContainerRequest { id: id.clone() };
    absent_is_fine(
        context.client.containers().delete(request).await,
        format!("delete container {id:?}"),
    )?;
    if !container.snapshot_key.is_empty() {
        snapshot(context, &container.snapshotter, &container.snapshot_key).await?;
    }
    match container.labels.get(log::LABEL) {
        Some(path) => log::remove(path.as_ref()),
        None => Ok(()),
    }
}

/// Removes a snapshot that may be gone already.
pub(crate) async fn snapshot(
    context: &Context,
    snapshotter: &str,
    key: &str,
) -> anyhow::Result<()> {
    let request = RemoveSnapshotRequest {
        snapshotter: snapshotter.to_owned(),
        key: key.to_owned(),
    };
    absent_is_fine(
        context.client.snapshots().remove(request).await,
        format!("remove snapshot {key:?}"),
    )
}
