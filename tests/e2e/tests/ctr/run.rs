//! `ctr run`: what a container is given and what comes back.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::harness::{BUSYBOX, Daemon, Run, eventually, root};

impl Daemon {
    /// `ctr run --rm OPTIONS busybox ID sh -c SCRIPT`.
    #[track_caller]
    fn once(&self, options: &str, script: &str) -> Run {
        self.ctr_with(
            &format!("run --rm {options} {BUSYBOX} once /bin/sh -c"),
            script,
        )
    }
}

#[test]
fn ctr_run_passes_output_and_status_through() {
    if !root("ctr_run_passes_output_and_status_through") {
        return;
    }
    let daemon = Daemon::with_busybox();
    let (output, error) = daemon.once("", "echo out; echo err >&2; exit 7").exits(7);
    assert_eq!(output, "out\n");
    assert!(error.contains("err\n"), "{error}");
    daemon.once("", "sh -c 'kill -9 $$'; exit $?").exits(137);
    let large = daemon.once("", "seq 1 200000").ok();
    assert_eq!(large.lines().count(), 200_000);
    assert!(large.ends_with("200000\n"));
    let missing = daemon
        .ctr(&format!("run --rm {BUSYBOX} once /no/such/program"))
        .fails();
    assert!(missing.contains("/no/such/program"), "{missing}");
    assert!(missing.contains("no such file or directory"), "{missing}");
    // Standard input arrives.
    let input = daemon.path("input");
    fs::write(&input, "a\nb\nc\n").unwrap();
    let mut command = daemon.ctr_command();
    let counted = Run::fed(
        command.args(["run", "--rm", BUSYBOX, "once", "/bin/head", "-n2"]),
        &input,
    );
    assert_eq!(counted.ok(), "a\nb\n");
    assert_eq!(daemon.ctr("container ls -q").ok(), "");
    daemon.sweep();
    assert_eq!(daemon.disk().snapshots.len(), 2);
    daemon.finish();
}

#[test]
fn ctr_run_sets_the_process_up() {
    if !root("ctr_run_sets_the_process_up") {
        return;
    }
    let daemon = Daemon::with_busybox();
    let env = daemon.once(
        "--env MODE=fast --env EMPTY=",
        "echo $MODE-$EMPTY-$FROM_IMAGE; env",
    );
    let env = env.ok();
    assert!(env.starts_with("fast--yes\n"), "{env}");
    assert!(env.contains("PATH=/bin:/sbin:/usr/bin\n"), "{env}");
    assert_eq!(
        daemon.once("--cwd /home/tester", "pwd").ok(),
        "/home/tester\n"
    );
    assert_eq!(daemon.once("", "echo $$; id -u; pwd").ok(), "1\n0\n/\n");
    let shown = daemon.once(
        "--read-only",
        "touch /x 2>&1; grep -c ' / overlay ro' /proc/mounts",
    );
    let shown = shown.ok();
    assert!(shown.contains("Read-only file system"), "{shown}");
    assert!(shown.ends_with("1\n"), "{shown}");
    let capabilities = daemon.once(
        "--cap-drop CAP_CHOWN --cap-add CAP_SYS_TIME",
        "grep CapEff /proc/self/status",
    );
    let capabilities = capabilities.ok();
    let bits = u64::from_str_radix(capabilities.trim().rsplit('\t').next().unwrap(), 16).unwrap();
    assert_eq!(bits & 1, 0, "CAP_CHOWN is dropped: {capabilities}");
    assert_eq!(bits >> 25 & 1, 1, "CAP_SYS_TIME is added: {capabilities}");
    let seccomp = daemon
        .once("--seccomp", "grep '^Seccomp:' /proc/self/status")
        .ok();
    assert_eq!(seccomp, "Seccomp:\t2\n");
    let label = daemon.once("--annotation a=b --label c=d", "true");
    label.ok();
    let pid = daemon.path("pid");
    let command = format!("--pid-file {}", pid.display());
    daemon.once(&command, "true").ok();
    assert!(fs::read_to_string(&pid).unwrap().parse::<u32>().unwrap() > 1);
    daemon.finish();
}

#[test]
fn ctr_run_mounts_and_shares_the_network() {
    if !root("ctr_run_mounts_and_shares_the_network") {
        return;
    }
    let daemon = Daemon::with_busybox();
    let shared = daemon.path("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("from-host"), "hello\n").unwrap();
    let mount = |options: &str| {
        format!(
            "--mount type=bind,src={},dst=/mnt,options={options}",
            shared.display()
        )
    };
    let script = "cat /mnt/from-host; echo back > /mnt/from-container";
    assert_eq!(daemon.once(&mount("rbind:rw"), script).ok(), "hello\n");
    let back = fs::read_to_string(shared.join("from-container")).unwrap();
    assert_eq!(back, "back\n");
    let refused = daemon.once(&mount("rbind:ro"), "touch /mnt/x").fails();
    assert!(refused.contains("Read-only file system"), "{refused}");
    let tmpfs = "--mount type=tmpfs,src=tmpfs,dst=/scratch,options=size=1m";
    let shown = daemon.once(tmpfs, "grep /scratch /proc/mounts").ok();
    assert!(
        shown.contains("tmpfs") && shown.contains("size=1024k"),
        "{shown}"
    );

    let interfaces = daemon.once("", "ls /sys/class/net").ok();
    assert_eq!(interfaces, "lo\n");
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    let namespace = daemon.once("--net-host", "readlink /proc/self/ns/net").ok();
    assert_eq!(namespace.trim(), host.to_string_lossy());
    daemon.finish();
}

#[test]
fn ctr_run_limits_memory() {
    if !root("ctr_run_limits_memory") {
        return;
    }
    let daemon = Daemon::with_busybox();
    let limit = 32 << 20;
    let options = format!("run -d --memory-limit {limit} {BUSYBOX} limited /bin/sleep 1000");
    daemon.ctr(&options).ok();
    let group = format!("{}/limited", daemon.namespace());
    let v1 = format!("/sys/fs/cgroup/memory/{group}/memory.limit_in_bytes");
    let v2 = format!("/sys/fs/cgroup/{group}/memory.max");
    let set = fs::read_to_string(v1).or_else(|_| fs::read_to_string(v2));
    assert_eq!(set.unwrap().trim(), limit.to_string());
    let metrics = daemon.ctr("task metrics --format json limited").ok();
    let metrics: serde_json::Value = serde_json::from_str(&metrics).unwrap();
    let usage = &metrics["memory"]["usage"];
    let seen = usage["limit"]
        .as_u64()
        .or(metrics["memory"]["usage_limit"].as_u64());
    assert_eq!(seen, Some(limit), "{metrics}");
    daemon.ctr("task rm --force limited").ok();
    daemon.ctr("container rm limited").ok();
    // More than the limit: the kernel ends it, and the status tells.
    let eater = "head -c 200m /dev/zero | tail > /dev/null";
    let status = daemon
        .once(&format!("--memory-limit {}", 8 << 20), eater)
        .status;
    assert_ne!(status, 0);
    daemon.finish();
}

#[test]
fn ctr_run_in_the_background() {
    if !root("ctr_run_in_the_background") {
        return;
    }
    let daemon = Daemon::with_busybox();
    let log = daemon.path("log");
    let options = format!(
        "run -d --log-uri file://{} {BUSYBOX} back /bin/sh -c",
        log.display()
    );
    daemon
        .ctr_with(
            &options,
            "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.02; done",
        )
        .ok();
    eventually("it is up", Duration::from_secs(10), || {
        fs::read_to_string(&log).is_ok_and(|text| text == "up\n")
    });
    let again = daemon
        .ctr(&format!("run -d {BUSYBOX} back /bin/true"))
        .fails();
    assert!(again.contains("already exists"), "{again}");
    let running = daemon.ctr("container rm back").fails();
    assert!(running.contains("cannot delete"), "{running}");
    daemon.ctr("task kill back").ok();
    eventually("it stops", Duration::from_secs(10), || {
        daemon.ctr("task ls").ok().contains("STOPPED")
    });
    let (_, warning) = daemon.ctr("task rm back").exits(0);
    assert!(warning.contains("non-zero exit code 3"), "{warning}");
    assert_eq!(fs::read_to_string(&log).unwrap(), "up\nbye\n");
    daemon.ctr("container rm back").ok();
    daemon.finish();
}

#[test]
fn ctr_run_with_a_terminal() {
    if !root("ctr_run_with_a_terminal") {
        return;
    }
    let daemon = Daemon::with_busybox();
    // util-linux's script gives ctr a terminal of its own, and passes its status on.
    let script = |command: &str| {
        let line = format!("stty rows 33 cols 77; {} {command}", daemon.ctr_line());
        let run = Run::of(Command::new("script").args(["-qec", &line, "/dev/null"]));
        Run {
            stdout: run.stdout.replace('\r', ""),
            ..run
        }
    };
    let run = format!(
        "run --rm -t {BUSYBOX} term /bin/sh -c 'tty; test -t 0 && test -t 2 && echo all; exit 5'"
    );
    let (output, _) = script(&run).exits(5);
    assert!(output.contains("/dev/pts/0\nall\n"), "{output:?}");
    let run = format!("run --rm -t {BUSYBOX} size /bin/sh -c 'sleep 0.3; stty size'");
    let output = script(&run).ok();
    assert!(output.contains("33 77"), "{output:?}");
    daemon
        .ctr(&format!("run -d {BUSYBOX} host /bin/sleep 1000"))
        .ok();
    let output = script("task exec -t --exec-id e1 host tty").ok();
    assert!(output.contains("/dev/pts/0"), "{output:?}");
    daemon.ctr("task rm -f host").ok();
    daemon.ctr("container rm host").ok();
    daemon.finish();
}
