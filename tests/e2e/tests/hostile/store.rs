//! Configuration files with mistakes, and folders that belong to another daemon.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    BUSYBOX, Background, Daemon, Run, architecture, busybox, eventually, root, signal, stage,
};

#[test]
fn unknown_keys_warn_and_ill_typed_ones_refuse() {
    if !root("unknown_keys_warn_and_ill_typed_ones_refuse") {
        return;
    }
    let daemon = Daemon::with_config("version = 2\nrooot = \"/x\"\n[grpc]\n  adress = \"/y\"\n");
    daemon.ctr("version").ok();
    let log = daemon.log();
    assert!(log.contains("unknown key rooot"), "{log}");
    assert!(log.contains("config.toml:4"), "{log}");
    daemon.finish();
    for (text, words) in [
        ("root = 5\n", ["config.toml:1", "root must be a string"]),
        (
            "version = 2\n[grpc]\nuid = \"x\"\n",
            ["config.toml:3", "grpc.uid"],
        ),
        ("version = 9\n", ["config.toml:1", "version"]),
        ("root = \n", ["config.toml", "line 1"]),
        (
            "required_plugins = [\"io.containerd.none.v1.none\"]\n",
            ["required", "io.containerd.none.v1.none"],
        ),
    ] {
        let daemon = Daemon::prepared(text, &[]);
        let message = Run::of(&mut daemon.command()).fails();
        assert!(
            words.iter().all(|word| message.contains(word)),
            "{text}: {message}"
        );
        assert!(!daemon.socket().exists());
        daemon.finish();
    }
}

/// Debian's containerd on the folders of a daemon that does not run.
fn containerd(daemon: &Daemon) -> Background {
    let config = daemon.path("containerd.toml");
    fs::write(
        &config,
        "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n",
    )
    .unwrap();
    let mut command = Command::new("containerd");
    command
        .args(["--config".as_ref(), config.as_os_str()])
        .args(["--root".as_ref(), daemon.path("root").as_os_str()])
        .args(["--state".as_ref(), daemon.path("state").as_os_str()])
        .args(["--address".as_ref(), daemon.socket().as_os_str()]);
    let containerd = Background::spawn(&mut command);
    eventually("containerd serves", Duration::from_secs(20), || {
        UnixStream::connect(daemon.socket()).is_ok()
    });
    containerd
}

/// Names, sizes, times, modes and contents of everything in a folder.
fn picture(daemon: &Daemon, folder: &str) -> String {
    let script = "find . -xdev -printf '%p %s %T@ %m %y %U\\n' | sort; find . -xdev -type f -print0 | sort -z | xargs -0 sha256sum";
    let folder = daemon.path(folder);
    Run::of(Command::new("sh").args(["-c", script]).current_dir(folder)).ok()
}

#[test]
fn the_folders_of_a_live_containerd_are_refused_untouched() {
    if !root("the_folders_of_a_live_containerd_are_refused_untouched") {
        return;
    }
    let daemon = Daemon::prepared("", &[]);
    let mut other = containerd(&daemon);
    daemon.import(&busybox(&[architecture()]), "hoist.test/busybox");
    daemon
        .ctr(&format!("run -d {BUSYBOX} theirs /bin/sleep 1000"))
        .ok();
    let pid = daemon.ctr("task ls").ok();
    let hoistd = || {
        let address = daemon.path("ours.sock");
        let mut command = Command::new(stage().join("hoistd"));
        command
            .args(["--root".as_ref(), daemon.path("root").as_os_str()])
            .args(["--state".as_ref(), daemon.path("state").as_os_str()])
            .args(["--address".as_ref(), address.as_os_str()])
            .args(["--config", "/dev/null"]);
        let message = Run::of(&mut command).fails();
        assert!(message.contains("another daemon"), "{message}");
        assert!(message.contains("--root"), "{message}");
        assert!(!address.exists());
    };
    // While the other daemon runs, and after it was stopped with the container still running.
    hoistd();
    assert_eq!(daemon.ctr("task ls").ok(), pid);
    signal(other.pid(), Signal::TERM);
    assert_eq!(other.status(), 0, "{}", other.output());
    let before = (picture(&daemon, "root"), picture(&daemon, "state"));
    hoistd();
    assert!(
        before == (picture(&daemon, "root"), picture(&daemon, "state")),
        "something changed"
    );
    drop(other);
    let mut other = containerd(&daemon);
    assert_eq!(daemon.ctr("task ls").ok(), pid);
    let exec = daemon.ctr("task exec --exec-id e theirs /bin/echo alive");
    assert_eq!(exec.ok(), "alive\n");
    daemon.ctr("task rm -f theirs").ok();
    daemon.ctr("container rm theirs").ok();
    signal(other.pid(), Signal::TERM);
    other.status();
    drop(other);
    let _kept_by_containerd = fs::remove_file(daemon.path("hoist.sock.ttrpc"));
    daemon.finish();
}
