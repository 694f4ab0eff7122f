//! `containerd.services.namespaces.v1.Namespaces`.

use api::containerd::services::namespaces::v1::namespaces_server::Namespaces;
use model::{Labels, Namespace};
use proto::containerd::services::namespaces::v1 as wire;
use tonic::{Request, Response, Status};

use crate::scope::Scope;

/// The service.
#[derive(Debug, Clone)]
pub struct Service {
    scope: Scope,
}

impl Service {
    /// Serves the namespaces of the store.
    pub fn new(scope: Scope) -> Self {
        Self { scope }
    }
}

fn name(text: String) -> Result<Namespace, Status> {
    Namespace::new(text).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn namespace_to(name: &Namespace, labels: Labels) -> wire::Namespace {
    wire::Namespace {
        name: name.to_string(),
        labels: labels.into_iter().collect(),
    }
}

fn required(namespace: Option<wire::Namespace>) -> Result<(Namespace, Labels), Status> {
    let namespace = namespace
        .ok_or_else(|| Status::invalid_argument("namespace is required: invalid argument"))?;
    Ok((
        name(namespace.name)?,
        namespace.labels.into_iter().collect(),
    ))
}

#[tonic::async_trait]
impl Namespaces for Service {
    async fn get(
        &self,
        request: Request<wire::GetNamespaceRequest>,
    ) -> Result<Response<wire::GetNamespaceResponse>, Status> {
        let name = name(request.into_inner().name)?;
        let labels = self
            .scope
            .db()
            .namespaces()
            .labels(&name)
            .map_err(api::status::of)?;
        Ok(Response::new(wire::GetNamespaceResponse {
            namespace: Some(namespace_to(&name, labels)),
        }))
    }

    async fn list(
        &self,
        request: Request<wire::ListNamespacesRequest>,
    ) -> Result<Response<wire::ListNamespacesResponse>, Status> {
        let filter = request.into_inner().filter;
        let filters: Vec<String> = (!filter.is_empty()).then_some(filter).into_iter().collect();
        let found = self
            .scope
            .db()
            .namespaces()
            .matching(&filters)
            .map_err(api::status::of)?;
        let namespaces = found
            .into_iter()
            .map(|(name, labels)| namespace_to(&name, labels))
            .collect();
        Ok(Response::new(wire::ListNamespacesResponse { namespaces }))
    }

    async fn create(
        &self,
        request: Request<wire::CreateNamespaceRequest>,
    ) -> Result<Response<wire::CreateNamespaceResponse>, Status> {
        let (name, labels) = required(request.into_inner().namespace)?;
        self.scope
            .db()
            .namespaces()
            .create(&name, labels.clone())
            .await
            .map_err(api::status::of)?;
        Ok(Response::new(wire::CreateNamespaceResponse {
            namespace: Some(namespace_to(&name, labels)),
        }))
    }

    async fn update(
        &self,
        request: Request<wire::UpdateNamespaceRequest>,
    ) -> Result<Response<wire::UpdateNamespaceResponse>, Status> {
        let message = request.into_inner();
        let (name, labels) = required(message.namespace)?;
        let mask = message.update_mask.unwrap_or_default().paths;
        let namespaces = self.scope.db().namespaces();
        let labels = namespaces
            .update(&name, labels, mask)
            .await
            .map_err(api::status::of)?;
        Ok(Response::new(wire::UpdateNamespaceResponse {
            namespace: Some(namespace_to(&name, labels)),
        }))
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteNamespaceRequest>,
    ) -> Result<Response<()>, Status> {
        let name = name(request.into_inner().name)?;
        self.scope
            .db()
            .namespaces()
            .delete(&name)
            .await
            .map_err(api::status::of)?;
        Ok(Response::new(()))
    }
}
