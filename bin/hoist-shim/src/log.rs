//! Lines of text on the bundle's `log` fifo. A daemon that does not read loses lines; it never holds the shim up.

use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Where the shim logs.
#[derive(Debug)]
pub(crate) struct Log {
    fifo: Option<OwnedFd>,
    debug: bool,
}

impl Log {
    /// Opens the fifo of a bundle if there is one and somebody reads it.
    pub(crate) fn open(bundle: &Path, debug: bool) -> Self {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fifo = rustix::fs::open(
            bundle.join(shim_protocol::bundle::LOG),
            flags,
            Mode::empty(),
        )
        .ok();
        Self { fifo, debug }
    }

    /// Something went wrong that no caller is told of.
    pub(crate) fn warn(&self, text: &str) {
        self.line("warning", text);
    }

    /// A detail.
    pub(crate) fn debug(&self, text: &str) {
        if self.debug {
            self.line("debug", text);
        }
    }

    fn line(&self, level: &str, text: &str) {
        let Some(fifo) = &self.fifo else { return };
        let now = model::Clock::now(&model::SystemClock);
        let line = format!("time=\"{now}\" level={level} msg={text:?} runtime=hoist-shim\n");
        // A full or abandoned fifo loses the line: the promise of this module.
        let _lost = rustix::io::write(fifo, line.as_bytes()).is_err();
    }
}
