//! A server for tokio: any number of connections, calls of one connection beside each other.

use crate::codec::{self, Decoder, Kind};
use crate::message::{Request, Response, Status};
use model::ErrorKind;
use prost::Message;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// Connections served at once; more wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 4096;
/// Calls of one connection that run at once; more wait unread.
const CALLS_MAX: usize = 64;
const READ_BYTES: usize = 16 << 10;
/// Pause after a failed accept, such as when no descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peers {
    /// Processes of this user id, and root.
    User(u32),
    /// Whoever can open the socket.
    Any,
}

/// One call as a handler sees it.
#[derive(Debug, Clone)]
pub struct Call {
    /// Name of the method.
    pub method: String,
    /// The encoded argument.
    pub payload: Vec<u8>,
    /// The call's metadata and limits, without its payload.
    pub request: Request,
}

impl Call {
    /// Decodes the argument.
    pub fn argument<A: Message + Default>(&self) -> Result<A, Status> {
        A::decode(self.payload.as_slice()).map_err(|error| {
            Status::new(
                ErrorKind::InvalidArgument,
                format!("decode argument of {}: {error}", self.method),
            )
        })
    }

    /// The namespace the caller named.
    pub fn namespace(&self) -> Option<&str> {
        self.request.metadata_value(crate::NAMESPACE_KEY)
    }
}

/// What a handler promises: the encoded result, or a failure.
pub type Reply = Pin<Box<dyn Future<Output = Result<Vec<u8>, Status>> + Send>>;

type Handler = Arc<dyn Fn(Call) -> Reply + Send + Sync>;

/// The services of a server.
#[derive(Clone)]
pub struct Server {
    services: HashMap<String, Handler>,
    peers: Peers,
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.services.keys().collect();
        formatter
            .debug_struct("Server")
            .field("services", &names)
            .field("peers", &self.peers)
            .finish()
    }
}

impl Server {
    /// A server without services.
    pub fn new(peers: Peers) -> Self {
        Self {
            services: HashMap::new(),
            peers,
        }
    }

    /// Adds a service; the handler sees all its methods and answers [`Status::unimplemented`] to unknown ones.
    #[must_use]
    pub fn service<F, T>(mut self, name: &str, handler: F) -> Self
    where
        F: Fn(Call) -> T + Send + Sync + 'static,
        T: Future<Output = Result<Vec<u8>, Status>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |call| Box::pin(handler(call)));
        self.services.insert(name.to_owned(), handler);
        self
    }

    /// Serves until `stop` resolves; calls that run then are dropped with their connections.
    pub async fn serve(
        self,
        listener: UnixListener,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let server = Arc::new(self);
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        tokio::pin!(stop);
        loop {
            let place = Arc::clone(&places).acquire_owned();
            let accepted = async {
                let place = place.await;
                (place, listener.accept().await)
            };
            tokio::select! {
                () = &mut stop => return Ok(()),
                Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
                (place, accepted) = accepted => {
                    let Ok((stream, _)) = accepted else {
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    };
                    if !server.admits(&stream) {
                        continue;
                    }
                    let server = Arc::clone(&server);
                    connections.spawn(async move {
                        server.serve_connection(stream).await;
                        drop(place);
                    });
                }
            }
        }
    }

    fn admits(&self, stream: &UnixStream) -> bool {
        match self.peers {
            Peers::Any => true,
            Peers::User(user) => stream
                .peer_cred()
                .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == user),
        }
    }

    /// Serves one connection until the peer closes it or breaks the protocol.
    pub async fn serve_connection(&self, stream: UnixStream) {
        let (mut reader, mut writer) = stream.into_split();
        let (answers, mut queue) = mpsc::channel::<Vec<u8>>(CALLS_MAX);
        let write = async move {
            while let Some(frame) = queue.recv().await {
                if writer.write_all(&frame).await.is_err() {
                    return;
                }
            }
        };
        let read = async move {
            let mut decoder = Decoder::default();
            let mut scratch = vec![0; READ_BYTES];
            let mut calls = JoinSet::new();
            let mut last_stream = 0;
            loop {
                match reader.read(&mut scratch).await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => decoder.push(&scratch[..count]),
                }
                while let Ok(Some(frame)) = decoder.next_frame() {
                    if frame.kind != Kind::Request {
                        continue;
                    }
                    if calls.len() >= CALLS_MAX {
                        calls.join_next().await;
                    }
                    while calls.try_join_next().is_some() {}
                    let reply = self.dispatch(&frame, &mut last_stream);
                    let answers = answers.clone();
                    calls.spawn(async move {
                        let response = reply.await;
                        // The peer may be gone: then nobody misses the answer.
                        let _unwanted =
                            answers.send(encode(frame.stream, &response)).await.is_err();
                    });
                }
                if decoder.next_frame().is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = read => {}
            () = write => {}
        }
    }

    fn dispatch(
        &self,
        frame: &codec::Frame,
        last_stream: &mut u32,
    ) -> impl Future<Output = Response> + Send + 'static {
        let reply = self.route(frame, last_stream);
        async move {
            let (reply, limit) = match reply {
                Ok(found) => found,
                Err(status) => return Response::failed(status),
            };
            let result = match limit {
                None => reply.await,
                Some(limit) => tokio::time::timeout(limit, reply)
                    .await
                    .unwrap_or_else(|_| {
                        Err(Status::new(
                            ErrorKind::DeadlineExceeded,
                            "context deadline exceeded",
                        ))
                    }),
            };
            match result {
                Ok(payload) => Response::ok(payload),
                Err(status) => Response::failed(status),
            }
        }
    }

    fn route(
        &self,
        frame: &codec::Frame,
        last_stream: &mut u32,
    ) -> Result<(Reply, Option<Duration>), Status> {
        if frame.stream.is_multiple_of(2) || frame.stream <= *last_stream {
            let text = format!("stream id {} is even or was used before", frame.stream);
            return Err(Status::new(ErrorKind::InvalidArgument, text));
        }
        *last_stream = frame.stream;
        let mut request = Request::decode(frame.payload.as_slice())
            .map_err(|_| Status::new(ErrorKind::InvalidArgument, "request cannot be decoded"))?;
        let handler = self
            .services
            .get(&request.service)
            .filter(|_| frame.flags & codec::FLAG_REMOTE_OPEN == 0);
        let Some(handler) = handler else {
            return Err(Status::unimplemented(&request.service, &request.method));
        };
        let limit = u64::try_from(request.timeout_nano)
            .ok()
            .filter(|nanos| *nanos > 0)
            .map(Duration::from_nanos);
        let payload = std::mem::take(&mut request.payload);
        let call = Call {
            method: request.method.clone(),
            payload,
            request,
        };
        Ok((handler(call), limit))
    }
}

fn encode(stream: u32, response: &Response) -> Vec<u8> {
    let mut frame = Vec::new();
    if let Err(error) = codec::encode_message(&mut frame, stream, Kind::Response, response) {
        let failure = Response::failed(Status::from_error(&error));
        codec::encode_message(&mut frame, stream, Kind::Response, &failure)
            .expect("a short failure fits a frame");
    }
    frame
}
