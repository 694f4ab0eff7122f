//! `containerd.services.transfer.v1.Transfer`: pulls from a registry into the image store.
//!
//! Other pairs of source and destination are not built and answer Unimplemented.

mod credentials;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use api::containerd::services::transfer::v1::transfer_server::Transfer as Service_;
use api::{from_wire, headers, status, to_wire};
use metadata::Db;
use model::reference::Reference;
use model::{Clock, Labels, Namespace, PlatformMatcher};
use proto::containerd::services::transfer::v1::TransferRequest;
use proto::containerd::types::transfer as wire;
use proto::{Any, typeurl};
use registry::{Anonymous, Credentials, Hosts, Scheme};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};
use transfer::{
    ExtraReference, LocalStores, Progress, ProgressStream, PullRequest, Source, Transfer, Unpack,
};

use crate::streaming::Streams;

/// A client of registries, made when the first pull needs it: reading the host's certificates takes longer than the
/// rest of a daemon's start.
#[derive(Debug, Clone)]
struct Lazy {
    config: registry::Config,
    made: Arc<OnceLock<registry::Client>>,
}

impl Lazy {
    fn get(&self) -> Result<&registry::Client, Status> {
        if let Some(client) = self.made.get() {
            return Ok(client);
        }
        let client = registry::Client::new(self.config.clone()).map_err(status::of)?;
        Ok(self.made.get_or_init(|| client))
    }
}

/// What the service works with.
#[derive(Debug, Clone)]
pub struct Service {
    db: Arc<Db>,
    transfer: Transfer,
    client: Lazy,
    host_folders: Vec<PathBuf>,
    streams: Streams,
    clock: Arc<dyn Clock>,
}

impl Service {
    /// `host_folders` hold `hosts.toml` files for requests that name no folder.
    pub fn new(
        db: Arc<Db>,
        transfer: Transfer,
        registry: registry::Config,
        host_folders: Vec<PathBuf>,
        streams: Streams,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            db,
            transfer,
            client: Lazy {
                config: registry,
                made: Arc::default(),
            },
            host_folders,
            streams,
            clock,
        }
    }

    async fn pull(
        &self,
        namespace: &Namespace,
        stores: &Arc<LocalStores>,
        source: wire::OciRegistry,
        store: wire::ImageStore,
        progress: &str,
    ) -> Result<(), Status> {
        let reference = Reference::parse(&source.reference)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let resolver = source.resolver.unwrap_or_default();
        let credentials = self.credentials(namespace, &resolver)?;
        let identity = resolver.auth_stream.is_empty().then(String::new);
        let hosts = self.hosts(&reference, &resolver).await?;
        let repository = self
            .client
            .get()?
            .repository(&reference, &hosts, &credentials)
            .map_err(status::of)?;
        let platforms = store.platforms.into_iter().map(from_wire::platform);
        let platforms: Vec<_> = platforms.collect();
        let extra = store
            .extra_references
            .into_iter()
            .map(|extra| ExtraReference {
                name: extra.name,
                is_prefix: extra.is_prefix,
                add_digest: extra.add_digest,
            });
        let request = PullRequest {
            namespace: namespace.clone(),
            identity,
            source: Source::Registry(repository),
            name: store.name,
            labels: store.labels,
            extra_references: extra.collect(),
            platforms: (!platforms.is_empty()).then(|| PlatformMatcher::ordered(platforms)),
            all_metadata: store.all_metadata,
            manifest_limit: store.manifest_limit as usize,
            unpacks: unpacks(stores, store.unpacks)?,
            stores: stores.stores(),
        };
        let mut pulling = self.transfer.pull(request);
        let reporter = self.report(namespace, progress, pulling.progress())?;
        let pulled = pulling.finish().await;
        // The last messages belong to the client before the answer does.
        drop(pulling);
        if let Some(reporter) = reporter {
            let limit = std::time::Duration::from_secs(1);
            let _client_reads_no_more = tokio::time::timeout(limit, reporter).await;
        }
        pulled.map(drop).map_err(|error| status::of_ref(&*error))
    }

    /// Where credentials come from: the client, over a stream of its own.
    fn credentials(
        &self,
        namespace: &Namespace,
        resolver: &wire::RegistryResolver,
    ) -> Result<Arc<dyn Credentials>, Status> {
        if resolver.auth_stream.is_empty() {
            return Ok(Arc::new(Anonymous));
        }
        let pipe = self
            .streams
            .take(namespace, &resolver.auth_stream)
            .ok_or_else(|| {
                Status::not_found(format!("auth stream {:?}: not found", resolver.auth_stream))
            })?;
        Ok(Arc::new(credentials::ClientCredentials::new(pipe)))
    }

    async fn hosts(
        &self,
        reference: &Reference,
        resolver: &wire::RegistryResolver,
    ) -> Result<Hosts, Status> {
        let scheme = match resolver.default_scheme.as_str() {
            "" => None,
            "http" => Some(Scheme::Http),
            "https" => Some(Scheme::Https),
            other => {
                return Err(Status::invalid_argument(format!(
                    "scheme {other:?} is neither http nor https: invalid argument"
                )));
            }
        };
        let folders = match resolver.host_dir.as_str() {
            "" => self.host_folders.clone(),
            folder => vec![folder.into()],
        };
        let host = reference.host().to_owned();
        let read = tokio::task::spawn_blocking(move || Hosts::load(&folders, &host, scheme));
        let read = read
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        let mut hosts = read.map_err(status::of)?;
        for host in &mut hosts.hosts {
            let headers = resolver.headers.iter();
            host.headers
                .extend(headers.map(|(key, value)| (key.clone(), value.clone())));
        }
        Ok(hosts)
    }

    /// Passes messages on to the client's progress stream.
    fn report(
        &self,
        namespace: &Namespace,
        id: &str,
        mut progress: ProgressStream,
    ) -> Result<Option<tokio::task::JoinHandle<()>>, Status> {
        if id.is_empty() {
            return Ok(None);
        }
        let pipe = self
            .streams
            .take(namespace, id)
            .ok_or_else(|| Status::not_found(format!("progress stream {id:?}: not found")))?;
        Ok(Some(tokio::spawn(async move {
            while let Some(message) = progress.next().await {
                if !send(&pipe.outgoing, message).await {
                    return;
                }
            }
        })))
    }
}

async fn send(client: &mpsc::Sender<Result<Any, Status>>, message: Progress) -> bool {
    let wire = wire::Progress {
        event: message.event,
        name: message.name,
        parents: message.parents,
        progress: to_wire::size(message.progress),
        total: to_wire::size(message.total),
        desc: message.descriptor.as_ref().map(to_wire::descriptor),
    };
    client.send(Ok(typeurl::pack(&wire))).await.is_ok()
}

/// The snapshotter of an unpack request that names none.
const DEFAULT_SNAPSHOTTER: &str = "overlayfs";

/// Where each platform's layers are unpacked.
fn unpacks(
    stores: &LocalStores,
    wanted: Vec<wire::UnpackConfiguration>,
) -> Result<Vec<Unpack>, Status> {
    wanted
        .into_iter()
        .map(|unpack| {
            // Clients that leave it to the daemon send no name.
            let name = match unpack.snapshotter.as_str() {
                "" => DEFAULT_SNAPSHOTTER.to_owned(),
                _ => unpack.snapshotter,
            };
            let snapshotter = stores.snapshotter(&name).ok_or_else(|| {
                Status::invalid_argument(format!(
                    "snapshotter not loaded: {name}: invalid argument"
                ))
            })?;
            let platform = match unpack.platform {
                Some(platform) => PlatformMatcher::only(&from_wire::platform(platform)),
                None => PlatformMatcher::only(&model::Platform::host()),
            };
            Ok(Unpack {
                platform,
                name,
                snapshotter,
                labels: Labels::new(),
            })
        })
        .collect()
}

#[tonic::async_trait]
impl Service_ for Service {
    async fn transfer(&self, request: Request<TransferRequest>) -> Result<Response<()>, Status> {
        let namespace = headers::namespace(request.metadata())?;
        let lease = headers::lease(request.metadata())?.map(str::to_owned);
        let message = request.into_inner();
        let source = from_wire::required("source", message.source)?;
        let destination = from_wire::required("destination", message.destination)?;
        let pair = (
            typeurl::unpack::<wire::OciRegistry>(&source),
            typeurl::unpack::<wire::ImageStore>(&destination),
        );
        let (Ok(source), Ok(store)) = pair else {
            return Err(Status::unimplemented(format!(
                "transfer from {} to {}: not implemented",
                typeurl::bare(&source.type_url),
                typeurl::bare(&destination.type_url)
            )));
        };
        let progress = message.options.unwrap_or_default().progress_stream;
        // Without a lease of the client's, one of our own keeps what the pull makes until it has a name.
        let stores = LocalStores::open(&self.db, &namespace, lease.as_deref(), &*self.clock);
        let stores = stores.await.map_err(status::of)?;
        let pulled = self
            .pull(&namespace, &stores, source, store, &progress)
            .await;
        pulled.map(Response::new)
    }
}
