//! One server: sends a request with authorisation, redirects and retries.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use url::Url;

use crate::auth::{Asker, Authorizer};
use crate::config::{ERROR_BYTES_MAX, REDIRECTS_MAX};
use crate::retry::{Retry, retry_after};
use crate::{Config, Error, Host, Scheme};

/// How often one request answers a 401: a cached token may be stale, its replacement may not.
const AUTHORISATIONS_MAX: usize = 2;

/// A server as one repository sees it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) host: Host,
    namespace: Option<String>,
    own: reqwest::Client,
    foreign: reqwest::Client,
    headers: HeaderMap,
    config: Arc<Config>,
    authorizer: Authorizer,
    /// https could not be spoken on this machine.
    plain: AtomicBool,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    /// Below the host's path, such as `library/alpine/manifests/3`.
    pub(crate) path: String,
    pub(crate) accept: Option<&'static str>,
    /// First byte wanted; 0 asks for all.
    pub(crate) from: u64,
    pub(crate) scope: &'a str,
    /// For errors.
    pub(crate) what: &'a str,
}

impl Endpoint {
    pub(crate) fn new(
        host: Host,
        namespace: Option<String>,
        (own, foreign): (reqwest::Client, reqwest::Client),
        config: Arc<Config>,
        authorizer: Authorizer,
    ) -> Result<Self, Error> {
        host.base(host.scheme)?;
        let mut headers = HeaderMap::new();
        for (name, value) in &host.headers {
            let pair = HeaderName::try_from(name.as_str())
                .ok()
                .zip(HeaderValue::from_str(value).ok());
            let (name, mut value) = pair.ok_or_else(|| Error::Setup {
                host: host.authority.clone(),
                reason: format!("header {name:?} of hosts.toml can't be sent"),
            })?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        Ok(Self {
            plain: AtomicBool::new(false),
            host,
            namespace,
            own,
            foreign,
            headers,
            config,
            authorizer,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.host.authority
    }

    fn scheme(&self) -> Scheme {
        if self.plain.load(Ordering::Relaxed) {
            Scheme::Http
        } else {
            self.host.scheme
        }
    }

    /// Sends and answers with a success, or with an error that says what the server said.
    pub(crate) async fn send(&self, ask: &Ask<'_>, mut retry: Retry) -> Result<Response, Error> {
        loop {
            let (error, asked) = match self.authorised(ask).await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => {
                    let asked = retry_after(response.headers());
                    (
                        refusal(&self.config, self.name(), ask.what, response).await,
                        asked,
                    )
                }
                Err(error) => (error, None),
            };
            if self.falls_back(&error) {
                continue;
            }
            if !error.may_pass() || !retry.wait(asked).await {
                return Err(error);
            }
            tracing::debug!(host = self.name(), what = ask.what, error = %error, "asking again");
        }
    }

    /// A server on this machine that does not speak TLS is asked without it from now on.
    fn falls_back(&self, error: &Error) -> bool {
        let handshake = matches!(error, Error::Transport { source, .. } if source.is_connect());
        handshake
            && self.host.http_fallback
            && self.host.scheme == Scheme::Https
            && !self.plain.swap(true, Ordering::Relaxed)
    }

    async fn authorised(&self, ask: &Ask<'_>) -> Result<Response, Error> {
        let base = self.host.base(self.scheme())?;
        let mut header = self.authorizer.header(ask.scope).await;
        for _ in 0..AUTHORISATIONS_MAX {
            let (response, own) = self.follow(ask, &base, header.as_ref()).await?;
            if response.status() != StatusCode::UNAUTHORIZED || !own {
                return Ok(response);
            }
            let asker = Asker {
                name: self.name(),
                base: &base,
                own: &self.own,
                foreign: &self.foreign,
                config: &self.config,
            };
            let answer = self
                .authorizer
                .answer(asker, response.headers(), ask.scope, header.as_ref())
                .await?;
            if answer.is_none() {
                return Ok(response);
            }
            header = answer;
        }
        Ok(self.follow(ask, &base, header.as_ref()).await?.0)
    }

    /// Follows redirects. The flag says whether the answer is from the host itself; once a redirect left it,
    /// authorisation and the host's own headers are never sent again.
    async fn follow(
        &self,
        ask: &Ask<'_>,
        base: &Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<(Response, bool), Error> {
        let mut url = base
            .join(&ask.path)
            .map_err(|error| self.redirect_error(&error.to_string()))?;
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        let mut own = true;
        for _ in 0..=REDIRECTS_MAX {
            let client = if own { &self.own } else { &self.foreign };
            let mut request = client.request(ask.method.clone(), url.clone());
            if let Some(accept) = ask.accept {
                request = request.header(ACCEPT, accept);
            }
            if ask.from > 0 {
                request = request.header(RANGE, format!("bytes={}-", ask.from));
            }
            if own {
                request = request.headers(self.headers.clone());
                if let Some(value) = authorization {
                    request = request.header(AUTHORIZATION, value.clone());
                }
            }
            let response = deadline(
                self.config.first_byte,
                self.name(),
                "an answer",
                request.send(),
            )
            .await?
            .map_err(|source| transport(self.name(), source))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok((response, own));
            }
            let next = self.next(&url, &response)?;
            own = own && same_origin(&next, base);
            url = next;
        }
        Err(self.redirect_error(&format!("more than {REDIRECTS_MAX} in a row")))
    }

    fn next(&self, url: &Url, response: &Response) -> Result<Url, Error> {
        let location = response
            .headers()
            .get(LOCATION)
            .and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| self.redirect_error("it does not say where to"))?;
        let mut next = url
            .join(location)
            .map_err(|_| self.redirect_error("it leads to no URL"))?;
        match (url.scheme(), next.scheme()) {
            ("http", "http" | "https") | ("https", "https") => {}
            ("https", "http") => return Err(self.redirect_error("it leads from https to http")),
            _ => return Err(self.redirect_error("it leads to neither https nor http")),
        }
        let cleared = next.set_username("").and_then(|()| next.set_password(None));
        cleared.map_err(|()| self.redirect_error("it leads to no host"))?;
        Ok(next)
    }

    fn redirect_error(&self, reason: &str) -> Error {
        Error::Redirect {
            host: self.name().into(),
            reason: reason.into(),
        }
    }
}

/// Same scheme, host and port.
pub(crate) fn same_origin(left: &Url, right: &Url) -> bool {
    left.scheme() == right.scheme()
        && left.host_str() == right.host_str()
        && left.port_or_known_default() == right.port_or_known_default()
}

pub(crate) async fn deadline<T>(
    limit: Duration,
    host: &str,
    what: &'static str,
    future: impl Future<Output = T>,
) -> Result<T, Error> {
    tokio::time::timeout(limit, future)
        .await
        .map_err(|_| Error::Timeout {
            host: host.into(),
            what,
            seconds: limit.as_secs(),
        })
}

/// A URL's query may be a signed secret, so the error loses its URL.
pub(crate) fn transport(host: &str, source: reqwest::Error) -> Error {
    Error::Transport {
        host: host.into(),
        source: source.without_url(),
    }
}

/// Reads a whole body that may not be longer than `limit`.
pub(crate) async fn read_bounded(
    config: &Config,
    host: &str,
    what: &str,
    mut response: Response,
    limit: u64,
) -> Result<Bytes, Error> {
    let too_large = || Error::TooLarge {
        host: host.into(),
        what: what.into(),
        limit,
    };
    if response
        .content_length()
        .is_some_and(|length| length > limit)
    {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    // The limits of silence add up to one for the whole: a small body has no business taking longer.
    let whole = async {
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|source| transport(host, source))?
        {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(())
    };
    deadline(config.idle, host, "a whole answer", whole).await??;
    Ok(body.freeze())
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ServerError>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    error_description: Option<String>,
}

#[derive(Deserialize)]
struct ServerError {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

/// Turns an answer that is no success into an error with the server's own words.
pub(crate) async fn refusal(config: &Config, host: &str, what: &str, response: Response) -> Error {
    let status = response.status().as_u16();
    let challenged = response
        .headers()
        .contains_key(reqwest::header::WWW_AUTHENTICATE);
    let message = match read_bounded(config, host, "the error", response, ERROR_BYTES_MAX).await {
        Ok(body) => server_words(&body),
        Err(_) => String::new(),
    };
    let (host, what) = (host.to_owned(), what.to_owned());
    match status {
        404 => Error::NotFound {
            host,
            what,
            message,
        },
        401 => Error::Unauthenticated {
            host,
            what,
            reason: if challenged {
                "credentials are missing or not accepted"
            } else {
                "status 401"
            },
            message,
        },
        _ => Error::Status {
            host,
            what,
            status,
            message,
        },
    }
}

/// `: CODE: message` of at most three errors, cut to 300 characters each; empty for anything but JSON.
fn server_words(body: &[u8]) -> String {
    let Ok(parsed) = serde_json::from_slice::<ErrorBody>(body) else {
        return String::new();
    };
    let listed = parsed
        .errors
        .into_iter()
        .map(|each| (each.code, each.message));
    let plain = parsed.message.into_iter().chain(parsed.error_description);
    let all = listed.chain(plain.map(|message| (None, Some(message))));
    let mut words = String::new();
    for (code, message) in all.take(3) {
        for part in [code, message].into_iter().flatten() {
            let clean: String = part
                .chars()
                .filter(|char| !char.is_control())
                .take(300)
                .collect();
            words.push_str(": ");
            words.push_str(&without_queries(&clean));
        }
    }
    words
}

/// Cuts the query of every URL in a server's text: it may be signed.
fn without_queries(text: &str) -> String {
    let cut = |word: &str| match (word.contains("://"), word.split_once('?')) {
        (true, Some((before, _))) => format!("{before}?…"),
        _ => word.to_owned(),
    };
    text.split(' ').map(cut).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_words_are_cut_and_cleaned() {
        let long = format!(
            r#"{{"errors":[{{"code":"DENIED","message":"{}"}}]}}"#,
            "x".repeat(1000)
        );
        assert_eq!(
            server_words(long.as_bytes()).len(),
            ": DENIED: ".len() + 300
        );
        for (body, words) in [
            (
                r#"{"errors":[{"code":"A","message":"b\u001b[31m"}]}"#,
                ": A: b[31m",
            ),
            (
                r#"{"message":"see https://s3/x?sig=canary now"}"#,
                ": see https://s3/x?… now",
            ),
            (
                r#"{"errors":[{},{"code":"A"},{"code":"B"},{"code":"C"}]}"#,
                ": A: B",
            ),
            ("<html>", ""),
            ("", ""),
        ] {
            assert_eq!(server_words(body.as_bytes()), words);
        }
    }
}
