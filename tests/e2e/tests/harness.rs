//! Starts the real programs in folders of their own and looks for what they leave behind.

mod background;
mod daemon;
mod images;
mod leftovers;
mod registry;
mod run;

pub(crate) use background::Background;
pub(crate) use daemon::{BUSYBOX, Daemon, Disk, signal};
pub(crate) use images::{Image, Packing, architecture, busybox, busybox_packed, random, sha256};
pub(crate) use leftovers::Leftovers;
pub(crate) use registry::{Registry, Security};
pub(crate) use run::{Run, rows};

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The folder with the release programs (`make build`), or the one that `HOIST_E2E_STAGE` names.
#[expect(
    clippy::disallowed_methods,
    reason = "whoever runs the tests may point them at installed programs"
)]
pub(crate) fn stage() -> PathBuf {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/stage/bin");
    let stage =
        std::env::var_os("HOIST_E2E_STAGE").map_or_else(|| PathBuf::from(built), PathBuf::from);
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

/// Numbers that look random and come again from the same seed (xorshift64*).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Begins a sequence.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2) | 1)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The next number below a bound.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
