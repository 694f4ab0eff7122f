//! Our command line program, as people use it.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    BUSYBOX, Background, Daemon, Disk, Registry, Run, Security, architecture, busybox, eventually,
    root,
};

impl Daemon {
    /// `hoist run --rm OPTIONS busybox sh -c SCRIPT`.
    #[track_caller]
    fn hoist_once(&self, options: &str, script: &str) -> Run {
        self.hoist_with(&format!("run --rm {options} {BUSYBOX} /bin/sh -c"), script)
    }
}

/// The collector takes what was removed, without being asked.
#[track_caller]
fn snapshots_become(daemon: &Daemon, count: usize) {
    eventually(
        &format!("{count} snapshots"),
        Duration::from_secs(5),
        || daemon.disk().snapshots.len() == count,
    );
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn hoist_runs_the_built_in_image() {
    if !root("hoist_runs_the_built_in_image") {
        return;
    }
    let daemon = Daemon::start();
    let greeting = daemon.hoist("run --rm hoist.local/hello:latest").ok();
    assert!(!greeting.trim().is_empty());
    let images = daemon.hoist("images -q").ok();
    assert_eq!(images, "hoist.local/hello:latest\n");
    assert_eq!(daemon.hoist("ps -a -q").ok(), "");
    daemon.hoist("rmi hoist.local/hello:latest").ok();
    daemon.holds_only(&Disk::default());
    daemon.finish();
}

#[test]
fn hoist_run_passes_status_and_options() {
    if !root("hoist_run_passes_status_and_options") {
        return;
    }
    let daemon = Daemon::with_busybox();
    let (output, error) = daemon
        .hoist_once("", "echo out; echo err >&2; exit 7")
        .exits(7);
    assert_eq!((output.as_str(), error.as_str()), ("out\n", "err\n"));
    let missing = daemon.hoist(&format!("run --rm {BUSYBOX} /no/such/program"));
    let (_, message) = missing.exits(127);
    assert!(message.contains("/no/such/program"), "{message}");
    let shared = daemon.path("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("file"), "from host\n").unwrap();
    let volume = format!("-v {}:/mnt", shared.display());
    for (options, script, expected) in [
        ("-e MODE=fast", "echo $MODE $FROM_IMAGE", "fast yes\n"),
        ("-w /tmp", "pwd", "/tmp\n"),
        (
            "-u tester",
            "id -u; id -g; id -G",
            "1000\n1000\n1000 2000\n",
        ),
        ("-u 5:6", "id -u; id -g", "5\n6\n"),
        ("--hostname box", "hostname", "box\n"),
        ("--read-only", "touch /x 2>/dev/null || echo no", "no\n"),
        ("--entrypoint /bin/echo", "word", "/bin/sh -c word\n"),
        (volume.as_str(), "cat /mnt/file", "from host\n"),
        ("", "ls /sys/class/net", "lo\n"),
        (
            "--cap-drop ALL",
            "grep CapEff /proc/self/status",
            "CapEff:\t0000000000000000\n",
        ),
        ("", "grep '^Seccomp:' /proc/self/status", "Seccomp:\t2\n"),
    ] {
        let output = daemon.hoist_once(options, script).ok();
        assert_eq!(output, expected, "{options} {script}");
    }
    let readonly = daemon.hoist_once(&format!("{volume}:ro"), "touch /mnt/x");
    assert!(readonly.fails().contains("Read-only file system"));
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    let seen = daemon.hoist_once("--net host", "readlink /proc/self/ns/net");
    assert_eq!(seen.ok().trim(), host.to_string_lossy());
    let wrong = daemon.hoist_once("--memory 12parsecs", "true").fails();
    assert!(
        wrong.contains("--memory") && wrong.contains("parsecs"),
        "{wrong}"
    );
    assert_eq!(daemon.hoist("ps -a -q").ok(), "");
    snapshots_become(&daemon, 2);
    daemon.finish();
}

#[test]
fn hoist_limits_resources_and_takes_input() {
    if !root("hoist_limits_resources_and_takes_input") {
        return;
    }
    let daemon = Daemon::with_busybox();
    let options =
        format!("run -d --name limited --memory 32m --pids-limit 50 --cpus 0.5 {BUSYBOX}");
    daemon.hoist(&format!("{options} /bin/sleep 1000")).ok();
    let group = format!("{}/limited", daemon.namespace());
    let value = |v1: &str, v2: &str| {
        let first = fs::read_to_string(format!("/sys/fs/cgroup/{}", v1.replace("GROUP", &group)));
        let second = || fs::read_to_string(format!("/sys/fs/cgroup/{group}/{v2}"));
        first.or_else(|_| second()).unwrap().trim().to_owned()
    };
    assert_eq!(
        value("memory/GROUP/memory.limit_in_bytes", "memory.max"),
        (32 << 20).to_string()
    );
    assert_eq!(value("pids/GROUP/pids.max", "pids.max"), "50");
    daemon.hoist("rm -f limited").ok();
    let input = daemon.path("input");
    fs::write(&input, "a\nb\nc\n").unwrap();
    let mut command = daemon.hoist_command();
    let counted = Run::fed(
        command.args(["run", "--rm", "-i", BUSYBOX, "wc", "-l"]),
        &input,
    );
    assert_eq!(counted.ok(), "3\n");
    let line = format!(
        "{} --address {} -n {} run --rm -it {BUSYBOX} sh -c 'tty; exit 5'",
        crate::harness::stage().join("hoist").display(),
        daemon.socket().display(),
        daemon.namespace()
    );
    let (output, _) = Run::of(Command::new("script").args(["-qec", &line, "/dev/null"])).exits(5);
    assert!(output.contains("/dev/pts/0"), "{output:?}");
    daemon.finish();
}

#[test]
fn hoist_follows_a_container_through_its_life() {
    if !root("hoist_follows_a_container_through_its_life") {
        return;
    }
    let daemon = Daemon::with_busybox();
    let script = "trap 'echo bye; exit 3' TERM; i=0; while [ $i -lt 5 ]; do echo line $i; i=$((i+1)); done; while :; do sleep 0.02; done";
    let run = format!("run -d --name web {BUSYBOX} /bin/sh -c");
    assert_eq!(daemon.hoist_with(&run, script).ok(), "web\n");
    let again = daemon.hoist(&format!("run -d --name web {BUSYBOX} true"));
    assert!(again.fails().contains("exists already"));
    assert_eq!(daemon.hoist("ps -q").ok(), "web\n");
    let shown = json(&daemon.hoist("ps --json").ok());
    assert_eq!(
        (&shown["name"], &shown["status"]),
        (&"web".into(), &"running".into())
    );
    let lines = "line 0\nline 1\nline 2\nline 3\nline 4\n";
    eventually("the lines are logged", Duration::from_secs(10), || {
        daemon.hoist("logs web").ok() == lines
    });
    assert_eq!(daemon.hoist("logs --tail 2 web").ok(), "line 3\nline 4\n");
    assert_eq!(daemon.hoist("logs --since 1h web").ok(), lines);

    let (output, error) = daemon
        .hoist_with("exec web /bin/sh -c", "echo in; echo err >&2; exit 4")
        .exits(4);
    assert_eq!((output.as_str(), error.as_str()), ("in\n", "err\n"));
    let exec = daemon.hoist_with(
        "exec -e A=B -w /tmp -u tester web /bin/sh -c",
        "echo $A; pwd; id -u",
    );
    assert_eq!(exec.ok(), "B\n/tmp\n1000\n");
    let near = daemon.hoist("exec wbe true").fails();
    assert!(near.contains("\"web\""), "{near}");
    let socket = daemon.socket();
    let elsewhere = Run::of(
        Command::new(crate::harness::stage().join("hoist"))
            .arg("--address")
            .arg(&socket)
            .args(["-n", "elsewhere", "logs", "web"]),
    );
    let message = elsewhere.fails();
    assert!(message.contains(daemon.namespace()), "{message}");
    let running = daemon.hoist("rm web").fails();
    assert!(running.contains("running"), "{running}");

    let following = Background::spawn(daemon.hoist_command().args(["logs", "-f", "web"]));
    following.writes("line 4");
    daemon.hoist("stop web").ok();
    following.writes("bye");
    drop(following);
    let shown = json(&daemon.hoist("ps -a --json").ok());
    assert_eq!(shown["status"], "exited");
    assert_eq!(shown["exit_status"], 3);
    let inspected = json(&daemon.hoist("inspect web").ok());
    assert_eq!(inspected[0]["exit_status"], 3);
    daemon.hoist("rm web").ok();
    assert_eq!(daemon.hoist("ps -a -q").ok(), "");
    snapshots_become(&daemon, 2);
    let stubborn = format!("run -d --name stubborn {BUSYBOX} /bin/sleep 1000");
    daemon.hoist(&stubborn).ok();
    daemon.hoist("stop -t 1 stubborn").ok();
    daemon.hoist("rm stubborn").ok();
    daemon.finish();
}

#[test]
fn hoist_pulls_and_removes_images() {
    if !root("hoist_pulls_and_removes_images") {
        return;
    }
    let daemon = Daemon::start();
    let registry = Registry::start(Security::Open);
    let name = registry.push(&busybox(&["amd64", "arm64"]), "app/box:1", &[]);
    let refused = daemon.hoist(&format!("pull --plain-http {name}0")).fails();
    assert!(refused.contains(&format!("{name}0")), "{refused}");
    assert!(refused.contains("not found"), "{refused}");
    assert_eq!(
        daemon.hoist(&format!("pull -q --plain-http {name}")).ok(),
        format!("{name}\n")
    );
    let shown = daemon.hoist(&format!("run --rm {name} cat /etc/architecture"));
    assert_eq!(shown.ok(), architecture());
    let shown = json(&daemon.hoist("images --json").ok());
    assert_eq!(shown["name"], name.as_str());
    assert!(shown["size_bytes"].as_u64().unwrap() > 100_000, "{shown}");
    let inspected = json(&daemon.hoist(&format!("inspect {name}")).ok());
    assert_eq!(inspected[0]["kind"], "image");
    assert_eq!(inspected[0]["config"]["architecture"], architecture());
    let near = daemon
        .hoist(&format!("rmi {}", name.replace("box", "bxo")))
        .fails();
    assert!(near.contains(&name), "{near}");
    daemon.hoist(&format!("rmi {name}")).ok();
    daemon.holds_only(&Disk::default());
    // What is not here is pulled for a run; another platform on request.
    let run = daemon.hoist(&format!("run --rm --plain-http {name} cat /layer2"));
    assert_eq!(run.ok(), "second layer\n");
    let other = if architecture() == "amd64" {
        "arm64"
    } else {
        "amd64"
    };
    daemon
        .hoist(&format!(
            "pull -q --plain-http --platform linux/{other} {name}"
        ))
        .ok();
    snapshots_become(&daemon, 4);
    daemon.hoist(&format!("rmi {name}")).ok();
    daemon.holds_only(&Disk::default());
    let guarded = Registry::start(Security::Basic);
    let name = guarded.push(&busybox(&[architecture()]), "app/guarded:1", &[]);
    let refused = daemon
        .hoist(&format!("pull -q --plain-http {name}"))
        .fails();
    assert!(!refused.contains("secret"), "{refused}");
    daemon
        .hoist(&format!(
            "pull -q --plain-http --credentials tester:secret {name}"
        ))
        .ok();
    assert!(!daemon.log().contains("secret"), "the log has the password");
    daemon.finish();
}

#[test]
fn hoist_tells_versions_parts_and_events() {
    if !root("hoist_tells_versions_parts_and_events") {
        return;
    }
    let daemon = Daemon::with_busybox();
    let version = json(&daemon.hoist("version --json").ok());
    let own = version["client"].as_str().unwrap();
    assert!(
        version["daemon"].as_str().unwrap().ends_with(own),
        "{version}"
    );
    let info = json(&daemon.hoist("info --json").ok());
    assert_eq!(info["pid"], daemon.pid());
    let parts = info["plugins"].as_array().unwrap();
    assert!(parts.iter().any(|part| part["id"] == "overlayfs"), "{info}");
    let events = Background::spawn(daemon.hoist_command().args(["events", "--json"]));
    std::thread::sleep(Duration::from_millis(300));
    daemon.hoist_once("--name told", "exit 9").exits(9);
    events.writes("/containers/delete");
    let output = events.output();
    let exit = output.lines().find(|line| line.contains("/tasks/exit"));
    let exit = json(exit.expect("the exit is told"));
    assert_eq!(exit["namespace"], daemon.namespace());
    assert_eq!(exit["event"]["exit_status"], 9, "{exit}");
    drop(events);
    let nobody = Run::of(Command::new(crate::harness::stage().join("hoist")).args([
        "--address",
        "/nonexistent.sock",
        "ps",
    ]));
    let message = nobody.fails();
    assert!(
        message.contains("/nonexistent.sock") && message.contains("running"),
        "{message}"
    );
    daemon.finish();
}
