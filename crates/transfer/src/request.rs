//! What is asked of a transfer.

use std::sync::Arc;
use std::time::Duration;

use jobs::Jobs;
use model::{Clock, Descriptor, Labels, Namespace, PlatformMatcher};
use snapshots::Snapshotter;

use crate::{Applier, Stores};

/// Limits and helpers of a [`crate::Transfer`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Most downloads beside each other, over all pulls.
    pub max_concurrent_downloads: usize,
    /// How long a pull goes on that nobody waits for.
    pub abandon_after: Duration,
    /// How long to wait for somebody else's write of the same content.
    pub locked_wait: Duration,
    /// Unpacks layers.
    pub applier: Arc<dyn Applier>,
    /// Where pulls are listed while they run.
    pub jobs: Jobs,
    /// Tells the time, for the names of extraction snapshots.
    pub clock: Arc<dyn Clock>,
}

impl Config {
    /// Three downloads, ten seconds, one minute.
    pub fn new(applier: Arc<dyn Applier>, jobs: Jobs, clock: Arc<dyn Clock>) -> Self {
        Self {
            max_concurrent_downloads: 3,
            abandon_after: Duration::from_secs(10),
            locked_wait: Duration::from_secs(60),
            applier,
            jobs,
            clock,
        }
    }
}

/// Where the layers of a platform's image are unpacked.
#[derive(Debug, Clone)]
pub struct Unpack {
    /// The platforms for which this holds.
    pub platform: PlatformMatcher,
    /// The snapshotter's name, for labels.
    pub name: String,
    /// The snapshotter, as the request's namespace and lease see it.
    pub snapshotter: Arc<dyn Snapshotter>,
    /// Labels for every snapshot.
    pub labels: Labels,
}

/// Another name for the image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExtraReference {
    /// The name, or what stands before the digest.
    pub name: String,
    /// It is no name by itself.
    pub is_prefix: bool,
    /// The name gets `@<digest>`.
    pub add_digest: bool,
}

/// Where an image comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A registry.
    Registry(registry::Repository),
    /// The store has it all, and it is to be unpacked or named.
    Store(Box<Descriptor>),
}

impl Source {
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Registry(repository) => repository.reference().to_string(),
            Self::Store(target) => target.digest.to_string(),
        }
    }
}

/// A pull, or the unpacking of an image that the store has.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// The namespace; pulls are joined within it only.
    pub namespace: Namespace,
    /// Who asks. Only pulls of equal identities are joined, because one's credentials serve both; `None` joins none.
    pub identity: Option<String>,
    /// What to pull and from where.
    pub source: Source,
    /// The image's name in the store; may be empty if there are others, or if nothing is to be named.
    pub name: String,
    /// The image's labels.
    pub labels: Labels,
    /// More names.
    pub extra_references: Vec<ExtraReference>,
    /// The platforms whose content is wanted; `None` wants all.
    pub platforms: Option<PlatformMatcher>,
    /// Manifest and configuration of other platforms are wanted too.
    pub all_metadata: bool,
    /// Most manifests of an index, best first; 0 for all.
    pub manifest_limit: usize,
    /// Where to unpack; the first that fits an image's platform counts.
    pub unpacks: Vec<Unpack>,
    /// Where everything goes.
    pub stores: Stores,
}

impl PullRequest {
    /// What two requests must have in common to be one pull.
    pub(crate) fn key(&self) -> Option<String> {
        let unpacks: Vec<_> = self
            .unpacks
            .iter()
            .map(|each| (&each.name, &each.platform, &each.labels))
            .collect();
        let identity = self.identity.as_ref()?;
        Some(format!(
            "{:?}",
            (
                &self.namespace,
                identity,
                self.source.shown(),
                (&self.name, &self.labels, &self.extra_references),
                (&self.platforms, self.all_metadata, self.manifest_limit),
                unpacks,
            )
        ))
    }
}
