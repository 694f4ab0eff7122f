//! Commands that run beside a test.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::eventually;

/// A running command; killed when dropped.
pub(crate) struct Background {
    folder: TempDir,
    child: Child,
}

impl Background {
    /// Starts a command without input.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("hoist-run-")
            .tempdir()
            .expect("a temporary folder");
        let file = |name: &str| File::create(folder.path().join(name)).expect("an output file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { folder, child }
    }

    /// What it wrote so far, standard error last.
    pub(crate) fn output(&self) -> String {
        let read = |name: &str| -> String {
            let path: PathBuf = self.folder.path().join(name);
            String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
        };
        read("stdout") + &read("stderr")
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it wrote something.
    #[track_caller]
    pub(crate) fn writes(&self, text: &str) {
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while !self.output().contains(text) {
            let output = self.output();
            assert!(
                std::time::Instant::now() < end,
                "{text:?} was not written: {output}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its status, if it ended.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let status = self.child.try_wait().expect("it is waited for")?;
        Some(status.code().unwrap_or(-1))
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn status(&mut self) -> i32 {
        let mut status = None;
        eventually("the command ends", Duration::from_secs(20), || {
            status = self.ended();
            status.is_some()
        });
        status.expect("it ended")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}
