//! The same bundles under `hoist-runtime` and under runc: a probe inside must print the same.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::too_many_lines,
    reason = "test code: a failure is a panic, a skipped test says so, the table of cases is long"
)]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// A difference that is meant, taken out of both outputs before they are compared: text in runc's, text in ours.
const MEANT: [(&str, &str, &str); 2] = [
    (
        // The mount of cgroups is asked for read-only; runc 1.1 leaves the folder that holds them writable.
        "/sys/fs/cgroup tmpfs rw,nosuid,nodev,noexec",
        "/sys/fs/cgroup tmpfs ro,nosuid,nodev,noexec",
        "the folder above cgroups is read-only as asked",
    ),
    (
        "drwxrwxrwt    2 0        65534           40 mqueue",
        "drwxrwxrwt    2 0        0               40 mqueue",
        "runc makes the IPC namespace before it takes on group 0",
    ),
];

struct Bench {
    folder: tempfile::TempDir,
}

fn ready() -> bool {
    let root = rustix::process::geteuid().is_root();
    let runc = Command::new("runc").arg("--version").output().is_ok();
    let busybox = Path::new("/bin/busybox").exists();
    if !(root && runc && busybox) {
        println!("SKIPPED: needs root ({root}), runc ({runc}) and busybox-static ({busybox})");
    }
    root && runc && busybox
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("rootfs/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for name in [
            "sh", "cat", "grep", "id", "ls", "sort", "mkdir", "touch", "hostname", "sleep",
            "mount", "awk", "true", "sed", "pwd", "readlink", "stat", "head", "cut", "test",
        ] {
            symlink("busybox", bin.join(name)).unwrap();
        }
        std::fs::create_dir_all(folder.path().join("source/sub")).unwrap();
        std::fs::write(folder.path().join("source/file"), "hello\n").unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn base(&self, script: &str) -> Value {
        let output = self.path("spec");
        let _ignored = std::fs::remove_dir_all(&output);
        std::fs::create_dir(&output).unwrap();
        let made = Command::new(env!("CARGO_BIN_EXE_hoist-runtime"))
            .args(["spec", "-b"])
            .arg(&output)
            .status()
            .unwrap();
        assert!(made.success());
        let text = std::fs::read(output.join("config.json")).unwrap();
        let mut spec: Value = serde_json::from_slice(&text).unwrap();
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(["sh", "-c", script]);
        spec["root"]["path"] = json!("rootfs");
        spec
    }

    fn run(&self, program: &str, spec: &Value, id: &str) -> (Option<i32>, String, String) {
        std::fs::write(self.path("config.json"), spec.to_string()).unwrap();
        let output = Command::new(program)
            .arg("--root")
            .arg(self.path(&format!("state-{id}")))
            .args(["run", "-b"])
            .arg(self.folder.path())
            .arg(id)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(id, "ID");
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    }

    /// Nothing of a container is left.
    fn check_clean(&self, id: &str) {
        let state = self.path(&format!("state-{id}"));
        let left: Vec<_> = std::fs::read_dir(&state)
            .map(|entries| {
                entries
                    .filter_map(Result::ok)
                    .map(|entry| entry.path())
                    .collect()
            })
            .unwrap_or_default();
        assert!(left.is_empty(), "state is left: {left:?}");
        for folder in [
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/pids",
            "/sys/fs/cgroup/unified",
            "/sys/fs/cgroup/memory",
        ] {
            assert!(
                !Path::new(folder).join(id).exists(),
                "cgroup {folder}/{id} is left"
            );
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = self.folder.path().to_str().unwrap();
        assert!(!mounts.contains(own), "a mount is left");
    }
}

/// Lines that only one of the two has.
fn difference(theirs: &str, ours: &str) -> String {
    let only = |sign: char, these: &str, those: &str| -> String {
        these
            .lines()
            .filter(|line| !those.lines().any(|other| other == *line))
            .map(|line| format!("{sign} {line}\n"))
            .collect()
    };
    only('<', theirs, ours) + &only('>', ours, theirs)
}

type Change = fn(&Bench, &mut Value);

fn namespace_away(spec: &mut Value, kind: &str) {
    let list = spec["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|one| one["type"] != kind);
}

fn seccomp(spec: &mut Value, no_new_privileges: bool) {
    spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
    spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["sethostname", "no_such_call"], "action": "SCMP_ACT_ERRNO"},
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_EQ"}]},
        ],
    });
}

/// What a default container can see, as far as it is the same in every run. `SigIgn` is left out: Go's runtime leaves
/// signal 32 as its own starter had it, we give every signal its default action.
const EVERYTHING: &str = "id; pwd; umask; env | sort; hostname; ulimit -a; \
    grep -vE 'Pid|PPid|Tgid|NStgid|NSpid|NSpgid|NSsid|Vm|Rss|Huge|ctxt|Cpus|Mems|SigQ|SigIgn|Spec|untag' /proc/self/status; \
    awk '{ for (i = 1; i <= NF; i++) if ($i == \"-\") s = i; print $5, $(s + 1), $6 }' /proc/self/mountinfo | sort | grep -vE '^/proc/(keys|timer_list|kcore|sched_debug|latency_stats) '; \
    ls -ln /dev | sed 's/ [A-Z][a-z][a-z] .*:.. / /'; ls /proc/self/fd | grep -c .; \
    cat /proc/self/cgroup /proc/self/oom_score_adj /proc/self/uid_map; cat /proc/keys | grep -c .; \
    ls /proc/acpi /sys/firmware; cat /proc/kcore | head -c 1; echo b > /proc/sysrq-trigger; \
    cat /sys/class/net/lo/flags; readlink /proc/self/exe; sort /sys/fs/cgroup/devices/devices.list";

fn cases() -> Vec<(&'static str, &'static str, Change)> {
    vec![
        ("default", EVERYTHING, |_, _| {}),
        ("writable root", EVERYTHING, |_, spec| {
            spec["root"]["readonly"] = json!(false);
        }),
        ("user", EVERYTHING, |_, spec| {
            spec["root"]["readonly"] = json!(false);
            spec["process"]["user"] =
                json!({"uid": 1000, "gid": 7, "additionalGids": [7, 9], "umask": 63});
            spec["process"]["cwd"] = json!("/made/for/it");
        }),
        ("ambient capabilities", EVERYTHING, |_, spec| {
            spec["process"]["user"]["uid"] = json!(1000);
            let sets = spec["process"]["capabilities"].as_object_mut().unwrap();
            for set in [
                "bounding",
                "effective",
                "permitted",
                "inheritable",
                "ambient",
            ] {
                sets.insert(set.to_owned(), json!(["CAP_KILL", "CAP_NET_RAW"]));
            }
        }),
        ("no capabilities", EVERYTHING, |_, spec| {
            spec["process"]["capabilities"] = json!({});
        }),
        (
            "user namespace",
            "id; cat /proc/self/uid_map; ls -ln /dev | sed 's/ [A-Z][a-z][a-z] .*:.. / /'; echo x > /dev/null; grep -E 'Cap|Groups' /proc/self/status",
            |_, spec| {
                let maps = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
                spec["linux"]["uidMappings"] = maps.clone();
                spec["linux"]["gidMappings"] = maps;
                spec["linux"]["namespaces"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"type": "user"}));
                spec["mounts"]
                    .as_array_mut()
                    .unwrap()
                    .retain(|mount| mount["type"] != "cgroup");
            },
        ),
        (
            "host network",
            "ls /sys/class/net; cat /proc/net/dev | grep -c .",
            |_, spec| namespace_away(spec, "network"),
        ),
        ("host pids", "test $$ -gt 1; echo $?", |_, spec| {
            namespace_away(spec, "pid");
        }),
        (
            "host cgroups",
            "cat /proc/self/cgroup; grep ' cgroup ' /proc/self/mountinfo | cut -d' ' -f4-6 | sort",
            |_, spec| {
                namespace_away(spec, "cgroup");
                spec["linux"]["cgroupsPath"] = json!("/hoist-compare/inner");
            },
        ),
        (
            "seccomp",
            "mkdir /dev/x; hostname a; grep -E 'Seccomp|NoNew' /proc/self/status",
            |_, spec| seccomp(spec, true),
        ),
        (
            "seccomp, privileges may be gained",
            "mkdir /dev/x; grep -E 'Seccomp|NoNew' /proc/self/status",
            |_, spec| seccomp(spec, false),
        ),
        (
            "bind mounts",
            "grep ' /m' /proc/self/mountinfo | cut -d' ' -f4-6 | sort; cat /m/b /m/a/file; touch /m/a/x; ls -ld /m/c | cut -c1-10",
            |bench, spec| {
                spec["root"]["readonly"] = json!(false);
                let source = bench.path("source");
                let file = source.join("file");
                spec["mounts"].as_array_mut().unwrap().extend([
                json!({"destination": "/m/a", "type": "bind", "source": source, "options": ["rbind", "ro", "nosuid"]}),
                json!({"destination": "/m/b", "source": file, "options": ["bind", "rw", "rprivate"]}),
                json!({"destination": "/m/c", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "mode=1700", "noexec"]}),
                json!({"destination": "/m/d", "type": "bind", "source": source, "options": ["rbind", "noatime", "nodev", "noexec", "rslave"]}),
            ]);
            },
        ),
        (
            "limits",
            "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes memory/memory.soft_limit_in_bytes memory/memory.swappiness cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpuset/cpuset.cpus pids/pids.max; ulimit -n; ulimit -c; cat /proc/self/oom_score_adj",
            |_, spec| {
                spec["linux"]["resources"]["memory"] = json!({"limit": 67_108_864, "swap": 134_217_728, "reservation": 33_554_432, "swappiness": 10});
                spec["linux"]["resources"]["cpu"] = json!({"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0"});
                spec["linux"]["resources"]["pids"] = json!({"limit": 33});
                spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "hard": 500, "soft": 400}, {"type": "RLIMIT_CORE", "hard": 0, "soft": 0}]);
                spec["process"]["oomScoreAdj"] = json!(500);
            },
        ),
        (
            "all devices",
            "sort /sys/fs/cgroup/devices/devices.list",
            |_, spec| {
                spec["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
            },
        ),
        (
            "devices",
            "ls -ln /dev/fuse /dev/x | sed 's/ [A-Z][a-z][a-z] .*:.. / /'; head -c 1 /dev/x; sort /sys/fs/cgroup/devices/devices.list",
            |_, spec| {
                spec["linux"]["devices"] = json!([
                    {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 432, "uid": 5, "gid": 6},
                    {"path": "/dev/x", "type": "b", "major": 7, "minor": 0},
                ]);
                spec["linux"]["resources"]["devices"] = json!([
                    {"allow": false, "access": "rwm"},
                    {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
                ]);
            },
        ),
        (
            "sysctl",
            "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax",
            |_, spec| {
                spec["linux"]["sysctl"] =
                    json!({"net.ipv4.ip_forward": "1", "kernel.shmmax": "12345678"});
            },
        ),
        ("hooks", "true", |bench, spec| {
            let order = format!(
                "cat > /dev/null; echo $0 >> {}",
                bench.path("hooks").display()
            );
            let hook = |name: &str| json!([{"path": "/bin/sh", "args": [name, "-c", order, name]}]);
            spec["hooks"] = json!({"prestart": hook("1"), "createRuntime": hook("2"), "poststart": hook("3"), "poststop": hook("4")});
        }),
        ("status", "exit 42", |_, _| {}),
        ("signal", "kill -9 $$", |_, spec| {
            namespace_away(spec, "pid");
        }),
        // Failures: the status and that nothing is left; words differ.
        ("!no program", "", |_, spec| {
            spec["process"]["args"] = json!(["no-such-program"]);
        }),
        ("!no absolute program", "", |_, spec| {
            spec["process"]["args"] = json!(["/no/program"]);
        }),
        ("!limit too high", "true", |_, spec| {
            spec["process"]["rlimits"] =
                json!([{"type": "RLIMIT_NOFILE", "hard": 50_000_000, "soft": 400}]);
        }),
        ("!sysctl of the host", "true", |_, spec| {
            spec["linux"]["sysctl"] = json!({"kernel.core_pattern": "x"});
        }),
        ("!mount inside /proc", "true", |_, spec| {
            spec["mounts"]
                .as_array_mut()
                .unwrap()
                .push(json!({"destination": "/proc/self", "type": "tmpfs", "source": "tmpfs"}));
        }),
        ("!hook fails", "true", |_, spec| {
            spec["hooks"] = json!({"createRuntime": [{"path": "/bin/false"}]});
        }),
        ("!missing bind source", "true", |_, spec| {
            spec["mounts"].as_array_mut().unwrap().push(json!({"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]}));
        }),
    ]
}

#[test]
fn bundles_see_what_they_see_under_runc() {
    if !ready() {
        return;
    }
    let bench = Bench::new();
    let mut failures = Vec::new();
    for (index, (name, script, change)) in cases().into_iter().enumerate() {
        let mut spec = bench.base(script);
        change(&bench, &mut spec);
        let process = std::process::id();
        let (theirs_id, ours_id) = (
            format!("hcr{index}x{process}"),
            format!("hch{index}x{process}"),
        );
        let mut theirs = bench.run("runc", &spec, &theirs_id);
        let hooks = std::fs::read_to_string(bench.path("hooks")).unwrap_or_default();
        let _ignored = std::fs::remove_file(bench.path("hooks"));
        let ours = bench.run(env!("CARGO_BIN_EXE_hoist-runtime"), &spec, &ours_id);
        assert_eq!(
            hooks,
            std::fs::read_to_string(bench.path("hooks")).unwrap_or_default()
        );
        let _ignored = std::fs::remove_file(bench.path("hooks"));
        for (in_theirs, in_ours, _why) in MEANT {
            theirs.1 = theirs.1.replace(in_theirs, in_ours);
        }
        let equal = if name.starts_with('!') {
            theirs.0 != Some(0) && ours.0 == theirs.0
        } else {
            theirs == ours
        };
        if !equal {
            failures.push(format!(
                "{name}: {:?} {:?}\n{}{}",
                theirs.0,
                ours.0,
                difference(&theirs.1, &ours.1),
                difference(&theirs.2, &ours.2)
            ));
        }
        bench.check_clean(&ours_id);
    }
    let _ignored = std::fs::remove_dir("/sys/fs/cgroup/unified/hoist-compare");
    for controller in std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
    {
        let _ignored = std::fs::remove_dir(controller.path().join("hoist-compare"));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Create, start, exec, pause, kill and delete: commands and the statuses and outputs that must be equal.
#[test]
fn a_life_is_the_same_as_under_runc() {
    if !ready() {
        return;
    }
    let bench = Bench::new();
    let mut spec = bench.base("sleep 100");
    seccomp(&mut spec, true);
    std::fs::write(bench.path("config.json"), spec.to_string()).unwrap();
    let lives = ["runc", env!("CARGO_BIN_EXE_hoist-runtime")].map(|program| {
        let id = format!("hcl{}x{}", program.len(), std::process::id());
        let life = live(&bench, program, &id);
        bench.check_clean(&id);
        life
    });
    for (theirs, ours) in lives[0].iter().zip(&lives[1]) {
        assert_eq!(theirs, ours);
    }
}

fn live(bench: &Bench, program: &str, id: &str) -> Vec<(String, Option<i32>, String)> {
    let probe = "id; cat /proc/self/cgroup; grep -E 'Cap|Seccomp|NoNew|Groups' /proc/self/status; \
        for n in ipc mnt net pid uts cgroup user; do test $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n); echo $n $?; done; \
        ls /proc/self/fd | grep -c .; pwd; env | sort; mkdir /dev/x 2>&1";
    let steps: &[(&[&str], &[&str])] = &[
        (&["create", "--bundle", "B", "ID"], &[]),
        (&["state", "ID"], &[]),
        (&["start", "ID"], &[]),
        (&["start", "ID"], &[]),
        (&["exec", "ID"], &["sh", "-c", probe]),
        (
            &[
                "exec", "-u", "1000:5", "-g", "7", "--cwd", "/dev", "-e", "A=b", "ID",
            ],
            &["sh", "-c", probe],
        ),
        (
            &["exec", "--cap", "CAP_NET_RAW", "ID"],
            &["sh", "-c", "grep Cap /proc/self/status"],
        ),
        (&["exec", "ID"], &["sh", "-c", "exit 7"]),
        (&["exec", "ID"], &["no-such-program"]),
        (&["exec", "--cwd", "/proc/self/fd/7", "ID"], &["true"]),
        (&["pause", "ID"], &[]),
        (&["state", "ID"], &[]),
        (&["exec", "ID"], &["true"]),
        (&["resume", "ID"], &[]),
        (
            &["update", "--memory", "64m", "--pids-limit", "20", "ID"],
            &[],
        ),
        (
            &["exec", "ID"],
            &[
                "sh",
                "-c",
                "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max",
            ],
        ),
        (&["delete", "ID"], &[]),
        (&["kill", "ID", "KILL"], &[]),
    ];
    let run = |words: &[&str], more: &[&str]| {
        let bundle = bench.folder.path().to_str().unwrap();
        let words = words.iter().map(|word| match *word {
            "B" => bundle,
            "ID" => id,
            other => other,
        });
        let output = Command::new(program)
            .arg("--root")
            .arg(bench.path(&format!("state-{id}")))
            .args(words)
            .args(more)
            .stdin(Stdio::null())
            // A container that lives on must not hold a pipe of ours, or its output would never end.
            .stdout(if more.is_empty() {
                Stdio::null()
            } else {
                Stdio::piped()
            })
            .stderr(if more.is_empty() {
                Stdio::null()
            } else {
                Stdio::piped()
            })
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).replace(id, "ID"),
        )
    };
    let mut life = Vec::new();
    for (words, more) in steps {
        let (code, text) = run(words, more);
        life.push((format!("{words:?} {more:?}"), code, text));
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    life.push((
        "delete".to_owned(),
        run(&["delete", "ID"], &[]).0,
        String::new(),
    ));
    life.push((
        "gone".to_owned(),
        run(&["state", "ID"], &[]).0,
        String::new(),
    ));
    life.push((
        "force".to_owned(),
        run(&["delete", "--force", "ID"], &[]).0,
        String::new(),
    ));
    life
}

#[test]
fn a_terminal_is_the_containers_own() {
    if !ready() {
        return;
    }
    let bench = Bench::new();
    let mut spec = bench.base("test -t 0 && test -t 1 && echo terminal; ls -l /dev/console | cut -c1-10; readlink /proc/self/fd/0");
    spec["process"]["terminal"] = json!(true);
    let id = format!("hct{}", std::process::id());
    let (code, out, error) = bench.run(env!("CARGO_BIN_EXE_hoist-runtime"), &spec, &id);
    bench.check_clean(&id);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert_eq!(out.replace("\r", ""), "terminal\ncrw--w----\n/dev/pts/0\n");
}
