//! One connection to a daemon, and its services in a namespace.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use model::Namespace;
use tokio::net::UnixStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};
use tower::service_fn;

use crate::Error;

/// Time to reach the socket.
const CONNECT: Duration = Duration::from_secs(10);
/// Flow-control window: content streams run at the speed of the disk.
const WINDOW_BYTES: u32 = 4 << 20;

/// A connection to any daemon that speaks containerd's API.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    headers: Headers,
}

/// Puts namespace and lease into each request.
#[derive(Debug, Clone)]
pub struct Headers {
    namespace: MetadataValue<Ascii>,
    lease: Option<MetadataValue<Ascii>>,
}

/// A service with our headers.
pub type Scoped = InterceptedService<Channel, Headers>;

impl tonic::service::Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request
            .metadata_mut()
            .insert(api::headers::NAMESPACE, self.namespace.clone());
        if let Some(lease) = &self.lease {
            request
                .metadata_mut()
                .insert(api::headers::LEASE, lease.clone());
        }
        Ok(request)
    }
}

impl Client {
    /// Connects to a socket; requests go to the given namespace.
    pub async fn connect(socket: &Path, namespace: &Namespace) -> Result<Self, Error> {
        let path = PathBuf::from(socket);
        let unreachable = |source: tonic::transport::Error| Error::Connect {
            path: path.clone(),
            source: Box::new(source),
        };
        // The name is never looked up: the connector knows the socket.
        let endpoint = Endpoint::from_static("http://hoist.invalid")
            .connect_timeout(CONNECT)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        let socket = path.clone();
        let channel = endpoint
            .connect_with_connector(service_fn(move |_: Uri| {
                let socket = socket.clone();
                async move { UnixStream::connect(socket).await.map(TokioIo::new) }
            }))
            .await
            .map_err(unreachable)?;
        Ok(Self {
            channel,
            headers: Headers {
                namespace: header(namespace.as_str()),
                lease: None,
            },
        })
    }

    /// The same connection in another namespace.
    pub fn in_namespace(&self, namespace: &Namespace) -> Self {
        let headers = Headers {
            namespace: header(namespace.as_str()),
            lease: self.headers.lease.clone(),
        };
        Self {
            channel: self.channel.clone(),
            headers,
        }
    }

    /// The same connection, with everything it makes kept by a lease.
    pub fn with_lease(&self, lease: &str) -> Result<Self, Error> {
        let lease = lease.parse().map_err(|_| Error::Invalid {
            what: format!("lease {lease:?} is no header value"),
        })?;
        Ok(Self {
            channel: self.channel.clone(),
            headers: Headers {
                lease: Some(lease),
                ..self.headers.clone()
            },
        })
    }

    fn scoped(&self) -> Scoped {
        InterceptedService::new(self.channel.clone(), self.headers.clone())
    }
}

fn header(namespace: &str) -> MetadataValue<Ascii> {
    namespace.parse().expect("an identifier is ASCII")
}

macro_rules! services {
    ($($(#[$doc:meta])* $name:ident => $($path:ident)::+;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                pub fn $name(&self) -> api::containerd::services::$($path)::+<Scoped> {
                    api::containerd::services::$($path)::+::new(self.scoped())
                        .max_decoding_message_size(api::MESSAGE_BYTES_MAX)
                        .max_encoding_message_size(api::MESSAGE_BYTES_MAX)
                }
            )*
        }
    };
}

services! {
    /// Records of containers.
    containers => containers::v1::containers_client::ContainersClient;
    /// Blobs.
    content => content::v1::content_client::ContentClient;
    /// Application of layers.
    diff => diff::v1::diff_client::DiffClient;
    /// Events.
    events => events::v1::events_client::EventsClient;
    /// Records of images.
    images => images::v1::images_client::ImagesClient;
    /// The daemon's parts.
    introspection => introspection::v1::introspection_client::IntrospectionClient;
    /// Leases.
    leases => leases::v1::leases_client::LeasesClient;
    /// Namespaces.
    namespaces => namespaces::v1::namespaces_client::NamespacesClient;
    /// Snapshots.
    snapshots => snapshots::v1::snapshots_client::SnapshotsClient;
    /// Streams for transfers.
    streaming => streaming::v1::streaming_client::StreamingClient;
    /// Tasks.
    tasks => tasks::v1::tasks_client::TasksClient;
    /// Transfers.
    transfer => transfer::v1::transfer_client::TransferClient;
    /// The daemon's version.
    version => version::v1::version_client::VersionClient;
}
