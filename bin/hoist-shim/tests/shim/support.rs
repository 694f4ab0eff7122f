//! A bundle, a daemon that takes events, and a client for the shim's socket.
#![allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use prost::Message;
use proto::containerd::services::events::ttrpc::v1::ForwardRequest;
use proto::containerd::task::v2 as task;
use proto::containerd::types::Envelope;
use shim_protocol::bootstrap::{BootstrapParams, BootstrapResult, Extension};
use shim_protocol::options::RuncOptions;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use ttrpc::codec::{self, Decoder, Kind};
use ttrpc::{Request, Response, Status};

pub(crate) const NAMESPACE: &str = "shimtest";
const BUSYBOX: &str = "/bin/busybox";

/// True when containers can be run here; otherwise says loudly that the test is skipped.
pub(crate) fn able() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root || !Path::new(BUSYBOX).exists() {
        println!("SKIPPED: needs root and a static {BUSYBOX}");
        return false;
    }
    true
}

/// Waits until `check` holds.
pub(crate) fn until(what: &str, mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "not within 20 s: {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A daemon's side: folders, events, and one shim.
pub(crate) struct Daemon {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) events: Arc<Mutex<Vec<Envelope>>>,
    shims: Mutex<Vec<u32>>,
}

impl Daemon {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let daemon = Self {
            folder,
            events: Arc::default(),
            shims: Mutex::default(),
        };
        daemon.take_events();
        daemon
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Serves `Events/Forward` until the socket's file is gone and nobody connects.
    pub(crate) fn take_events(&self) {
        let listener = UnixListener::bind(self.path("events.sock")).unwrap();
        let events = Arc::clone(&self.events);
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let events = Arc::clone(&events);
                std::thread::spawn(move || {
                    let mut decoder = Decoder::default();
                    let mut buffer = [0; 4096];
                    while let Ok(count @ 1..) = stream.read(&mut buffer) {
                        decoder.push(&buffer[..count]);
                        while let Ok(Some(frame)) = decoder.next_frame() {
                            let request = Request::decode(frame.payload.as_slice()).unwrap();
                            assert_eq!(
                                request.metadata_value(ttrpc::NAMESPACE_KEY),
                                Some(NAMESPACE)
                            );
                            let forward =
                                ForwardRequest::decode(request.payload.as_slice()).unwrap();
                            events.lock().unwrap().push(forward.envelope.unwrap());
                            let mut out = Vec::new();
                            codec::encode_message(
                                &mut out,
                                frame.stream,
                                Kind::Response,
                                &Response::ok(vec![]),
                            )
                            .unwrap();
                            if stream.write_all(&out).is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        });
    }

    pub(crate) fn topics(&self) -> Vec<String> {
        self.events
            .lock()
            .unwrap()
            .iter()
            .map(|event| event.topic.clone())
            .collect()
    }

    /// Makes a bundle whose process is `arguments`.
    pub(crate) fn bundle(
        &self,
        id: &str,
        arguments: &[&str],
        change: impl FnOnce(&mut serde_json::Value),
    ) -> PathBuf {
        let bundle = self.path(id);
        let root = bundle.join("rootfs");
        for folder in ["bin", "proc", "dev", "sys", "tmp"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
        for applet in ["sh", "cat", "echo", "sleep", "true", "false", "stty", "seq"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let mut spec = serde_json::json!({
            "ociVersion": "1.1.0",
            "process": process(arguments),
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            ],
            "linux": {
                "cgroupsPath": format!("/hoist-shim-test{}/{id}", self.folder.path().display()),
                "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}],
            },
        });
        change(&mut spec);
        std::fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
        bundle
    }

    pub(crate) fn params(&self, id: &str) -> BootstrapParams {
        BootstrapParams {
            instance_id: id.to_owned(),
            namespace: NAMESPACE.to_owned(),
            log_level: -4,
            containerd_ttrpc_address: self.path("events.sock").to_str().unwrap().to_owned(),
            containerd_grpc_address: self.path("daemon.sock").to_str().unwrap().to_owned(),
            extensions: vec![Extension {
                value: Some(self.options().to_any()),
            }],
            socket_dir: Some(self.path("s").to_str().unwrap().to_owned()),
            ..BootstrapParams::default()
        }
    }

    pub(crate) fn options(&self) -> RuncOptions {
        RuncOptions {
            root: self.path("runc").to_str().unwrap().to_owned(),
            ..RuncOptions::default()
        }
    }

    /// Runs an action of the shim's program in a bundle.
    pub(crate) fn action(
        &self,
        id: &str,
        action: &str,
        input: &[u8],
        environment: &[(&str, &str)],
    ) -> Vec<u8> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hoist-shim"))
            .args([
                "-namespace",
                NAMESPACE,
                "-address",
                self.path("daemon.sock").to_str().unwrap(),
            ])
            .args(["-publish-binary", "/nonexistent", "-id", id, action])
            .current_dir(self.path(id))
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{action}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.stderr.is_empty());
        output.stdout
    }

    /// Starts a shim as containerd does.
    pub(crate) fn start(&self, id: &str) -> Client {
        let answer = self.action(id, "start", &self.params(id).encode_to_vec(), &[]);
        let result = BootstrapResult::parse(&answer).unwrap();
        assert_eq!((result.version, result.protocol.as_str()), (3, "ttrpc"));
        let mut client = Client::connect(&result.address);
        self.shims.lock().unwrap().push(client.shim_pid());
        client
    }

    pub(crate) fn create(
        &self,
        id: &str,
        names: [&str; 3],
        terminal: bool,
    ) -> task::CreateTaskRequest {
        let [stdin, stdout, stderr] = names.map(str::to_owned);
        task::CreateTaskRequest {
            id: id.to_owned(),
            bundle: self.path(id).to_str().unwrap().to_owned(),
            terminal,
            stdin,
            stdout,
            stderr,
            options: Some(self.options().to_any()),
            ..task::CreateTaskRequest::default()
        }
    }

    /// Makes a fifo and answers its path.
    pub(crate) fn fifo(&self, name: &str) -> String {
        let path = self.path(name);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// After a failed test nothing is left either.
impl Drop for Daemon {
    fn drop(&mut self) {
        let kill = |pid: u32| {
            let pid = rustix::process::Pid::from_raw(pid.cast_signed());
            let _gone =
                pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        };
        // Only while the number is that of our own program: it may be another's by now.
        for pid in self
            .shims
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .drain(..)
        {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if name.starts_with("hoist-shim") && std::thread::panicking() {
                kill(pid);
            }
        }
        let ours = format!("hoist-shim-test{}", self.folder.path().display());
        let roots = std::fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        for root in roots.chain([PathBuf::from("/sys/fs/cgroup")]) {
            let group = root.join(&ours);
            for entry in std::fs::read_dir(&group).into_iter().flatten().flatten() {
                let text =
                    std::fs::read_to_string(entry.path().join("cgroup.procs")).unwrap_or_default();
                text.lines()
                    .filter_map(|line| line.parse().ok())
                    .for_each(kill);
                for _ in 0..100 {
                    if !entry.path().is_dir() || std::fs::remove_dir(entry.path()).is_ok() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            let mut folder = group;
            while folder != root && std::fs::remove_dir(&folder).is_ok() {
                folder.pop();
            }
        }
    }
}

pub(crate) fn process(arguments: &[&str]) -> serde_json::Value {
    serde_json::json!({
        "user": {"uid": 0, "gid": 0},
        "args": arguments,
        "env": ["PATH=/bin"],
        "cwd": "/",
        "noNewPrivileges": true,
    })
}

/// A fifo's reader, opened before the shim so that nothing is lost, read to its end.
pub(crate) fn reader(path: &str) -> std::thread::JoinHandle<String> {
    let path = path.to_owned();
    std::thread::spawn(move || {
        let mut text = String::new();
        File::open(path).unwrap().read_to_string(&mut text).unwrap();
        text
    })
}

/// Calls to a shim, one at a time or several under way.
pub(crate) struct Client {
    stream: UnixStream,
    decoder: Decoder,
    last: u32,
    kept: Vec<(u32, Response)>,
    pub(crate) path: PathBuf,
    pub(crate) version: &'static str,
}

impl Client {
    pub(crate) fn connect(address: &str) -> Self {
        let path = PathBuf::from(shim_protocol::address::path(address).unwrap());
        let stream = UnixStream::connect(&path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self {
            stream,
            decoder: Decoder::default(),
            last: 0,
            kept: Vec::new(),
            path,
            version: "v3",
        }
    }

    pub(crate) fn send(&mut self, method: &str, argument: &impl Message) -> u32 {
        let service = format!("containerd.task.{}.Task", self.version);
        self.send_to(&service, method, argument)
    }

    pub(crate) fn send_to(&mut self, service: &str, method: &str, argument: &impl Message) -> u32 {
        self.last = if self.last == 0 { 1 } else { self.last + 2 };
        let request = Request {
            service: service.to_owned(),
            method: method.to_owned(),
            payload: argument.encode_to_vec(),
            ..Request::default()
        };
        let mut out = Vec::new();
        codec::encode_message(&mut out, self.last, Kind::Request, &request).unwrap();
        self.stream.write_all(&out).unwrap();
        self.last
    }

    pub(crate) fn receive<R: Message + Default>(&mut self, stream: u32) -> Result<R, Status> {
        let response = loop {
            if let Some(index) = self.kept.iter().position(|(kept, _)| *kept == stream) {
                break self.kept.remove(index).1;
            }
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the shim closed the connection");
            self.decoder.push(&buffer[..count]);
            while let Some(frame) = self.decoder.next_frame().unwrap() {
                self.kept.push((
                    frame.stream,
                    Response::decode(frame.payload.as_slice()).unwrap(),
                ));
            }
        };
        match response.status {
            Some(status) => Err(status),
            None => Ok(R::decode(response.payload.as_slice()).unwrap()),
        }
    }

    pub(crate) fn call<R: Message + Default>(
        &mut self,
        method: &str,
        argument: &impl Message,
    ) -> Result<R, Status> {
        let stream = self.send(method, argument);
        self.receive(stream)
    }

    pub(crate) fn start_process(&mut self, id: &str, exec: &str) -> Result<u32, Status> {
        let request = task::StartRequest {
            id: id.to_owned(),
            exec_id: exec.to_owned(),
        };
        self.call::<task::StartResponse>("Start", &request)
            .map(|response| response.pid)
    }

    pub(crate) fn wait(&mut self, id: &str, exec: &str) -> u32 {
        let request = task::WaitRequest {
            id: id.to_owned(),
            exec_id: exec.to_owned(),
        };
        self.call::<task::WaitResponse>("Wait", &request)
            .unwrap()
            .exit_status
    }

    pub(crate) fn delete(&mut self, id: &str, exec: &str) -> Result<task::DeleteResponse, Status> {
        self.call(
            "Delete",
            &task::DeleteRequest {
                id: id.to_owned(),
                exec_id: exec.to_owned(),
            },
        )
    }

    pub(crate) fn state(&mut self, id: &str, exec: &str) -> Result<task::StateResponse, Status> {
        self.call(
            "State",
            &task::StateRequest {
                id: id.to_owned(),
                exec_id: exec.to_owned(),
            },
        )
    }

    pub(crate) fn kill(&mut self, id: &str, exec: &str, signal: u32) -> Result<(), Status> {
        let request = task::KillRequest {
            id: id.to_owned(),
            exec_id: exec.to_owned(),
            signal,
            all: false,
        };
        self.call("Kill", &request)
    }

    pub(crate) fn shim_pid(&mut self) -> u32 {
        let response: task::ConnectResponse = self
            .call("Connect", &task::ConnectRequest::default())
            .unwrap();
        response.shim_pid
    }

    /// Ends the shim and checks that nothing of it is left.
    pub(crate) fn shutdown(mut self) {
        let pid = self.shim_pid();
        let () = self
            .call("Shutdown", &task::ShutdownRequest::default())
            .unwrap();
        until("the shim ends", || {
            !Path::new(&format!("/proc/{pid}/exe")).exists()
        });
        assert!(!self.path.exists());
    }
}
