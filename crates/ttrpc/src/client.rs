//! A client for tokio: many calls at once over one connection.

use crate::codec::{self, Decoder, Kind, ProtocolError};
use crate::message::{KeyValue, Request, Response, Status};
use model::{ErrorKind, Kinded};
use prost::Message;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

/// Encoded calls that may wait for the writer of one connection.
const SEND_QUEUE_MAX: usize = 64;
/// Calls that may wait for their answer on one connection.
const CALLS_MAX: usize = 4096;
const READ_BYTES: usize = 16 << 10;

/// A call failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The server answered with a failure.
    #[error(transparent)]
    Status(#[from] Status),
    /// The connection is gone; nobody knows whether the call was carried out.
    #[error("ttrpc connection is closed")]
    Closed,
    /// The time allowed ran out.
    #[error("no answer to {method} within {limit:?}")]
    Timeout {
        /// The method.
        method: String,
        /// The time allowed.
        limit: Duration,
    },
    /// Too many calls wait on this connection.
    #[error("more than {CALLS_MAX} calls wait for an answer")]
    TooManyCalls,
    /// The message cannot be sent or understood.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The connection could not be made.
    #[error("connect to {address}")]
    Connect {
        /// The socket's path.
        address: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Status(status) => status.kind(),
            Self::Closed | Self::Connect { .. } => ErrorKind::Unavailable,
            Self::Timeout { .. } => ErrorKind::DeadlineExceeded,
            Self::TooManyCalls => ErrorKind::ResourceExhausted,
            Self::Protocol(error) => error.kind(),
        }
    }
}

/// What rides along with a call.
#[derive(Debug, Clone, Default)]
pub struct CallOptions {
    /// Time allowed; also sent to the server. `None` waits for ever.
    pub timeout: Option<Duration>,
    /// Metadata pairs.
    pub metadata: Vec<KeyValue>,
}

impl CallOptions {
    /// Options that carry a namespace.
    pub fn namespace(namespace: &str) -> Self {
        let pair = KeyValue {
            key: crate::NAMESPACE_KEY.to_owned(),
            value: namespace.to_owned(),
        };
        Self {
            timeout: None,
            metadata: vec![pair],
        }
    }

    /// The same with a time limit.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }
}

#[derive(Default)]
struct Pending {
    last_stream: u32,
    closed: bool,
    calls: HashMap<u32, oneshot::Sender<Response>>,
}

struct Shared {
    pending: Mutex<Pending>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection; clones share it. The connection ends when the last clone is dropped.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    send: mpsc::Sender<Vec<u8>>,
    closed: watch::Receiver<bool>,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Client")
            .field("closed", &*self.closed.borrow())
            .finish_non_exhaustive()
    }
}

/// Takes its call out of the table when the caller stops waiting.
struct Slot<'a> {
    shared: &'a Shared,
    stream: u32,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.shared.lock().calls.remove(&self.stream);
    }
}

impl Client {
    /// Connects to a socket path (without a `unix://` prefix).
    pub async fn connect(path: &str) -> Result<Self, Error> {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|source| Error::Connect {
                address: path.to_owned(),
                source: Arc::new(source),
            })?;
        Ok(Self::new(stream))
    }

    /// Takes a connected stream; must be called inside a tokio runtime.
    pub fn new(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        let (send, queue) = mpsc::channel(SEND_QUEUE_MAX);
        let (closing, closed) = watch::channel(false);
        let shared = Arc::new(Shared {
            pending: Mutex::new(Pending::default()),
        });
        let table = Arc::clone(&shared);
        tokio::spawn(async move {
            tokio::select! {
                () = read_answers(reader, &table) => {}
                () = write_calls(writer, queue) => {}
            }
            let waiting = {
                let mut pending = table.lock();
                pending.closed = true;
                std::mem::take(&mut pending.calls)
            };
            drop(waiting);
            closing.send_replace(true);
        });
        Self {
            shared,
            send,
            closed,
        }
    }

    /// Resolves once the connection is gone.
    pub async fn closed(&self) {
        let mut closed = self.closed.clone();
        // An error means that the driver task is gone, which is the same news.
        let _gone = closed.wait_for(|closed| *closed).await.is_err();
    }

    /// True once the connection is gone.
    pub fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Calls a method and waits for its answer. Dropping the future forgets the answer.
    pub async fn call<A: Message, R: Message + Default>(
        &self,
        service: &str,
        method: &str,
        argument: &A,
        options: CallOptions,
    ) -> Result<R, Error> {
        let payload = self
            .call_raw(service, method, argument.encode_to_vec(), options)
            .await?;
        R::decode(payload.as_slice()).map_err(|_| {
            ProtocolError::Malformed {
                stream: 0,
                what: "result",
            }
            .into()
        })
    }

    /// Like [`Client::call`] with encoded argument and result.
    pub async fn call_raw(
        &self,
        service: &str,
        method: &str,
        payload: Vec<u8>,
        options: CallOptions,
    ) -> Result<Vec<u8>, Error> {
        let limit = options.timeout;
        let request = Request {
            service: service.to_owned(),
            method: method.to_owned(),
            payload,
            timeout_nano: limit.map_or(0, |limit| {
                i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX)
            }),
            metadata: options.metadata,
        };
        let exchange = self.exchange(request);
        let response = match limit {
            None => exchange.await?,
            Some(limit) => {
                tokio::time::timeout(limit, exchange)
                    .await
                    .map_err(|_| Error::Timeout {
                        method: method.to_owned(),
                        limit,
                    })??
            }
        };
        match response.status {
            Some(status) if status.code != 0 => Err(status.into()),
            _ => Ok(response.payload),
        }
    }

    async fn exchange(&self, request: Request) -> Result<Response, Error> {
        // Stream numbers must reach the wire in order, so a place in the queue comes before the number.
        let place = self.send.reserve().await.map_err(|_| Error::Closed)?;
        let (answer, waiting) = oneshot::channel();
        let slot = {
            let mut pending = self.shared.lock();
            if pending.closed {
                return Err(Error::Closed);
            }
            if pending.calls.len() >= CALLS_MAX {
                return Err(Error::TooManyCalls);
            }
            let stream = if pending.last_stream == 0 {
                1
            } else {
                pending.last_stream + 2
            };
            let mut frame = Vec::new();
            codec::encode_message(&mut frame, stream, Kind::Request, &request)?;
            pending.last_stream = stream;
            pending.calls.insert(stream, answer);
            place.send(frame);
            Slot {
                shared: &self.shared,
                stream,
            }
        };
        let response = waiting.await.map_err(|_| Error::Closed);
        drop(slot);
        response
    }
}

async fn read_answers(mut reader: tokio::net::unix::OwnedReadHalf, shared: &Shared) {
    let mut decoder = Decoder::default();
    let mut scratch = vec![0; READ_BYTES];
    loop {
        match reader.read(&mut scratch).await {
            Ok(0) | Err(_) => return,
            Ok(count) => decoder.push(&scratch[..count]),
        }
        loop {
            let frame = match decoder.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => return,
            };
            if frame.kind != Kind::Response {
                continue;
            }
            let Ok(response) = Response::decode(frame.payload.as_slice()) else {
                return;
            };
            let waiting = shared.lock().calls.remove(&frame.stream);
            if let Some(waiting) = waiting {
                // The caller may have stopped waiting: then nobody misses the answer.
                let _unwanted = waiting.send(response).is_err();
            }
        }
    }
}

async fn write_calls(
    mut writer: tokio::net::unix::OwnedWriteHalf,
    mut queue: mpsc::Receiver<Vec<u8>>,
) {
    while let Some(frame) = queue.recv().await {
        if writer.write_all(&frame).await.is_err() {
            return;
        }
    }
}
