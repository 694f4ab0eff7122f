//! The daemon itself: start, stop, refusal of what is not its own.

use std::fs;
use std::process::Command;

use crate::harness::{Daemon, Run, root, stage};

#[test]
fn starts_empty_answers_ctr_and_stops() {
    if !root("starts_empty_answers_ctr_and_stops") {
        return;
    }
    let daemon = Daemon::start();
    let version = daemon.ctr("version").ok();
    assert!(version.contains("Server:"), "{version}");
    let plugins = daemon.ctr("plugins ls").ok();
    for part in [
        "io.containerd.snapshotter.v1",
        "io.containerd.content.v1",
        "overlayfs",
    ] {
        assert!(plugins.contains(part), "{plugins}");
    }
    daemon.finish();
}

#[test]
fn a_foreign_root_is_refused_and_untouched() {
    if !root("a_foreign_root_is_refused_and_untouched") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("root/io.containerd.metadata.v1.bolt");
    fs::create_dir_all(&store).unwrap();
    fs::write(store.join("meta.db"), "somebody else's").unwrap();
    let listing = || {
        Run::of(
            Command::new("find")
                .arg(folder.path())
                .args(["-printf", "%p %s %T@ %m\n"]),
        )
        .ok()
    };
    let before = listing();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut command = Command::new(stage().join("hoistd"));
    command.args([
        "--root",
        &path("root"),
        "--state",
        &path("state"),
        "--address",
        &path("s.sock"),
    ]);
    let message = Run::of(&mut command).fails();
    assert!(
        message.contains("meta.db") && message.contains("--root"),
        "{message}"
    );
    assert_eq!(listing(), before);
}
