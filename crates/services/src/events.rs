//! `containerd.services.events.v1.Events`, and its ttrpc twin for shims.

use std::pin::Pin;
use std::sync::Arc;

use api::containerd::services::events::v1::events_server::Events;
use events::{Envelope, Exchange};
use model::Namespace;
use proto::containerd::services::events::v1::{ForwardRequest, PublishRequest, SubscribeRequest};
use proto::containerd::types as wire;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

/// The service.
#[derive(Debug, Clone)]
pub struct Service {
    exchange: Arc<Exchange>,
}

impl Service {
    /// Serves the given exchange.
    pub fn new(exchange: Arc<Exchange>) -> Self {
        Self { exchange }
    }
}

/// Reads an envelope from the wire; every field is required.
pub fn envelope(wire: Option<wire::Envelope>) -> Result<Envelope, Status> {
    let missing =
        |field| Status::invalid_argument(format!("envelope {field} is required: invalid argument"));
    let wire = wire.ok_or_else(|| missing("itself"))?;
    let timestamp = wire.timestamp.ok_or_else(|| missing("timestamp"))?;
    Ok(Envelope {
        timestamp: api::from_wire::timestamp("timestamp", timestamp)?,
        namespace: Namespace::new(wire.namespace)
            .map_err(|error| Status::invalid_argument(error.to_string()))?,
        topic: wire.topic,
        event: wire.event.ok_or_else(|| missing("event"))?,
    })
}

#[tonic::async_trait]
impl Events for Service {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<wire::Envelope, Status>> + Send>>;

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<()>, Status> {
        let namespace = api::headers::namespace(request.metadata())?;
        let message = request.into_inner();
        let event = message
            .event
            .ok_or_else(|| Status::invalid_argument("event is required: invalid argument"))?;
        self.exchange
            .publish(&namespace, &message.topic, event)
            .map_err(api::status::of)?;
        Ok(Response::new(()))
    }

    async fn forward(&self, request: Request<ForwardRequest>) -> Result<Response<()>, Status> {
        let envelope = envelope(request.into_inner().envelope)?;
        self.exchange.forward(envelope).map_err(api::status::of)?;
        Ok(Response::new(()))
    }

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let mut subscription = self
            .exchange
            .subscribe(&request.into_inner().filters)
            .map_err(api::status::of)?;
        let stream = tokio_stream::StreamExt::map(
            tokio_stream::wrappers::ReceiverStream::new({
                let (sender, receiver) = tokio::sync::mpsc::channel(1);
                tokio::spawn(async move {
                    while let Some(delivered) = subscription.recv().await {
                        if sender.send(delivered).await.is_err() {
                            return;
                        }
                    }
                });
                receiver
            }),
            |delivered| match delivered {
                Ok(envelope) => Ok(wire::Envelope {
                    timestamp: Some(api::to_wire::timestamp(envelope.timestamp)),
                    namespace: envelope.namespace.to_string(),
                    topic: envelope.topic.clone(),
                    event: Some(envelope.event.clone()),
                }),
                Err(error) => Err(api::status::of(error)),
            },
        );
        Ok(Response::new(Box::pin(stream)))
    }
}
