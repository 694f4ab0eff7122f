//! `containerd.services.content.v1.Content`.

mod write;

use std::pin::Pin;

use api::containerd::services::content::v1::content_server::Content;
use api::{from_wire, status, to_wire};
use metadata::ContentInfo;
use proto::containerd::services::content::v1 as wire;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::scope::Scope;

/// Records of one message of a list.
const PAGE_RECORDS: usize = 100;
/// Bytes of one message of a blob.
const CHUNK_BYTES: usize = 1 << 20;
/// Messages that wait for a slow client.
const MESSAGES_MAX: usize = 2;

/// The service.
#[derive(Debug, Clone)]
pub struct Service {
    scope: Scope,
}

impl Service {
    /// Serves the content of the store.
    pub fn new(scope: Scope) -> Self {
        Self { scope }
    }
}

fn info_to(info: ContentInfo) -> wire::Info {
    wire::Info {
        digest: info.digest.to_string(),
        size: to_wire::size(info.size),
        created_at: Some(to_wire::timestamp(info.created)),
        updated_at: Some(to_wire::timestamp(info.updated)),
        labels: info.labels,
    }
}

fn status_to(status: content::Status) -> wire::Status {
    wire::Status {
        started_at: Some(to_wire::timestamp(status.started)),
        updated_at: Some(to_wire::timestamp(status.updated)),
        r#ref: status.reference,
        offset: to_wire::size(status.offset),
        total: to_wire::size(status.total),
        expected: String::new(),
    }
}

type Stream_<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Content for Service {
    type ListStream = Stream_<wire::ListContentResponse>;
    type ReadStream = Stream_<wire::ReadContentResponse>;
    type WriteStream = Stream_<wire::WriteContentResponse>;

    async fn info(
        &self,
        request: Request<wire::InfoRequest>,
    ) -> Result<Response<wire::InfoResponse>, Status> {
        let view = self.scope.view(request.metadata())?;
        let digest = from_wire::digest("digest", &request.get_ref().digest)?;
        let info = view.content().info(&digest).map_err(status::of)?;
        Ok(Response::new(wire::InfoResponse {
            info: Some(info_to(info)),
        }))
    }

    async fn update(
        &self,
        request: Request<wire::UpdateRequest>,
    ) -> Result<Response<wire::UpdateResponse>, Status> {
        let view = self.scope.view(request.metadata())?;
        let message = request.into_inner();
        let wanted = from_wire::required("info", message.info)?;
        let digest = from_wire::digest("info.digest", &wanted.digest)?;
        let mask = message.update_mask.unwrap_or_default().paths;
        let updated = view.content().update(&digest, wanted.labels, mask).await;
        Ok(Response::new(wire::UpdateResponse {
            info: Some(info_to(updated.map_err(status::of)?)),
        }))
    }

    async fn list(
        &self,
        request: Request<wire::ListContentRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let view = self.scope.view(request.metadata())?;
        let found = view.content().list(&request.get_ref().filters);
        let found = found.map_err(status::of)?;
        let pages: Vec<_> = found
            .chunks(PAGE_RECORDS)
            .map(|page| {
                let info = page.iter().cloned().map(info_to).collect();
                Ok(wire::ListContentResponse { info })
            })
            .collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(pages))))
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteContentRequest>,
    ) -> Result<Response<()>, Status> {
        let view = self.scope.view(request.metadata())?;
        let digest = from_wire::digest("digest", &request.get_ref().digest)?;
        view.content().delete(&digest).await.map_err(status::of)?;
        Ok(Response::new(()))
    }

    async fn read(
        &self,
        request: Request<wire::ReadContentRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let view = self.scope.view(request.metadata())?;
        let message = request.into_inner();
        let digest = from_wire::digest("digest", &message.digest)?;
        let blob = view.content().reader(&digest).map_err(status::of)?;
        // A negative offset reads as none, as clients of old expect.
        let offset = u64::try_from(message.offset).unwrap_or(0);
        if offset > blob.size {
            return Err(Status::out_of_range(format!(
                "read past object length {} bytes: out of range",
                blob.size
            )));
        }
        let rest = blob.size - offset;
        let wanted = u64::try_from(message.size).unwrap_or(0);
        let length = if wanted == 0 { rest } else { wanted.min(rest) };
        let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
        tokio::task::spawn_blocking(move || send_blob(&blob, offset, length, &sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn status(
        &self,
        request: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusResponse>, Status> {
        let view = self.scope.view(request.metadata())?;
        let found = view.content().status(&request.get_ref().r#ref);
        Ok(Response::new(wire::StatusResponse {
            status: Some(status_to(found.map_err(status::of)?)),
        }))
    }

    async fn list_statuses(
        &self,
        request: Request<wire::ListStatusesRequest>,
    ) -> Result<Response<wire::ListStatusesResponse>, Status> {
        let view = self.scope.view(request.metadata())?;
        let found = view.content().statuses(&request.get_ref().filters);
        let statuses = found.map_err(status::of)?.into_iter().map(status_to);
        Ok(Response::new(wire::ListStatusesResponse {
            statuses: statuses.collect(),
        }))
    }

    async fn write(
        &self,
        request: Request<Streaming<wire::WriteContentRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        let view = self.scope.view(request.metadata())?;
        let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
        let messages = request.into_inner();
        tokio::spawn(write::serve(view, messages, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn abort(&self, request: Request<wire::AbortRequest>) -> Result<Response<()>, Status> {
        let view = self.scope.view(request.metadata())?;
        let aborted = view.content().abort(&request.get_ref().r#ref).await;
        Ok(Response::new(aborted.map_err(status::of)?))
    }
}

/// Sends a part of a blob; offsets count from the part's beginning, as upstream's do.
fn send_blob(
    blob: &content::Blob,
    offset: u64,
    length: u64,
    sender: &mpsc::Sender<Result<wire::ReadContentResponse, Status>>,
) {
    let mut sent = 0;
    while sent < length {
        let chunk =
            usize::try_from(length - sent).map_or(CHUNK_BYTES, |rest| rest.min(CHUNK_BYTES));
        let mut data = vec![0; chunk];
        let read = match blob.read_at(&mut data, offset + sent) {
            Ok(0) => Err(Status::data_loss("the blob is shorter than its record")),
            Ok(read) => Ok(read),
            Err(error) => Err(Status::internal(format!("read blob: {error}"))),
        };
        let failed = read.is_err();
        let answer = read.map(|read| {
            data.truncate(read);
            let answer = wire::ReadContentResponse {
                offset: to_wire::size(sent),
                data: data.into(),
            };
            sent += read as u64;
            answer
        });
        if sender.blocking_send(answer).is_err() || failed {
            return;
        }
    }
}
