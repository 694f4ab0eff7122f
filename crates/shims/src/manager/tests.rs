//! The manager against shims that are a shell script and a server in this process.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use events::Subscription;
use model::SystemClock;
use prost::Message;
use proto::containerd::events::TaskDelete;
use proto::containerd::task::v3 as wire;
use shim_protocol::exit::ExitRecord;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use ttrpc::Status;
use ttrpc::server::{Call, Peers, Server};

use super::*;
use crate::{Timeouts, calls::Stdio};

struct Rig {
    folder: TempDir,
    manager: Manager,
    events: Arc<Exchange>,
    seen: Subscription,
}

fn limits() -> Timeouts {
    Timeouts {
        load: Duration::from_millis(300),
        cleanup: Duration::from_secs(2),
        shutdown: Duration::from_millis(300),
        start: Duration::from_secs(5),
        long_call: Duration::from_secs(2),
        call: Duration::from_millis(300),
    }
}

fn config(folder: &Path) -> Config {
    Config {
        state: folder.join("state"),
        root: folder.join("root"),
        socket_dir: folder.join("s"),
        grpc_address: "/run/test.sock".into(),
        ttrpc_address: "/run/test.sock.ttrpc".into(),
        daemon_binary: PathBuf::from("/bin/true"),
        daemon_version: "0".into(),
        debug: false,
        environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
        search_path: vec![folder.to_owned()],
        built_in: None,
        timeouts: limits(),
    }
}

impl Rig {
    fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap())
    }

    fn on(folder: TempDir) -> Self {
        let clock = Arc::new(SystemClock);
        let events = Arc::new(Exchange::new(clock.clone()));
        let seen = events.subscribe::<&str>(&[]).unwrap();
        let manager = Manager::new(config(folder.path()), Arc::clone(&events), clock);
        Self {
            folder,
            manager,
            events,
            seen,
        }
    }

    /// The daemon starts again on the same folders.
    fn again(self) -> Self {
        let Self { folder, .. } = self;
        Self::on(folder)
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A shim that answers `start` with the address of a server of ours, and `delete` with status 137.
    fn script(&self, name: &str, socket: &Path) {
        let answer = wire::DeleteResponse {
            pid: 42,
            exit_status: 137,
            exited_at: Some(proto::Timestamp {
                seconds: 1_700_000_000,
                nanos: 0,
            }),
        };
        let bytes = self.folder.path().join(format!("{name}.delete"));
        fs::write(&bytes, answer.encode_to_vec()).unwrap();
        let text = format!(
            "#!/bin/sh\nfor last; do :; done\ncase $last in\nstart) printf '{{\"version\":3,\"address\":\"unix://{}\",\"protocol\":\"ttrpc\"}}' ;;\ndelete) cat {} ;;\nesac\n",
            socket.display(),
            bytes.display()
        );
        let path = self
            .folder
            .path()
            .join(format!("containerd-shim-{name}-v1"));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    async fn start(&self, runtime: &str, id: &str) -> Result<Shim, Error> {
        self.manager
            .start(StartRequest {
                namespace: namespace(),
                id: task(id),
                runtime: Runtime {
                    name: format!("io.test.{runtime}.v1"),
                    ..Runtime::default()
                },
                config: Some(b"{}".to_vec()),
                sandbox: None,
            })
            .await
    }

    fn bundle(&self, id: &str) -> PathBuf {
        self.folder.path().join("state/n").join(id)
    }

    async fn event(&mut self) -> (String, proto::Any) {
        let event = tokio::time::timeout(Duration::from_secs(5), self.seen.recv());
        let event = event.await.unwrap().unwrap().unwrap();
        (event.topic.clone(), event.event.clone())
    }
}

fn namespace() -> Namespace {
    Namespace::new("n").unwrap()
}

fn task(id: &str) -> ContainerId {
    ContainerId::new(id).unwrap()
}

/// Speaks one version of the task service.
fn serve(socket: &Path, service: &'static str) -> JoinHandle<()> {
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        let server = Server::new(Peers::Any).service(service, answer);
        drop(server.serve(listener, std::future::pending()).await);
    })
}

async fn answer(call: Call) -> Result<Vec<u8>, Status> {
    Ok(match call.method.as_str() {
        "Create" => {
            let request: wire::CreateTaskRequest = call.argument()?;
            assert!(request.bundle.ends_with(&request.id));
            wire::CreateTaskResponse { pid: 42 }.encode_to_vec()
        }
        "Delete" => wire::DeleteResponse {
            pid: 42,
            exit_status: 3,
            exited_at: None,
        }
        .encode_to_vec(),
        "Wait" | "Kill" => std::future::pending().await,
        "Pids" | "Shutdown" => Vec::new(),
        method => return Err(Status::unimplemented("test", method)),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_created_and_deleted_in_either_version() {
    for service in ["containerd.task.v3.Task", "containerd.task.v2.Task"] {
        let rig = Rig::new();
        let socket = rig.socket("sock");
        let server = serve(&socket, service);
        rig.script("good", &socket);
        let shim = rig.start("good", "c").await.unwrap();
        let pid = shim
            .create(&[], Stdio::default(), String::new(), None)
            .await
            .unwrap();
        assert_eq!(pid, 42);
        assert!(matches!(
            rig.start("good", "c").await,
            Err(Error::AlreadyExists { .. })
        ));
        let bundle = rig.bundle("c");
        for file in [
            "config.json",
            "bootstrap.json",
            "shim-binary-path",
            "log",
            "hoist",
        ] {
            assert!(bundle.join(file).exists(), "{file}");
        }
        let exit = rig.manager.delete(&namespace(), &task("c")).await.unwrap();
        assert_eq!((exit.pid, exit.status), (42, 3));
        assert!(!bundle.exists());
        assert!(rig.manager.list(None).is_empty());
        server.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_leaves_nothing() {
    let rig = Rig::new();
    rig.script("lost", &rig.socket("nobody"));
    assert!(rig.start("lost", "c").await.is_err());
    assert!(!rig.bundle("c").exists());
    assert!(rig.manager.reserve(&namespace(), &task("c")).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_shim_is_told_once_with_the_recorded_status() {
    for (recorded, status) in [(Some(5), 5), (None, 137)] {
        let mut rig = Rig::new();
        let socket = rig.socket("sock");
        let server = serve(&socket, "containerd.task.v3.Task");
        rig.script("frail", &socket);
        let shim = rig.start("frail", "c").await.unwrap();
        let waiting = tokio::spawn(async move { shim.wait(None).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        if let Some(exit_status) = recorded {
            let record = ExitRecord {
                pid: 7,
                exit_status,
                exited_at: model::Timestamp::UNIX_EPOCH,
            };
            fs::write(rig.bundle("c").join("exit"), record.to_bytes()).unwrap();
        }
        server.abort();
        let (topic, event) = rig.event().await;
        assert_eq!(topic, "/tasks/exit");
        let exit: TaskExit = proto::typeurl::unpack(&event).unwrap();
        assert_eq!(
            (exit.container_id.as_str(), exit.exit_status),
            ("c", status)
        );
        let (topic, event) = rig.event().await;
        assert_eq!(topic, "/tasks/delete");
        let deleted: TaskDelete = proto::typeurl::unpack(&event).unwrap();
        assert_eq!(deleted.exit_status, status);
        assert_eq!(waiting.await.unwrap().unwrap().status, status);
        assert!(rig.manager.list(None).is_empty());
        assert!(!rig.bundle("c").exists());
        assert!(rig.seen.try_recv().is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_shim_delays_nobody() {
    let rig = Rig::new();
    let (hung, good) = (rig.socket("hung"), rig.socket("good"));
    // Listens and never accepts.
    let _listener = UnixListener::bind(&hung).unwrap();
    let server = serve(&good, "containerd.task.v3.Task");
    rig.script("hung", &hung);
    rig.script("good", &good);
    let stuck = rig.start("hung", "h").await.unwrap();
    let began = Instant::now();
    let (pids, started) = tokio::join!(stuck.pids(), rig.start("good", "g"));
    assert!(matches!(pids, Err(Error::Timeout { .. })));
    started.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2));

    let rig = rig.again();
    let began = Instant::now();
    let restored = rig.manager.restore(|_, _| true).await;
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!((restored.alive, restored.dead), (2, 0));
    assert!(rig.manager.get(&namespace(), &task("h")).is_ok());
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_finds_the_living_buries_the_dead_and_spares_the_foreign() {
    let rig = Rig::new();
    let (alive, dead) = (rig.socket("a"), rig.socket("d"));
    let server = serve(&alive, "containerd.task.v3.Task");
    let dying = serve(&dead, "containerd.task.v3.Task");
    rig.script("alive", &alive);
    rig.script("dead", &dead);
    rig.start("alive", "a").await.unwrap();
    rig.start("dead", "d").await.unwrap();
    let mut rig = rig.again();
    dying.abort();
    drop(dying.await);
    let record = ExitRecord {
        pid: 9,
        exit_status: 4,
        exited_at: model::Timestamp::UNIX_EPOCH,
    };
    for id in ["a", "d"] {
        fs::write(rig.bundle(id).join("exit"), record.to_bytes()).unwrap();
    }
    fs::create_dir_all(rig.bundle("foreign").join("rootfs")).unwrap();
    // The old manager may notice the death too: it has no subscriber any more, and removes the same bundle.
    let restored = rig.manager.restore(|_, _| true).await;
    assert_eq!((restored.alive, restored.foreign), (1, 1));
    let mut exits = Vec::new();
    while exits.len() < 2 {
        let (topic, event) = rig.event().await;
        if topic == "/tasks/exit" {
            exits.push(proto::typeurl::unpack::<TaskExit>(&event).unwrap());
        }
    }
    exits.sort_by(|a, b| a.container_id.cmp(&b.container_id));
    assert_eq!(exits[0].container_id, "a");
    assert_eq!(
        (exits[1].container_id.as_str(), exits[1].exit_status),
        ("d", 4)
    );

    // The living shim sends the same news late.
    rig.manager
        .forward(Envelope {
            timestamp: model::Timestamp::UNIX_EPOCH,
            namespace: namespace(),
            topic: "/tasks/exit".into(),
            event: proto::typeurl::pack(&exits[0]),
        })
        .unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    while let Some(event) = rig.seen.try_recv() {
        assert_eq!(event.topic, "/tasks/delete");
    }
    assert!(rig.bundle("foreign").exists() && !rig.bundle("d").exists());
    assert_eq!(rig.manager.list(Some(&namespace())).len(), 1);
    drop(rig.events);
    server.abort();
}
