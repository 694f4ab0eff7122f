//! The direct bootstrap, with this very program in the part of our own shim.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    reason = "a test program"
)]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use events::Exchange;
use model::{ContainerId, Namespace, SystemClock};
use prost::Message;
use proto::containerd::task::v3 as wire;
use shim_protocol::bootstrap::{BootstrapParams, BootstrapResult};
use shims::{BuiltIn, Config, Manager, Runtime, StartRequest, Stdio, Timeouts};
use sys::sealed::SealedImage;
use tokio::net::UnixListener;
use ttrpc::Status;
use ttrpc::server::{Call, Peers, Server};

fn main() {
    // Test runners ask a program without the usual harness which tests it has.
    if std::env::args().any(|argument| argument == "--list") {
        if !std::env::args().any(|argument| argument == "--ignored") {
            println!("direct: test");
        }
        return;
    }
    let last = std::env::args().next_back().unwrap_or_default();
    match last.as_str() {
        "serve" => shim(),
        "delete" => {}
        _ => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(daemon());
            println!("test direct ... ok");
        }
    }
}

/// What our shim would do.
fn shim() {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).unwrap();
    let params = BootstrapParams::decode(input.as_slice()).unwrap();
    assert_eq!(params.namespace, "n");
    assert!(std::env::vars_os().next().is_none());
    assert!(Path::new("config.json").exists());
    if params.instance_id == "fails" {
        eprint!("no luck today");
        return;
    }
    let listener = std::os::unix::net::UnixListener::from(sys::worker::inherited(3).unwrap());
    listener.set_nonblocking(true).unwrap();
    let path = listener.local_addr().unwrap();
    let path = path.as_pathname().unwrap().to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = UnixListener::from_std(listener).unwrap();
        let answer = BootstrapResult::ttrpc(format!("unix://{}", path.display()));
        std::io::stdout()
            .write_all(&answer.encode_to_vec())
            .unwrap();
        std::io::stdout().flush().unwrap();
        // The end of the answer is the sign that the shim serves.
        let null = std::fs::File::open("/dev/null").unwrap();
        rustix::stdio::dup2_stdout(&null).unwrap();
        let server = Server::new(Peers::Any).service("containerd.task.v3.Task", task);
        // A test that fails leaves no process behind.
        let limit = tokio::time::sleep(Duration::from_secs(20));
        server.serve(listener, limit).await.unwrap();
    });
}

async fn task(call: Call) -> Result<Vec<u8>, Status> {
    Ok(match call.method.as_str() {
        "Create" => wire::CreateTaskResponse {
            pid: std::process::id(),
        }
        .encode_to_vec(),
        "Delete" => wire::DeleteResponse::default().encode_to_vec(),
        "Shutdown" => std::process::exit(0),
        _ => Vec::new(),
    })
}

fn config(folder: &Path) -> Config {
    let image = SealedImage::from_path(&std::env::current_exe().unwrap()).unwrap();
    Config {
        state: folder.join("state"),
        root: folder.join("root"),
        socket_dir: folder.join("s"),
        grpc_address: "/run/test.sock".into(),
        ttrpc_address: "/run/test.sock.ttrpc".into(),
        daemon_binary: PathBuf::from("/bin/true"),
        daemon_version: "0".into(),
        debug: false,
        environment: Vec::new(),
        search_path: Vec::new(),
        built_in: Some(BuiltIn {
            image: Arc::new(image),
            names: vec!["io.containerd.runc.v2".into()],
        }),
        timeouts: Timeouts::UPSTREAM,
    }
}

async fn daemon() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock);
    let events = Arc::new(Exchange::new(clock.clone()));
    let manager = Manager::new(config(folder.path()), events, clock);
    let namespace = Namespace::new("n").unwrap();
    let request = |id: &str| StartRequest {
        namespace: namespace.clone(),
        id: ContainerId::new(id).unwrap(),
        runtime: Runtime {
            name: "io.containerd.runc.v2".into(),
            ..Runtime::default()
        },
        config: Some(b"{}".to_vec()),
        sandbox: None,
    };

    let shim = manager.start(request("c")).await.unwrap();
    let pid = shim
        .create(&[], Stdio::default(), String::new(), None)
        .await
        .unwrap();
    let comm = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(comm.starts_with("containerd-shim-hoist-v2\0"), "{comm}");
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    assert!(exe.to_string_lossy().starts_with("/memfd:"), "{exe:?}");
    let pod = manager.start(request("d")).await.unwrap();
    assert_ne!(pod.bootstrap().address, shim.bootstrap().address);
    manager.delete(&namespace, pod.id()).await.unwrap();
    manager.delete(&namespace, shim.id()).await.unwrap();
    gone(pid).await;

    // Two containers of one group share a process.
    let mut grouped = ["e", "f"].map(|id| StartRequest {
        config: Some(br#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod"}}"#.to_vec()),
        ..request(id)
    });
    let (first, second) = tokio::join!(
        manager.start(std::mem::replace(&mut grouped[0], request("x"))),
        manager.start(std::mem::replace(&mut grouped[1], request("x")))
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    let mut pids = Vec::new();
    for shim in [&first, &second] {
        let created = shim.create(&[], Stdio::default(), String::new(), None);
        pids.push(created.await.unwrap());
    }
    assert_eq!(pids[0], pids[1]);
    manager.delete(&namespace, first.id()).await.unwrap();
    gone(pids[0]).await;

    let error = manager.start(request("fails")).await.unwrap_err();
    assert!(error.to_string().contains("no luck today"), "{error}");
    assert!(!folder.path().join("state/n/fails").exists());
    assert!(manager.list(None).is_empty());
}

/// The shim ends and is reaped.
async fn gone(pid: u32) {
    for _ in 0..200 {
        if !Path::new(&format!("/proc/{pid}")).exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("shim {pid} is still there");
}
