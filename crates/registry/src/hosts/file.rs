//! `hosts.toml`, and docker's layout of certificates without it.

use std::path::Path;
use std::time::Duration;

use toml::{Table, Value};
use url::Url;

use super::{Capabilities, ClientPair, Host, Scheme, read};
use crate::Error;

/// Largest `hosts.toml` in bytes.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Most hosts in one file.
const HOSTS_MAX: usize = 64;

/// What stands in one folder for the registry `host`.
pub(super) fn read_folder(
    folder: &Path,
    host: &str,
    scheme: Option<Scheme>,
) -> Result<Vec<Host>, Error> {
    let path = folder.join("hosts.toml");
    let bytes = match read(&path) {
        Ok(bytes) => bytes,
        Err(Error::ReadFile { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Vec::new()
        }
        Err(error) => return Err(error),
    };
    if bytes.is_empty() {
        return Ok(vec![certificates(
            folder,
            Host::of_reference(host, scheme),
        )?]);
    }
    let refuse = |reason: String| Error::HostsFile {
        path: path.clone(),
        reason,
    };
    if bytes.len() > FILE_BYTES_MAX {
        return Err(refuse("larger than 1 MiB".into()));
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| refuse(error.to_string()))?;
    let table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| refuse(error.message().to_owned()))?;
    let reader = Reader {
        folder,
        refuse: &refuse,
    };
    reader.hosts(&table, host, scheme)
}

/// Docker's layout: every `*.crt` is an authority, every `*.cert` with its `*.key` a certificate of ours.
fn certificates(folder: &Path, mut host: Host) -> Result<Host, Error> {
    let unreadable = |source| Error::ReadFile {
        path: folder.to_owned(),
        source,
    };
    let entries = std::fs::read_dir(folder).map_err(unreadable)?;
    let mut paths = entries
        .take(1000)
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    paths.sort();
    for path in paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => host.ca.push(read(&path)?),
            Some("cert") => {
                let key = path.with_extension("key");
                let key = key.exists().then_some(key);
                host.client = Some(pair(&path, key.as_deref())?);
            }
            _ => {}
        }
    }
    Ok(host)
}

fn pair(certificate: &Path, key: Option<&Path>) -> Result<ClientPair, Error> {
    let mut pem = read(certificate)?;
    if let Some(key) = key {
        pem.push(b'\n');
        pem.extend(read(key)?);
    }
    Ok(ClientPair { pem })
}

struct Reader<'a> {
    folder: &'a Path,
    refuse: &'a dyn Fn(String) -> Error,
}

impl Reader<'_> {
    fn hosts(&self, table: &Table, name: &str, scheme: Option<Scheme>) -> Result<Vec<Host>, Error> {
        let mut hosts = Vec::new();
        if let Some(listed) = table.get("host") {
            let listed = listed
                .as_table()
                .ok_or_else(|| self.wrong("host", "a table"))?;
            if listed.len() > HOSTS_MAX {
                return Err((self.refuse)(format!("more than {HOSTS_MAX} hosts")));
            }
            for (url, settings) in listed {
                let settings = settings
                    .as_table()
                    .ok_or_else(|| self.wrong(url, "a table"))?;
                hosts.push(self.settings(self.address(url, settings)?, settings)?);
            }
        }
        let server = match table.get("server") {
            None => Host::of_reference(name, scheme),
            Some(server) => {
                let server = server
                    .as_str()
                    .ok_or_else(|| self.wrong("server", "a string"))?;
                self.address(server, table)?
            }
        };
        // The server is the last resort; where it is listed as a host, its settings there count.
        let listed = hosts
            .iter()
            .any(|host: &Host| host.authority == server.authority && host.path == server.path);
        if !listed {
            hosts.push(self.settings(server, table)?);
        }
        Ok(hosts)
    }

    fn address(&self, text: &str, settings: &Table) -> Result<Host, Error> {
        let text = if text.starts_with("http") {
            text.to_owned()
        } else {
            format!("https://{text}")
        };
        let bad = |reason: &str| (self.refuse)(format!("host {:?}: {reason}", scrub(&text)));
        let url = Url::parse(&text).map_err(|error| bad(&error.to_string()))?;
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(bad("the scheme must be http or https")),
        };
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(bad(
                "user, password and query may not stand in a host's URL",
            ));
        }
        let name = url.host_str().ok_or_else(|| bad("no host"))?;
        let authority = match url.port() {
            Some(port) => format!("{name}:{port}"),
            None => name.to_owned(),
        };
        let override_path = match settings.get("override_path") {
            None => false,
            Some(value) => value
                .as_bool()
                .ok_or_else(|| self.wrong("override_path", "true or false"))?,
        };
        let mut host = Host::new(scheme, authority);
        host.path = url.path().trim_end_matches('/').to_owned();
        if !override_path && !host.path.ends_with("/v2") {
            host.path.push_str("/v2");
        }
        Ok(host)
    }

    fn settings(&self, mut host: Host, table: &Table) -> Result<Host, Error> {
        for (key, value) in table {
            match key.as_str() {
                "capabilities" => host.capabilities = self.capabilities(value)?,
                "ca" => {
                    for path in self.strings("ca", value)? {
                        host.ca.push(read(&self.folder.join(path))?);
                    }
                }
                "client" => host.client = self.client(value)?,
                "skip_verify" => {
                    host.skip_verify = value
                        .as_bool()
                        .ok_or_else(|| self.wrong("skip_verify", "true or false"))?;
                }
                "header" => {
                    let headers = value
                        .as_table()
                        .ok_or_else(|| self.wrong("header", "a table"))?;
                    for (name, values) in headers {
                        for value in self.strings(name, values)? {
                            host.headers.push((name.clone(), value));
                        }
                    }
                }
                "dial_timeout" => {
                    let text = value
                        .as_str()
                        .ok_or_else(|| self.wrong("dial_timeout", "a string"))?;
                    host.dial_timeout =
                        Some(duration(text).ok_or_else(|| {
                            self.wrong("dial_timeout", "a duration such as \"30s\"")
                        })?);
                }
                _ => {}
            }
        }
        Ok(host)
    }

    fn capabilities(&self, value: &Value) -> Result<Capabilities, Error> {
        let names = self.strings("capabilities", value)?;
        if names.is_empty() {
            return Ok(Capabilities::ALL);
        }
        let mut found = Capabilities {
            pull: false,
            resolve: false,
            push: false,
            referrers: false,
        };
        for name in names {
            match name.to_lowercase().as_str() {
                "pull" => found.pull = true,
                "resolve" => found.resolve = true,
                "push" => found.push = true,
                "referrers" => found.referrers = true,
                other => return Err((self.refuse)(format!("unknown capability {other:?}"))),
            }
        }
        Ok(found)
    }

    /// One file, a list of files, or a list of pairs of files; the last one counts.
    fn client(&self, value: &Value) -> Result<Option<ClientPair>, Error> {
        let items = match value {
            Value::Array(items) => items.clone(),
            single => vec![single.clone()],
        };
        let mut found = None;
        for item in items {
            let files = self.strings("client", &item)?;
            found = Some(match files.as_slice() {
                [both] => pair(&self.folder.join(both), None)?,
                [certificate, key] => {
                    pair(&self.folder.join(certificate), Some(&self.folder.join(key)))?
                }
                _ => return Err(self.wrong("client", "one file, or a certificate and a key")),
            });
        }
        Ok(found)
    }

    fn strings(&self, key: &str, value: &Value) -> Result<Vec<String>, Error> {
        let string = |value: &Value| value.as_str().map(str::to_owned);
        let all = match value {
            Value::Array(items) => items.iter().map(string).collect(),
            single => string(single).map(|single| vec![single]),
        };
        all.ok_or_else(|| self.wrong(key, "a string or a list of strings"))
    }

    fn wrong(&self, key: &str, wanted: &str) -> Error {
        (self.refuse)(format!("{key:?} must be {wanted}"))
    }
}

/// Without what stands before an `@` or after a `?`: it may be a secret.
fn scrub(url: &str) -> &str {
    url.rsplit('@')
        .next()
        .unwrap_or_default()
        .split('?')
        .next()
        .unwrap_or_default()
}

/// Reads `1h2m3s`, `500ms` or `1.5s`, at most a day.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let split = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let (number, after) = rest.split_at(split);
        let unit_end = after
            .find(|char: char| char.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = after;
    }
    (total > 0.0 && total <= 86_400.0).then(|| Duration::from_secs_f64(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Vec<Host>, Error> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("hosts.toml"), text).unwrap();
        for name in ["ca.pem", "b.pem", "cert.pem", "key.pem"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        read_folder(folder.path(), "example.com", None)
    }

    #[test]
    fn a_whole_file_is_read_in_its_order() {
        let hosts = load(
            r#"
            server = "https://up.example.com"
            ca = "ca.pem"
            [host."https://z-mirror:5000/root"]
              capabilities = ["pull", "resolve"]
              skip_verify = true
              ca = ["ca.pem", "b.pem"]
              client = [["cert.pem", "key.pem"]]
              dial_timeout = "1m30s"
              [host."https://z-mirror:5000/root".header]
                x-a = "1"
                x-b = ["2", "3"]
            [host."http://a-mirror/api/registry"]
              override_path = true
            "#,
        )
        .unwrap();
        let names: Vec<_> = hosts
            .iter()
            .map(|host| (host.authority.as_str(), host.path.as_str()))
            .collect();
        assert_eq!(
            names,
            [
                ("z-mirror:5000", "/root/v2"),
                ("a-mirror", "/api/registry"),
                ("up.example.com", "/v2")
            ]
        );
        let mirror = &hosts[0];
        assert!(
            mirror.capabilities.pull && mirror.capabilities.resolve && !mirror.capabilities.push
        );
        assert!(mirror.skip_verify && !hosts[2].skip_verify);
        assert_eq!(mirror.ca, [b"ca.pem".to_vec(), b"b.pem".to_vec()]);
        assert_eq!(mirror.client.as_ref().unwrap().pem, b"cert.pem\nkey.pem");
        assert_eq!(mirror.dial_timeout, Some(Duration::from_secs(90)));
        assert_eq!(mirror.headers.len(), 3);
        assert_eq!(hosts[1].scheme, Scheme::Http);
        assert_eq!(hosts[2].ca.len(), 1);
    }

    #[test]
    fn the_server_is_the_registry_unless_named_and_is_not_tried_twice() {
        let hosts = load("[host.'https://mirror']").unwrap();
        assert_eq!(
            hosts
                .iter()
                .map(|host| host.authority.as_str())
                .collect::<Vec<_>>(),
            ["mirror", "example.com"]
        );
        let hosts = load("server = 'https://a'\n[host.'https://a']\nskip_verify = true").unwrap();
        assert_eq!((hosts.len(), hosts[0].skip_verify), (1, true));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("server = 3", "server"),
            ("server = 'https://user:canary@host'", "password"),
            ("server = 'httpx://host'", "scheme"),
            ("capabilities = ['fly']", "fly"),
            ("skip_verify = 'yes'", "skip_verify"),
            ("dial_timeout = 'soon'", "dial_timeout"),
            ("ca = 3", "ca"),
            ("header = 'x'", "header"),
            ("[host]\na = 1", "a table"),
            ("client = [['a', 'b', 'c']]", "client"),
            ("= broken", "hosts.toml"),
        ] {
            let shown = load(text).unwrap_err().to_string();
            assert!(
                shown.contains(word) && !shown.contains("canary"),
                "{text}: {shown}"
            );
        }
        assert!(matches!(
            load("ca = 'missing.pem'"),
            Err(Error::ReadFile { .. })
        ));
    }

    #[test]
    fn docker_layout_without_a_file() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["one.crt", "me.cert", "me.key", "ignored.txt"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let hosts = read_folder(folder.path(), "example.com:444", None).unwrap();
        assert_eq!(hosts.len(), 1);
        assert_eq!(hosts[0].authority, "example.com:444");
        assert_eq!(hosts[0].ca, [b"one.crt".to_vec()]);
        assert_eq!(hosts[0].client.as_ref().unwrap().pem, b"me.cert\nme.key");
    }
}
