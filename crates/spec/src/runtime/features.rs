//! What a runtime can do, for callers to read (features.md, features-linux.md).

use std::collections::BTreeMap;

record! {
    /// What a runtime can do.
    open struct Features {
        /// The lowest version of the specification that the runtime takes.
        oci_version_min: Option<String>,
        /// The highest version of the specification that the runtime takes.
        oci_version_max: Option<String>,
        /// Names of hooks.
        hooks: Vec<String>,
        /// Mount options.
        mount_options: Vec<String>,
        /// The part that only Linux has.
        linux: Option<LinuxFeatures>,
        /// Arbitrary metadata.
        annotations: BTreeMap<String, String>,
        /// Prefixes of annotations that may change what the runtime does in unsafe ways.
        potentially_unsafe_config_annotations: Vec<String>,
    }
}

record! {
    /// What a runtime can do on Linux.
    open struct LinuxFeatures {
        /// Kinds of namespaces.
        namespaces: Vec<String>,
        /// Names of capabilities.
        capabilities: Vec<String>,
        /// Cgroup managers.
        cgroup: Option<CgroupFeature>,
        /// System call filters.
        seccomp: Option<SeccompFeature>,
        /// AppArmor.
        apparmor: Option<AppArmorFeature>,
        /// SELinux.
        selinux: Option<SelinuxFeature>,
        /// Intel RDT.
        intel_rdt: Option<IntelRdtFeature>,
        /// Memory policies.
        memory_policy: Option<MemoryPolicyFeature>,
        /// Extensions of mounts.
        mount_extensions: Option<MountExtensionsFeature>,
        /// Network devices.
        net_devices: Option<NetDevicesFeature>,
    }
}

record! {
    /// Cgroup managers.
    struct CgroupFeature {
        /// cgroup v1.
        v1: Option<bool>,
        /// cgroup v2.
        v2: Option<bool>,
        /// The systemd driver.
        systemd: Option<bool>,
        /// The systemd driver of a user's manager.
        systemd_user: Option<bool>,
        /// The RDMA controller.
        rdma: Option<bool>,
    }
}

record! {
    /// System call filters.
    struct SeccompFeature {
        /// Whether filters are applied at all.
        enabled: Option<bool>,
        /// Actions.
        actions: Vec<String>,
        /// Operators.
        operators: Vec<String>,
        /// Architectures.
        archs: Vec<String>,
        /// Flags that are read.
        known_flags: Vec<String>,
        /// Flags that the kernel takes.
        supported_flags: Vec<String>,
    }
}

record! {
    /// AppArmor.
    struct AppArmorFeature {
        /// Whether profiles are applied.
        enabled: Option<bool>,
    }
}

record! {
    /// SELinux.
    struct SelinuxFeature {
        /// Whether labels are applied.
        enabled: Option<bool>,
    }
}

record! {
    /// Intel RDT.
    struct IntelRdtFeature {
        /// Whether it is applied.
        enabled: Option<bool>,
        /// Whether `schemata` is read.
        schemata: Option<bool>,
        /// Whether `enableMonitoring` is read.
        monitoring: Option<bool>,
    }
}

record! {
    /// Memory policies.
    struct MemoryPolicyFeature {
        /// Modes.
        modes: Vec<String>,
        /// Flags.
        flags: Vec<String>,
    }
}

record! {
    /// Extensions of mounts.
    struct MountExtensionsFeature {
        /// Id-mapped mounts.
        idmap: Option<IdMapFeature>,
    }
}

record! {
    /// Id-mapped mounts.
    struct IdMapFeature {
        /// Whether they are made.
        enabled: Option<bool>,
    }
}

record! {
    /// Network devices.
    struct NetDevicesFeature {
        /// Whether they are moved.
        enabled: Option<bool>,
    }
}
