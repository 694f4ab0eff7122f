//! The OCI runtime specification 1.3 for Linux (config.md, config-linux.md, features.md).
//!
//! Sections for other systems (`windows`, `solaris`, `vm`, `zos`, `freebsd`) are kept in [`Spec::extra`].

mod features;
mod linux;
mod process;
mod resources;
mod seccomp;

use std::collections::BTreeMap;

pub use features::{
    AppArmorFeature, CgroupFeature, Features, IdMapFeature, IntelRdtFeature, LinuxFeatures,
    MemoryPolicyFeature, MountExtensionsFeature, NetDevicesFeature, SeccompFeature, SelinuxFeature,
};
pub use linux::{
    Device, IdMapping, IntelRdt, Linux, MemoryPolicy, Namespace, NetDevice, Personality, TimeOffset,
};
pub use process::{
    Capabilities, ConsoleSize, CpuAffinity, IoPriority, Process, Rlimit, Scheduler, User,
};
pub use resources::{
    BlockIo, Cpu, DeviceRule, HugepageLimit, InterfacePriority, Memory, Network, Pids, Rdma,
    Resources, ThrottleDevice, WeightDevice,
};
pub use seccomp::{Seccomp, SeccompArg, SyscallRule};

/// The version that we write.
pub const VERSION: &str = "1.3.0";

/// The type of a [`Spec`] in a protobuf `Any`; its value is JSON.
pub const SPEC_TYPE_URL: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
/// The type of a [`Process`] in a protobuf `Any`; its value is JSON.
pub const PROCESS_TYPE_URL: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
/// The type of [`Resources`] in a protobuf `Any`; its value is JSON.
pub const RESOURCES_TYPE_URL: &str =
    "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
/// The type of [`Features`] in a protobuf `Any`; its value is JSON.
pub const FEATURES_TYPE_URL: &str =
    "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

record! {
    /// The whole configuration of a container (config.md), the content of `config.json`.
    open struct Spec {
        /// The version of the specification that the document follows.
        oci_version: String,
        /// The first process; absent only for containers that are never started.
        process: Option<Process>,
        /// The root file system.
        root: Option<Root>,
        /// The host name that the container sees in its own UTS namespace.
        hostname: Option<String>,
        /// The NIS domain name that the container sees in its own UTS namespace.
        domainname: Option<String>,
        /// Mounts below the root, in the order in which they are made.
        mounts: Vec<Mount>,
        /// Programs run at points of the life cycle.
        hooks: Option<Hooks>,
        /// Arbitrary metadata.
        annotations: BTreeMap<String, String>,
        /// The part that only Linux has.
        linux: Option<Linux>,
    }
}

impl Spec {
    /// Reads `config.json`, or the value of an `Any` of type [`SPEC_TYPE_URL`].
    pub fn from_slice(bytes: &[u8]) -> Result<Self, crate::Error> {
        crate::parse(
            "runtime specification",
            bytes,
            crate::RUNTIME_JSON_BYTES_MAX,
        )
    }

    /// Writes the document on one line.
    pub fn to_vec(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("maps have text keys and numbers are finite")
    }
}

record! {
    /// The root file system (config.md#root).
    open struct Root {
        /// The folder, absolute or relative to the bundle.
        path: String,
        /// Whether the container can't write to it.
        readonly: bool,
    }
}

record! {
    /// One mount (config.md#mounts).
    open struct Mount {
        /// The absolute path in the container.
        destination: String,
        /// The file system type; absent for bind mounts.
        #[serde(rename = "type")]
        kind: Option<String>,
        /// The device or folder, absolute or relative to the bundle.
        source: Option<String>,
        /// Options as `mount(8)` names them.
        options: Vec<String>,
        /// User ids of an id-mapped mount.
        uid_mappings: Vec<IdMapping>,
        /// Group ids of an id-mapped mount.
        gid_mappings: Vec<IdMapping>,
    }
}

record! {
    /// Programs run at points of the life cycle (config.md#posix-platform-hooks).
    open struct Hooks {
        /// Deprecated: as `create_runtime`, after it.
        prestart: Vec<Hook>,
        /// In the runtime's namespaces, after the container's were made and before pivot_root.
        create_runtime: Vec<Hook>,
        /// In the container's namespaces, before pivot_root.
        create_container: Vec<Hook>,
        /// In the container's namespaces, just before the user process.
        start_container: Vec<Hook>,
        /// In the runtime's namespaces, after the user process started.
        poststart: Vec<Hook>,
        /// In the runtime's namespaces, after the container was deleted.
        poststop: Vec<Hook>,
    }
}

record! {
    /// One program of [`Hooks`].
    struct Hook {
        /// The absolute path.
        path: String,
        /// All arguments, the name of the program first.
        args: Vec<String>,
        /// `NAME=value` pairs; nothing is inherited.
        env: Vec<String>,
        /// Seconds until it is killed, greater than zero.
        timeout: Option<i64>,
    }
}

#[cfg(test)]
mod tests;
