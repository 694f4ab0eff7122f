//! `hoist version` and `hoist info`.

use client::Error;
use proto::containerd::services::introspection::v1::PluginsRequest;
use serde_json::json;

use crate::context::Context;
use crate::output;

/// Shows the versions of this program and of the daemon.
pub(crate) async fn version(context: &Context) -> anyhow::Result<()> {
    let daemon = context
        .client
        .version()
        .version(())
        .await
        .map_err(Error::call("ask for the version"))?
        .into_inner();
    let own = env!("CARGO_PKG_VERSION");
    if context.json {
        let value = json!({"client": own, "daemon": daemon.version, "revision": daemon.revision});
        return Ok(output::print(&format!("{value}\n"))?);
    }
    Ok(output::print(&format!(
        "client   hoist {own}\ndaemon   {} {}\n",
        daemon.version, daemon.revision
    ))?)
}

/// Shows the daemon, its parts and the host.
pub(crate) async fn info(context: &Context) -> anyhow::Result<()> {
    let mut introspection = context.client.introspection();
    let server = introspection
        .server(())
        .await
        .map_err(Error::call("ask for the daemon"))?
        .into_inner();
    let plugins = introspection
        .plugins(PluginsRequest::default())
        .await
        .map_err(Error::call("ask for the parts"))?;
    let plugins = plugins.into_inner().plugins;
    let status = |error: &Option<proto::google::rpc::Status>| {
        error
            .as_ref()
            .map_or("ok".to_owned(), |error| error.message.clone())
    };
    if context.json {
        let parts: Vec<_> = plugins
            .iter()
            .map(|plugin| {
                json!({
                    "type": plugin.r#type, "id": plugin.id, "status": status(&plugin.init_err),
                    "capabilities": plugin.capabilities, "exports": plugin.exports,
                })
            })
            .collect();
        let value = json!({"uuid": server.uuid, "pid": server.pid, "address": context.address, "plugins": parts});
        return Ok(output::print(&format!("{value}\n"))?);
    }
    let mut text = format!(
        "daemon   pid {}, uuid {}\naddress  {}\n\n",
        server.pid,
        server.uuid,
        context.address.display()
    );
    let rows: Vec<Vec<String>> = plugins
        .into_iter()
        .map(|plugin| {
            vec![
                plugin.r#type,
                plugin.id,
                status(&plugin.init_err),
                plugin.capabilities.join(","),
            ]
        })
        .collect();
    text.push_str(&output::table(
        &["TYPE", "ID", "STATUS", "CAPABILITIES"],
        &rows,
    ));
    Ok(output::print(&text)?)
}
