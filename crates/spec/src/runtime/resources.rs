//! Limits of the cgroup (config-linux.md#control-groups).

use std::collections::BTreeMap;

record! {
    /// Limits of the cgroup, also the value of an `Any` of type [`super::RESOURCES_TYPE_URL`].
    open struct Resources {
        /// Which devices may be used, in order, the last match wins.
        devices: Vec<DeviceRule>,
        /// Memory.
        memory: Option<Memory>,
        /// Processor time.
        cpu: Option<Cpu>,
        /// The number of processes.
        pids: Option<Pids>,
        /// Block devices.
        #[serde(rename = "blockIO")]
        block_io: Option<BlockIo>,
        /// Huge pages.
        hugepage_limits: Vec<HugepageLimit>,
        /// Network classes and priorities; cgroup v1 only.
        network: Option<Network>,
        /// RDMA devices, by their name.
        rdma: BTreeMap<String, Rdma>,
        /// Files of cgroup v2 and what is written to them.
        unified: BTreeMap<String, String>,
    }
}

impl Resources {
    /// Reads the value of an `Any` of type [`super::RESOURCES_TYPE_URL`].
    pub fn from_slice(bytes: &[u8]) -> Result<Self, crate::Error> {
        crate::parse("resources", bytes, crate::RUNTIME_JSON_BYTES_MAX)
    }
}

/// Allows or denies the use of devices.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct DeviceRule {
    /// Whether the rule allows; always written, since readers of the schema require it.
    #[serde(default)]
    pub allow: bool,
    /// `a`, `c` or `b`; absent means all.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The major number; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub major: Option<i64>,
    /// The minor number; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minor: Option<i64>,
    /// Some of `r`, `w`, `m`; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
}

record! {
    /// Limits of memory, in bytes; -1 is unlimited.
    struct Memory {
        /// The hard limit.
        limit: Option<i64>,
        /// The soft limit.
        reservation: Option<i64>,
        /// Memory and swap together.
        swap: Option<i64>,
        /// Deprecated: kernel memory.
        kernel: Option<i64>,
        /// Kernel memory of TCP buffers; cgroup v1 only.
        #[serde(rename = "kernelTCP")]
        kernel_tcp: Option<i64>,
        /// 0 to 100; cgroup v1 only.
        swappiness: Option<u64>,
        /// Stop processes instead of killing one; cgroup v1 only.
        #[serde(rename = "disableOOMKiller")]
        disable_oom_killer: Option<bool>,
        /// Account children together; cgroup v1 only.
        use_hierarchy: Option<bool>,
        /// Refuse an update below what is in use.
        check_before_update: Option<bool>,
    }
}

record! {
    /// Limits of processor time.
    struct Cpu {
        /// The relative weight, 2 to 262144.
        shares: Option<u64>,
        /// Microseconds each period; negative is unlimited.
        quota: Option<i64>,
        /// Microseconds that may be saved up.
        burst: Option<u64>,
        /// The period in microseconds.
        period: Option<u64>,
        /// Microseconds of real-time scheduling each period.
        realtime_runtime: Option<i64>,
        /// The real-time period in microseconds.
        realtime_period: Option<u64>,
        /// Processors, as a list such as `0-3,7`.
        cpus: Option<String>,
        /// Memory nodes, as a list.
        mems: Option<String>,
        /// 1 for the idle scheduling class.
        idle: Option<i64>,
    }
}

record! {
    /// A limit of the number of processes.
    struct Pids {
        /// The number; zero or less is unlimited. Absent leaves what is.
        limit: Option<i64>,
    }
}

record! {
    /// Limits of block devices.
    struct BlockIo {
        /// The relative weight, 10 to 1000.
        weight: Option<u16>,
        /// The weight of tasks against child groups; cgroup v1 only.
        leaf_weight: Option<u16>,
        /// Weights of single devices.
        weight_device: Vec<WeightDevice>,
        /// Bytes read each second.
        throttle_read_bps_device: Vec<ThrottleDevice>,
        /// Bytes written each second.
        throttle_write_bps_device: Vec<ThrottleDevice>,
        /// Read operations each second.
        #[serde(rename = "throttleReadIOPSDevice")]
        throttle_read_iops_device: Vec<ThrottleDevice>,
        /// Write operations each second.
        #[serde(rename = "throttleWriteIOPSDevice")]
        throttle_write_iops_device: Vec<ThrottleDevice>,
    }
}

record! {
    /// The weight of one block device.
    struct WeightDevice {
        /// The major number.
        major: i64,
        /// The minor number.
        minor: i64,
        /// The relative weight, 10 to 1000.
        weight: Option<u16>,
        /// The weight of tasks against child groups; cgroup v1 only.
        leaf_weight: Option<u16>,
    }
}

record! {
    /// A rate of one block device.
    struct ThrottleDevice {
        /// The major number.
        major: i64,
        /// The minor number.
        minor: i64,
        /// Bytes or operations each second.
        rate: u64,
    }
}

record! {
    /// A limit of huge pages.
    struct HugepageLimit {
        /// The size, such as `2MB`.
        page_size: String,
        /// The limit in bytes.
        limit: u64,
    }
}

record! {
    /// Network classes and priorities; cgroup v1 only.
    struct Network {
        /// The class id of the container's packets.
        #[serde(rename = "classID")]
        class_id: Option<u32>,
        /// Priorities by network interface.
        priorities: Vec<InterfacePriority>,
    }
}

record! {
    /// The priority of one network interface.
    struct InterfacePriority {
        /// The interface in the runtime's network namespace.
        name: String,
        /// The priority.
        priority: u32,
    }
}

record! {
    /// Limits of one RDMA device.
    struct Rdma {
        /// Handles that can be opened.
        hca_handles: Option<u32>,
        /// Objects that can be made.
        hca_objects: Option<u32>,
    }
}
