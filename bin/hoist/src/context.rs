//! What every command starts from: the connection, the namespace, and names looked up kindly.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use client::{Client, Error};
use model::Namespace;
use proto::containerd::services::containers::v1::{
    Container, GetContainerRequest, ListContainersRequest,
};
use proto::containerd::services::images::v1::{Image, ListImagesRequest};
use proto::containerd::services::introspection::v1::PluginsRequest;
use proto::containerd::services::namespaces::v1::ListNamespacesRequest;

use crate::cli::Cli;
use crate::suggest;

/// The snapshotter of our containers.
pub(crate) const SNAPSHOTTER: &str = "overlayfs";

/// A connected command.
#[derive(Debug)]
pub(crate) struct Context {
    /// The daemon, in our namespace.
    pub client: Client,
    /// Our namespace.
    pub namespace: Namespace,
    /// Whether to print JSON.
    pub json: bool,
    /// The daemon's socket.
    pub address: PathBuf,
}

impl Context {
    /// Connects to the daemon that the command line names.
    pub(crate) async fn connect(cli: &Cli) -> anyhow::Result<Self> {
        let namespace = Namespace::new(cli.namespace.as_str()).context("--namespace")?;
        let client = Client::connect(&cli.address, &namespace).await?;
        Ok(Self {
            client,
            namespace,
            json: cli.json,
            address: cli.address.clone(),
        })
    }

    /// All namespaces, ours first.
    pub(crate) async fn namespaces(&self) -> anyhow::Result<Vec<Namespace>> {
        let request = ListNamespacesRequest::default();
        let listed = self
            .client
            .namespaces()
            .list(request)
            .await
            .map_err(Error::call("list namespaces"))?
            .into_inner();
        let mut names = vec![self.namespace.clone()];
        for namespace in listed.namespaces {
            let name = Namespace::new(namespace.name)?;
            if name != self.namespace {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// The containers of a namespace.
    pub(crate) async fn containers(&self, namespace: &Namespace) -> anyhow::Result<Vec<Container>> {
        let request = ListContainersRequest::default();
        let client = self.client.in_namespace(namespace);
        let listed = client
            .containers()
            .list(request)
            .await
            .map_err(Error::call("list containers"))?;
        Ok(listed.into_inner().containers)
    }

    /// The images of a namespace.
    pub(crate) async fn images(&self, namespace: &Namespace) -> anyhow::Result<Vec<Image>> {
        let client = self.client.in_namespace(namespace);
        let listed = client
            .images()
            .list(ListImagesRequest::default())
            .await
            .map_err(Error::call("list images"))?;
        Ok(listed.into_inner().images)
    }

    /// A container by name, or by a beginning that only one name has.
    pub(crate) async fn container(&self, name: &str) -> anyhow::Result<Container> {
        match self
            .client
            .containers()
            .get(GetContainerRequest {
                id: name.to_owned(),
            })
            .await
        {
            Ok(answer) => {
                return answer
                    .into_inner()
                    .container
                    .ok_or_else(|| anyhow!("container {name:?} has no record"));
            }
            Err(status)
                if matches!(
                    status.code(),
                    tonic::Code::NotFound | tonic::Code::InvalidArgument
                ) => {}
            Err(status) => {
                return Err(Error::call(format!("look up container {name:?}"))(status).into());
            }
        }
        let mut here = self.containers(&self.namespace).await?;
        let starting: Vec<_> = here
            .iter()
            .filter(|container| !name.is_empty() && container.id.starts_with(name))
            .collect();
        if let [one] = starting.as_slice() {
            return Ok((*one).clone());
        }
        if starting.len() > 1 {
            let names: Vec<_> = starting
                .iter()
                .map(|container| container.id.as_str())
                .collect();
            bail!(
                "{name:?} is the beginning of several containers: {}",
                names.join(", ")
            );
        }
        for namespace in self.namespaces().await?.iter().skip(1) {
            if self
                .containers(namespace)
                .await?
                .iter()
                .any(|container| container.id == name)
            {
                bail!(
                    "container {name:?} is not in namespace {:?}, but in {namespace:?}: add --namespace {namespace}",
                    self.namespace.as_str(),
                    namespace = namespace.as_str()
                );
            }
        }
        here.sort_by(|left, right| left.id.cmp(&right.id));
        let near = suggest::nearest(name, here.iter().map(|container| container.id.as_str()));
        let hint = near.map_or(String::new(), |near| format!(": did you mean {near:?}?"));
        bail!(
            "no container {name:?} in namespace {:?}{hint}",
            self.namespace.as_str()
        )
    }

    /// An image by its full or short name.
    pub(crate) async fn image(&self, name: &str) -> anyhow::Result<Image> {
        let full = model::reference::familiar(name).map(|reference| reference.to_string());
        for candidate in std::iter::once(name.to_owned()).chain(full) {
            if let Some(image) = self.client.image_record(&candidate).await? {
                return Ok(image);
            }
        }
        for namespace in self.namespaces().await?.iter().skip(1) {
            let wanted = model::reference::familiar(name)
                .map(|reference| reference.to_string())
                .unwrap_or_default();
            if self
                .images(namespace)
                .await?
                .iter()
                .any(|image| image.name == wanted || image.name == name)
            {
                let namespace = namespace.as_str();
                bail!(
                    "image {name:?} is not in namespace {:?}, but in {namespace:?}: add --namespace {namespace}",
                    self.namespace.as_str()
                );
            }
        }
        let here = self.images(&self.namespace).await?;
        let near = suggest::nearest(name, here.iter().map(|image| image.name.as_str()));
        let hint = near.map_or(String::new(), |near| format!(": did you mean {near:?}?"));
        bail!(
            "no image {name:?} in namespace {:?}{hint}",
            self.namespace.as_str()
        )
    }

    /// The daemon's root folder, as its content store tells it.
    pub(crate) async fn daemon_root(&self) -> anyhow::Result<PathBuf> {
        let request = PluginsRequest {
            filters: vec!["type==io.containerd.content.v1".to_owned()],
        };
        let plugins = self
            .client
            .introspection()
            .plugins(request)
            .await
            .map_err(Error::call("ask for the content store"))?;
        let plugins = plugins.into_inner().plugins;
        let root = plugins.iter().find_map(|plugin| plugin.exports.get("root"));
        let root = root.context("the daemon does not tell where its content store is")?;
        PathBuf::from(root)
            .parent()
            .map(PathBuf::from)
            .context("the content store lies in no folder")
    }
}
