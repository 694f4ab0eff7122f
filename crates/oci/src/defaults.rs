//! What a container is when nobody says otherwise.

use spec::runtime::{
    DeviceRule, Linux, Mount, Namespace, Process, Resources, Rlimit, Root, Spec, User, VERSION,
};

use crate::capabilities::{default_sets, owned};

/// The environment of images that set none.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The folder of the root file system, relative to the bundle.
const ROOTFS: &str = "rootfs";
/// Soft and hard limit of open files.
const OPEN_FILES: u64 = 1024;

const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/proc/scsi",
];

const READ_ONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Destination, type, source, options.
#[rustfmt::skip]
const MOUNTS: &[(&str, &str, &str, &[&str])] = &[
    ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/run", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
];

/// Character devices that every container may use: major, minor (none for all).
const DEVICES: &[(i64, Option<i64>)] = &[
    (1, Some(3)),
    (1, Some(8)),
    (1, Some(7)),
    (5, Some(0)),
    (1, Some(5)),
    (1, Some(9)),
    (5, Some(1)),
    (136, None),
    (5, Some(2)),
];

/// The specification of a container of which nothing is known but its name.
pub fn defaults(namespace: &str, id: &str) -> Spec {
    Spec {
        oci_version: VERSION.to_owned(),
        process: Some(process()),
        root: Some(Root {
            path: ROOTFS.to_owned(),
            ..Root::default()
        }),
        mounts: MOUNTS.iter().map(mount).collect(),
        linux: Some(Linux {
            masked_paths: owned(MASKED),
            readonly_paths: owned(READ_ONLY),
            cgroups_path: Some(format!("/{namespace}/{id}")),
            resources: Some(Resources {
                devices: std::iter::once(deny_all())
                    .chain(DEVICES.iter().map(allow))
                    .collect(),
                ..Resources::default()
            }),
            namespaces: ["pid", "ipc", "uts", "mount", "network"]
                .map(|kind| Namespace {
                    kind: kind.to_owned(),
                    path: None,
                })
                .to_vec(),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

fn process() -> Process {
    Process {
        cwd: "/".to_owned(),
        no_new_privileges: true,
        user: User::default(),
        capabilities: Some(default_sets()),
        rlimits: vec![Rlimit {
            kind: "RLIMIT_NOFILE".to_owned(),
            hard: OPEN_FILES,
            soft: OPEN_FILES,
        }],
        ..Process::default()
    }
}

fn mount((destination, kind, source, options): &(&str, &str, &str, &[&str])) -> Mount {
    Mount {
        destination: (*destination).to_owned(),
        kind: Some((*kind).to_owned()),
        source: Some((*source).to_owned()),
        options: owned(options),
        ..Mount::default()
    }
}

fn deny_all() -> DeviceRule {
    DeviceRule {
        access: Some("rwm".to_owned()),
        ..DeviceRule::default()
    }
}

fn allow(&(major, minor): &(i64, Option<i64>)) -> DeviceRule {
    DeviceRule {
        allow: true,
        kind: Some("c".to_owned()),
        major: Some(major),
        minor,
        access: Some("rwm".to_owned()),
    }
}
