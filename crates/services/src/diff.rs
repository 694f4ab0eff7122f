//! `containerd.services.diff.v1.Diff`: Apply; Diff is not built.

use std::os::fd::OwnedFd;

use api::containerd::services::diff::v1::diff_server::Diff;
use api::{from_wire, status, to_wire};
use diff::{ApplyRequest, Canceller, Durability, Limits, Target, Unpacker};
use model::Descriptor;
use proto::containerd::services::diff::v1 as wire;
use tonic::{Request, Response, Status};

use crate::scope::Scope;

/// The media type of what was applied: the tar inside.
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// The service.
#[derive(Debug, Clone)]
pub struct Service {
    scope: Scope,
    unpacker: Unpacker,
}

impl Service {
    /// Applies blobs of the store with the given workers.
    pub fn new(scope: Scope, unpacker: Unpacker) -> Self {
        Self { scope, unpacker }
    }
}

/// Ends the workers of a client that went away.
struct EndWithClient(Option<Canceller>);

impl Drop for EndWithClient {
    fn drop(&mut self) {
        if let Some(canceller) = self.0.take() {
            canceller.cancel();
        }
    }
}

#[tonic::async_trait]
impl Diff for Service {
    async fn apply(
        &self,
        request: Request<wire::ApplyRequest>,
    ) -> Result<Response<wire::ApplyResponse>, Status> {
        let view = self.scope.view(request.metadata())?;
        let message = request.into_inner();
        let layer = from_wire::descriptor("diff", message.diff)?;
        if !message.payloads.is_empty() || layer.media_type.ends_with("+encrypted") {
            return Err(Status::unimplemented(
                "layers that need a stream processor: not implemented",
            ));
        }
        let mounts = from_wire::mounts(message.mounts);
        let durability = match message.sync_fs {
            true => Durability::Sync,
            // Whoever commits the snapshot makes it durable.
            false => Durability::None,
        };
        let session = self.unpacker.session().map_err(status::of)?;
        let mut guard = EndWithClient(Some(session.canceller()));
        let expected = layer.clone();
        let applied = tokio::task::spawn_blocking(move || {
            let blob = view.content().reader(&layer.digest).map_err(status::of)?;
            let target = Target::from_mounts(&mounts).map_err(status::of)?;
            let request = ApplyRequest {
                layer: OwnedFd::from(blob.file),
                target,
                limits: Limits::default(),
                durability,
                skip_devices: false,
                progress: None,
            };
            session.apply(request).map_err(status::of)
        });
        let applied = applied.await;
        guard.0 = None;
        let applied = applied.map_err(|error| Status::internal(format!("apply: {error}")))??;
        if applied.layer_digest != expected.digest
            && expected.digest.algorithm() == applied.layer_digest.algorithm()
        {
            return Err(Status::data_loss(format!(
                "blob {} has content of digest {}",
                expected.digest, applied.layer_digest
            )));
        }
        let descriptor = Descriptor::new(TAR, applied.diff_id, applied.tar_size);
        Ok(Response::new(wire::ApplyResponse {
            applied: Some(to_wire::descriptor(&descriptor)),
        }))
    }

    async fn diff(
        &self,
        _request: Request<wire::DiffRequest>,
    ) -> Result<Response<wire::DiffResponse>, Status> {
        Err(Status::unimplemented(
            "diff of two snapshots: not implemented",
        ))
    }
}
