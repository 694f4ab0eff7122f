//! Connections shared by all repositories.

use std::sync::Arc;

use model::Reference;
use reqwest::redirect::Policy;
use reqwest::{Certificate, ClientBuilder, Identity, NoProxy, Proxy};

use crate::endpoint::Endpoint;
use crate::{Config, Credentials, Error, Host, Hosts, Repository};

/// Makes [`Repository`] handles; cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) config: Arc<Config>,
    shared: reqwest::Client,
}

impl Client {
    /// Sets up TLS with the system's certificates.
    ///
    /// # Errors
    /// A proxy's URL is wrong or TLS can't be set up.
    pub fn new(config: Config) -> Result<Self, Error> {
        let shared = finish("all hosts", builder(&config, None)?)?;
        Ok(Self {
            config: Arc::new(config),
            shared,
        })
    }

    /// What `reference` names, at the servers that stand for its host, for one caller.
    ///
    /// Tokens are kept in the returned handle only: two callers never share them.
    ///
    /// # Errors
    /// A host's name, certificates or headers can't be used.
    pub fn repository(
        &self,
        reference: &Reference,
        hosts: &Hosts,
        credentials: &Arc<dyn Credentials>,
    ) -> Result<Repository, Error> {
        let endpoints = hosts
            .hosts
            .iter()
            .map(|host| {
                let (own, foreign) = self.for_host(host)?;
                let proxied = is_proxied(&hosts.namespace, &host.authority);
                Endpoint::new(
                    host.clone(),
                    proxied.then(|| hosts.namespace.clone()),
                    (own, foreign),
                    self.config.clone(),
                    crate::auth::Authorizer::new(credentials.clone(), reference.to_string()),
                )
            })
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(Repository::new(
            reference.clone(),
            endpoints,
            self.config.clone(),
            self.shared.clone(),
        ))
    }

    /// The client for the host itself, and the one for where the host sends us: that one gets no certificate of
    /// ours and checks theirs.
    fn for_host(&self, host: &Host) -> Result<(reqwest::Client, reqwest::Client), Error> {
        let plain = host.ca.is_empty() && host.client.is_none() && !host.skip_verify;
        if plain && host.dial_timeout.is_none() {
            return Ok((self.shared.clone(), self.shared.clone()));
        }
        let setup = |reason: String| Error::Setup {
            host: host.authority.clone(),
            reason,
        };
        let mut authorities = Vec::new();
        for pem in &host.ca {
            let bundle = Certificate::from_pem_bundle(pem).map_err(|_| {
                setup("a certificate authority's file is no PEM certificate".into())
            })?;
            if bundle.is_empty() {
                return Err(setup(
                    "a certificate authority's file holds no certificate".into(),
                ));
            }
            authorities.extend(bundle);
        }
        let with_ca = || -> Result<ClientBuilder, Error> {
            let builder = builder(&self.config, host.dial_timeout)?;
            Ok(builder.tls_certs_merge(authorities.iter().cloned()))
        };
        let mut own = with_ca()?.tls_danger_accept_invalid_certs(host.skip_verify);
        if let Some(pair) = &host.client {
            let identity = Identity::from_pem(&pair.pem)
                .map_err(|_| setup("the client certificate or its key can't be used".into()))?;
            own = own.identity(identity);
        }
        let foreign = if host.ca.is_empty() {
            self.shared.clone()
        } else {
            finish(&host.authority, with_ca()?)?
        };
        Ok((finish(&host.authority, own)?, foreign))
    }
}

fn builder(config: &Config, dial: Option<std::time::Duration>) -> Result<ClientBuilder, Error> {
    // Redirects are followed by `endpoint`, which knows whose headers are whose.
    let mut builder = reqwest::Client::builder()
        .user_agent(&config.user_agent)
        .connect_timeout(dial.unwrap_or(config.connect))
        .redirect(Policy::none())
        .referer(false)
        .no_proxy();
    let no_proxy = config
        .proxies
        .no_proxy
        .as_deref()
        .and_then(NoProxy::from_string);
    let bad = |_| Error::Setup {
        host: "the proxy".into(),
        reason: "its URL can't be used".into(),
    };
    if let Some(url) = &config.proxies.http {
        builder = builder.proxy(Proxy::http(url).map_err(bad)?.no_proxy(no_proxy.clone()));
    }
    if let Some(url) = &config.proxies.https {
        builder = builder.proxy(Proxy::https(url).map_err(bad)?.no_proxy(no_proxy));
    }
    Ok(builder)
}

fn finish(host: &str, builder: ClientBuilder) -> Result<reqwest::Client, Error> {
    builder.build().map_err(|error| Error::Setup {
        host: host.into(),
        reason: model::chain(&error.without_url()),
    })
}

/// Whether `authority` is a mirror of `namespace` and needs to be told so.
fn is_proxied(namespace: &str, authority: &str) -> bool {
    namespace != authority && !(namespace == "docker.io" && authority == "registry-1.docker.io")
}
