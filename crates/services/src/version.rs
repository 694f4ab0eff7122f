//! `containerd.services.version.v1.Version`.

use api::containerd::services::version::v1::version_server::Version;
use proto::containerd::services::version::v1::VersionResponse;
use tonic::{Request, Response, Status};

/// Answers with what the program was built as.
#[derive(Debug, Clone)]
pub struct Service {
    version: String,
    revision: String,
}

impl Service {
    /// `version` must be a semantic version of at least 2.0.0: clients choose their way to pull by it.
    pub fn new(version: impl Into<String>, revision: impl Into<String>) -> Self {
        Self {
            version: version.into(),
            revision: revision.into(),
        }
    }
}

#[tonic::async_trait]
impl Version for Service {
    async fn version(&self, _request: Request<()>) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(VersionResponse {
            version: self.version.clone(),
            revision: self.revision.clone(),
        }))
    }
}
