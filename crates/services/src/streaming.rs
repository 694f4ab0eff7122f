//! `containerd.services.streaming.v1.Streaming`: bidirectional streams that a Transfer names.
//!
//! A client opens a stream with an id of its own and gets an empty message back; from then on a transfer may take
//! the stream by that id, once. A stream that nobody takes ends with its client.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use api::containerd::services::streaming::v1::streaming_server::Streaming;
use model::Namespace;
use prost_types::Any;
use proto::containerd::services::streaming::v1::StreamInit;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming as Incoming};

/// Messages that wait in one direction of one stream.
const MESSAGES_MAX: usize = 64;
/// Streams open at once.
const STREAMS_MAX: usize = 1024;

/// The daemon's end of a stream.
#[derive(Debug)]
pub struct Pipe {
    /// What the client sends.
    pub incoming: mpsc::Receiver<Any>,
    /// What the client gets.
    pub outgoing: mpsc::Sender<Result<Any, Status>>,
}

type Key = (Namespace, String);

/// The streams that wait for a transfer.
#[derive(Debug, Clone, Default)]
pub struct Streams {
    waiting: Arc<Mutex<HashMap<Key, Pipe>>>,
}

impl Streams {
    /// Takes a stream, once.
    pub fn take(&self, namespace: &Namespace, id: &str) -> Option<Pipe> {
        self.lock().remove(&(namespace.clone(), id.to_owned()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Pipe>> {
        // A panic elsewhere leaves a map that is still whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, key: Key, pipe: Pipe) -> Result<(), Status> {
        let mut waiting = self.lock();
        if waiting.contains_key(&key) {
            return Err(Status::already_exists(format!(
                "stream {:?}: already exists",
                key.1
            )));
        }
        if waiting.len() >= STREAMS_MAX {
            return Err(Status::resource_exhausted(format!(
                "{STREAMS_MAX} streams wait already"
            )));
        }
        waiting.insert(key, pipe);
        Ok(())
    }
}

/// The service.
#[derive(Debug, Clone)]
pub struct Service {
    streams: Streams,
}

impl Service {
    /// Serves the given streams.
    pub fn new(streams: Streams) -> Self {
        Self { streams }
    }
}

#[tonic::async_trait]
impl Streaming for Service {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<Any, Status>> + Send>>;

    async fn stream(
        &self,
        request: Request<Incoming<Any>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let namespace = api::headers::namespace(request.metadata())?;
        let mut messages = request.into_inner();
        let first = messages
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("the stream ended before its init"))?;
        let init: StreamInit = proto::typeurl::unpack(&first)
            .map_err(|error| Status::invalid_argument(format!("read stream init: {error}")))?;
        let (to_transfer, incoming) = mpsc::channel(MESSAGES_MAX);
        let (outgoing, to_client) = mpsc::channel(MESSAGES_MAX);
        outgoing
            .try_send(Ok(proto::typeurl::pack(&())))
            .map_err(|_| Status::internal("the stream is full at once"))?;
        let key = (namespace, init.id);
        self.streams
            .register(key.clone(), Pipe { incoming, outgoing })?;
        let streams = self.streams.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = messages.next().await {
                if to_transfer.send(message).await.is_err() {
                    break;
                }
            }
            // The client went before a transfer took the stream.
            if to_transfer.is_closed() || !streams.lock().contains_key(&key) {
                return;
            }
            let _unused = streams.lock().remove(&key);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(to_client))))
    }
}
