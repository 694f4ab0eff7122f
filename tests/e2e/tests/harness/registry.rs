//! Debian's registry program on a free port.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{Image, Run, eventually};

/// How the registry is guarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    /// Plain HTTP, anybody.
    Open,
    /// Plain HTTP, user `tester`, password `secret`.
    Basic,
    /// TLS with an authority of its own.
    Tls,
}

/// A running registry.
pub(crate) struct Registry {
    folder: TempDir,
    child: Child,
    host: IpAddr,
    port: u16,
    security: Security,
}

impl Registry {
    /// Starts an empty registry.
    pub(crate) fn start(security: Security) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("hoist-registry-")
            .tempdir()
            .expect("a temporary folder");
        // Clients speak plain HTTP to the loopback interface whatever they are told.
        let host = match security {
            Security::Tls => own_address(),
            _ => Ipv4Addr::LOCALHOST.into(),
        };
        let port = free_port(host);
        let path = |name: &str| folder.path().join(name).display().to_string();
        let guard = match security {
            Security::Open => String::new(),
            Security::Basic => {
                let users =
                    Run::of(Command::new("htpasswd").args(["-Bbn", "tester", "secret"])).ok();
                fs::write(path("users"), users).expect("the users are written");
                format!(
                    "auth: {{htpasswd: {{realm: hoist, path: {}}}}}\n",
                    path("users")
                )
            }
            Security::Tls => {
                certify(folder.path(), host);
                String::new()
            }
        };
        let tls = if security == Security::Tls {
            format!(
                ", tls: {{certificate: {}, key: {}}}",
                path("server.crt"),
                path("server.key")
            )
        } else {
            String::new()
        };
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{host}:{port}\"{tls}}}\n{guard}",
            path("store")
        );
        fs::write(path("config.yml"), config).expect("the configuration is written");
        let child = Command::new("docker-registry")
            .args(["serve", &path("config.yml")])
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry starts (package docker-registry)");
        let registry = Self {
            folder,
            child,
            host,
            port,
            security,
        };
        eventually("the registry serves", Duration::from_secs(20), || {
            std::net::TcpStream::connect((host, port)).is_ok()
        });
        registry
    }

    /// The name of an image here.
    pub(crate) fn name(&self, image: &str) -> String {
        format!("{}:{}/{image}", self.host, self.port)
    }

    /// The certificate that signed the registry's.
    pub(crate) fn authority(&self) -> String {
        self.folder.path().join("ca.crt").display().to_string()
    }

    /// Pushes an image with skopeo; `options` are its own, such as `--format v2s2`.
    #[track_caller]
    pub(crate) fn push(&self, image: &Image, name: &str, options: &[&str]) -> String {
        let mut command = Command::new("skopeo");
        command.args([
            "--insecure-policy",
            "copy",
            "--all",
            "--quiet",
            "--dest-tls-verify=false",
        ]);
        if self.security == Security::Basic {
            command.args(["--dest-creds", "tester:secret"]);
        }
        command
            .args(options)
            .arg(format!("oci:{}:latest", image.layout().display()));
        let name = self.name(name);
        Run::of(command.arg(format!("docker://{name}"))).ok();
        name
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A port that nobody listens on; a registry that loses the race for it fails its test loudly.
fn free_port(host: IpAddr) -> u16 {
    TcpListener::bind((host, 0))
        .and_then(|socket| socket.local_addr())
        .expect("a free port")
        .port()
}

/// The address under which this machine would speak to others; nothing is sent.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).expect("a socket");
    let found = socket
        .connect(("192.0.2.1", 9))
        .and_then(|()| socket.local_addr());
    match found {
        Ok(address) => address.ip(),
        Err(error) => {
            println!("SKIPPED in part: no address but loopback's ({error}), so TLS is tried there");
            Ipv4Addr::LOCALHOST.into()
        }
    }
}

fn certify(folder: &std::path::Path, host: IpAddr) {
    let script = format!("openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=hoist-test &&
        openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost &&
        printf 'subjectAltName=DNS:localhost,IP:{host}' > names &&
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 2 -extfile names");
    Run::of(Command::new("sh").args(["-c", &script]).current_dir(folder)).ok();
}
