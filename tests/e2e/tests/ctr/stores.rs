//! `ctr content`, `snapshot`, `leases`, `namespaces`, `events`, `plugins` and `version`.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::harness::{BUSYBOX, Background, Daemon, Disk, Run, root, rows, sha256};

#[test]
fn ctr_keeps_content() {
    if !root("ctr_keeps_content") {
        return;
    }
    // What is ingested without a lease is fair game for the collector, whose first round must not come now.
    let daemon = Daemon::with_config(
        "version = 2\n[plugins.\"io.containerd.gc.v1.scheduler\"]\nstartup_delay = \"10m\"\n",
    );
    let text = "some content\n";
    let (file, digest) = (daemon.path("blob"), sha256(text.as_bytes()));
    fs::write(&file, text).unwrap();
    let ingest = |options: &[&str]| {
        let mut command = daemon.ctr_command();
        command.args(["content", "ingest"]).args(options);
        Run::fed(command.arg("my-ref"), &file)
    };
    let wrong = ingest(&["--expected-size", "5"]).fails();
    assert!(
        wrong.contains("failed precondition") || wrong.contains("unexpected commit size"),
        "{wrong}"
    );
    let other = sha256(b"other");
    let wrong = ingest(&["--expected-digest", &other]).fails();
    assert!(wrong.contains("unexpected commit digest"), "{wrong}");
    assert_eq!(daemon.ctr("content ls -q").ok(), "");
    ingest(&["--expected-size", "13", "--expected-digest", &digest]).ok();
    let table = daemon.ctr("content ls").ok();
    let row = rows(&table)[0].join(" ");
    assert!(row.starts_with(&format!("{digest} 13B")), "{table}");
    assert_eq!(daemon.ctr("content ls -q").ok(), format!("{digest}\n"));
    assert_eq!(daemon.ctr(&format!("content get {digest}")).ok(), text);
    daemon.ctr(&format!("content label {digest} a=b")).ok();
    assert_eq!(
        daemon.ctr("content ls -q labels.a==b").ok(),
        format!("{digest}\n")
    );
    let unknown = daemon.ctr(&format!("content get {other}")).fails();
    assert!(unknown.contains("not found"), "{unknown}");
    let bad = daemon.ctr("content get sha256:xyz").fails();
    assert!(bad.contains("invalid"), "{bad}");
    let active = daemon.ctr("content active").ok();
    assert_eq!(rows(&active).len(), 0, "{active}");
    daemon.ctr(&format!("content rm {digest}")).ok();
    assert_eq!(daemon.ctr("content ls -q").ok(), "");
    // One round of the collector takes what no name needs.
    daemon.sweep();
    daemon.holds_only(&Disk::default());
    daemon.finish();
}

#[test]
fn ctr_shows_snapshots() {
    if !root("ctr_shows_snapshots") {
        return;
    }
    let daemon = Daemon::with_busybox();
    let table = daemon.ctr("snapshot ls").ok();
    let listed = rows(&table);
    assert_eq!(listed.len(), 2, "{table}");
    let top = listed
        .iter()
        .find(|row| row.len() == 3)
        .expect("one has a parent");
    let (name, parent) = (top[0], top[1]);
    assert_eq!(top[2], "Committed");
    let info: Value =
        serde_json::from_str(&daemon.ctr(&format!("snapshot info {name}")).ok()).unwrap();
    assert_eq!(info["Kind"], "Committed");
    assert_eq!(info["Name"], name);
    assert_eq!(info["Parent"], parent);
    assert!(
        info["Created"].as_str().unwrap().starts_with("20"),
        "{info}"
    );
    let tree = daemon.ctr("snapshot tree").ok();
    assert!(tree.contains(&format!(" {parent}\n  \\_ {name}")), "{tree}");
    let usage = daemon.ctr("snapshot usage -b").ok();
    let sizes: Vec<u64> = rows(&usage)
        .iter()
        .map(|row| row[1].parse().unwrap())
        .collect();
    assert_eq!(sizes.len(), 2, "{usage}");
    let program = fs::metadata("/bin/busybox").unwrap().len();
    assert!(sizes.iter().any(|size| *size > program), "{usage}");
    assert!(sizes.iter().any(|size| *size < 65_536), "{usage}");

    daemon.ctr(&format!("snapshot prepare mine {name}")).ok();
    let mounts = daemon.ctr("snapshot mounts /mnt mine").ok();
    assert!(
        mounts.contains("overlay") && mounts.contains("upperdir="),
        "{mounts}"
    );
    let view = daemon.ctr(&format!("snapshot view seen {name}"));
    view.ok();
    let again = daemon.ctr(&format!("snapshot prepare mine {name}")).fails();
    assert!(again.contains("already exists"), "{again}");
    let unknown = daemon.ctr("snapshot prepare other sha256:none").fails();
    assert!(unknown.contains("not found"), "{unknown}");
    daemon.ctr("snapshot commit kept mine").ok();
    let busy = daemon.ctr(&format!("snapshot rm {name}")).fails();
    assert!(busy.contains("with child"), "{busy}");
    let table = daemon.ctr("snapshot ls").ok();
    assert!(
        table.contains("View") && !table.contains("Active"),
        "{table}"
    );
    daemon.ctr("snapshot rm seen").ok();
    daemon.ctr("snapshot rm kept").ok();
    daemon.ctr(&format!("image rm --sync {BUSYBOX}")).ok();
    daemon.holds_only(&Disk::default());
    daemon.finish();
}

#[test]
fn ctr_tells_events() {
    if !root("ctr_tells_events") {
        return;
    }
    let daemon = Daemon::with_busybox();
    let events = Background::spawn(daemon.ctr_command().arg("events"));
    // Nothing says that it listens but that it hears.
    for number in 0..100 {
        let probe = format!("ns-{number}-{}", daemon.namespace());
        daemon.ctr(&format!("namespaces create {probe}")).ok();
        daemon.ctr(&format!("namespaces rm {probe}")).ok();
        if events.output().contains("/namespaces/create") {
            break;
        }
    }
    daemon
        .ctr_with(&format!("run --rm {BUSYBOX} told /bin/sh -c"), "exit 9")
        .exits(9);
    events.writes("/containers/delete");
    let output = events.output();
    let place = |topic: &str| {
        let found = output.find(topic);
        found.unwrap_or_else(|| panic!("no {topic}:\n{output}"))
    };
    let order = [
        "/snapshot/prepare",
        "/containers/create",
        "/tasks/create",
        "/tasks/start",
        "/tasks/exit",
        "/tasks/delete",
        "/containers/delete",
    ];
    for pair in order.windows(2) {
        assert!(place(pair[0]) < place(pair[1]), "{pair:?}:\n{output}");
    }
    let exit = output
        .lines()
        .find(|line| line.contains("/tasks/exit"))
        .unwrap();
    assert!(exit.contains(daemon.namespace()), "{exit}");
    assert!(
        exit.contains("\"exit_status\":9") || exit.contains("\"exitStatus\":9"),
        "{exit}"
    );
    assert!(exit.contains("\"told\""), "{exit}");
    drop(events);
    let filtered = Background::spawn(
        daemon
            .ctr_command()
            .args(["events", "topic==\"/images/delete\""]),
    );
    std::thread::sleep(std::time::Duration::from_millis(300));
    daemon
        .ctr(&format!("image tag {BUSYBOX} hoist.test/x:1"))
        .ok();
    daemon.ctr("image rm hoist.test/x:1").ok();
    filtered.writes("/images/delete");
    assert!(!filtered.output().contains("/images/create"));
    drop(filtered);
    daemon.finish();
}

#[test]
fn ctr_manages_leases_and_namespaces() {
    if !root("ctr_manages_leases_and_namespaces") {
        return;
    }
    let daemon = Daemon::start();
    assert_eq!(
        daemon.ctr("leases create --id mine -x 1h team=blue").ok(),
        "mine\n"
    );
    let again = daemon.ctr("leases create --id mine").fails();
    assert!(again.contains("already exists"), "{again}");
    let made = daemon.ctr("leases create").ok();
    let listed = daemon.ctr("leases ls").ok();
    assert!(
        listed.contains("containerd.io/gc.expire=") && listed.contains("team=blue"),
        "{listed}"
    );
    assert_eq!(daemon.ctr("leases ls -q").ok().lines().count(), 2);
    assert_eq!(daemon.ctr("leases ls -q id==mine").ok(), "mine\n");
    daemon.ctr("leases delete mine").ok();
    daemon
        .ctr(&format!("leases delete --sync {}", made.trim()))
        .ok();
    assert_eq!(daemon.ctr("leases ls -q").ok(), "");

    let name = format!("{}-x", daemon.namespace());
    daemon
        .ctr(&format!("namespaces create {name} team=blue"))
        .ok();
    let again = daemon.ctr(&format!("namespaces create {name}")).fails();
    assert!(again.contains("already exists"), "{again}");
    let listed = daemon.ctr("namespaces ls").ok();
    assert!(
        listed.contains(&name) && listed.contains("team=blue"),
        "{listed}"
    );
    daemon
        .ctr(&format!("namespaces label {name} team=red"))
        .ok();
    assert!(daemon.ctr("namespaces ls").ok().contains("team=red"));
    let bad = daemon.ctr("namespaces create a/b").fails();
    assert!(bad.contains("invalid argument"), "{bad}");
    let there = |rest: &str| {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(daemon.socket());
        command.args(["--namespace", &name]).args(rest.split(' '));
        Run::fed(&mut command, "/etc/hostname".as_ref())
    };
    there("content ingest ref").ok();
    assert_eq!(daemon.ctr("content ls -q").ok(), "");
    let full = daemon.ctr(&format!("namespaces rm {name}")).fails();
    assert!(
        full.contains("must be empty") || full.contains("still has"),
        "{full}"
    );
    let digest = there("content ls -q").ok();
    there(&format!("content rm {}", digest.trim())).ok();
    assert_eq!(
        daemon.ctr(&format!("namespaces rm {name}")).ok(),
        format!("{name}\n")
    );
    assert!(!daemon.ctr("namespaces ls -q").ok().contains(&name));
    daemon.finish();
}

#[test]
fn ctr_sees_parts_and_version() {
    if !root("ctr_sees_parts_and_version") {
        return;
    }
    let daemon = Daemon::start();
    let table = daemon.ctr("plugins ls").ok();
    let listed = rows(&table);
    for (kind, id) in [
        ("io.containerd.content.v1", "content"),
        ("io.containerd.snapshotter.v1", "overlayfs"),
        ("io.containerd.snapshotter.v1", "native"),
        ("io.containerd.runtime.v2", "task"),
        ("io.containerd.gc.v1", "scheduler"),
        ("io.containerd.grpc.v1", "images"),
        ("io.containerd.grpc.v1", "tasks"),
    ] {
        let row = listed.iter().find(|row| row[0] == kind && row[1] == id);
        let row = row.unwrap_or_else(|| panic!("no {kind} {id}:\n{table}"));
        assert_eq!(row.last(), Some(&"ok"), "{table}");
    }
    let detail = daemon.ctr("plugins ls -d id==overlayfs").ok();
    assert!(
        detail.contains("Exports") && detail.contains("root"),
        "{detail}"
    );
    let version = daemon.ctr("version").ok();
    let server = version.split("Server:").nth(1).expect("the server's part");
    assert!(
        server.contains("Version:") && server.contains("UUID:"),
        "{version}"
    );
    assert!(!version.contains("WARNING: version"), "{version}");
    daemon.finish();
}
