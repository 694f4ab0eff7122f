//! `hoist inspect`.

use client::Error;
use model::Platform;
use proto::containerd::services::tasks::v1::{GetRequest, ListPidsRequest};
use serde_json::{Value, json};
use tonic::Code;

use crate::cli::InspectArgs;
use crate::commands::ps;
use crate::context::Context;
use crate::output;

/// Shows all that is known of containers or images.
pub(crate) async fn inspect(context: &Context, args: &InspectArgs) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for name in &args.names {
        // A container first, then an image; the container's message is the more helpful one when both fail.
        match container(context, name).await {
            Ok(value) => found.push(value),
            Err(error) => match image(context, name).await {
                Ok(value) => found.push(value),
                Err(_) => {
                    return Err(error.context(format!("{name:?} is neither container nor image")));
                }
            },
        }
    }
    Ok(output::print(&format!(
        "{}\n",
        serde_json::to_string_pretty(&found)?
    ))?)
}

async fn container(context: &Context, name: &str) -> anyhow::Result<Value> {
    let container = context.container(name).await?;
    let request = GetRequest {
        container_id: container.id.clone(),
        exec_id: String::new(),
    };
    let task = match context.client.tasks().get(request).await {
        Ok(answer) => answer.into_inner().process,
        Err(status) if status.code() == Code::NotFound => None,
        Err(status) => return Err(Error::call("look at the task")(status).into()),
    };
    let pids = match &task {
        Some(_) => {
            let request = ListPidsRequest {
                container_id: container.id.clone(),
            };
            let listed = context.client.tasks().list_pids(request).await;
            listed
                .map(|answer| {
                    answer
                        .into_inner()
                        .processes
                        .iter()
                        .map(|process| process.pid)
                        .collect()
                })
                .unwrap_or_default()
        }
        None => Vec::new(),
    };
    let spec = container
        .spec
        .as_ref()
        .and_then(|spec| serde_json::from_slice::<Value>(&spec.value).ok());
    Ok(json!({
        "kind": "container",
        "namespace": context.namespace.as_str(),
        "name": container.id,
        "image": container.image,
        "labels": container.labels,
        "runtime": container.runtime.map(|runtime| runtime.name),
        "snapshotter": container.snapshotter,
        "snapshot_key": container.snapshot_key,
        "created": time(container.created_at),
        "updated": time(container.updated_at),
        "status": ps::status(task.as_ref()),
        "pid": task.as_ref().map(|task| task.pid),
        "pids": pids,
        "exit_status": task.as_ref().map(|task| task.exit_status),
        "exited": task.as_ref().and_then(|task| time(task.exited_at)),
        "spec": spec,
    }))
}

async fn image(context: &Context, name: &str) -> anyhow::Result<Value> {
    let record = context.image(name).await?;
    let target = record.target.clone().unwrap_or_default();
    let read = context
        .client
        .read_image(record.clone(), &Platform::host())
        .await;
    let (manifest, config) = match &read {
        Ok(image) => (
            serde_json::to_value(&image.manifest)?,
            serde_json::to_value(&image.config)?,
        ),
        Err(error) => (json!(error.to_string()), Value::Null),
    };
    Ok(json!({
        "kind": "image",
        "namespace": context.namespace.as_str(),
        "name": record.name,
        "labels": record.labels,
        "digest": target.digest,
        "media_type": target.media_type,
        "created": time(record.created_at),
        "updated": time(record.updated_at),
        "manifest": manifest,
        "config": config,
    }))
}

fn time(time: Option<proto::Timestamp>) -> Option<String> {
    let time = time.filter(|time| time.seconds > 0)?;
    api::from_wire::timestamp("timestamp", time)
        .ok()
        .map(|time| time.to_string())
}
