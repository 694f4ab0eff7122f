//! Limits and times of the client.

use std::time::Duration;

/// Largest manifest or index in bytes.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Largest answer of a token server in bytes.
pub(crate) const TOKEN_BYTES_MAX: u64 = 1 << 20;
/// Largest part of an error's body that is read, in bytes.
pub(crate) const ERROR_BYTES_MAX: u64 = 64 << 10;
/// Longest chain of redirects.
pub(crate) const REDIRECTS_MAX: usize = 5;

/// How patient the client is and how it names itself.
#[derive(Debug, Clone)]
pub struct Config {
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Longest wait for a connection, TLS included; a host's `dial_timeout` overrides it.
    pub connect: Duration,
    /// Longest wait for the head of an answer.
    pub first_byte: Duration,
    /// Longest silence inside a body.
    pub idle: Duration,
    /// Slowest body in bytes per second, measured over [`Config::rate_window`].
    pub rate_min: u64,
    /// The time over which [`Config::rate_min`] is measured.
    pub rate_window: Duration,
    /// How often one request is sent again after a failure that may pass.
    pub retries: u32,
    /// The first wait before sending again; it doubles each time.
    pub backoff: Duration,
    /// Longest single wait before sending again; a longer `Retry-After` is an error at once.
    pub backoff_max: Duration,
    /// How often a broken body is resumed without a MiB of progress in between.
    pub resumes: u32,
    /// Proxies, as the program read them from its environment.
    pub proxies: Proxies,
}

/// Proxies for requests, in the form of the usual environment variables.
#[derive(Clone, Default)]
pub struct Proxies {
    /// For http URLs.
    pub http: Option<String>,
    /// For https URLs.
    pub https: Option<String>,
    /// Hosts that are reached directly, separated by commas.
    pub no_proxy: Option<String>,
}

impl std::fmt::Debug for Proxies {
    // A proxy's URL may hold a password.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Proxies")
            .field("http", &self.http.is_some())
            .field("https", &self.https.is_some())
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            user_agent: concat!("hoist/", env!("CARGO_PKG_VERSION")).into(),
            connect: Duration::from_secs(30),
            first_byte: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            rate_min: 1024,
            rate_window: Duration::from_secs(60),
            retries: 5,
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            resumes: 5,
            proxies: Proxies::default(),
        }
    }
}
