//! Who we are at one host: credentials, and the tokens that they were exchanged for.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use tokio::sync::Mutex;

use crate::Error;
use crate::challenge::{self, Challenge};
use crate::token::{self, TokenRequest};

/// Most `WWW-Authenticate` headers of one answer that are read.
const CHALLENGE_HEADERS_MAX: usize = 8;
/// Most tokens kept for one host.
const TOKENS_MAX: usize = 64;

/// A text that no log and no error shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself: only for the request that it is meant for.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// What a caller shows to one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user's name and password.
    Password {
        /// The user.
        username: String,
        /// The password.
        secret: Secret,
    },
    /// A refresh or identity token.
    Refresh(Secret),
    /// A whole `Authorization` header.
    Header(Secret),
}

/// What a host wants, for whoever holds the credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The host that will see the answer, with its port if it has one.
    pub host: String,
    /// The reference that is being worked on.
    pub reference: String,
    /// The host's `WWW-Authenticate` headers.
    pub www_authenticate: Vec<String>,
}

/// Holds credentials; asked once for each host, when that host wants to know.
#[async_trait]
pub trait Credentials: Send + Sync + fmt::Debug {
    /// The credential for a host, or `None` to stay anonymous there.
    async fn get(
        &self,
        question: Question,
    ) -> Result<Option<Credential>, Box<dyn std::error::Error + Send + Sync>>;
}

/// Has no credentials.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anonymous;

#[async_trait]
impl Credentials for Anonymous {
    async fn get(
        &self,
        _question: Question,
    ) -> Result<Option<Credential>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(None)
    }
}

/// The authorisation of one repository's requests to one host.
#[derive(Debug)]
pub(crate) struct Authorizer {
    credentials: Arc<dyn Credentials>,
    reference: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// `None` until the host asked.
    credential: Option<Option<Credential>>,
    /// For every scope: basic, or a header of the caller's own.
    fixed: Option<HeaderValue>,
    tokens: HashMap<String, Token>,
}

#[derive(Debug)]
struct Token {
    header: HeaderValue,
    expires: Option<Instant>,
}

/// The host that asks, as far as authorisation needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) name: &'a str,
    pub(crate) base: &'a url::Url,
    pub(crate) own: &'a reqwest::Client,
    pub(crate) foreign: &'a reqwest::Client,
    pub(crate) config: &'a crate::Config,
}

impl Authorizer {
    pub(crate) fn new(credentials: Arc<dyn Credentials>, reference: String) -> Self {
        Self {
            credentials,
            reference,
            state: Mutex::default(),
        }
    }

    /// What is known to work for `scope`.
    pub(crate) async fn header(&self, scope: &str) -> Option<HeaderValue> {
        let state = self.state.lock().await;
        state.known(scope)
    }

    /// Answers a 401. `sent` is the header that was refused, if one was sent.
    pub(crate) async fn answer(
        &self,
        asker: Asker<'_>,
        headers: &HeaderMap,
        scope: &str,
        sent: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Error> {
        // One at a time: whoever waits here finds the token that the first one got.
        let mut state = self.state.lock().await;
        match state.known(scope) {
            Some(known) if Some(&known) != sent => return Ok(Some(known)),
            _ => {}
        }
        state.tokens.remove(scope);
        let refused_fixed = state.fixed.is_some() && state.fixed.as_ref() == sent;
        if refused_fixed {
            return Ok(None);
        }
        let lines: Vec<String> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .take(CHALLENGE_HEADERS_MAX)
            .filter_map(|value| value.to_str().ok().map(str::to_owned))
            .collect();
        let challenges: Vec<Challenge> = lines
            .iter()
            .flat_map(|line| challenge::parse(line))
            .collect();
        let offered = |scheme: &str| challenges.iter().find(|each| each.scheme == scheme);
        let (bearer, basic) = (offered("bearer"), offered("basic"));
        if bearer.is_none() && basic.is_none() {
            return Err(Error::Challenge {
                host: asker.name.into(),
                reason:
                    "it refuses with status 401 and offers neither Bearer nor Basic authentication"
                        .into(),
            });
        }
        let credential = self.credential(&mut state, asker, lines).await?;
        if let Some(Credential::Header(value)) = &credential {
            let header = sensitive(asker.name, value.expose())?;
            state.fixed = Some(header.clone());
            return Ok(Some(header));
        }
        if let Some(challenge) = bearer {
            return state
                .exchange(asker, challenge, scope, credential.as_ref())
                .await
                .map(Some);
        }
        let Some(Credential::Password { username, secret }) = &credential else {
            return Ok(None);
        };
        let header = basic_header(asker.name, username, secret)?;
        state.fixed = Some(header.clone());
        Ok(Some(header))
    }

    async fn credential(
        &self,
        state: &mut State,
        asker: Asker<'_>,
        www_authenticate: Vec<String>,
    ) -> Result<Option<Credential>, Error> {
        if let Some(known) = &state.credential {
            return Ok(known.clone());
        }
        let question = Question {
            host: asker.name.into(),
            reference: self.reference.clone(),
            www_authenticate,
        };
        let found = self
            .credentials
            .get(question)
            .await
            .map_err(|source| Error::Credentials {
                host: asker.name.into(),
                source,
            })?;
        state.credential = Some(found.clone());
        Ok(found)
    }
}

impl State {
    fn known(&self, scope: &str) -> Option<HeaderValue> {
        if let Some(fixed) = &self.fixed {
            return Some(fixed.clone());
        }
        let token = self.tokens.get(scope)?;
        let fresh = token.expires.is_none_or(|expires| Instant::now() < expires);
        fresh.then(|| token.header.clone())
    }

    async fn exchange(
        &mut self,
        asker: Asker<'_>,
        challenge: &Challenge,
        scope: &str,
        credential: Option<&Credential>,
    ) -> Result<HeaderValue, Error> {
        let request = TokenRequest::new(asker, challenge, scope)?;
        let token = token::fetch(asker, &request, credential).await?;
        if let Some(refresh) = token.refresh {
            self.credential = Some(Some(Credential::Refresh(refresh)));
        }
        let header = sensitive(asker.name, &format!("Bearer {}", token.value.expose()))?;
        if self.tokens.len() < TOKENS_MAX {
            self.tokens.insert(
                scope.to_owned(),
                Token {
                    header: header.clone(),
                    expires: token.expires,
                },
            );
        }
        Ok(header)
    }
}

pub(crate) fn basic_header(
    host: &str,
    username: &str,
    secret: &Secret,
) -> Result<HeaderValue, Error> {
    let pair = STANDARD.encode(format!("{username}:{}", secret.expose()));
    sensitive(host, &format!("Basic {pair}"))
}

fn sensitive(host: &str, text: &str) -> Result<HeaderValue, Error> {
    let mut header = HeaderValue::from_str(text).map_err(|_| Error::Challenge {
        host: host.into(),
        reason: "the credential or token holds characters that no header may have".into(),
    })?;
    header.set_sensitive(true);
    Ok(header)
}
