//! Pulls by the daemon's Transfer service, with credentials and progress over streams.

use std::collections::BTreeMap;

use model::Platform;
use proto::Any;
use proto::containerd::services::streaming::v1::StreamInit;
use proto::containerd::services::transfer::v1::{TransferOptions, TransferRequest};
use proto::containerd::types::Platform as WirePlatform;
use proto::containerd::types::transfer::{
    AuthRequest, AuthResponse, AuthType, ImageStore, OciRegistry, Progress, RegistryResolver,
    UnpackConfiguration,
};
use proto::typeurl;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{Client, Error};

/// Messages that wait in one direction of a stream.
const MESSAGES_MAX: usize = 64;

/// What to pull and how.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// The platform; the daemon's own when absent.
    pub platform: Option<Platform>,
    /// Where to unpack; nowhere when absent.
    pub snapshotter: Option<String>,
    /// User and password for the registry.
    pub credentials: Option<(String, String)>,
    /// Whether the registry speaks plain HTTP.
    pub plain_http: bool,
    /// Folder with `hosts.toml` files, as the daemon sees it.
    pub hosts_dir: Option<String>,
}

impl Client {
    /// Pulls an image by its full name; what the daemon reports goes to `progress` until the pull ends.
    pub async fn pull(
        &self,
        name: &str,
        options: &PullOptions,
        progress: mpsc::Sender<Progress>,
    ) -> Result<(), Error> {
        let id = format!("{}-{name}", std::process::id());
        let progress_id = format!("progress-{id}");
        let mut reports = self.stream(&progress_id).await?;
        let reporter = tokio::spawn(async move {
            while let Ok(Some(message)) = reports.incoming.message().await {
                let Ok(report) = typeurl::unpack::<Progress>(&message) else {
                    continue;
                };
                if progress.send(report).await.is_err() {
                    break;
                }
            }
        });
        let auth_id = match &options.credentials {
            Some(credentials) => {
                let auth_id = format!("auth-{id}");
                let stream = self.stream(&auth_id).await?;
                // Ends with the stream, which ends with the transfer.
                tokio::spawn(answer(stream, credentials.clone()));
                auth_id
            }
            None => String::new(),
        };
        let resolver = RegistryResolver {
            auth_stream: auth_id,
            host_dir: options.hosts_dir.clone().unwrap_or_default(),
            default_scheme: if options.plain_http {
                "http".to_owned()
            } else {
                String::new()
            },
            ..Default::default()
        };
        let source = OciRegistry {
            reference: name.to_owned(),
            resolver: Some(resolver),
        };
        let request = TransferRequest {
            source: Some(typeurl::pack(&source)),
            destination: Some(typeurl::pack(&store(name, options))),
            options: Some(TransferOptions {
                progress_stream: progress_id,
            }),
        };
        let transferred = self.transfer().transfer(request).await;
        let _aborted = tokio::time::timeout(std::time::Duration::from_secs(1), reporter).await;
        transferred
            .map(drop)
            .map_err(Error::call(format!("pull {name:?}")))
    }

    /// Opens a stream that a transfer can take by its id.
    async fn stream(&self, id: &str) -> Result<ClientStream, Error> {
        let failed = Error::call(format!("open stream {id:?}"));
        let (outgoing, receiver) = mpsc::channel(MESSAGES_MAX);
        let init = typeurl::pack(&StreamInit { id: id.to_owned() });
        outgoing.try_send(init).map_err(|_| Error::Invalid {
            what: format!("stream {id:?} is full at once"),
        })?;
        let mut incoming = self
            .streaming()
            .stream(ReceiverStream::new(receiver))
            .await
            .map_err(&failed)?
            .into_inner();
        // The daemon's first, empty message says that the id may be used.
        incoming.message().await.map_err(&failed)?;
        Ok(ClientStream { incoming, outgoing })
    }
}

struct ClientStream {
    incoming: Streaming<Any>,
    outgoing: mpsc::Sender<Any>,
}

/// Answers each question for credentials.
async fn answer(mut stream: ClientStream, (username, secret): (String, String)) {
    while let Ok(Some(message)) = stream.incoming.message().await {
        let credentials = AuthResponse {
            auth_type: AuthType::Credentials as i32,
            username: username.clone(),
            secret: secret.clone(),
            expire_at: None,
        };
        if typeurl::is::<AuthRequest>(&message)
            && stream
                .outgoing
                .send(typeurl::pack(&credentials))
                .await
                .is_err()
        {
            return;
        }
    }
}

fn store(name: &str, options: &PullOptions) -> ImageStore {
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let wire = WirePlatform {
        os: platform.os,
        architecture: platform.architecture,
        variant: platform.variant,
        ..Default::default()
    };
    let unpacks = options
        .snapshotter
        .iter()
        .map(|snapshotter| UnpackConfiguration {
            platform: Some(wire.clone()),
            snapshotter: snapshotter.clone(),
        });
    ImageStore {
        name: name.to_owned(),
        labels: BTreeMap::new(),
        platforms: vec![wire.clone()],
        unpacks: unpacks.collect(),
        ..Default::default()
    }
}
