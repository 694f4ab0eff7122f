//! `hoist ps`.

use std::collections::BTreeMap;

use client::Error;
use model::{Clock, Namespace, SystemClock};
use proto::containerd::services::containers::v1::Container;
use proto::containerd::services::tasks::v1::ListTasksRequest;
use proto::containerd::v1::types::{Process, Status};
use serde_json::json;
use spec::runtime::Spec;

use crate::cli::PsArgs;
use crate::context::Context;
use crate::output;

/// The label of a container that is to be removed when it ends.
pub(crate) const REMOVE_LABEL: &str = "hoist.io/remove";
/// Characters of a command that a table shows.
const COMMAND_CHARS_MAX: usize = 32;

/// Lists containers.
pub(crate) async fn ps(context: &Context, args: &PsArgs) -> anyhow::Result<()> {
    let namespaces = if args.all_namespaces {
        context.namespaces().await?
    } else {
        vec![context.namespace.clone()]
    };
    let now = SystemClock.now();
    let mut rows = Vec::new();
    for namespace in &namespaces {
        let tasks = tasks(context, namespace).await?;
        for container in context.containers(namespace).await? {
            let task = tasks.get(&container.id);
            let status = status(task);
            if !args.all && !matches!(status, "running" | "paused" | "pausing") {
                continue;
            }
            if context.json {
                output::print(&format!("{}\n", line(namespace, &container, status, task)))?;
            } else if args.quiet {
                output::print(&format!("{}\n", container.id))?;
            } else {
                let created = api::from_wire::timestamp(
                    "timestamp",
                    container.created_at.unwrap_or_default(),
                );
                let created =
                    created.map_or_else(|_| String::new(), |created| output::ago(created, now));
                let mut row = vec![
                    container.id.clone(),
                    container.image.clone(),
                    shortened(command(&container)),
                    created,
                    status.to_owned(),
                ];
                if args.all_namespaces {
                    row.insert(0, namespace.to_string());
                }
                rows.push(row);
            }
        }
    }
    if !context.json && !args.quiet {
        let mut heading = vec!["NAME", "IMAGE", "COMMAND", "CREATED", "STATUS"];
        if args.all_namespaces {
            heading.insert(0, "NAMESPACE");
        }
        output::print(&output::table(&heading, &rows))?;
    }
    Ok(())
}

/// The tasks of a namespace by container.
pub(crate) async fn tasks(
    context: &Context,
    namespace: &Namespace,
) -> anyhow::Result<BTreeMap<String, Process>> {
    let client = context.client.in_namespace(namespace);
    let listed = client
        .tasks()
        .list(ListTasksRequest::default())
        .await
        .map_err(Error::call("list tasks"))?;
    Ok(listed
        .into_inner()
        .tasks
        .into_iter()
        .map(|process| (process.id.clone(), process))
        .collect())
}

/// The word for a task's state; a container without one was never started, or its task is gone.
pub(crate) fn status(task: Option<&Process>) -> &'static str {
    match task.map(Process::status) {
        None => "created",
        Some(Status::Created) => "starting",
        Some(Status::Running) => "running",
        Some(Status::Stopped) => "exited",
        Some(Status::Paused) => "paused",
        Some(Status::Pausing) => "pausing",
        Some(Status::Unknown) => "unknown",
    }
}

fn command(container: &Container) -> String {
    let spec = container
        .spec
        .as_ref()
        .and_then(|spec| serde_json::from_slice::<Spec>(&spec.value).ok());
    spec.and_then(|spec| spec.process)
        .map(|process| process.args.join(" "))
        .unwrap_or_default()
}

/// As much of a command as a table shows.
fn shortened(args: String) -> String {
    if args.chars().count() > COMMAND_CHARS_MAX {
        return format!(
            "{}…",
            args.chars().take(COMMAND_CHARS_MAX - 1).collect::<String>()
        );
    }
    args
}

fn line(
    namespace: &Namespace,
    container: &Container,
    status: &str,
    task: Option<&Process>,
) -> serde_json::Value {
    json!({
        "namespace": namespace.as_str(),
        "name": container.id,
        "image": container.image,
        "command": command(container),
        "status": status,
        "pid": task.map(|task| task.pid),
        "exit_status": task.filter(|task| task.status() == Status::Stopped).map(|task| task.exit_status),
        "labels": container.labels,
    })
}
