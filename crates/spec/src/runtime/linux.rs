//! The part of the configuration that only Linux has (config-linux.md).

use std::collections::BTreeMap;

use super::{Resources, Seccomp};

record! {
    /// The Linux section (config-linux.md).
    open struct Linux {
        /// User ids of the user namespace.
        uid_mappings: Vec<IdMapping>,
        /// Group ids of the user namespace.
        gid_mappings: Vec<IdMapping>,
        /// Kernel parameters that are set in the container.
        sysctl: BTreeMap<String, String>,
        /// Limits of the cgroup.
        resources: Option<Resources>,
        /// The cgroup: a path, or `slice:prefix:name` for the systemd driver.
        cgroups_path: Option<String>,
        /// Namespaces to make or join; the others are the runtime's own.
        namespaces: Vec<Namespace>,
        /// Device nodes to make beside the default ones.
        devices: Vec<Device>,
        /// Network devices of the host to move into the container, by their name on the host.
        net_devices: BTreeMap<String, NetDevice>,
        /// The system call filter.
        seccomp: Option<Seccomp>,
        /// The propagation of the root mount: `shared`, `slave`, `private` or `unbindable`, perhaps with `r` before.
        rootfs_propagation: Option<String>,
        /// Paths that the container can't read.
        masked_paths: Vec<String>,
        /// Paths that the container can't write.
        readonly_paths: Vec<String>,
        /// The SELinux label of the container's mounts.
        mount_label: Option<String>,
        /// Cache and memory bandwidth control of Intel processors.
        intel_rdt: Option<IntelRdt>,
        /// NUMA memory placement.
        memory_policy: Option<MemoryPolicy>,
        /// The execution domain.
        personality: Option<Personality>,
        /// Offsets of a time namespace, by clock: `monotonic`, `boottime`.
        time_offsets: BTreeMap<String, TimeOffset>,
    }
}

record! {
    /// A range of ids of a user namespace (config-linux.md#user-namespace-mappings).
    struct IdMapping {
        /// The first id in the container.
        #[serde(rename = "containerID")]
        container_id: u32,
        /// The first id on the host.
        #[serde(rename = "hostID")]
        host_id: u32,
        /// How many ids.
        size: u32,
    }
}

record! {
    /// A namespace (config-linux.md#namespaces).
    struct Namespace {
        /// `pid`, `network`, `mount`, `ipc`, `uts`, `user`, `cgroup` or `time`.
        #[serde(rename = "type")]
        kind: String,
        /// An existing namespace to join; absent makes a new one.
        path: Option<String>,
    }
}

record! {
    /// A device node (config-linux.md#devices).
    struct Device {
        /// The path in the container.
        path: String,
        /// `c`, `u`, `b` or `p`.
        #[serde(rename = "type")]
        kind: String,
        /// The major number.
        major: i64,
        /// The minor number.
        minor: i64,
        /// The permissions; absent means 0666.
        file_mode: Option<u32>,
        /// The owner.
        uid: Option<u32>,
        /// The group.
        gid: Option<u32>,
    }
}

record! {
    /// A network device to move into the container (config-linux.md#network-devices).
    struct NetDevice {
        /// Its name in the container; absent keeps the host's.
        name: Option<String>,
    }
}

record! {
    /// Cache and memory bandwidth control (config-linux.md#intelrdt).
    struct IntelRdt {
        /// The class of service.
        #[serde(rename = "closID")]
        clos_id: Option<String>,
        /// Lines written to the schemata file, after the two below.
        schemata: Vec<String>,
        /// The schema of the L3 cache.
        l3_cache_schema: Option<String>,
        /// The schema of the memory bandwidth.
        mem_bw_schema: Option<String>,
        /// Cache monitoring.
        #[serde(rename = "enableCMT")]
        enable_cmt: bool,
        /// Memory bandwidth monitoring.
        #[serde(rename = "enableMBM")]
        enable_mbm: bool,
        /// Monitoring of everything there is.
        enable_monitoring: bool,
    }
}

record! {
    /// Arguments of `set_mempolicy(2)` (config-linux.md#memory-policy).
    struct MemoryPolicy {
        /// The mode, such as `MPOL_BIND`.
        mode: String,
        /// Nodes as a list such as `0-3`.
        nodes: Option<String>,
        /// Flags, such as `MPOL_F_STATIC_NODES`.
        flags: Vec<String>,
    }
}

record! {
    /// The execution domain (config-linux.md#personality).
    struct Personality {
        /// `LINUX` or `LINUX32`.
        domain: String,
        /// Additional flags; none are defined.
        flags: Vec<String>,
    }
}

record! {
    /// An offset of a clock in a time namespace.
    struct TimeOffset {
        /// Whole seconds.
        secs: i64,
        /// Nanoseconds.
        nanosecs: u32,
    }
}
