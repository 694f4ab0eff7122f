//! One name in a registry: what it points to, and the content behind it.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use model::{Algorithm, Descriptor, Digest, Reference};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, Response};
use serde::Deserialize;

use crate::config::MANIFEST_BYTES_MAX;
use crate::endpoint::{Ask, Endpoint, read_bounded};
use crate::hosts::Capabilities;
use crate::media::{self, ACCEPT, essence, is_manifest, is_schema1, is_vague};
use crate::retry::Retry;
use crate::{Body, Config, Error, Hasher};

/// Most bad sources remembered for one repository.
const DISTRUSTED_MAX: usize = 1000;

/// What a name points to.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// Its bytes, verified, where finding out took reading them.
    pub bytes: Option<Bytes>,
}

/// A repository as one caller sees it; cheap to clone.
#[derive(Debug, Clone)]
pub struct Repository {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) reference: Reference,
    scope: String,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) config: Arc<Config>,
    pub(crate) shared: reqwest::Client,
    /// Hosts that sent other bytes than a digest's: not asked for it again.
    distrusted: Mutex<HashSet<(usize, Digest)>>,
}

impl Repository {
    pub(crate) fn new(
        reference: Reference,
        endpoints: Vec<Endpoint>,
        config: Arc<Config>,
        shared: reqwest::Client,
    ) -> Self {
        let scope = format!("repository:{}:pull", reference.repository());
        Self {
            inner: Arc::new(Inner {
                reference,
                scope,
                endpoints,
                config,
                shared,
                distrusted: Mutex::default(),
            }),
        }
    }

    /// The name that this handle was made for.
    pub fn reference(&self) -> &Reference {
        &self.inner.reference
    }

    /// Finds out what the reference points to. A digest in it is held against the answer.
    ///
    /// # Errors
    /// No host knows it, or none answers as a registry does.
    pub async fn resolve(&self) -> Result<Resolved, Error> {
        let inner = &self.inner;
        let object = inner.reference.object().ok_or_else(|| Error::NoObject {
            reference: inner.reference.to_string(),
        })?;
        let mut tour = inner.tour("resolve", |may| may.resolve, None);
        while let Some((endpoint, retry)) = tour.next() {
            match inner.resolve_at(endpoint, object, retry).await {
                Ok(resolved) => return Ok(resolved),
                Err(error) => tour.failed(endpoint, error),
            }
        }
        Err(tour.end())
    }

    /// Reads a manifest or index whole; its size and digest are verified.
    ///
    /// # Errors
    /// No host has it, or all have other bytes under its digest.
    pub async fn manifest(&self, descriptor: &Descriptor) -> Result<Bytes, Error> {
        let inner = &self.inner;
        if descriptor.size > MANIFEST_BYTES_MAX {
            return Err(Error::TooLarge {
                host: inner.reference.host().into(),
                what: format!("manifest {}", descriptor.digest),
                limit: MANIFEST_BYTES_MAX,
            });
        }
        let mut tour = inner.tour("pull", |may| may.pull, Some(&descriptor.digest));
        while let Some((endpoint, retry)) = tour.next() {
            match inner.manifest_at(endpoint, descriptor, retry).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => tour.failed(endpoint, error),
            }
        }
        Err(tour.end())
    }

    /// Opens content from byte `from` on. The bytes are counted but not hashed: that is up to the reader, who
    /// calls [`Body::distrust`] when the digest is wrong.
    ///
    /// # Errors
    /// No host has it.
    pub async fn fetch(&self, descriptor: &Descriptor, from: u64) -> Result<Body, Error> {
        Body::open(self.inner.clone(), descriptor.clone(), from).await
    }
}

/// Goes from host to host until one succeeds.
pub(crate) struct Tour<'a> {
    inner: &'a Inner,
    capability: &'static str,
    left: VecDeque<&'a Endpoint>,
    errors: Vec<Error>,
    /// The digest for which a host that may answer sent something else before.
    spoiled: Option<Digest>,
}

impl<'a> Tour<'a> {
    pub(crate) fn next(&mut self) -> Option<(&'a Endpoint, Retry)> {
        let endpoint = self.left.pop_front()?;
        let config = &self.inner.config;
        let retry = if self.left.is_empty() {
            Retry::new(config)
        } else {
            Retry::never(config)
        };
        Some((endpoint, retry))
    }

    pub(crate) fn failed(&mut self, endpoint: &Endpoint, error: Error) {
        tracing::debug!(host = endpoint.name(), error = %error, "host failed");
        self.errors.push(error);
    }

    /// What all the failures together mean.
    pub(crate) fn end(self) -> Error {
        if let (true, Some(digest)) = (self.errors.is_empty(), self.spoiled) {
            let host = self.inner.reference.host().into();
            return Error::Distrusted { host, digest };
        }
        self.inner.summary(self.errors, self.capability)
    }
}

impl Inner {
    /// The hosts to ask, in order; only the last is asked patiently.
    pub(crate) fn tour(
        &self,
        capability: &'static str,
        may: impl Fn(&Capabilities) -> bool,
        digest: Option<&Digest>,
    ) -> Tour<'_> {
        let trusted = |index| digest.is_none_or(|digest| !self.is_distrusted(index, digest));
        let endpoints = self.endpoints.iter().enumerate();
        let able: Vec<_> = endpoints
            .filter(|(_, endpoint)| may(&endpoint.host.capabilities))
            .collect();
        let trusted: VecDeque<_> = able
            .iter()
            .filter(|(index, _)| trusted(*index))
            .map(|(_, endpoint)| *endpoint)
            .collect();
        Tour {
            inner: self,
            capability,
            spoiled: digest.filter(|_| trusted.len() < able.len()).cloned(),
            left: trusted,
            errors: Vec::new(),
        }
    }

    fn summary(&self, mut errors: Vec<Error>, capability: &'static str) -> Error {
        // "Not found" at one host says less than any other failure at another.
        let telling = errors.iter().rposition(|error| !error.is_not_found());
        let place = telling.or_else(|| errors.len().checked_sub(1));
        let Some(place) = place else {
            return Error::NoHost {
                host: self.reference.host().into(),
                capability,
            };
        };
        let source = errors.remove(place);
        if errors.is_empty() {
            return source;
        }
        Error::AllHosts {
            reference: self.reference.to_string(),
            summary: errors
                .iter()
                .map(|error| model::chain(error))
                .collect::<Vec<_>>()
                .join("; "),
            source: Box::new(source),
        }
    }

    pub(crate) fn distrust(&self, index: usize, digest: &Digest) {
        let mut distrusted = self
            .distrusted
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if distrusted.len() < DISTRUSTED_MAX {
            distrusted.insert((index, digest.clone()));
        }
    }

    pub(crate) fn is_distrusted(&self, index: usize, digest: &Digest) -> bool {
        let distrusted = self
            .distrusted
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        distrusted.contains(&(index, digest.clone()))
    }

    pub(crate) fn ask<'a>(
        &'a self,
        method: Method,
        kind: &str,
        object: &str,
        what: &'a str,
    ) -> Ask<'a> {
        Ask {
            method,
            path: format!("{}/{kind}/{object}", self.relative()),
            accept: None,
            from: 0,
            scope: &self.scope,
            what,
        }
    }

    fn relative(&self) -> &str {
        self.reference.repository()
    }

    async fn manifest_at(
        &self,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
        retry: Retry,
    ) -> Result<Bytes, Error> {
        let digest = &descriptor.digest;
        let response = self.get_manifest(endpoint, digest.as_str(), retry).await?;
        let bytes = self.read_manifest(endpoint, response, digest).await?;
        self.check(endpoint, &bytes, digest)?;
        if bytes.len() as u64 != descriptor.size {
            return Err(Error::Length {
                host: endpoint.name().into(),
                digest: digest.clone(),
                expected: descriptor.size,
                actual: bytes.len() as u64,
            });
        }
        Ok(bytes)
    }

    async fn resolve_at(
        &self,
        endpoint: &Endpoint,
        object: &str,
        retry: Retry,
    ) -> Result<Resolved, Error> {
        let what = self.reference.to_string();
        let mut ask = self.ask(Method::HEAD, "manifests", object, &what);
        ask.accept = Some(ACCEPT);
        let response = match endpoint.send(&ask, retry).await {
            Ok(response) => response,
            // Some servers answer GET only, and only a GET's answer says why.
            Err(Error::Status {
                status: 400 | 403 | 405 | 501,
                ..
            }) => {
                return self.resolve_by_reading(endpoint, object).await;
            }
            Err(error) => return Err(error),
        };
        let header = |name| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let media_type = essence(header(CONTENT_TYPE.as_str()).unwrap_or_default()).to_owned();
        self.check_type(endpoint, &media_type)?;
        let digest = header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
        let size = header(CONTENT_LENGTH.as_str()).and_then(|text| text.parse::<u64>().ok());
        let (Some(digest), Some(size), true) = (digest, size, is_manifest(&media_type)) else {
            return self.resolve_by_reading(endpoint, object).await;
        };
        self.check_reference(endpoint, &digest)?;
        if size > MANIFEST_BYTES_MAX {
            return Err(Error::TooLarge {
                host: endpoint.name().into(),
                what: format!("manifest {digest}"),
                limit: MANIFEST_BYTES_MAX,
            });
        }
        Ok(Resolved {
            descriptor: Descriptor::new(media_type, digest, size),
            bytes: None,
        })
    }

    async fn resolve_by_reading(
        &self,
        endpoint: &Endpoint,
        object: &str,
    ) -> Result<Resolved, Error> {
        let response = self
            .get_manifest(endpoint, object, Retry::new(&self.config))
            .await?;
        let content_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let mut media_type = essence(content_type.unwrap_or_default()).to_owned();
        let claimed = response
            .headers()
            .get("docker-content-digest")
            .and_then(|value| value.to_str().ok()?.parse::<Digest>().ok());
        let wanted = self.reference.digest().cloned().or(claimed);
        let algorithm = wanted.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let bytes = self.read_body(endpoint, response).await?;
        let digest = Hasher::digest(algorithm, &bytes);
        if let Some(expected) = wanted.filter(|wanted| *wanted != digest) {
            return Err(wrong_digest(endpoint, expected, digest));
        }
        if is_vague(&media_type) {
            media_type = declared_type(&bytes).unwrap_or(media_type);
        }
        self.check_type(endpoint, &media_type)?;
        if !is_manifest(&media_type) {
            return Err(self.not_a_manifest(endpoint, &media_type));
        }
        Ok(Resolved {
            descriptor: Descriptor::new(media_type, digest, bytes.len() as u64),
            bytes: Some(bytes),
        })
    }

    async fn get_manifest(
        &self,
        endpoint: &Endpoint,
        object: &str,
        retry: Retry,
    ) -> Result<Response, Error> {
        let what = self.reference.to_string();
        let mut ask = self.ask(Method::GET, "manifests", object, &what);
        ask.accept = Some(ACCEPT);
        let response = endpoint.send(&ask, retry).await?;
        let content_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        self.check_type(endpoint, essence(content_type.unwrap_or_default()))?;
        Ok(response)
    }

    async fn read_manifest(
        &self,
        endpoint: &Endpoint,
        response: Response,
        digest: &Digest,
    ) -> Result<Bytes, Error> {
        let what = format!("manifest {digest}");
        read_bounded(
            &self.config,
            endpoint.name(),
            &what,
            response,
            MANIFEST_BYTES_MAX,
        )
        .await
    }

    async fn read_body(&self, endpoint: &Endpoint, response: Response) -> Result<Bytes, Error> {
        let what = format!("manifest {}", self.reference);
        read_bounded(
            &self.config,
            endpoint.name(),
            &what,
            response,
            MANIFEST_BYTES_MAX,
        )
        .await
    }

    fn check(&self, endpoint: &Endpoint, bytes: &[u8], expected: &Digest) -> Result<(), Error> {
        let actual = Hasher::digest(expected.algorithm(), bytes);
        if actual == *expected {
            return Ok(());
        }
        Err(wrong_digest(endpoint, expected.clone(), actual))
    }

    fn check_reference(&self, endpoint: &Endpoint, digest: &Digest) -> Result<(), Error> {
        match self.reference.digest() {
            Some(expected) if expected != digest => {
                Err(wrong_digest(endpoint, expected.clone(), digest.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Refuses what can't be a manifest; vague types pass and are looked at.
    fn check_type(&self, endpoint: &Endpoint, media_type: &str) -> Result<(), Error> {
        if is_schema1(media_type) {
            return Err(Error::Schema1 {
                reference: self.reference.to_string(),
            });
        }
        if media::is_manifest(media_type) || is_vague(media_type) {
            return Ok(());
        }
        Err(self.not_a_manifest(endpoint, media_type))
    }

    fn not_a_manifest(&self, endpoint: &Endpoint, media_type: &str) -> Error {
        Error::NotAManifest {
            host: endpoint.name().into(),
            reference: self.reference.to_string(),
            media_type: media_type.chars().take(100).collect(),
        }
    }
}

fn wrong_digest(endpoint: &Endpoint, expected: Digest, actual: Digest) -> Error {
    Error::WrongDigest {
        host: endpoint.name().into(),
        expected,
        actual,
    }
}

/// What a manifest says that it is.
fn declared_type(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Declared {
        #[serde(rename = "mediaType")]
        media_type: Option<String>,
    }
    serde_json::from_slice::<Declared>(bytes).ok()?.media_type
}
