//! `containerd.services.containers.v1.Containers`.

use std::pin::Pin;

use api::containerd::services::containers::v1::containers_server::Containers;
use api::{from_wire, to_wire};
use metadata::{Any, Container, Runtime};
use model::ContainerId;
use proto::containerd::services::containers::v1 as wire;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::scope::Scope;

/// The service.
#[derive(Debug, Clone)]
pub struct Service {
    scope: Scope,
}

impl Service {
    /// Serves the containers of the store.
    pub fn new(scope: Scope) -> Self {
        Self { scope }
    }
}

fn container_to(container: Container) -> wire::Container {
    wire::Container {
        id: container.id.to_string(),
        labels: container.labels,
        image: container.image.unwrap_or_default(),
        runtime: Some(wire::container::Runtime {
            name: container.runtime.name,
            options: container.runtime.options,
        }),
        spec: container.spec,
        snapshotter: container.snapshotter.unwrap_or_default(),
        snapshot_key: container.snapshot_key.unwrap_or_default(),
        created_at: Some(to_wire::timestamp(container.created)),
        updated_at: Some(to_wire::timestamp(container.updated)),
        extensions: container.extensions,
        sandbox: container.sandbox.unwrap_or_default(),
    }
}

fn present(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn container_from(wire: Option<wire::Container>) -> Result<Container, Status> {
    let wire = from_wire::required("container", wire)?;
    let id = ContainerId::new(wire.id)
        .map_err(|error| Status::invalid_argument(format!("container.ID: {error}")))?;
    let runtime = wire.runtime.unwrap_or_default();
    let runtime = Runtime {
        name: runtime.name,
        options: runtime.options,
    };
    Ok(Container {
        labels: wire.labels,
        image: present(wire.image),
        spec: wire.spec,
        snapshotter: present(wire.snapshotter),
        snapshot_key: present(wire.snapshot_key),
        extensions: wire.extensions,
        sandbox: present(wire.sandbox),
        ..Container::new(id, runtime, Any::default())
    })
}

#[tonic::async_trait]
impl Containers for Service {
    type ListStreamStream =
        Pin<Box<dyn Stream<Item = Result<wire::ListContainerMessage, Status>> + Send>>;

    async fn get(
        &self,
        request: Request<wire::GetContainerRequest>,
    ) -> Result<Response<wire::GetContainerResponse>, Status> {
        let view = self.scope.view(request.metadata())?;
        let container = view
            .containers()
            .get(&request.get_ref().id)
            .map_err(api::status::of)?;
        Ok(Response::new(wire::GetContainerResponse {
            container: Some(container_to(container)),
        }))
    }

    async fn list(
        &self,
        request: Request<wire::ListContainersRequest>,
    ) -> Result<Response<wire::ListContainersResponse>, Status> {
        let view = self.scope.view(request.metadata())?;
        let found = view
            .containers()
            .list(&request.get_ref().filters)
            .map_err(api::status::of)?;
        Ok(Response::new(wire::ListContainersResponse {
            containers: found.into_iter().map(container_to).collect(),
        }))
    }

    async fn list_stream(
        &self,
        request: Request<wire::ListContainersRequest>,
    ) -> Result<Response<Self::ListStreamStream>, Status> {
        let view = self.scope.view(request.metadata())?;
        let found = view
            .containers()
            .list(&request.get_ref().filters)
            .map_err(api::status::of)?;
        let messages = found.into_iter().map(|container| {
            Ok(wire::ListContainerMessage {
                container: Some(container_to(container)),
            })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(messages))))
    }

    async fn create(
        &self,
        request: Request<wire::CreateContainerRequest>,
    ) -> Result<Response<wire::CreateContainerResponse>, Status> {
        let view = self.scope.view(request.metadata())?;
        let container = container_from(request.into_inner().container)?;
        let created = view
            .containers()
            .create(container)
            .await
            .map_err(api::status::of)?;
        Ok(Response::new(wire::CreateContainerResponse {
            container: Some(container_to(created)),
        }))
    }

    async fn update(
        &self,
        request: Request<wire::UpdateContainerRequest>,
    ) -> Result<Response<wire::UpdateContainerResponse>, Status> {
        let view = self.scope.view(request.metadata())?;
        let message = request.into_inner();
        let container = container_from(message.container)?;
        let mask = message.update_mask.unwrap_or_default().paths;
        let updated = view
            .containers()
            .update(container, mask)
            .await
            .map_err(api::status::of)?;
        Ok(Response::new(wire::UpdateContainerResponse {
            container: Some(container_to(updated)),
        }))
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteContainerRequest>,
    ) -> Result<Response<()>, Status> {
        let view = self.scope.view(request.metadata())?;
        view.containers()
            .delete(&request.get_ref().id)
            .await
            .map_err(api::status::of)?;
        Ok(Response::new(()))
    }
}
