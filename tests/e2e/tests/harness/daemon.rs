//! A daemon on a private socket and folders.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{Leftovers, eventually, stage};

/// A running `hoistd`; ends with everything that it started.
pub(crate) struct Daemon {
    folder: TempDir,
    child: Option<Child>,
    before: Leftovers,
    environment: Vec<(String, String)>,
}

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Runs a command to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
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

impl Daemon {
    /// Starts a daemon without configuration.
    pub(crate) fn start() -> Self {
        Self::with_environment(&[])
    }

    /// Starts a daemon whose environment has further variables.
    pub(crate) fn with_environment(environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("hoist-e2e-")
            .tempdir()
            .expect("a temporary folder");
        let mut daemon = Self {
            before: Leftovers::now(folder.path()),
            folder,
            child: None,
            environment: environment
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        };
        daemon.spawn();
        daemon
    }

    /// Starts the daemon again on the same folders.
    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "the daemon runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("the log opens");
        let child = Command::new(stage().join("hoistd"))
            .args(["--root".as_ref(), self.path("root").as_os_str()])
            .args(["--state".as_ref(), self.path("state").as_os_str()])
            .args(["--address".as_ref(), self.socket().as_os_str()])
            .args(["--config", "/dev/null", "--log-level", "debug"])
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log is shared"))
            .stderr(log)
            .spawn()
            .expect("hoistd starts");
        self.child = Some(child);
        eventually("hoistd serves", Duration::from_secs(20), || {
            let child = self.child.as_mut().expect("it was started");
            if let Some(status) = child.try_wait().expect("hoistd is waited for") {
                panic!("hoistd ended with {status}:\n{}", self.log());
            }
            std::os::unix::net::UnixStream::connect(self.socket()).is_ok()
        });
    }

    /// A path in the daemon's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The gRPC socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path("hoist.sock")
    }

    fn log_path(&self) -> PathBuf {
        self.path("hoistd.log")
    }

    /// What the daemon logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The daemon's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon runs").id()
    }

    /// Debian's `ctr` on the daemon's socket.
    pub(crate) fn ctr_command(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.socket());
        command
    }

    /// Runs `ctr` with arguments split at spaces.
    #[track_caller]
    pub(crate) fn ctr(&self, arguments: &str) -> Run {
        Run::of(self.ctr_command().args(arguments.split_whitespace()))
    }

    /// Our command line program on the daemon's socket.
    pub(crate) fn hoist_command(&self) -> Command {
        let mut command = Command::new(stage().join("hoist"));
        command.arg("--address").arg(self.socket());
        command
    }

    /// Runs `hoist` with arguments split at spaces.
    #[track_caller]
    pub(crate) fn hoist(&self, arguments: &str) -> Run {
        Run::of(self.hoist_command().args(arguments.split_whitespace()))
    }

    /// Ends the daemon as the service manager does; containers go on.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        let mut child = self.child.take().expect("the daemon runs");
        signal(child.id(), rustix::process::Signal::TERM);
        eventually("hoistd stops", Duration::from_secs(15), || {
            child.try_wait().expect("it is waited for").is_some()
        });
    }

    /// Ends the daemon at once.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("the daemon runs");
        child.kill().expect("hoistd is killed");
        child.wait().expect("it is waited for");
    }

    /// Ends the daemon and asserts that nothing is left but its folders.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        if self.child.is_some() {
            self.stop();
        }
        let mut left = Vec::new();
        for _ in 0..200 {
            left = Leftovers::now(self.folder.path()).since(&self.before);
            if left.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("left behind: {left:#?}\n{}", self.log());
    }

    /// The folder of everything.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _killed = child.kill();
            let _reaped = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- hoistd's log ---\n{}", self.log());
        }
        // A failed test must not harm the next one: only what lies in our own folder is ended.
        Leftovers::now(self.folder.path()).end();
    }
}

/// Sends a signal to a process that the test started.
pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a process id");
    rustix::process::kill_process(pid, signal).expect("the signal is sent");
}
