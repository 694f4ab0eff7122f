//! Exchanging credentials for a token (distribution, "Token Authentication" and "OAuth2 Token Authentication").

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::auth::{Asker, Credential, Secret, basic_header};
use crate::challenge::Challenge;
use crate::config::TOKEN_BYTES_MAX;
use crate::endpoint::{deadline, read_bounded, refusal, same_origin, transport};
use crate::retry::{Retry, retry_after};
use crate::{Error, hosts};

/// Tries of one exchange.
const RETRIES: u32 = 2;
/// A token is renewed this long before it expires.
const MARGIN: Duration = Duration::from_secs(5);
/// How we name ourselves to a token server.
const CLIENT_ID: &str = "hoist";

/// Where a token comes from and what it is for.
#[derive(Debug)]
pub(crate) struct TokenRequest {
    realm: Url,
    service: Option<String>,
    scopes: BTreeSet<String>,
    /// The realm is the registry itself: its own TLS settings hold.
    own: bool,
}

/// A token and how long it holds.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) value: Secret,
    pub(crate) expires: Option<Instant>,
    pub(crate) refresh: Option<Secret>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl TokenRequest {
    /// Checks where the challenge sends us: over TLS, or to the registry itself when that speaks http.
    pub(crate) fn new(asker: Asker<'_>, challenge: &Challenge, scope: &str) -> Result<Self, Error> {
        let refuse = |reason: &str| Error::Challenge {
            host: asker.name.into(),
            reason: reason.into(),
        };
        let realm = challenge
            .get("realm")
            .ok_or_else(|| refuse("its Bearer challenge names no realm"))?;
        let realm =
            Url::parse(realm).map_err(|_| refuse("the realm of its Bearer challenge is no URL"))?;
        if !realm.username().is_empty() || realm.password().is_some() {
            return Err(refuse(
                "the realm of its Bearer challenge holds a user or password",
            ));
        }
        let own = same_origin(&realm, asker.base);
        let plain_allowed = asker.base.scheme() == "http"
            && realm.scheme() == "http"
            && (realm.host_str() == asker.base.host_str()
                || realm.host_str().is_some_and(hosts::is_local)
                    && asker.base.host_str().is_some_and(hosts::is_local));
        if realm.scheme() != "https" && !plain_allowed {
            return Err(refuse(
                "it wants credentials sent to another server without encryption",
            ));
        }
        let mut scopes: BTreeSet<String> = scope.split(' ').map(str::to_owned).collect();
        let asked = challenge.get("scope").unwrap_or_default();
        scopes.extend(asked.split(' ').take(16).map(str::to_owned));
        scopes.remove("");
        Ok(Self {
            realm,
            service: challenge.get("service").map(str::to_owned),
            scopes,
            own,
        })
    }

    /// Not part of an async function: the serializer must not be held across a wait.
    fn form(&self, grant: &[(&str, &str)]) -> String {
        let mut form = Serializer::new(String::new());
        for (key, value) in grant {
            form.append_pair(key, value);
        }
        form.append_pair("client_id", CLIENT_ID);
        form.append_pair("scope", &self.scope_text());
        if let Some(service) = &self.service {
            form.append_pair("service", service);
        }
        form.finish()
    }

    fn scope_text(&self) -> String {
        self.scopes.iter().cloned().collect::<Vec<_>>().join(" ")
    }
}

/// Gets a token: anonymous with GET, with credentials by POST and, where that is not understood, GET with Basic.
pub(crate) async fn fetch(
    asker: Asker<'_>,
    request: &TokenRequest,
    credential: Option<&Credential>,
) -> Result<Token, Error> {
    match credential {
        None | Some(Credential::Header(_)) => get(asker, request, None).await,
        Some(Credential::Refresh(secret)) => {
            let grant = [
                ("grant_type", "refresh_token"),
                ("refresh_token", secret.expose()),
            ];
            post(asker, request, &grant).await
        }
        Some(Credential::Password { username, secret }) => {
            let grant = [
                ("grant_type", "password"),
                ("username", username.as_str()),
                ("password", secret.expose()),
            ];
            match post(asker, request, &grant).await {
                Err(
                    Error::Unauthenticated { .. }
                    | Error::NotFound { .. }
                    | Error::Status {
                        status: 400 | 405, ..
                    },
                ) => get(asker, request, Some((username, secret))).await,
                other => other,
            }
        }
    }
}

async fn get(
    asker: Asker<'_>,
    request: &TokenRequest,
    basic: Option<(&String, &Secret)>,
) -> Result<Token, Error> {
    let mut url = request.realm.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = &request.service {
            query.append_pair("service", service);
        }
        for scope in &request.scopes {
            query.append_pair("scope", scope);
        }
        if let Some((username, _)) = basic {
            query.append_pair("account", username);
        }
    }
    let mut builder = request.client(asker).get(url);
    if let Some((username, secret)) = basic {
        builder = builder.header(AUTHORIZATION, basic_header(asker.name, username, secret)?);
    }
    exchange(asker, request, builder).await
}

async fn post(
    asker: Asker<'_>,
    request: &TokenRequest,
    grant: &[(&str, &str)],
) -> Result<Token, Error> {
    let builder = request
        .client(asker)
        .post(request.realm.clone())
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(request.form(grant));
    exchange(asker, request, builder).await
}

impl TokenRequest {
    fn client<'a>(&self, asker: Asker<'a>) -> &'a reqwest::Client {
        if self.own { asker.own } else { asker.foreign }
    }

    fn host(&self) -> String {
        let name = self.realm.host_str().unwrap_or_default();
        self.realm
            .port()
            .map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
    }
}

async fn exchange(
    asker: Asker<'_>,
    request: &TokenRequest,
    builder: reqwest::RequestBuilder,
) -> Result<Token, Error> {
    let host = request.host();
    let mut retry = Retry::times(asker.config, RETRIES.min(asker.config.retries));
    loop {
        let again = builder.try_clone().expect("the body is in memory");
        let (error, asked) =
            match deadline(asker.config.first_byte, &host, "a token", again.send()).await {
                Ok(Ok(response)) if response.status().is_success() => {
                    return read(asker, &host, response).await;
                }
                Ok(Ok(response)) if response.status().is_redirection() => {
                    return Err(Error::Redirect {
                        host,
                        reason: "a token server may not redirect".into(),
                    });
                }
                Ok(Ok(response)) => {
                    let asked = retry_after(response.headers());
                    (
                        refusal(asker.config, &host, "a token", response).await,
                        asked,
                    )
                }
                Ok(Err(source)) => (transport(&host, source), None),
                Err(error) => (error, None),
            };
        if !error.may_pass() || !retry.wait(asked).await {
            return Err(error);
        }
    }
}

async fn read(asker: Asker<'_>, host: &str, response: reqwest::Response) -> Result<Token, Error> {
    let body = read_bounded(asker.config, host, "the token", response, TOKEN_BYTES_MAX).await?;
    let refuse = |reason: &str| Error::Challenge {
        host: host.into(),
        reason: reason.into(),
    };
    // serde's message could quote the token.
    let answer: Answer = serde_json::from_slice(&body)
        .map_err(|_| refuse("the token server's answer is no token"))?;
    let value = answer
        .access_token
        .into_iter()
        .chain(answer.token)
        .find(|token| !token.is_empty())
        .ok_or_else(|| refuse("the token server's answer holds no token"))?;
    let lifetime = answer.expires_in.filter(|seconds| *seconds > 0);
    let expires = lifetime
        .map(|seconds| Duration::from_secs(seconds.min(86_400)).saturating_sub(MARGIN))
        .and_then(|lifetime| Instant::now().checked_add(lifetime));
    Ok(Token {
        value: Secret::new(value),
        expires,
        refresh: answer
            .refresh_token
            .filter(|token| !token.is_empty())
            .map(Secret::new),
    })
}
