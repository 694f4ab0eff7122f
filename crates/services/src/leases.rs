//! `containerd.services.leases.v1.Leases`.

use api::containerd::services::leases::v1::leases_server::Leases;
use metadata::{Lease, Resource};
use proto::containerd::services::leases::v1 as wire;
use tonic::{Request, Response, Status};

use crate::scope::Scope;

/// The service.
#[derive(Debug, Clone)]
pub struct Service {
    scope: Scope,
}

impl Service {
    /// Serves the leases of the store.
    pub fn new(scope: Scope) -> Self {
        Self { scope }
    }
}

fn lease_to(lease: Lease) -> wire::Lease {
    wire::Lease {
        id: lease.id,
        created_at: Some(api::to_wire::timestamp(lease.created)),
        labels: lease.labels,
    }
}

/// An id for a client that has no wish: 96 bits that nobody guesses.
fn random_id() -> Result<String, Status> {
    let mut bytes = [0_u8; 12];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match filled {
        Ok(count) if count == bytes.len() => {
            Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
        }
        _ => Err(Status::unavailable(
            "the kernel gives no random bytes: unavailable",
        )),
    }
}

fn resource_from(resource: Option<wire::Resource>) -> Result<Resource, Status> {
    let resource = resource
        .ok_or_else(|| Status::invalid_argument("resource is required: invalid argument"))?;
    Ok(Resource {
        id: resource.id,
        kind: resource.r#type,
    })
}

#[tonic::async_trait]
impl Leases for Service {
    async fn create(
        &self,
        request: Request<wire::CreateRequest>,
    ) -> Result<Response<wire::CreateResponse>, Status> {
        let view = self.scope.view(request.metadata())?;
        let message = request.into_inner();
        let id = match message.id.as_str() {
            "" => random_id()?,
            id => id.to_owned(),
        };
        let lease = view
            .leases()
            .create(&id, message.labels)
            .await
            .map_err(api::status::of)?;
        Ok(Response::new(wire::CreateResponse {
            lease: Some(lease_to(lease)),
        }))
    }

    async fn delete(&self, request: Request<wire::DeleteRequest>) -> Result<Response<()>, Status> {
        let view = self.scope.view(request.metadata())?;
        let message = request.into_inner();
        view.leases()
            .delete(&message.id)
            .await
            .map_err(api::status::of)?;
        if message.sync {
            self.scope.db().gc().run().await.map_err(api::status::of)?;
        }
        Ok(Response::new(()))
    }

    async fn list(
        &self,
        request: Request<wire::ListRequest>,
    ) -> Result<Response<wire::ListResponse>, Status> {
        let view = self.scope.view(request.metadata())?;
        let found = view
            .leases()
            .list(&request.get_ref().filters)
            .map_err(api::status::of)?;
        Ok(Response::new(wire::ListResponse {
            leases: found.into_iter().map(lease_to).collect(),
        }))
    }

    async fn add_resource(
        &self,
        request: Request<wire::AddResourceRequest>,
    ) -> Result<Response<()>, Status> {
        let view = self.scope.view(request.metadata())?;
        let message = request.into_inner();
        let resource = resource_from(message.resource)?;
        view.leases()
            .add_resource(&message.id, resource)
            .await
            .map_err(api::status::of)?;
        Ok(Response::new(()))
    }

    async fn delete_resource(
        &self,
        request: Request<wire::DeleteResourceRequest>,
    ) -> Result<Response<()>, Status> {
        let view = self.scope.view(request.metadata())?;
        let message = request.into_inner();
        let resource = resource_from(message.resource)?;
        view.leases()
            .delete_resource(&message.id, resource)
            .await
            .map_err(api::status::of)?;
        Ok(Response::new(()))
    }

    async fn list_resources(
        &self,
        request: Request<wire::ListResourcesRequest>,
    ) -> Result<Response<wire::ListResourcesResponse>, Status> {
        let view = self.scope.view(request.metadata())?;
        let found = view
            .leases()
            .resources(&request.get_ref().id)
            .map_err(api::status::of)?;
        let resources = found
            .into_iter()
            .map(|resource| wire::Resource {
                id: resource.id,
                r#type: resource.kind,
            })
            .collect();
        Ok(Response::new(wire::ListResourcesResponse { resources }))
    }
}
