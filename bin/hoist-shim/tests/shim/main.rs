//! The real shim, driven over its socket as a daemon does.
#![allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod support;

use model::{ErrorKind, Kinded};
use prost::Message;
use proto::containerd::task::v2 as task;
use shim_protocol::bootstrap::BootstrapResult;
use shim_protocol::exit::ExitRecord;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use support::{Daemon, able, process, reader, until};

fn exec_request(
    id: &str,
    exec: &str,
    arguments: &[&str],
    names: [&str; 3],
    terminal: bool,
) -> task::ExecProcessRequest {
    let [stdin, stdout, stderr] = names.map(str::to_owned);
    let mut spec = process(arguments);
    spec["terminal"] = terminal.into();
    task::ExecProcessRequest {
        id: id.to_owned(),
        exec_id: exec.to_owned(),
        terminal,
        stdin,
        stdout,
        stderr,
        spec: Some(proto::typeurl::pack_json(
            proto::typeurl::RUNTIME_PROCESS,
            spec.to_string().into_bytes(),
        )),
    }
}

#[test]
fn a_life_from_create_to_delete() {
    if !able() {
        return;
    }
    let daemon = Daemon::new();
    let bundle = daemon.bundle(
        "c1",
        &["/bin/sh", "-c", "echo out; echo err >&2; exit 7"],
        |_| {},
    );
    let mut shim = daemon.start("c1");
    let (out, err) = (daemon.fifo("out"), daemon.fifo("err"));
    let (read_out, read_err) = (reader(&out), reader(&err));
    let created: task::CreateTaskResponse = shim
        .call("Create", &daemon.create("c1", ["", &out, &err], false))
        .unwrap();
    assert!(created.pid > 0);
    assert_eq!(shim.state("c1", "").unwrap().status, 1);
    let waiting = shim.send(
        "Wait",
        &task::WaitRequest {
            id: "c1".into(),
            exec_id: String::new(),
        },
    );
    assert_eq!(shim.start_process("c1", "").unwrap(), created.pid);
    let waited: task::WaitResponse = shim.receive(waiting).unwrap();
    assert_eq!(waited.exit_status, 7);
    assert_eq!(read_out.join().unwrap(), "out\n");
    assert_eq!(read_err.join().unwrap(), "err\n");
    let record = ExitRecord::from_bytes(&std::fs::read(bundle.join("exit")).unwrap()).unwrap();
    assert_eq!((record.pid, record.exit_status), (created.pid, 7));
    let state = shim.state("c1", "").unwrap();
    assert_eq!(
        (state.status, state.exit_status, state.bundle.as_str()),
        (3, 7, bundle.to_str().unwrap())
    );
    assert_eq!(
        shim.kill("c1", "", 9).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let deleted = shim.delete("c1", "").unwrap();
    assert_eq!((deleted.pid, deleted.exit_status), (created.pid, 7));
    assert_eq!(
        shim.state("c1", "").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    until("all events", || daemon.topics().len() == 4);
    assert_eq!(
        daemon.topics(),
        [
            "/tasks/create",
            "/tasks/start",
            "/tasks/exit",
            "/tasks/delete"
        ]
    );
    shim.shutdown();
}

#[test]
fn start_comes_before_exit_however_short_the_life() {
    if !able() {
        return;
    }
    let daemon = Daemon::new();
    daemon.bundle("first", &["/bin/true"], |_| {});
    let mut shim = daemon.start("first");
    for round in 0..10 {
        let id = format!("c{round}");
        daemon.bundle(&id, &["/bin/true"], |_| {});
        let _: task::CreateTaskResponse = shim
            .call("Create", &daemon.create(&id, ["", "", ""], false))
            .unwrap();
        shim.start_process(&id, "").unwrap();
        assert_eq!(shim.wait(&id, ""), 0);
        shim.delete(&id, "").unwrap();
    }
    until("all events", || daemon.topics().len() == 40);
    for life in daemon.topics().chunks(4) {
        assert_eq!(
            life,
            [
                "/tasks/create",
                "/tasks/start",
                "/tasks/exit",
                "/tasks/delete"
            ]
        );
    }
    shim.shutdown();
}

#[test]
#[allow(clippy::too_many_lines, reason = "one life, told in order")]
fn execs_run_and_end_before_their_container() {
    if !able() {
        return;
    }
    let daemon = Daemon::new();
    daemon.bundle("c1", &["/bin/sleep", "1000"], |_| {});
    let mut shim = daemon.start("c1");
    shim.version = "v2";
    let _: task::CreateTaskResponse = shim
        .call("Create", &daemon.create("c1", ["", "", ""], false))
        .unwrap();
    shim.start_process("c1", "").unwrap();
    let (input, out) = (daemon.fifo("in"), daemon.fifo("out"));
    let read = reader(&out);
    let request = exec_request(
        "c1",
        "cat",
        &["/bin/sh", "-c", "cat; exit 3"],
        [&input, &out, ""],
        false,
    );
    let () = shim.call("Exec", &request).unwrap();
    assert_eq!(
        shim.call::<()>("Exec", &request).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    let pid = shim.start_process("c1", "cat").unwrap();
    let pids: task::PidsResponse = shim
        .call("Pids", &task::PidsRequest { id: "c1".into() })
        .unwrap();
    let named = pids
        .processes
        .iter()
        .find(|process| process.pid == pid)
        .unwrap();
    assert!(
        named
            .info
            .as_ref()
            .unwrap()
            .type_url
            .ends_with("ProcessDetails")
    );
    // A writer may leave and another one come: input ends with CloseIO only.
    for word in ["one ", "two"] {
        File::options()
            .write(true)
            .open(&input)
            .unwrap()
            .write_all(word.as_bytes())
            .unwrap();
    }
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(shim.state("c1", "cat").unwrap().status, 2);
    let close = task::CloseIoRequest {
        id: "c1".into(),
        exec_id: "cat".into(),
        stdin: true,
    };
    let () = shim.call("CloseIO", &close).unwrap();
    assert_eq!(shim.wait("c1", "cat"), 3);
    assert_eq!(read.join().unwrap(), "one two");
    assert_eq!(shim.delete("c1", "cat").unwrap().exit_status, 3);
    let () = shim
        .call(
            "Exec",
            &exec_request("c1", "left", &["/bin/sleep", "1000"], ["", "", ""], false),
        )
        .unwrap();
    shim.start_process("c1", "left").unwrap();
    assert_eq!(
        shim.delete("c1", "").unwrap_err().kind(),
        ErrorKind::FailedPrecondition
    );
    shim.kill("c1", "", 9).unwrap();
    assert_eq!(shim.wait("c1", ""), 137);
    shim.delete("c1", "").unwrap();
    until("the last event", || {
        daemon
            .topics()
            .last()
            .is_some_and(|topic| topic == "/tasks/delete")
    });
    let topics = daemon.topics();
    let topics: Vec<&str> = topics
        .iter()
        .map(|topic| topic.trim_start_matches("/tasks/"))
        .collect();
    let expected =
        "create start exec-added exec-started exit exec-added exec-started exit exit delete"
            .split(' ')
            .collect::<Vec<_>>();
    assert_eq!(topics, expected);
    shim.shutdown();
}

#[test]
fn a_program_that_does_not_exist_is_told() {
    if !able() {
        return;
    }
    let daemon = Daemon::new();
    daemon.bundle("c1", &["/bin/nothing"], |_| {});
    daemon.bundle("c2", &["/bin/sleep", "1000"], |_| {});
    let mut shim = daemon.start("c1");
    let create =
        shim.call::<task::CreateTaskResponse>("Create", &daemon.create("c1", ["", "", ""], false));
    if create.is_ok() {
        let error = shim.start_process("c1", "").unwrap_err();
        assert!(error.message.contains("nothing"), "{error}");
        until("it ends", || shim.state("c1", "").unwrap().status == 3);
        shim.delete("c1", "").unwrap();
    }
    let _: task::CreateTaskResponse = shim
        .call("Create", &daemon.create("c2", ["", "", ""], false))
        .unwrap();
    shim.start_process("c2", "").unwrap();
    let () = shim
        .call(
            "Exec",
            &exec_request("c2", "e", &["/bin/nothing"], ["", "", ""], false),
        )
        .unwrap();
    let error = shim.start_process("c2", "e").unwrap_err();
    assert!(error.message.contains("nothing"), "{error}");
    until("it ends", || shim.state("c2", "e").unwrap().status == 3);
    shim.delete("c2", "e").unwrap();
    let bad = task::ExecProcessRequest {
        id: "c2".into(),
        exec_id: "bad".into(),
        ..Default::default()
    };
    assert_eq!(
        shim.call::<()>("Exec", &bad).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    shim.kill("c2", "", 9).unwrap();
    assert_eq!(shim.wait("c2", ""), 137);
    shim.delete("c2", "").unwrap();
    shim.shutdown();
}

#[test]
fn a_terminal_is_one_stream_with_a_size() {
    if !able() {
        return;
    }
    let daemon = Daemon::new();
    daemon.bundle(
        "c1",
        &["/bin/sh", "-c", "read x; stty size; echo got $x"],
        |spec| {
            spec["process"]["terminal"] = true.into();
        },
    );
    let mut shim = daemon.start("c1");
    let (input, out) = (daemon.fifo("in"), daemon.fifo("out"));
    let read = reader(&out);
    let _: task::CreateTaskResponse = shim
        .call("Create", &daemon.create("c1", [&input, &out, ""], true))
        .unwrap();
    let resize = task::ResizePtyRequest {
        id: "c1".into(),
        width: 132,
        height: 43,
        ..Default::default()
    };
    let () = shim.call("ResizePty", &resize).unwrap();
    shim.start_process("c1", "").unwrap();
    File::options()
        .write(true)
        .open(&input)
        .unwrap()
        .write_all(b"word\n")
        .unwrap();
    assert_eq!(shim.wait("c1", ""), 0);
    let text = read.join().unwrap();
    assert!(
        text.contains("43 132\r\n") && text.contains("got word\r\n"),
        "{text:?}"
    );
    shim.delete("c1", "").unwrap();
    shim.shutdown();
}

#[test]
fn a_fifo_that_nobody_reads_holds_up_its_writer_only() {
    if !able() {
        return;
    }
    let daemon = Daemon::new();
    daemon.bundle("c1", &["/bin/sh", "-c", "seq 1 100000; exit 4"], |_| {});
    let mut shim = daemon.start("c1");
    let out = daemon.fifo("out");
    let _: task::CreateTaskResponse = shim
        .call("Create", &daemon.create("c1", ["", &out, ""], false))
        .unwrap();
    shim.start_process("c1", "").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let since = Instant::now();
    assert_eq!(shim.state("c1", "").unwrap().status, 2);
    assert!(since.elapsed() < Duration::from_millis(100));
    // Two readers in turn get everything between them.
    let mut text = String::new();
    let mut first = File::open(&out).unwrap().take(1000);
    first.read_to_string(&mut text).unwrap();
    drop(first);
    let rest = reader(&out);
    assert_eq!(shim.wait("c1", ""), 4);
    text.push_str(&rest.join().unwrap());
    let numbers: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.into_iter().eq(1..=100_000));
    shim.delete("c1", "").unwrap();
    daemon.bundle("c2", &["/bin/sh", "-c", "seq 1 100000"], |_| {});
    let out = daemon.fifo("out2");
    let _: task::CreateTaskResponse = shim
        .call("Create", &daemon.create("c2", ["", &out, ""], false))
        .unwrap();
    shim.start_process("c2", "").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    shim.kill("c2", "", 9).unwrap();
    assert_eq!(shim.wait("c2", ""), 137);
    let since = Instant::now();
    shim.delete("c2", "").unwrap();
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "unread output must not hold a removal up"
    );
    shim.shutdown();
}

#[test]
fn logs_go_to_files_loggers_and_cri_lines() {
    if !able() {
        return;
    }
    let daemon = Daemon::new();
    let script = daemon.path("logger.sh");
    let sink = daemon.path("logged");
    let text = format!(
        "#!/bin/sh\nexec 5>&-\n{{ cat <&3; echo $CONTAINER_NAMESPACE/$CONTAINER_ID $1=$2; }} > {}\n",
        sink.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let file = daemon.path("logs/plain");
    let cri = daemon.path("logs/0.log");
    let targets = [
        format!("file://{}", file.display()),
        format!("cri-log://{}?max-size=1000000&max-files=2", cri.display()),
        format!("binary://{}?k=v", script.display()),
    ];
    daemon.bundle("first", &["/bin/true"], |_| {});
    let mut shim = daemon.start("first");
    for (index, target) in targets.iter().enumerate() {
        let id = format!("c{index}");
        daemon.bundle(
            &id,
            &[
                "/bin/sh",
                "-c",
                "echo one; echo -n two; sleep 0.1; echo three >&2",
            ],
            |_| {},
        );
        let _: task::CreateTaskResponse = shim
            .call("Create", &daemon.create(&id, ["", target, target], false))
            .unwrap();
        shim.start_process(&id, "").unwrap();
        assert_eq!(shim.wait(&id, ""), 0);
        shim.delete(&id, "").unwrap();
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), "one\ntwothree\n");
    let log = std::fs::read_to_string(cri).unwrap();
    let mut lines: Vec<&str> = log
        .lines()
        .map(|line| line.split_once(' ').unwrap().1)
        .collect();
    lines.sort_unstable();
    assert_eq!(lines, ["stderr F three", "stdout F one", "stdout F two"]);
    until("the logger ends", || {
        std::fs::read_to_string(&sink).is_ok_and(|text| text.contains("k=v"))
    });
    let expected = format!("one\ntwo{}/c2 k=v\n", support::NAMESPACE);
    assert_eq!(std::fs::read_to_string(&sink).unwrap(), expected);
    shim.shutdown();
}

#[test]
fn pause_update_stats_and_created_containers() {
    if !able() {
        return;
    }
    let daemon = Daemon::new();
    daemon.bundle("c1", &["/bin/sleep", "1000"], |_| {});
    let mut shim = daemon.start("c1");
    let _: task::CreateTaskResponse = shim
        .call("Create", &daemon.create("c1", ["", "", ""], false))
        .unwrap();
    shim.start_process("c1", "").unwrap();
    let again =
        shim.call::<task::CreateTaskResponse>("Create", &daemon.create("c1", ["", "", ""], false));
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let () = shim
        .call("Pause", &task::PauseRequest { id: "c1".into() })
        .unwrap();
    assert_eq!(shim.state("c1", "").unwrap().status, 4);
    let () = shim
        .call("Resume", &task::ResumeRequest { id: "c1".into() })
        .unwrap();
    assert_eq!(shim.state("c1", "").unwrap().status, 2);
    let stats: task::StatsResponse = shim
        .call("Stats", &task::StatsRequest { id: "c1".into() })
        .unwrap();
    assert!(
        stats
            .stats
            .unwrap()
            .type_url
            .starts_with("io.containerd.cgroups.")
    );
    let resources = proto::typeurl::pack_json(
        proto::typeurl::LINUX_RESOURCES,
        br#"{"pids":{"limit":55}}"#.to_vec(),
    );
    let update = task::UpdateTaskRequest {
        id: "c1".into(),
        resources: Some(resources),
        ..Default::default()
    };
    let () = shim.call("Update", &update).unwrap();
    // Shutdown is ignored while a container is left.
    let () = shim
        .call("Shutdown", &task::ShutdownRequest::default())
        .unwrap();
    shim.kill("c1", "", 9).unwrap();
    assert_eq!(shim.wait("c1", ""), 137);
    shim.delete("c1", "").unwrap();
    daemon.bundle("c2", &["/bin/sleep", "1000"], |_| {});
    let _: task::CreateTaskResponse = shim
        .call("Create", &daemon.create("c2", ["", "", ""], false))
        .unwrap();
    assert_eq!(shim.delete("c2", "").unwrap().exit_status, 137);
    let mut request = daemon.create("c3", ["", "", ""], false);
    daemon.bundle("c3", &["/bin/true"], |_| {});
    let mut options = daemon.options();
    options.binary_name = "crun".into();
    request.options = Some(options.to_any());
    let refused = shim
        .call::<task::CreateTaskResponse>("Create", &request)
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unimplemented);
    shim.shutdown();
}

#[test]
fn a_group_shares_its_shim_and_old_daemons_get_an_address() {
    if !able() {
        return;
    }
    let daemon = Daemon::new();
    let group = |spec: &mut serde_json::Value| {
        spec["annotations"] = serde_json::json!({"io.kubernetes.cri.sandbox-id": "pod"});
    };
    daemon.bundle("pod", &["/bin/true"], group);
    daemon.bundle("app", &["/bin/true"], group);
    let mut first = daemon.start("pod");
    let mut second = daemon.start("app");
    assert_eq!(first.path, second.path);
    assert_eq!(first.shim_pid(), second.shim_pid());
    let events = daemon.path("events.sock");
    let environment = [("TTRPC_ADDRESS", events.to_str().unwrap())];
    daemon.bundle("old", &["/bin/true"], |_| {});
    let answer = daemon.action("old", "start", b"", &environment);
    let result = BootstrapResult::parse(&answer).unwrap();
    assert_eq!(
        (
            result.version,
            answer.starts_with(b"unix:///run/containerd/s/")
        ),
        (2, true)
    );
    support::Client::connect(&result.address).shutdown();
    let environment = [environment[0], ("MAX_SHIM_VERSION", "2")];
    let answer = daemon.action(
        "old",
        "start",
        &daemon.options().to_any().encode_to_vec(),
        &environment,
    );
    assert!(answer.starts_with(b"{\"version\":2,"));
    support::Client::connect(&BootstrapResult::parse(&answer).unwrap().address).shutdown();
    drop(second);
    first.shutdown();
}

#[test]
fn delete_cleans_up_after_a_killed_shim() {
    if !able() {
        return;
    }
    let daemon = Daemon::new();
    daemon.bundle("c1", &["/bin/sleep", "1000"], |_| {});
    let mut shim = daemon.start("c1");
    let created: task::CreateTaskResponse = shim
        .call("Create", &daemon.create("c1", ["", "", ""], false))
        .unwrap();
    shim.start_process("c1", "").unwrap();
    let pid = rustix::process::Pid::from_raw(shim.shim_pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let answer = daemon.action("c1", "delete", b"", &[]);
    let response = task::DeleteResponse::decode(answer.as_slice()).unwrap();
    assert_eq!((response.pid, response.exit_status), (created.pid, 137));
    until("the container ends", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", created.pid));
        stat.is_ok_and(|stat| stat.contains(") Z "))
            || !Path::new(&format!("/proc/{}", created.pid)).exists()
    });
    assert!(
        !daemon
            .path("runc")
            .join(support::NAMESPACE)
            .join("c1")
            .exists()
    );
}

#[test]
fn events_wait_for_the_daemon() {
    if !able() {
        return;
    }
    let daemon = Daemon::new();
    daemon.bundle("c1", &["/bin/true"], |_| {});
    rustix::fs::rename(daemon.path("events.sock"), daemon.path("away.sock")).unwrap();
    let mut shim = daemon.start("c1");
    let _: task::CreateTaskResponse = shim
        .call("Create", &daemon.create("c1", ["", "", ""], false))
        .unwrap();
    shim.start_process("c1", "").unwrap();
    assert_eq!(shim.wait("c1", ""), 0);
    assert!(daemon.topics().is_empty());
    rustix::fs::rename(daemon.path("away.sock"), daemon.path("events.sock")).unwrap();
    until("all events", || daemon.topics().len() == 3);
    assert_eq!(
        daemon.topics(),
        ["/tasks/create", "/tasks/start", "/tasks/exit"]
    );
    shim.delete("c1", "").unwrap();
    shim.shutdown();
}
