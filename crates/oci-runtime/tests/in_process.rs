//! The way of the shim: a worker forked from a process with one thread, a detached overlay root, the gate on a socket.
//!
//! Has its own `main`, since the usual harness runs tests on threads.
#![allow(unsafe_code, reason = "forks the worker, as the shim does")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "test code: a failure is a panic"
)]

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use model::{Clock, ErrorKind, Kinded, Mount, SystemClock};
use oci_runtime::spec::{Process, Spec};
use oci_runtime::{
    Container, CreateOptions, Created, Error, ExecOptions, GateKind, Status, Stdio, channel,
    receive_outcome, send_outcome,
};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use sys::process::{CloneOptions, Cloned};

fn main() {
    // Test runners ask a program without the usual harness which tests it has.
    if std::env::args().any(|argument| argument == "--list") {
        if !std::env::args().any(|argument| argument == "--ignored") {
            println!("in_process: test");
        }
        return;
    }
    if !rustix::process::geteuid().is_root() || !Path::new("/bin/busybox").exists() {
        println!("SKIPPED: needs root and busybox-static");
        return;
    }
    let bench = Bench::new();
    bench.life();
    bench.failure_leaves_nothing();
    bench.unopened_gate_ends_the_process();
    bench.times();
    println!("in_process: ok");
}

struct Bench {
    folder: tempfile::TempDir,
    id: String,
}

/// Runs `work` in a fork and receives what it made.
fn worker(work: impl FnOnce() -> Result<Created, Error>) -> Result<Created, Error> {
    let (ours, theirs) = channel().unwrap();
    // SAFETY: this program has one thread.
    match unsafe { sys::process::clone(CloneOptions::default()) }.unwrap() {
        Cloned::Child => {
            let outcome = work();
            let sent = send_outcome(theirs.as_fd(), &outcome);
            sys::process::exit_now(i32::from(sent.is_err()));
        }
        Cloned::Parent { pidfd, .. } => {
            drop(theirs);
            let outcome = receive_outcome(ours.as_fd()).unwrap();
            waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
            outcome
        }
    }
}

fn null() -> Stdio {
    let open = || {
        OwnedFd::from(
            std::fs::File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .unwrap(),
        )
    };
    Stdio::Fds([open(), open(), open()])
}

fn reap(created: &Created) -> Option<i32> {
    waitid(WaitId::PidFd(created.pidfd.as_fd()), WaitIdOptions::EXITED)
        .unwrap()?
        .exit_status()
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["lower/bin", "upper", "work", "bundle/rootfs"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let bin = folder.path().join("lower/bin");
        std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for name in ["sh", "sleep", "true", "cat", "touch"] {
            symlink("busybox", bin.join(name)).unwrap();
        }
        Self {
            folder,
            id: format!("hip{}", std::process::id()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn spec(script: &str) -> Spec {
        let text = format!(
            r#"{{"ociVersion":"1.1.0","root":{{"path":"rootfs"}},
            "process":{{"args":["sh","-c","{script}"],"cwd":"/","env":["PATH=/bin"],"user":{{"uid":0,"gid":0}}}},
            "mounts":[{{"destination":"/proc","type":"proc","source":"proc"}},
                {{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["mode=755"]}}],
            "linux":{{"namespaces":[{{"type":"pid"}},{{"type":"mount"}},{{"type":"ipc"}},{{"type":"uts"}},{{"type":"network"}},{{"type":"cgroup"}}],
                "maskedPaths":["/proc/kcore","/proc/acpi"],"readonlyPaths":["/proc/sys"]}}}}"#
        );
        Spec::from_slice(text.as_bytes()).unwrap()
    }

    fn create(&self, spec: &Spec) -> Result<Created, Error> {
        let option = |key: &str, name: &str| format!("{key}={}", self.path(name).display());
        let rootfs = [Mount {
            kind: "overlay".to_owned(),
            source: "overlay".to_owned(),
            target: String::new(),
            options: vec![
                option("lowerdir", "lower"),
                option("upperdir", "upper"),
                option("workdir", "work"),
            ],
        }];
        worker(|| {
            oci_runtime::create(
                spec,
                CreateOptions {
                    id: &self.id,
                    bundle: &self.path("bundle"),
                    state_root: &self.path("state"),
                    rootfs: &rootfs,
                    rootfs_in_host: false,
                    stdio: null(),
                    gate: GateKind::Socket,
                    clone_parent: true,
                    no_pivot: false,
                    no_new_keyring: false,
                    systemd_cgroup: false,
                    preserved_fds: Vec::new(),
                    created: SystemClock.now(),
                },
            )
        })
    }

    fn load(&self) -> Result<Container, Error> {
        Container::load(&self.path("state"), &self.id)
    }

    fn exec(&self, script: &str) -> Result<Created, Error> {
        let process = Process {
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            cwd: "/".to_owned(),
            env: vec!["PATH=/bin".to_owned()],
            ..Process::default()
        };
        let container = self.load()?;
        worker(|| {
            container.exec(ExecOptions {
                process: &process,
                stdio: null(),
                clone_parent: true,
                no_new_keyring: true,
                cgroup: None,
                ignore_paused: false,
                preserved_fds: Vec::new(),
            })
        })
    }

    fn check_clean(&self) {
        let own = self.folder.path().to_str().unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(own), "a mount is in the host's table");
        assert!(!self.path("state").join(&self.id).exists(), "state is left");
        for folder in ["", "pids", "unified", "memory", "devices"] {
            let left = Path::new("/sys/fs/cgroup").join(folder).join(&self.id);
            assert!(!left.exists(), "{} is left", left.display());
        }
    }

    fn life(&self) {
        let created = self
            .create(&Self::spec(
                "touch /made; while ! test -e /stop; do sleep 0.01; done; exit 42",
            ))
            .unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.folder.path().to_str().unwrap()));
        assert!(!self.path("upper/made").exists(), "it waits at the gate");
        let gate = created.gate.as_ref().unwrap();
        gate.open().unwrap();
        gate.wait().unwrap();
        let container = self.load().unwrap();
        assert_eq!(container.state().unwrap().status, Status::Running);
        assert_eq!(container.pids().unwrap().first(), Some(&created.pid));
        container.pause().unwrap();
        assert!(
            matches!(self.exec("true"), Err(error) if error.kind() == ErrorKind::FailedPrecondition)
        );
        container.resume().unwrap();
        let missing = self.exec("true; /no/program").unwrap();
        missing.gate.as_ref().unwrap().open().unwrap();
        assert_eq!(reap(&missing), Some(127));
        assert!(container.oom_source().is_ok() && container.stats().is_ok());
        let stop = self.exec("touch /stop").unwrap();
        stop.gate.as_ref().unwrap().open().unwrap();
        assert_eq!(reap(&stop), Some(0));
        assert_eq!(reap(&created), Some(42));
        assert!(self.path("upper/made").exists());
        container.delete(false).unwrap();
        self.check_clean();
        let _ignored = std::fs::remove_file(self.path("upper/stop"));
    }

    fn failure_leaves_nothing(&self) {
        let mut late = Self::spec("true");
        late.process.as_mut().unwrap().args = vec!["no-such-program".to_owned()];
        let mut middle = Self::spec("true");
        middle.mounts[0].options.push("no_such_option".to_owned());
        let mut early = Self::spec("true");
        early.mounts[1].kind = Some("no_such_file_system".to_owned());
        let mut unbuilt = Self::spec("true");
        unbuilt.process.as_mut().unwrap().selinux_label = Some("x".to_owned());
        for (spec, words) in [
            (late, "executable file not found in $PATH"),
            (middle, "mount proc at /proc"),
            (early, "mount no_such_file_system at /dev"),
            (unbuilt, "SELinux label is not supported"),
        ] {
            let error = self.create(&spec).unwrap_err();
            let text = model::chain(&error);
            assert!(text.contains(words), "{text}");
            // A child of ours now, as the clone made us its parent.
            while let Ok(Some(_)) =
                waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
            {}
            self.check_clean();
        }
    }

    fn unopened_gate_ends_the_process(&self) {
        let mut created = self.create(&Self::spec("touch /ran")).unwrap();
        created.gate = None;
        assert_eq!(reap(&created), Some(1));
        assert!(!self.path("upper/ran").exists());
        self.load().unwrap().delete(false).unwrap();
        self.check_clean();
    }

    /// Not an assertion: the figures are for whoever reads the output.
    fn times(&self) {
        let mut create = Vec::new();
        let mut whole = Vec::new();
        for _ in 0..50 {
            let start = Instant::now();
            let created = self.create(&Self::spec("true")).unwrap();
            create.push(start.elapsed().as_micros());
            created.gate.as_ref().unwrap().open().unwrap();
            reap(&created);
            self.load().unwrap().delete(false).unwrap();
            whole.push(start.elapsed().as_micros());
        }
        create.sort_unstable();
        whole.sort_unstable();
        println!(
            "create {} us, create to delete {} us (medians of 50)",
            create[25], whole[25]
        );
        self.check_clean();
    }
}
