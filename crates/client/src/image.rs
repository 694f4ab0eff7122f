//! An image as a client sees it: record, manifest and configuration for one platform.

use model::{Digest, Platform, PlatformMatcher};
use proto::containerd::services::images::v1::{GetImageRequest, Image as Record};
use spec::image::{ImageConfiguration, Index, Manifest, media_type};

use crate::{Client, Error};

/// Indexes within indexes that are followed.
const NESTING_MAX: usize = 8;

/// An image for one platform.
#[derive(Debug, Clone)]
pub struct Image {
    /// The record.
    pub record: Record,
    /// The manifest for the platform.
    pub manifest: Manifest,
    /// The digest of the manifest.
    pub manifest_digest: String,
    /// The configuration.
    pub config: ImageConfiguration,
}

impl Image {
    /// The name of the snapshot with all layers applied (OCI image-spec, config.md#layer-chainid).
    pub fn chain_id(&self, hash: impl Fn(&[u8]) -> Digest) -> Option<String> {
        let mut ids = self.config.rootfs.diff_ids.iter();
        let first = ids.next()?.clone();
        Some(ids.fold(first, |chain, next| {
            hash(format!("{chain} {next}").as_bytes()).to_string()
        }))
    }
}

impl Image {
    /// Checks what a container would take from the configuration, which is the image's and not ours.
    pub fn check_runnable(&self) -> Result<(), Error> {
        let invalid = |error: &dyn std::error::Error| Error::Invalid {
            what: format!("image {:?}: {error}", self.record.name),
        };
        let bytes = serde_json::to_vec(&self.config).map_err(|error| invalid(&error))?;
        let config = images::Config::parse(&bytes).map_err(|error| invalid(&error))?;
        config.check_runnable().map_err(|error| invalid(&error))
    }
}

impl Client {
    /// The record of an image; `None` when there is none of this name.
    pub async fn image_record(&self, name: &str) -> Result<Option<Record>, Error> {
        match self
            .images()
            .get(GetImageRequest {
                name: name.to_owned(),
            })
            .await
        {
            Ok(answer) => Ok(answer.into_inner().image),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
            Err(status) => Err(Error::call(format!("look up image {name:?}"))(status)),
        }
    }

    /// Reads an image for a platform.
    pub async fn read_image(&self, record: Record, platform: &Platform) -> Result<Image, Error> {
        let invalid = |what: String| Error::Invalid { what };
        let matcher = PlatformMatcher::only(platform);
        let target = record
            .target
            .clone()
            .ok_or_else(|| invalid(format!("image {:?} has no target", record.name)))?;
        let (mut digest, mut kind) = (target.digest, target.media_type);
        for _ in 0..NESTING_MAX {
            let bytes = self.read_document(&digest).await?;
            if media_type::is_index(&kind) {
                let index = Index::from_slice(&bytes)
                    .map_err(|error| invalid(format!("index {digest}: {error}")))?;
                let chosen = choose(&index, &matcher).ok_or_else(|| {
                    invalid(format!(
                        "image {:?} has nothing for {}",
                        record.name,
                        platform.format()
                    ))
                })?;
                (digest, kind) = (chosen.digest.clone(), chosen.media_type.clone());
                continue;
            }
            let manifest = Manifest::from_slice(&bytes)
                .map_err(|error| invalid(format!("manifest {digest}: {error}")))?;
            let config = self.read_document(&manifest.config.digest).await?;
            let config = ImageConfiguration::from_slice(&config).map_err(|error| {
                invalid(format!("configuration {}: {error}", manifest.config.digest))
            })?;
            return Ok(Image {
                record,
                manifest,
                manifest_digest: digest,
                config,
            });
        }
        Err(invalid(format!(
            "image {:?} nests more than {NESTING_MAX} indexes",
            record.name
        )))
    }
}

/// The entry that fits the platform best.
fn choose<'a>(index: &'a Index, matcher: &PlatformMatcher) -> Option<&'a spec::image::Descriptor> {
    let platform = |entry: &spec::image::Descriptor| {
        let named = entry.platform.as_ref();
        named.map(|named| Platform {
            os: named.os.clone(),
            architecture: named.architecture.clone(),
            variant: named.variant.clone().unwrap_or_default(),
            os_version: named.os_version.clone().unwrap_or_default(),
            os_features: named.os_features.clone(),
        })
    };
    let mut best: Option<(&spec::image::Descriptor, Platform)> = None;
    for entry in &index.manifests {
        let Some(found) = platform(entry).filter(|found| matcher.matches(found)) else {
            continue;
        };
        if best
            .as_ref()
            .is_none_or(|(_, standing)| matcher.less(&found, standing))
        {
            best = Some((entry, found));
        }
    }
    best.map(|(entry, _)| entry)
}
