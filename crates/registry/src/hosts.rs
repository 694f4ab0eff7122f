//! Which servers stand for a registry: the registry itself, and mirrors before it.

mod file;

use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use crate::Error;

/// http or https.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Without encryption: only where the configuration or the caller says so, or on the same machine.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What a host may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Fetching by digest.
    pub pull: bool,
    /// Turning a tag into a digest.
    pub resolve: bool,
    /// Uploading.
    pub push: bool,
    /// Listing what refers to a manifest.
    pub referrers: bool,
}

impl Capabilities {
    /// Everything.
    pub const ALL: Self = Self {
        pull: true,
        resolve: true,
        push: true,
        referrers: true,
    };
}

/// A certificate and its key, both PEM; the key may stand in the certificate's file.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientPair {
    /// PEM certificates, then PEM keys.
    pub pem: Vec<u8>,
}

impl std::fmt::Debug for ClientPair {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("ClientPair(…)")
    }
}

/// One server and how to talk to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Host {
    /// http or https.
    pub scheme: Scheme,
    /// The name, with a port if it is not the scheme's.
    pub authority: String,
    /// The path before the repository, `/v2` unless overridden.
    pub path: String,
    /// What it may be asked for.
    pub capabilities: Capabilities,
    /// PEM bundles of authorities that are trusted besides the system's.
    pub ca: Vec<Vec<u8>>,
    /// The certificate that we show.
    pub client: Option<ClientPair>,
    /// Accept any certificate.
    pub skip_verify: bool,
    /// Headers for every request to this host, and to no other.
    pub headers: Vec<(String, String)>,
    /// Longest wait for a connection.
    pub dial_timeout: Option<Duration>,
    /// Try http at the same port when https can't be spoken: for this machine only.
    pub http_fallback: bool,
}

impl std::fmt::Debug for Host {
    // Headers may hold credentials.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Host")
            .field("scheme", &self.scheme)
            .field("authority", &self.authority)
            .field("path", &self.path)
            .field("capabilities", &self.capabilities)
            .finish_non_exhaustive()
    }
}

impl Host {
    /// A host with the usual path, all capabilities and the system's trust.
    pub fn new(scheme: Scheme, authority: impl Into<String>) -> Self {
        Self {
            scheme,
            authority: authority.into(),
            path: "/v2".into(),
            capabilities: Capabilities::ALL,
            ca: Vec::new(),
            client: None,
            skip_verify: false,
            headers: Vec::new(),
            dial_timeout: None,
            http_fallback: false,
        }
    }

    /// The server that a reference's host stands for when nothing is configured.
    ///
    /// `docker.io` is served by another name. On this machine https is tried without looking at the certificate,
    /// then http, unless the port says which (443 or none, 80).
    pub fn of_reference(host: &str, scheme: Option<Scheme>) -> Self {
        if host == "docker.io" {
            return Self::new(Scheme::Https, "registry-1.docker.io");
        }
        if let Some(scheme) = scheme {
            return Self::new(scheme, host);
        }
        if !is_local(host) {
            return Self::new(Scheme::Https, host);
        }
        match port(host) {
            Some("80") => Self::new(Scheme::Http, host),
            Some(port) => Self {
                skip_verify: true,
                http_fallback: port != "443",
                ..Self::new(Scheme::Https, host)
            },
            None => Self {
                skip_verify: true,
                ..Self::new(Scheme::Https, host)
            },
        }
    }

    pub(crate) fn base(&self, scheme: Scheme) -> Result<Url, Error> {
        let text = format!("{}://{}{}/", scheme.as_str(), self.authority, self.path);
        let url = Url::parse(&text).map_err(|error| Error::Setup {
            host: self.authority.clone(),
            reason: error.to_string(),
        })?;
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if url.host_str().is_none() || !plain {
            return Err(Error::Setup {
                host: "registry".into(),
                reason: "a host is a name or address with a port, and nothing else".into(),
            });
        }
        Ok(url)
    }
}

/// The servers of one registry in the order in which they are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// The host as references name it: mirrors are told it with `?ns=`.
    pub namespace: String,
    /// At least one, unless the configuration names none.
    pub hosts: Vec<Host>,
}

impl Hosts {
    /// The registry itself and no mirror. `scheme` overrides what the name suggests (`--plain-http`).
    pub fn direct(host: &str, scheme: Option<Scheme>) -> Self {
        Self {
            namespace: host.into(),
            hosts: vec![Host::of_reference(host, scheme)],
        }
    }

    /// Looks for `host` in folders laid out like `certs.d`: `<host>_<port>_`, `<host>:<port>`, then `_default`.
    ///
    /// Reads files and blocks. Without a folder for the host the answer is [`Hosts::direct`].
    ///
    /// # Errors
    /// A file can't be read, or `hosts.toml` is invalid: a mirror's settings are never silently dropped.
    pub fn load(folders: &[PathBuf], host: &str, scheme: Option<Scheme>) -> Result<Self, Error> {
        if host.contains(['/', '\0']) || host.starts_with('.') {
            return Err(Error::Setup {
                host: host.chars().take(100).collect(),
                reason: "no valid host name".into(),
            });
        }
        for folder in folders {
            for name in folder_names(host) {
                let folder = folder.join(name);
                if folder.is_dir() {
                    let hosts = file::read_folder(&folder, host, scheme)?;
                    return Ok(Self {
                        namespace: host.into(),
                        hosts,
                    });
                }
            }
        }
        Ok(Self::direct(host, scheme))
    }
}

fn folder_names(host: &str) -> Vec<String> {
    let mut names = Vec::new();
    if let Some((name, port)) = host.rsplit_once(':') {
        names.push(format!("{name}_{port}_"));
    }
    names.push(host.to_owned());
    names.push("_default".to_owned());
    names
}

/// Whether the host is this machine: `localhost`, 127.0.0.0/8 or `::1`.
pub fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn port(host: &str) -> Option<&str> {
    let after_name = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
    after_name.rsplit_once(':').map(|(_, port)| port)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::ReadFile {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_suggest_schemes() {
        for (host, scheme, fallback, skip) in [
            ("quay.io", Scheme::Https, false, false),
            ("quay.io:80", Scheme::Https, false, false),
            ("localhost", Scheme::Https, false, true),
            ("localhost:443", Scheme::Https, false, true),
            ("localhost:80", Scheme::Http, false, false),
            ("localhost:5000", Scheme::Https, true, true),
            ("127.9.9.9:5000", Scheme::Https, true, true),
            ("[::1]:5000", Scheme::Https, true, true),
            ("localhost.example.com:5000", Scheme::Https, false, false),
            ("128.0.0.1:5000", Scheme::Https, false, false),
        ] {
            let found = Host::of_reference(host, None);
            assert_eq!(
                (found.scheme, found.http_fallback, found.skip_verify),
                (scheme, fallback, skip),
                "{host}"
            );
        }
        assert_eq!(
            Host::of_reference("docker.io", Some(Scheme::Http)).scheme,
            Scheme::Https
        );
        assert_eq!(
            Host::of_reference("docker.io", None).authority,
            "registry-1.docker.io"
        );
        assert_eq!(
            Host::of_reference("quay.io", Some(Scheme::Http)).scheme,
            Scheme::Http
        );
    }

    #[test]
    fn folders_are_searched_in_order() {
        let root = tempfile::tempdir().unwrap();
        let write = |folder: &str, text: &str| {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
            std::fs::write(root.path().join(folder).join("hosts.toml"), text).unwrap();
        };
        let first = |host: &str| {
            let folders = [root.path().join("missing"), root.path().to_owned()];
            Hosts::load(&folders, host, None).unwrap().hosts[0]
                .authority
                .clone()
        };
        assert_eq!(first("a.io:5"), "a.io:5");
        write("_default", "server = 'https://default.io'");
        assert_eq!(first("a.io:5"), "default.io");
        write("a.io:5", "server = 'https://verbatim.io'");
        assert_eq!(first("a.io:5"), "verbatim.io");
        write("a.io_5_", "server = 'https://underscore.io'");
        assert_eq!(first("a.io:5"), "underscore.io");
        assert!(Hosts::load(&[root.path().to_owned()], "../etc", None).is_err());
    }
}
