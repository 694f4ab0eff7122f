//! Starts the real programs in folders of their own and looks for what they leave behind.

mod daemon;
mod images;
mod leftovers;
mod registry;

pub(crate) use daemon::{Daemon, Run};
pub(crate) use images::{Image, busybox};
pub(crate) use leftovers::Leftovers;
pub(crate) use registry::{Registry, Security};

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The folder with the release programs (`make build`).
pub(crate) fn stage() -> PathBuf {
    let stage = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../target/stage/bin"
    ));
    let stage = stage.canonicalize().unwrap_or(stage);
    assert!(
        stage.join("hoistd").exists(),
        "{} has no programs: run `make build`",
        stage.display()
    );
    stage
}

/// Whether the test can run here; says loudly why not.
pub(crate) fn root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIPPED {test}: needs root");
    }
    root
}

/// Waits until the condition holds.
pub(crate) fn eventually(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + within;
    while !condition() {
        assert!(Instant::now() < end, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
