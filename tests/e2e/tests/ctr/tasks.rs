//! `ctr task` and `ctr container`: the life of a container.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{BUSYBOX, Daemon, eventually, root, rows};

/// A daemon in which a container with this name sleeps.
fn sleeping(name: &str) -> Daemon {
    let daemon = Daemon::with_busybox();
    daemon
        .ctr(&format!("run -d {BUSYBOX} {name} /bin/sleep 1000"))
        .ok();
    daemon
}

fn status(daemon: &Daemon, name: &str) -> String {
    let table = daemon.ctr("task ls").ok();
    let rows = rows(&table);
    let row = rows.iter().find(|row| row[0] == name);
    row.map_or_else(String::new, |row| row[2].to_owned())
}

#[track_caller]
fn becomes(daemon: &Daemon, name: &str, wanted: &str) {
    eventually(wanted, Duration::from_secs(10), || {
        status(daemon, name) == wanted
    });
}

fn remove(daemon: &Daemon, name: &str) {
    daemon.ctr(&format!("task rm --force {name}")).ok();
    daemon.ctr(&format!("container rm {name}")).ok();
}

#[test]
fn ctr_lists_signals_and_removes_tasks() {
    if !root("ctr_lists_signals_and_removes_tasks") {
        return;
    }
    let daemon = sleeping("one");
    daemon
        .ctr(&format!("run -d {BUSYBOX} two /bin/sleep 1000"))
        .ok();
    let table = daemon.ctr("task ls").ok();
    assert!(table.starts_with("TASK"), "{table}");
    let listed = rows(&table);
    assert_eq!(listed.len(), 2, "{table}");
    for row in &listed {
        assert_eq!(row[2], "RUNNING", "{table}");
        let line = std::fs::read(format!("/proc/{}/cmdline", row[1])).unwrap();
        assert_eq!(line, b"/bin/sleep\x001000\0");
    }
    let mut names: Vec<String> = daemon
        .ctr("task ls -q")
        .ok()
        .lines()
        .map(str::to_owned)
        .collect();
    names.sort();
    assert_eq!(names, ["one", "two"]);
    let running = daemon.ctr("task rm one").fails();
    assert!(running.contains("must be stopped"), "{running}");
    // sleep is the first process of its namespace and has no handler: only KILL ends it.
    daemon.ctr("task kill -s SIGTERM one").ok();
    assert_eq!(status(&daemon, "one"), "RUNNING");
    daemon.ctr("task kill -s SIGKILL one").ok();
    becomes(&daemon, "one", "STOPPED");
    let gone = daemon.ctr("task kill one").fails();
    assert!(
        gone.contains("not found") || gone.contains("already finished"),
        "{gone}"
    );
    let (_, warning) = daemon.ctr("task rm one").exits(0);
    assert!(warning.contains("non-zero exit code 137"), "{warning}");
    assert_eq!(status(&daemon, "one"), "");
    let gone = daemon.ctr("task rm one").fails();
    assert!(gone.contains("not found"), "{gone}");
    daemon.ctr("container rm one").ok();
    remove(&daemon, "two");
    daemon.sweep();
    assert_eq!(daemon.disk().snapshots.len(), 2);
    daemon.finish();
}

#[test]
fn ctr_executes_in_a_task() {
    if !root("ctr_executes_in_a_task") {
        return;
    }
    let daemon = sleeping("host");
    let exec = |options: &str, script: &str| {
        daemon.ctr_with(&format!("task exec {options} host /bin/sh -c"), script)
    };
    let (output, error) = exec("--exec-id e1", "echo out; echo err >&2; exit 4").exits(4);
    assert_eq!(output, "out\n");
    assert!(error.contains("err"), "{error}");
    assert_eq!(exec("--exec-id e2 --cwd /tmp", "pwd").ok(), "/tmp\n");
    let user = exec("--exec-id e3 --user tester", "id -u; id -g; id -G").ok();
    assert!(user.starts_with("1000\n1000\n"), "{user}");
    let user = exec("--exec-id e4 --user 1234:5678", "id -u; id -g").ok();
    assert_eq!(user, "1234\n5678\n");
    // It sees the container's processes and mounts, and is limited as they are.
    let seen = exec(
        "--exec-id e5",
        "cat /proc/1/cmdline | tr '\\0' ' '; cat /layer2",
    )
    .ok();
    assert_eq!(seen, "/bin/sleep 1000 second layer\n");
    let own = exec("--exec-id e6", "cat /proc/self/cgroup").ok();
    assert!(own.contains("host"), "{own}");
    exec("-d --exec-id e7", "sleep 1001").ok();
    eventually("the exec is listed", Duration::from_secs(5), || {
        rows(&daemon.ctr("task ps host").ok()).len() == 2
    });
    daemon.ctr("task kill -s SIGKILL --exec-id e7 host").ok();
    eventually("the exec is gone", Duration::from_secs(5), || {
        rows(&daemon.ctr("task ps host").ok()).len() == 1
    });
    assert_eq!(status(&daemon, "host"), "RUNNING");
    daemon.ctr("task rm --exec-id e7 host").exits(137);
    let unknown = daemon.ctr("task exec --exec-id x nobody true").fails();
    assert!(unknown.contains("not found"), "{unknown}");
    let missing = daemon.ctr("task exec --exec-id y host /no/such").fails();
    assert!(missing.contains("/no/such"), "{missing}");
    let bad = daemon
        .ctr("task exec --exec-id ../y host /bin/true")
        .fails();
    assert!(bad.contains("invalid"), "{bad}");
    remove(&daemon, "host");
    daemon.finish();
}

#[test]
fn ctr_pauses_and_resumes() {
    if !root("ctr_pauses_and_resumes") {
        return;
    }
    let daemon = Daemon::with_busybox();
    let log = daemon.path("ticks");
    let run = format!(
        "run -d --log-uri file://{} {BUSYBOX} ticking /bin/sh -c",
        log.display()
    );
    daemon
        .ctr_with(&run, "while :; do echo tick; sleep 0.01; done")
        .ok();
    let ticks = || std::fs::read_to_string(&log).unwrap_or_default().len();
    eventually("it ticks", Duration::from_secs(5), || ticks() > 0);
    daemon.ctr("task pause ticking").ok();
    assert_eq!(status(&daemon, "ticking"), "PAUSED");
    // What was in the pipe when it was frozen may still arrive.
    std::thread::sleep(Duration::from_millis(50));
    let paused = ticks();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(ticks(), paused);
    daemon.ctr("task resume ticking").ok();
    assert_eq!(status(&daemon, "ticking"), "RUNNING");
    eventually("it ticks again", Duration::from_secs(5), || {
        ticks() > paused
    });
    daemon.ctr("task pause ticking").ok();
    remove(&daemon, "ticking");
    daemon.finish();
}

#[test]
fn ctr_measures_a_task() {
    if !root("ctr_measures_a_task") {
        return;
    }
    let daemon = sleeping("measured");
    let json = daemon.ctr("task metrics --format json measured").ok();
    let metrics: Value = serde_json::from_str(&json).unwrap();
    let pids = metrics["pids"]["current"].as_u64();
    assert_eq!(pids, Some(1), "{metrics}");
    assert!(metrics["memory"].is_object(), "{metrics}");
    assert!(metrics["cpu"].is_object(), "{metrics}");
    let table = daemon.ctr("task metrics measured").ok();
    assert!(
        table.contains("ID") && table.contains("measured"),
        "{table}"
    );
    assert!(table.contains("pids.current"), "{table}");
    let processes = daemon.ctr("task ps measured").ok();
    assert!(processes.starts_with("PID"), "{processes}");
    assert_eq!(rows(&processes).len(), 1, "{processes}");
    remove(&daemon, "measured");
    daemon.finish();
}

#[test]
fn ctr_shows_labels_and_removes_containers() {
    if !root("ctr_shows_labels_and_removes_containers") {
        return;
    }
    let daemon = Daemon::with_busybox();
    daemon
        .ctr(&format!(
            "container create --label team=blue --env A=B {BUSYBOX} made /bin/sleep 0"
        ))
        .ok();
    let table = daemon.ctr("container ls").ok();
    assert_eq!(
        rows(&table),
        [["made", BUSYBOX, "io.containerd.runc.v2"]],
        "{table}"
    );
    assert_eq!(daemon.ctr("container ls -q").ok(), "made\n");
    assert_eq!(daemon.ctr("container ls -q labels.team==red").ok(), "");
    let info: Value = serde_json::from_str(&daemon.ctr("container info made").ok()).unwrap();
    assert_eq!(info["ID"], "made");
    assert_eq!(info["Image"], BUSYBOX);
    assert_eq!(info["Labels"]["team"], "blue");
    assert_eq!(info["Snapshotter"], "overlayfs");
    assert_eq!(info["SnapshotKey"], "made");
    assert_eq!(info["Runtime"]["Name"], "io.containerd.runc.v2");
    assert_eq!(info["Spec"]["process"]["args"][0], "/bin/sleep");
    let spec = daemon.ctr("container info --spec made").ok();
    assert!(serde_json::from_str::<Value>(&spec).unwrap()["process"].is_object());
    let labels = daemon.ctr("container label made team=red more=1").ok();
    assert!(
        labels.contains("team=red") && labels.contains("more=1"),
        "{labels}"
    );
    assert_eq!(
        daemon.ctr("container ls -q labels.team==red").ok(),
        "made\n"
    );
    let unknown = daemon.ctr("container info mode").fails();
    assert!(unknown.contains("not found"), "{unknown}");
    daemon.ctr("task start -d made").ok();
    becomes(&daemon, "made", "STOPPED");
    daemon.ctr("task rm made").ok();
    assert_eq!(daemon.disk().snapshots.len(), 3);
    daemon.ctr("container rm made").ok();
    assert_eq!(daemon.ctr("container ls -q").ok(), "");
    let gone = daemon.ctr("container rm made").fails();
    assert!(gone.contains("not found"), "{gone}");
    daemon.finish();
}

#[test]
fn ctr_attaches() {
    if !root("ctr_attaches") {
        return;
    }
    let daemon = Daemon::with_busybox();
    let fifos = daemon.path("fifos");
    std::fs::create_dir(&fifos).unwrap();
    daemon
        .ctr(&format!("container create {BUSYBOX} made /bin/sleep 0"))
        .ok();
    let (output, _) = daemon
        .ctr(&format!("task start --fifo-dir {} made", fifos.display()))
        .exits(0);
    assert_eq!(output, "");
    daemon.ctr("container rm made").ok();
    daemon.finish();
}
