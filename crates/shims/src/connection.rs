//! One connection to a shim, over ttrpc or gRPC.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use model::Kinded;
use proto::Method;
use shim_protocol::bootstrap::BootstrapResult;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::Error;

/// Longest gRPC message either way, in bytes.
const GRPC_BYTES_MAX: usize = 16 << 20;

/// A connection; clones share it.
#[derive(Debug, Clone)]
pub(crate) enum Connection {
    Ttrpc(ttrpc::client::Client),
    Grpc {
        channel: Channel,
        /// A connection of its own that carries nothing and ends with the shim.
        probe: std::sync::Arc<tokio::sync::watch::Receiver<bool>>,
    },
}

/// A call as it goes out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    /// The task, for errors.
    pub(crate) id: &'a str,
    /// The namespace that rides along.
    pub(crate) namespace: &'a str,
    /// The full name of the service, which may be an older one than the method's own.
    pub(crate) service: &'a str,
    /// The time allowed; absent waits for ever.
    pub(crate) limit: Option<Duration>,
}

impl Connection {
    /// Connects to the address that a shim gave.
    pub(crate) async fn open(id: &str, result: &BootstrapResult) -> Result<Self, Error> {
        let path =
            shim_protocol::address::path(&result.address).ok_or_else(|| Error::Unimplemented {
                what: format!("shim address {:?}", result.address),
            })?;
        let stream = UnixStream::connect(path)
            .await
            .map_err(|error| Error::io("connect to", path, error))?;
        match result.protocol.to_ascii_lowercase().as_str() {
            "ttrpc" | "" => Ok(Self::Ttrpc(ttrpc::client::Client::new(stream))),
            "grpc" => Self::open_grpc(id, path.to_owned(), stream).await,
            other => Err(Error::Unimplemented {
                what: format!("shim protocol {other:?}"),
            }),
        }
    }

    async fn open_grpc(id: &str, path: String, probe: UnixStream) -> Result<Self, Error> {
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://shim.invalid")
            .connect_with_connector(connector)
            .await
            .map_err(|error| Error::Start {
                id: id.to_owned(),
                reason: model::chain(&error),
            })?;
        let (closing, closed) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            // The server sends its settings and then nothing; the end of the stream is the end of the shim.
            let mut scratch = [0; 4096];
            loop {
                let readable = probe.readable().await;
                match probe.try_read(&mut scratch) {
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Ok(count) if count > 0 && readable.is_ok() => {}
                    _ => break,
                }
            }
            closing.send_replace(true);
        });
        Ok(Self::Grpc {
            channel,
            probe: std::sync::Arc::new(closed),
        })
    }

    /// Resolves once the shim is gone.
    pub(crate) async fn closed(&self) {
        match self {
            Self::Ttrpc(client) => client.closed().await,
            Self::Grpc { probe, .. } => {
                let mut closed = probe.as_ref().clone();
                // An error means that the watcher is gone, which is the same news.
                let _gone = closed.wait_for(|closed| *closed).await.is_err();
            }
        }
    }

    /// Makes one call.
    pub(crate) async fn call<M: Method>(
        &self,
        target: Target<'_>,
        request: M::Request,
    ) -> Result<M::Response, Error>
    where
        M::Request: 'static,
        M::Response: 'static,
    {
        match self {
            Self::Ttrpc(client) => call_ttrpc::<M>(client, target, &request).await,
            Self::Grpc { channel, .. } => {
                let call = call_grpc::<M>(channel.clone(), target, request);
                let Some(limit) = target.limit else {
                    return call.await;
                };
                tokio::time::timeout(limit, call)
                    .await
                    .unwrap_or(Err(Error::Timeout {
                        method: M::NAME,
                        limit,
                    }))
            }
        }
    }
}

async fn call_ttrpc<M: Method>(
    client: &ttrpc::client::Client,
    target: Target<'_>,
    request: &M::Request,
) -> Result<M::Response, Error> {
    let mut options = ttrpc::client::CallOptions::namespace(target.namespace);
    options.timeout = target.limit;
    let answer = client.call(target.service, M::NAME, request, options).await;
    answer.map_err(|error| match error {
        ttrpc::client::Error::Status(status) => Error::Refused {
            kind: status.kind(),
            message: status.message,
        },
        ttrpc::client::Error::Closed => Error::Gone {
            id: target.id.to_owned(),
        },
        ttrpc::client::Error::Timeout { limit, .. } => Error::Timeout {
            method: M::NAME,
            limit,
        },
        other => Error::Protocol {
            what: "answer",
            source: Box::new(other),
        },
    })
}

async fn call_grpc<M: Method>(
    channel: Channel,
    target: Target<'_>,
    request: M::Request,
) -> Result<M::Response, Error>
where
    M::Request: 'static,
    M::Response: 'static,
{
    let gone = || Error::Gone {
        id: target.id.to_owned(),
    };
    let mut client = tonic::client::Grpc::new(channel)
        .max_decoding_message_size(GRPC_BYTES_MAX)
        .max_encoding_message_size(GRPC_BYTES_MAX);
    client.ready().await.map_err(|_| gone())?;
    let path = format!("/{}/{}", target.service, M::NAME);
    let path = path
        .parse()
        .map_err(|_| Error::Unimplemented { what: path })?;
    let mut request = tonic::Request::new(request);
    if let Ok(namespace) = target.namespace.parse() {
        request
            .metadata_mut()
            .insert("containerd-namespace", namespace);
    }
    let codec = tonic_prost::ProstCodec::<M::Request, M::Response>::default();
    match client.unary(request, path, codec).await {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) if std::error::Error::source(&status).is_some() => Err(gone()),
        Err(status) => Err(Error::Refused {
            kind: kind_of(status.code()),
            message: status.message().to_owned(),
        }),
    }
}

/// gRPC and ttrpc number failures alike.
fn kind_of(code: tonic::Code) -> model::ErrorKind {
    ttrpc::Status {
        code: code as i32,
        message: String::new(),
    }
    .kind()
}
