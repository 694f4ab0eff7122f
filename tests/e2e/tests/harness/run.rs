//! Commands run to their end.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::signal;

/// Time that any command has.
const LIMIT: Duration = Duration::from_secs(60);

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Runs a command without input to its end.
    #[track_caller]
    pub(crate) fn of(command: &mut Command) -> Self {
        Self::with_input(command, Stdio::null())
    }

    /// Runs a command whose standard input is a file.
    #[track_caller]
    pub(crate) fn fed(command: &mut Command, input: &Path) -> Self {
        let input = File::open(input).unwrap_or_else(|error| panic!("{input:?}: {error}"));
        Self::with_input(command, input.into())
    }

    #[track_caller]
    fn with_input(command: &mut Command, input: Stdio) -> Self {
        let child = command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let pid = child.id();
        let (sender, receiver) = mpsc::sync_channel(1);
        let waiting = std::thread::spawn(move || {
            let output = child.wait_with_output();
            let _not_waited_for = sender.send(());
            output
        });
        if receiver.recv_timeout(LIMIT).is_err() {
            // Not yet waited for, so the process id is still its own.
            signal(pid, rustix::process::Signal::KILL);
            panic!("{command:?} does not end within {LIMIT:?}");
        }
        let output = waiting.join().expect("the thread ends").expect("output");
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts the status and returns standard output and error.
    #[track_caller]
    pub(crate) fn exits(self, status: i32) -> (String, String) {
        assert_eq!(self.status, status, "{}\n{}", self.stdout, self.stderr);
        (self.stdout, self.stderr)
    }

    /// The standard output of a command that succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(
            self.status, 0,
            "status {}\n{}\n{}",
            self.status, self.stdout, self.stderr
        );
        self.stdout
    }

    /// The standard error of a command that failed.
    #[track_caller]
    pub(crate) fn fails(self) -> String {
        assert_ne!(
            self.status, 0,
            "succeeded: {}\n{}",
            self.stdout, self.stderr
        );
        self.stderr
    }
}

/// The cells of a table without its heading.
pub(crate) fn rows(table: &str) -> Vec<Vec<&str>> {
    table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .collect()
}
