//! A daemon on a private socket and folders.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::{Image, Leftovers, Run, architecture, busybox, eventually, leftovers, stage};

/// The image that [`Daemon::with_busybox`] has.
pub(crate) const BUSYBOX: &str = "hoist.test/busybox:latest";

/// Daemons of this process so far.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A running `hoistd`; ends with everything that it started.
pub(crate) struct Daemon {
    folder: TempDir,
    namespace: String,
    child: Option<Child>,
    environment: Vec<(String, String)>,
}

/// Names of what the stores have on disk.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Disk {
    /// Digests.
    pub(crate) blobs: BTreeSet<String>,
    /// Numbers of the overlay snapshotter.
    pub(crate) snapshots: BTreeSet<String>,
    /// Hashes of refs.
    pub(crate) ingests: BTreeSet<String>,
}

impl Daemon {
    /// Starts a daemon without configuration.
    pub(crate) fn start() -> Self {
        Self::with_environment(&[])
    }

    /// Starts a daemon whose environment has further variables.
    pub(crate) fn with_environment(environment: &[(&str, &str)]) -> Self {
        let mut daemon = Self::prepared("", environment);
        daemon.spawn();
        daemon
    }

    /// Starts a daemon with a configuration file.
    pub(crate) fn with_config(text: &str) -> Self {
        let mut daemon = Self::prepared(text, &[]);
        daemon.spawn();
        daemon
    }

    /// Starts a daemon that has an image of busybox, [`BUSYBOX`].
    pub(crate) fn with_busybox() -> Self {
        let daemon = Self::start();
        daemon.import(&busybox(&[architecture()]), "hoist.test/busybox");
        daemon
    }

    /// The folders and the configuration, without a process.
    pub(crate) fn prepared(config: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("hoist-e2e-")
            .tempdir()
            .expect("a temporary folder");
        fs::write(folder.path().join("config.toml"), config).expect("the configuration");
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            folder,
            // A namespace names cgroups, which are the machine's: no two daemons of tests share one.
            namespace: format!("e2e-{}-{count}", std::process::id()),
            child: None,
            environment: environment
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    /// The command that starts the daemon.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(stage().join("hoistd"));
        command
            .args(["--root".as_ref(), self.path("root").as_os_str()])
            .args(["--state".as_ref(), self.path("state").as_os_str()])
            .args(["--address".as_ref(), self.socket().as_os_str()])
            .args(["--config".as_ref(), self.path("config.toml").as_os_str()])
            .args(["--log-level", "debug"])
            .envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Starts the daemon again on the same folders.
    #[track_caller]
    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "the daemon runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("the log opens");
        let child = self
            .command()
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

    /// The namespace in which the test's clients work.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
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
        command
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", &self.namespace]);
        command
    }

    /// The beginning of a shell line with `ctr`.
    pub(crate) fn ctr_line(&self) -> String {
        let socket = self.socket();
        format!("ctr -a {} -n {}", socket.display(), self.namespace)
    }

    /// Runs `ctr` with arguments split at spaces.
    #[track_caller]
    pub(crate) fn ctr(&self, arguments: &str) -> Run {
        Run::of(self.ctr_command().args(arguments.split_whitespace()))
    }

    /// Runs `ctr` with arguments split at spaces and one more that may have some, such as a script.
    #[track_caller]
    pub(crate) fn ctr_with(&self, arguments: &str, last: &str) -> Run {
        let mut command = self.ctr_command();
        Run::of(command.args(arguments.split_whitespace()).arg(last))
    }

    /// Our command line program on the daemon's socket.
    pub(crate) fn hoist_command(&self) -> Command {
        let mut command = Command::new(stage().join("hoist"));
        command
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", &self.namespace]);
        command
    }

    /// Runs `hoist` with arguments split at spaces.
    #[track_caller]
    pub(crate) fn hoist(&self, arguments: &str) -> Run {
        Run::of(self.hoist_command().args(arguments.split_whitespace()))
    }

    /// Runs `hoist` with arguments split at spaces and one more that may have some, such as a script.
    #[track_caller]
    pub(crate) fn hoist_with(&self, arguments: &str, last: &str) -> Run {
        let mut command = self.hoist_command();
        Run::of(command.args(arguments.split_whitespace()).arg(last))
    }

    /// Imports an image as `<base>:latest`.
    #[track_caller]
    pub(crate) fn import(&self, image: &Image, base: &str) {
        let mut command = self.ctr_command();
        command.args(["image", "import", "--base-name", base]);
        Run::of(command.arg(image.archive())).ok();
    }

    /// What the stores have on disk.
    pub(crate) fn disk(&self) -> Disk {
        let names = |folder: &str| -> BTreeSet<String> {
            let entries = fs::read_dir(self.path("root").join(folder));
            let entries = entries.into_iter().flatten().flatten();
            entries
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect()
        };
        let blobs = names("io.containerd.content.v1.content/blobs/sha256");
        Disk {
            blobs: blobs.iter().map(|hex| format!("sha256:{hex}")).collect(),
            snapshots: names("io.containerd.snapshotter.v1.overlayfs/snapshots"),
            ingests: names("io.containerd.content.v1.content/ingest"),
        }
    }

    /// Has one round of the collector, which takes what no name needs.
    #[track_caller]
    pub(crate) fn sweep(&self) {
        self.ctr("leases create --id sweep").ok();
        self.ctr("leases delete --sync sweep").ok();
    }

    /// Asserts that the stores come to have nothing else on disk.
    #[track_caller]
    pub(crate) fn holds_only(&self, but: &Disk) {
        let mut disk = self.disk();
        for _ in 0..300 {
            if disk == *but {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
            disk = self.disk();
        }
        assert_eq!(disk, *but);
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

    /// Ends the daemon and asserts that nothing is left but its folders, and in those no bundle.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        if self.child.is_some() {
            self.stop();
        }
        let mut left = Vec::new();
        for _ in 0..200 {
            left = self.left();
            if left.is_empty() {
                leftovers::sweep(&self.namespace);
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("left behind: {left:#?}\n{}", self.log());
    }

    fn left(&self) -> Vec<String> {
        let mut left = Leftovers::now(self.folder.path(), &self.namespace).lines();
        let bundles = self
            .path("state/io.containerd.runtime.v2.task")
            .join(&self.namespace);
        for bundle in fs::read_dir(bundles).into_iter().flatten().flatten() {
            left.push(format!("bundle {}", bundle.path().display()));
        }
        for socket in [self.socket(), self.path("hoist.sock.ttrpc")] {
            if socket.exists() {
                left.push(format!("socket {}", socket.display()));
            }
        }
        left
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
        // A failed test must not harm the next one: only what lies in our own folder or namespace is ended.
        for _ in 0..20 {
            let left = Leftovers::now(self.folder.path(), &self.namespace);
            if left.lines().is_empty() {
                break;
            }
            left.end();
            std::thread::sleep(Duration::from_millis(20));
        }
        leftovers::sweep(&self.namespace);
    }
}

/// Sends a signal to a process that the test started.
pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a process id");
    rustix::process::kill_process(pid, signal).expect("the signal is sent");
}
