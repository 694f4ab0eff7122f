//! `containerd.services.introspection.v1.Introspection`: parts, identity, and what a runtime can do.

use std::sync::Arc;

use api::containerd::services::introspection::v1::introspection_server::Introspection;
use model::filter::{Fields, Filters};
use proto::containerd::services::introspection::v1::{
    Plugin, PluginInfoRequest, PluginInfoResponse, PluginsRequest, PluginsResponse, ServerResponse,
};
use proto::google::rpc;
use std::borrow::Cow;
use tonic::{Request, Response, Status};

use crate::part::{Part, PartStatus};

/// The runtime part, whose information comes from the shim itself.
const RUNTIME: (&str, &str) = ("io.containerd.runtime.v2", "task");

/// The runtime of a request that names none.
const DEFAULT_RUNTIME: &str = "io.containerd.runc.v2";

/// The service.
#[derive(Debug, Clone)]
pub struct Service {
    parts: Arc<Vec<Part>>,
    uuid: String,
    shims: shims::Manager,
}

impl Service {
    /// Serves the parts of a finished assembly.
    pub fn new(parts: Vec<Part>, uuid: String, shims: shims::Manager) -> Self {
        Self {
            parts: Arc::new(parts),
            uuid,
            shims,
        }
    }
}

impl Fields for Part {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["type"] => Some(Cow::Borrowed(&self.kind)),
            ["id"] => Some(Cow::Borrowed(&self.id)),
            ["capabilities"] => Some(Cow::Owned(self.capabilities.join(","))),
            _ => None,
        }
    }
}

fn plugin(part: &Part) -> Result<Plugin, Status> {
    let platforms = part.platforms.iter().map(|platform| {
        let parsed = model::Platform::parse(platform)
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(api::to_wire::platform(&parsed))
    });
    Ok(Plugin {
        r#type: part.kind.clone(),
        id: part.id.clone(),
        requires: part.requires.clone(),
        platforms: platforms.collect::<Result<_, Status>>()?,
        exports: part.exports.clone().into_iter().collect(),
        capabilities: part.capabilities.clone(),
        init_err: match &part.status {
            PartStatus::Ready => None,
            // Clients tell a skipped part from a broken one by the end of this message.
            PartStatus::Skipped { reason } => Some(rpc::Status {
                code: tonic::Code::Unknown as i32,
                message: format!("{reason}: skip plugin"),
                details: Vec::new(),
            }),
        },
    })
}

#[tonic::async_trait]
impl Introspection for Service {
    async fn plugins(
        &self,
        request: Request<PluginsRequest>,
    ) -> Result<Response<PluginsResponse>, Status> {
        let filters = Filters::parse(&request.into_inner().filters)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let matching = self.parts.iter().filter(|part| filters.matches(*part));
        Ok(Response::new(PluginsResponse {
            plugins: matching.map(plugin).collect::<Result<_, _>>()?,
        }))
    }

    async fn server(&self, _request: Request<()>) -> Result<Response<ServerResponse>, Status> {
        let pidns = std::fs::metadata("/proc/self/ns/pid")
            .map(|namespace| std::os::unix::fs::MetadataExt::ino(&namespace));
        Ok(Response::new(ServerResponse {
            uuid: self.uuid.clone(),
            pid: u64::from(std::process::id()),
            pidns: pidns
                .map_err(|error| Status::internal(format!("read own pid namespace: {error}")))?,
            deprecations: Vec::new(),
        }))
    }

    async fn plugin_info(
        &self,
        request: Request<PluginInfoRequest>,
    ) -> Result<Response<PluginInfoResponse>, Status> {
        let message = request.into_inner();
        let part = self
            .parts
            .iter()
            .find(|part| part.kind == message.r#type && part.id == message.id)
            .ok_or_else(|| {
                Status::not_found(format!(
                    "plugin {}.{}: not found",
                    message.r#type, message.id
                ))
            })?;
        let extra = match message.options {
            None => None,
            Some(options) if (part.kind.as_str(), part.id.as_str()) == RUNTIME => {
                Some(self.runtime_info(&options).await?)
            }
            Some(_) => {
                return Err(Status::unimplemented(
                    "this plugin takes no options: not implemented",
                ));
            }
        };
        Ok(Response::new(PluginInfoResponse {
            plugin: Some(plugin(part)?),
            extra,
        }))
    }
}

impl Service {
    async fn runtime_info(&self, options: &prost_types::Any) -> Result<prost_types::Any, Status> {
        let request: proto::containerd::types::RuntimeRequest = proto::typeurl::unpack(options)
            .map_err(|error| Status::invalid_argument(format!("read runtime request: {error}")))?;
        let named = !request.runtime_path.is_empty();
        let runtime = shims::Runtime {
            name: if named {
                request.runtime_path.clone()
            } else {
                DEFAULT_RUNTIME.to_owned()
            },
            path: None,
            options: request.options,
        };
        let info = self.shims.info(&runtime).await.map_err(api::status::of)?;
        Ok(proto::typeurl::pack(&info))
    }
}
