//! What the worker may still do when it waits for the first byte of a layer.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use diff::{ApplyRequest, Durability, Error, Limits, Target};

use super::stage::{Stage, is_root, open, unpacker};

/// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP by their numbers in `capability.h`.
const KEPT: u64 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 27 | 1 << 31;

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_default().trim_start_matches(':').trim()
}

/// The worker that the thread `tid` started, once its filter is in place.
fn isolated_child(tid: rustix::process::Pid) -> (String, String) {
    let start = Instant::now();
    loop {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "no isolated worker"
        );
        let children = format!("/proc/self/task/{}/children", tid.as_raw_nonzero());
        let pid = std::fs::read_to_string(children).unwrap_or_default();
        let pid = pid.trim().to_owned();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        if !pid.is_empty() && field(&status, "Seccomp") == "2" {
            return (pid, status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn with_waiting_worker(look: impl FnOnce(&str, &str)) {
    let stage = Stage::new();
    let session = unpacker().session().unwrap();
    let canceller = session.canceller();
    let (silent, writer): (OwnedFd, OwnedFd) = rustix::pipe::pipe().unwrap();
    let (tell, hear) = std::sync::mpsc::sync_channel(1);
    let root = open(&stage.target());
    let thread = std::thread::spawn(move || {
        tell.send(rustix::thread::gettid()).unwrap();
        session.apply(ApplyRequest {
            layer: silent,
            target: Target::Plain { root },
            limits: Limits::default(),
            durability: Durability::None,
            skip_devices: false,
            progress: None,
        })
    });
    let (pid, status) = isolated_child(hear.recv().unwrap());
    look(&pid, &status);
    canceller.cancel();
    assert!(matches!(thread.join().unwrap(), Err(Error::Canceled)));
    assert!(!Path::new("/proc").join(&pid).exists(), "no zombie");
    drop(writer);
}

#[test]
fn rights_are_gone_before_the_first_byte() {
    if !is_root() {
        return;
    }
    with_waiting_worker(|pid, status| {
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            let held = u64::from_str_radix(field(status, set), 16).unwrap();
            assert_eq!(held & !KEPT, 0, "{set}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(
                u64::from_str_radix(field(status, set), 16).unwrap(),
                0,
                "{set}"
            );
        }
        assert_eq!(field(status, "NoNewPrivs"), "1");
        assert_eq!(field(status, "Threads"), "1");
        let proc = Path::new("/proc").join(pid);
        for ns in ["mnt", "ipc", "uts"] {
            let theirs = std::fs::read_link(proc.join("ns").join(ns)).unwrap();
            let ours = std::fs::read_link(Path::new("/proc/self/ns").join(ns)).unwrap();
            assert_ne!(theirs, ours, "{ns}");
        }
        assert_eq!(std::fs::read_dir(proc.join("root")).unwrap().count(), 0);
        assert!(std::fs::File::create(proc.join("root/planted")).is_err());
        assert_eq!(std::fs::read(proc.join("environ")).unwrap(), b"");
        let limits = std::fs::read_to_string(proc.join("limits")).unwrap();
        assert!(limits.contains("536870912"), "{limits}");
        // Standard streams, socket, target and layer; nothing of the daemon's.
        let fds = std::fs::read_dir(proc.join("fd")).unwrap().count();
        assert!(fds <= 7, "{fds} descriptors");
    });
}
