//! `containerd.services.snapshots.v1.Snapshots`.

use std::ops::ControlFlow;
use std::pin::Pin;

use api::containerd::services::snapshots::v1::snapshots_server::Snapshots;
use model::Labels;
use proto::containerd::services::snapshots::v1 as wire;
use snapshots::{CommitOptions, Durability, Info, Kind, Snapshotter};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::scope::Scope;

/// Pages of a list that wait for a slow client.
const PAGES_MAX: usize = 2;

/// The service.
#[derive(Debug, Clone)]
pub struct Service {
    scope: Scope,
}

impl Service {
    /// Serves the snapshotters of the store.
    pub fn new(scope: Scope) -> Self {
        Self { scope }
    }

    fn snapshotter(
        &self,
        metadata: &MetadataMap,
        name: &str,
    ) -> Result<Box<dyn Snapshotter>, Status> {
        let view = self.scope.view(metadata)?;
        if name.is_empty() {
            return Err(Status::invalid_argument(
                "snapshotter argument missing: invalid argument",
            ));
        }
        let snapshots = view.snapshots(name).ok_or_else(|| {
            Status::invalid_argument(format!("snapshotter not loaded: {name}: invalid argument"))
        })?;
        Ok(Box::new(snapshots))
    }
}

fn labels(labels: impl IntoIterator<Item = (String, String)>) -> Labels {
    labels.into_iter().collect()
}

fn parent(name: String) -> Option<String> {
    (!name.is_empty()).then_some(name)
}

fn kind_to(kind: Kind) -> wire::Kind {
    match kind {
        Kind::View => wire::Kind::View,
        Kind::Active => wire::Kind::Active,
        Kind::Committed => wire::Kind::Committed,
    }
}

fn info_to(info: Info) -> wire::Info {
    wire::Info {
        name: info.name,
        parent: info.parent.unwrap_or_default(),
        kind: kind_to(info.kind) as i32,
        created_at: Some(api::to_wire::timestamp(info.created)),
        updated_at: Some(api::to_wire::timestamp(info.updated)),
        labels: info.labels.into_iter().collect(),
    }
}

fn failed(error: snapshots::Error) -> Status {
    api::status::of(error)
}

#[tonic::async_trait]
impl Snapshots for Service {
    type ListStream =
        Pin<Box<dyn Stream<Item = Result<wire::ListSnapshotsResponse, Status>> + Send>>;

    async fn prepare(
        &self,
        request: Request<wire::PrepareSnapshotRequest>,
    ) -> Result<Response<wire::PrepareSnapshotResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let snapshotter = self.snapshotter(&metadata, &message.snapshotter)?;
        let parent = parent(message.parent);
        let mounts = snapshotter
            .prepare(&message.key, parent.as_deref(), labels(message.labels))
            .await
            .map_err(failed)?;
        Ok(Response::new(wire::PrepareSnapshotResponse {
            mounts: api::to_wire::mounts(&mounts),
        }))
    }

    async fn view(
        &self,
        request: Request<wire::ViewSnapshotRequest>,
    ) -> Result<Response<wire::ViewSnapshotResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let snapshotter = self.snapshotter(&metadata, &message.snapshotter)?;
        let parent = parent(message.parent);
        let mounts = snapshotter
            .view(&message.key, parent.as_deref(), labels(message.labels))
            .await
            .map_err(failed)?;
        Ok(Response::new(wire::ViewSnapshotResponse {
            mounts: api::to_wire::mounts(&mounts),
        }))
    }

    async fn mounts(
        &self,
        request: Request<wire::MountsRequest>,
    ) -> Result<Response<wire::MountsResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let snapshotter = self.snapshotter(&metadata, &message.snapshotter)?;
        let mounts = snapshotter.mounts(&message.key).await.map_err(failed)?;
        Ok(Response::new(wire::MountsResponse {
            mounts: api::to_wire::mounts(&mounts),
        }))
    }

    async fn commit(
        &self,
        request: Request<wire::CommitSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let (metadata, _, message) = request.into_parts();
        let snapshotter = self.snapshotter(&metadata, &message.snapshotter)?;
        // A client's files were written by whom we do not know: they are made durable here.
        let options = CommitOptions {
            labels: labels(message.labels),
            parent: parent(message.parent),
            durability: Durability::Sync,
        };
        snapshotter
            .commit(&message.name, &message.key, options)
            .await
            .map_err(failed)?;
        Ok(Response::new(()))
    }

    async fn remove(
        &self,
        request: Request<wire::RemoveSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let (metadata, _, message) = request.into_parts();
        let snapshotter = self.snapshotter(&metadata, &message.snapshotter)?;
        snapshotter.remove(&message.key).await.map_err(failed)?;
        Ok(Response::new(()))
    }

    async fn stat(
        &self,
        request: Request<wire::StatSnapshotRequest>,
    ) -> Result<Response<wire::StatSnapshotResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let snapshotter = self.snapshotter(&metadata, &message.snapshotter)?;
        let info = snapshotter.stat(&message.key).await.map_err(failed)?;
        Ok(Response::new(wire::StatSnapshotResponse {
            info: Some(info_to(info)),
        }))
    }

    async fn update(
        &self,
        request: Request<wire::UpdateSnapshotRequest>,
    ) -> Result<Response<wire::UpdateSnapshotResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let snapshotter = self.snapshotter(&metadata, &message.snapshotter)?;
        let wanted = message
            .info
            .ok_or_else(|| Status::invalid_argument("info is required: invalid argument"))?;
        let before = snapshotter.stat(&wanted.name).await.map_err(failed)?;
        let info = Info {
            labels: labels(wanted.labels),
            ..before
        };
        let paths = message
            .update_mask
            .map(|mask| mask.paths)
            .filter(|paths| !paths.is_empty());
        let info = snapshotter
            .update(&info, paths.as_deref())
            .await
            .map_err(failed)?;
        Ok(Response::new(wire::UpdateSnapshotResponse {
            info: Some(info_to(info)),
        }))
    }

    async fn list(
        &self,
        request: Request<wire::ListSnapshotsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let (metadata, _, message) = request.into_parts();
        let snapshotter = self.snapshotter(&metadata, &message.snapshotter)?;
        let (sender, receiver) = mpsc::channel(PAGES_MAX);
        tokio::spawn(async move {
            let pages = sender.clone();
            let walked = snapshotter
                .walk(&message.filters, &mut move |page| {
                    let pages = pages.clone();
                    Box::pin(async move {
                        let info = page.into_iter().map(info_to).collect();
                        match pages.send(Ok(wire::ListSnapshotsResponse { info })).await {
                            Ok(()) => ControlFlow::Continue(()),
                            Err(_) => ControlFlow::Break(()),
                        }
                    })
                })
                .await;
            if let Err(error) = walked {
                let _client_gone = sender.send(Err(failed(error))).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn usage(
        &self,
        request: Request<wire::UsageRequest>,
    ) -> Result<Response<wire::UsageResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let snapshotter = self.snapshotter(&metadata, &message.snapshotter)?;
        let usage = snapshotter.usage(&message.key).await.map_err(failed)?;
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        Ok(Response::new(wire::UsageResponse {
            size: number(usage.size),
            inodes: number(usage.inodes),
        }))
    }

    async fn cleanup(
        &self,
        request: Request<wire::CleanupRequest>,
    ) -> Result<Response<()>, Status> {
        let (metadata, _, message) = request.into_parts();
        let snapshotter = self.snapshotter(&metadata, &message.snapshotter)?;
        snapshotter.cleanup().await.map_err(failed)?;
        Ok(Response::new(()))
    }
}
