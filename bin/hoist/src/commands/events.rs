//! `hoist events`.

use client::Error;
use proto::containerd::events as wire;
use proto::containerd::services::events::v1::SubscribeRequest;
use proto::{Any, typeurl};
use serde_json::{Value, json};

use crate::cli::EventsArgs;
use crate::context::Context;
use crate::output;

/// Shows events until interrupted.
pub(crate) async fn events(context: &Context, args: &EventsArgs) -> anyhow::Result<()> {
    let here = format!("namespace=={}", context.namespace);
    let filters: Vec<String> = match (args.all_namespaces, args.filter.is_empty()) {
        (true, _) => args.filter.clone(),
        (false, true) => vec![here],
        (false, false) => args
            .filter
            .iter()
            .map(|filter| format!("{here},{filter}"))
            .collect(),
    };
    let request = SubscribeRequest { filters };
    let mut events = context
        .client
        .events()
        .subscribe(request)
        .await
        .map_err(Error::call("subscribe"))?
        .into_inner();
    loop {
        let received = tokio::select! {
            received = events.message() => received.map_err(Error::call("receive events"))?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let Some(envelope) = received else {
            return Ok(());
        };
        let time = envelope
            .timestamp
            .and_then(|time| api::from_wire::timestamp("timestamp", time).ok());
        let time = time.map(|time| time.to_string()).unwrap_or_default();
        let event = envelope.event.as_ref().map_or(Value::Null, describe);
        let line = if context.json {
            json!({"time": time, "namespace": envelope.namespace, "topic": envelope.topic, "event": event}).to_string()
        } else {
            format!("{time} {} {} {event}", envelope.namespace, envelope.topic)
        };
        output::print(&format!("{line}\n"))?;
    }
}

/// The fields that tell people what happened; an event of a type that we do not know shows its type.
fn describe(event: &Any) -> Value {
    macro_rules! known {
        ($($name:ident { $($field:ident),* };)*) => {
            $(if let Ok(event) = typeurl::unpack::<wire::$name>(event) {
                return json!({$(stringify!($field): event.$field),*});
            })*
        };
    }
    known! {
        TaskCreate { container_id, pid };
        TaskStart { container_id, pid };
        TaskDelete { container_id, id, pid, exit_status };
        TaskExit { container_id, id, pid, exit_status };
        TaskOom { container_id };
        TaskExecAdded { container_id, exec_id };
        TaskExecStarted { container_id, exec_id, pid };
        TaskPaused { container_id };
        TaskResumed { container_id };
        ContainerCreate { id, image };
        ContainerUpdate { id, image };
        ContainerDelete { id };
        ContentCreate { digest, size };
        ContentDelete { digest };
        SnapshotPrepare { key, parent, snapshotter };
        SnapshotCommit { key, name, snapshotter };
        SnapshotRemove { key, snapshotter };
        NamespaceCreate { name };
        NamespaceUpdate { name };
        NamespaceDelete { name };
    }
    if let Ok(image) =
        typeurl::unpack::<proto::containerd::services::images::v1::ImageDelete>(event)
    {
        return json!({"name": image.name, "type": typeurl::bare(&event.type_url)});
    }
    json!({"type": typeurl::bare(&event.type_url)})
}
