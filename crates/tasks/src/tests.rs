//! Tasks over a shim that is a shell script and a server in this process.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use events::Exchange;
use jobs::Jobs;
use model::{Descriptor, Digest, ErrorKind, ExecId, Kinded, SystemClock};
use prost::Message;
use proto::containerd::task::v3 as wire;
use shims::{Config, Manager, Runtime, Stdio, Timeouts};
use tempfile::TempDir;
use tokio::net::UnixListener;
use ttrpc::Status;
use ttrpc::server::{Call, Peers, Server};

use super::*;

/// Methods in the order in which the shim saw them.
type Seen = Arc<Mutex<Vec<String>>>;

struct Rig {
    _folder: TempDir,
    tasks: Tasks,
    seen: Seen,
}

fn namespace() -> Namespace {
    Namespace::new("n").unwrap()
}

fn id(text: &str) -> ContainerId {
    ContainerId::new(text).unwrap()
}

async fn answer(call: Call, seen: Seen) -> Result<Vec<u8>, Status> {
    seen.lock().unwrap().push(call.method.clone());
    Ok(match call.method.as_str() {
        "Create" => {
            let request: wire::CreateTaskRequest = call.argument()?;
            if request.stdin == "refuse" {
                return Err(Status::new(ErrorKind::InvalidArgument, "no such fifo"));
            }
            assert_eq!(request.options.unwrap().value, [1, 2, 3]);
            wire::CreateTaskResponse { pid: 7 }.encode_to_vec()
        }
        "Start" => wire::StartResponse { pid: 8 }.encode_to_vec(),
        "State" => wire::StateResponse {
            pid: 7,
            status: 2,
            ..wire::StateResponse::default()
        }
        .encode_to_vec(),
        "Wait" => wire::WaitResponse {
            exit_status: 9,
            exited_at: None,
        }
        .encode_to_vec(),
        "Exec" => {
            let request: wire::ExecProcessRequest = call.argument()?;
            assert_eq!(request.spec.unwrap().value, b"{ }");
            Vec::new()
        }
        "Kill" => return Err(Status::new(ErrorKind::NotFound, "process already finished")),
        "Delete" => wire::DeleteResponse {
            pid: 7,
            exit_status: 9,
            exited_at: None,
        }
        .encode_to_vec(),
        "Stats" => wire::StatsResponse {
            stats: Some(Any {
                type_url: "io.containerd.cgroups.v2.Metrics".into(),
                value: vec![5],
            }),
        }
        .encode_to_vec(),
        _ => Vec::new(),
    })
}

fn rig() -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let seen = Seen::default();
    let recorded = Arc::clone(&seen);
    tokio::spawn(async move {
        let handler = move |call| answer(call, Arc::clone(&recorded));
        let server = Server::new(Peers::Any).service("containerd.task.v3.Task", handler);
        drop(server.serve(listener, std::future::pending()).await);
    });
    script(folder.path(), &socket);
    let clock = Arc::new(SystemClock);
    let events = Arc::new(Exchange::new(clock.clone()));
    let second = Duration::from_secs(1);
    let config = Config {
        state: folder.path().join("state"),
        root: folder.path().join("root"),
        socket_dir: folder.path().join("s"),
        grpc_address: String::new(),
        ttrpc_address: String::new(),
        daemon_binary: "/bin/true".into(),
        daemon_version: String::new(),
        debug: false,
        environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
        search_path: vec![folder.path().to_owned()],
        built_in: None,
        timeouts: Timeouts {
            load: second,
            cleanup: second,
            shutdown: second,
            start: second * 5,
            long_call: second,
            call: second,
        },
    };
    let containers: Arc<Containers> = Arc::new(|_: &Namespace, id: &ContainerId| {
        if id.as_str() == "nobody" {
            return Err(Error::Container {
                message: "container \"nobody\" in namespace \"n\": not found".into(),
                kind: ErrorKind::NotFound,
            });
        }
        Ok(Container {
            runtime: Runtime {
                name: "io.test.fake.v1".into(),
                ..Runtime::default()
            },
            spec: Some(Any {
                type_url: proto::typeurl::RUNTIME_SPEC.into(),
                value: b"{}".to_vec(),
            }),
            sandbox: None,
        })
    });
    let tasks = Tasks::new(
        Manager::new(config, events, clock.clone()),
        containers,
        Jobs::new(clock.clone()),
        clock,
    );
    Rig {
        _folder: folder,
        tasks,
        seen,
    }
}

fn script(folder: &Path, socket: &Path) {
    let text = format!(
        "#!/bin/sh\nfor last; do :; done\n[ \"$last\" = start ] && printf 'unix://%s' {}\n[ \"$last\" != start ] || exit 0\n",
        socket.display()
    );
    // A bare address means version 2; the document means version 3.
    let text = text.replace(
        "printf 'unix://%s'",
        "printf '{\"version\":3,\"address\":\"unix://%s\",\"protocol\":\"ttrpc\"}'",
    );
    let path = folder.join("containerd-shim-fake-v1");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn request() -> CreateRequest {
    CreateRequest {
        options: Some(Any {
            type_url: "containerd.runc.v1.Options".into(),
            value: vec![1, 2, 3],
        }),
        ..CreateRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_lives_and_ends() {
    let rig = rig();
    let (tasks, namespace, task) = (&rig.tasks, namespace(), id("c"));
    let exec = ExecId::new("e").unwrap();
    assert_eq!(tasks.create(&namespace, &task, request()).await.unwrap(), 7);
    let again = tasks
        .create(&namespace, &task, request())
        .await
        .unwrap_err();
    assert_eq!(again.to_string(), "task c: already exists");
    assert_eq!(tasks.start(&namespace, &task, None).await.unwrap(), 8);
    let spec = Any {
        type_url: proto::typeurl::RUNTIME_PROCESS.into(),
        value: b"{ }".to_vec(),
    };
    tasks
        .exec(&namespace, &task, &exec, Stdio::default(), Some(spec))
        .await
        .unwrap();
    let report = tasks.get(&namespace, &task, Some(&exec)).await.unwrap();
    assert_eq!((report.process.pid, report.process.status), (7, 2));
    assert_eq!(tasks.list(&namespace).await.len(), 1);
    let filters = ["id==c".to_owned()];
    let metrics = tasks.metrics(&namespace, &filters).await.unwrap();
    assert_eq!(metrics[0].data.as_ref().unwrap().value, [5]);
    let others = ["id==d".to_owned()];
    assert!(tasks.metrics(&namespace, &others).await.unwrap().is_empty());
    let killed = tasks.kill(&namespace, &task, None, 15, false).await;
    let killed = killed.unwrap_err();
    assert_eq!(
        (killed.kind(), killed.to_string().as_str()),
        (ErrorKind::NotFound, "process already finished")
    );
    tasks
        .update(&namespace, &task, None, BTreeMap::new())
        .await
        .unwrap();
    assert_eq!(tasks.wait(&namespace, &task, None).await.unwrap().status, 9);
    assert_eq!(tasks.delete(&namespace, &task).await.unwrap().status, 9);
    let gone = tasks.get(&namespace, &task, None).await.unwrap_err();
    assert_eq!(gone.to_string(), "task c not found: not found");
    assert_eq!(rig.seen.lock().unwrap().last().unwrap(), "Shutdown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_creation_leaves_nothing() {
    let rig = rig();
    let (tasks, namespace, task) = (&rig.tasks, namespace(), id("c"));
    let mut refused = request();
    refused.stdio.stdin = "refuse".into();
    let error = tasks.create(&namespace, &task, refused).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(tasks.list(&namespace).await.is_empty());
    tasks.create(&namespace, &task, request()).await.unwrap();
    tasks.delete(&namespace, &task).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_so() {
    let rig = rig();
    let (tasks, namespace) = (&rig.tasks, namespace());
    let missing = tasks.create(&namespace, &id("nobody"), request()).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    let mut checkpointed = request();
    let digest = Digest::from_sha256([0; 32]);
    checkpointed.checkpoint = Some(Descriptor::new("x", digest, 1));
    let unbuilt = tasks.create(&namespace, &id("c"), checkpointed).await;
    assert_eq!(unbuilt.unwrap_err().kind(), ErrorKind::Unimplemented);
    let unknown = tasks.start(&namespace, &id("c"), None).await;
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::NotFound);
}
