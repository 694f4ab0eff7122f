//! A stream of content that is exactly as long as its descriptor says and survives broken connections.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use model::Descriptor;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode};
use url::Url;

use crate::Error;
use crate::endpoint::{Endpoint, deadline, refusal, transport};
use crate::media::is_manifest;
use crate::repository::Inner;
use crate::retry::Retry;

/// Progress after which the count of resumes starts anew, in bytes.
const PROGRESS_BYTES: u64 = 1 << 20;
/// Most of a descriptor's `urls` that are tried.
const URLS_MAX: usize = 8;

/// Content that is being fetched.
#[derive(Debug)]
pub struct Body {
    inner: Arc<Inner>,
    descriptor: Descriptor,
    response: Response,
    source: Source,
    /// The next byte that [`Body::chunk`] yields.
    offset: u64,
    /// Bytes of the response that we have already: the server ignored our range.
    skip: u64,
    resumes: u32,
    progress: u64,
    window: (Instant, u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    /// The place among the hosts; `None` for one of the descriptor's own URLs.
    index: Option<usize>,
    host: String,
}

impl Body {
    pub(crate) async fn open(
        inner: Arc<Inner>,
        descriptor: Descriptor,
        from: u64,
    ) -> Result<Self, Error> {
        let opened = open(&inner, &descriptor, from).await?;
        let resumes = inner.config.resumes;
        Ok(Self {
            inner,
            descriptor,
            response: opened.response,
            source: opened.source,
            offset: from,
            skip: opened.skip,
            resumes,
            progress: from,
            window: (Instant::now(), from),
        })
    }

    /// The host that the bytes come from.
    pub fn host(&self) -> &str {
        &self.source.host
    }

    /// The position of the next byte in the content.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes; `None` when all promised bytes have come. A broken connection is resumed where it broke.
    ///
    /// # Errors
    /// The body is longer or shorter than promised, too slow, or can't be resumed.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let error = match self.read().await {
                Ok(Some(bytes)) => {
                    if let Some(bytes) = self.accept(bytes)? {
                        return Ok(Some(bytes));
                    }
                    continue;
                }
                Ok(None) if self.offset == self.descriptor.size => return Ok(None),
                Ok(None) => self.length(self.offset),
                Err(error) => error,
            };
            self.resume(error).await?;
        }
    }

    /// Says that the bytes turned out to have another digest: this host is not asked for them again.
    pub fn distrust(&self) {
        if let Some(index) = self.source.index {
            self.inner.distrust(index, &self.descriptor.digest);
        }
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        let host = self.source.host.as_str();
        let read = deadline(
            self.inner.config.idle,
            host,
            "the next bytes",
            self.response.chunk(),
        )
        .await?;
        let bytes = read.map_err(|source| transport(host, source))?;
        let (since, start) = self.window;
        let window = self.inner.config.rate_window;
        if since.elapsed() >= window {
            let least = self.inner.config.rate_min.saturating_mul(window.as_secs());
            if bytes.is_some() && self.offset - start < least {
                return Err(Error::Timeout {
                    host: host.into(),
                    what: "a body at a useful rate",
                    seconds: window.as_secs(),
                });
            }
            self.window = (Instant::now(), self.offset);
        }
        Ok(bytes)
    }

    /// Counts bytes, drops those that we have, and refuses those that nobody promised.
    fn accept(&mut self, mut bytes: Bytes) -> Result<Option<Bytes>, Error> {
        let have = self.skip.min(bytes.len() as u64);
        self.skip -= have;
        // `have` is at most the length, so it fits.
        let bytes = bytes.split_off(usize::try_from(have).unwrap_or(bytes.len()));
        if bytes.is_empty() {
            return Ok(None);
        }
        self.offset += bytes.len() as u64;
        if self.offset > self.descriptor.size {
            return Err(self.length(self.offset));
        }
        if self.offset - self.progress >= PROGRESS_BYTES {
            self.progress = self.offset;
            self.resumes = self.inner.config.resumes;
        }
        Ok(Some(bytes))
    }

    async fn resume(&mut self, error: Error) -> Result<(), Error> {
        let resumable = error.may_pass() || matches!(error, Error::Length { .. });
        let mut retry = Retry::times(&self.inner.config, self.resumes);
        if !resumable || self.offset >= self.descriptor.size || !retry.wait(None).await {
            return Err(error);
        }
        self.resumes -= 1;
        tracing::debug!(host = self.source.host, offset = self.offset, error = %error, "resuming");
        match open(&self.inner, &self.descriptor, self.offset).await {
            Ok(opened) => {
                self.response = opened.response;
                self.source = opened.source;
                self.skip = opened.skip;
                self.window = (Instant::now(), self.offset);
                Ok(())
            }
            Err(Error::Status { status: 416, .. }) => Err(error),
            Err(again) => Err(again),
        }
    }

    fn length(&self, actual: u64) -> Error {
        Error::Length {
            host: self.source.host.clone(),
            digest: self.descriptor.digest.clone(),
            expected: self.descriptor.size,
            actual,
        }
    }
}

struct Opened {
    response: Response,
    source: Source,
    skip: u64,
}

async fn open(inner: &Arc<Inner>, descriptor: &Descriptor, from: u64) -> Result<Opened, Error> {
    let mut tour = inner.tour("pull", |may| may.pull, Some(&descriptor.digest));
    while let Some((endpoint, retry)) = tour.next() {
        match open_at(inner, endpoint, descriptor, from, retry).await {
            Ok(opened) => return Ok(opened),
            Err(error) => tour.failed(endpoint, error),
        }
    }
    let error = tour.end();
    for url in descriptor.urls.iter().take(URLS_MAX) {
        match open_url(inner, descriptor, url, from).await {
            Ok(opened) => return Ok(opened),
            Err(error) => tracing::debug!(error = %error, "a URL of the descriptor failed"),
        }
    }
    Err(error)
}

async fn open_at(
    inner: &Arc<Inner>,
    endpoint: &Endpoint,
    descriptor: &Descriptor,
    from: u64,
    retry: Retry,
) -> Result<Opened, Error> {
    let what = format!("{}@{}", inner.reference.locator(), descriptor.digest);
    let kind = if is_manifest(&descriptor.media_type) {
        "manifests"
    } else {
        "blobs"
    };
    let mut ask = inner.ask(Method::GET, kind, descriptor.digest.as_str(), &what);
    ask.from = from;
    if kind == "manifests" {
        ask.accept = Some(crate::media::ACCEPT);
    }
    let response = endpoint.send(&ask, retry).await?;
    let index = inner
        .endpoints
        .iter()
        .position(|each| std::ptr::eq(each, endpoint));
    let source = Source {
        index,
        host: endpoint.name().to_owned(),
    };
    begin(response, source, descriptor, from)
}

/// One of the descriptor's own URLs: no credentials, no headers of anybody's, no redirects to follow them to.
async fn open_url(
    inner: &Arc<Inner>,
    descriptor: &Descriptor,
    text: &str,
    from: u64,
) -> Result<Opened, Error> {
    let refuse = |reason: &str| Error::Redirect {
        host: "a URL of the descriptor".into(),
        reason: reason.into(),
    };
    let url = Url::parse(text).map_err(|_| refuse("it is no URL"))?;
    let plain = url.username().is_empty() && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || !plain {
        return Err(refuse("it is neither https nor http, or holds a user"));
    }
    let host = url.host_str().unwrap_or_default().to_owned();
    let mut request = inner.shared.get(url);
    if from > 0 {
        request = request.header(RANGE, format!("bytes={from}-"));
    }
    let response = deadline(inner.config.first_byte, &host, "an answer", request.send())
        .await?
        .map_err(|source| transport(&host, source))?;
    if !response.status().is_success() {
        return Err(refusal(&inner.config, &host, "foreign content", response).await);
    }
    begin(response, Source { index: None, host }, descriptor, from)
}

/// Checks what the head of the answer says about range and length.
fn begin(
    response: Response,
    source: Source,
    descriptor: &Descriptor,
    from: u64,
) -> Result<Opened, Error> {
    let partial = response.status() == StatusCode::PARTIAL_CONTENT;
    if partial {
        let range = response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|value| value.to_str().ok());
        let start = range
            .and_then(|range| range.strip_prefix("bytes "))
            .and_then(|range| range.split('-').next()?.trim().parse::<u64>().ok());
        if start != Some(from) {
            return Err(Error::Status {
                host: source.host,
                what: format!("bytes of {} from {from} on", descriptor.digest),
                status: 206,
                message: ": it sent another range".into(),
            });
        }
    }
    let skip = if partial { 0 } else { from };
    let announced = response.content_length().map(|length| length + from - skip);
    if let Some(actual) = announced.filter(|actual| *actual != descriptor.size) {
        return Err(Error::Length {
            host: source.host,
            digest: descriptor.digest.clone(),
            expected: descriptor.size,
            actual,
        });
    }
    Ok(Opened {
        response,
        source,
        skip,
    })
}
