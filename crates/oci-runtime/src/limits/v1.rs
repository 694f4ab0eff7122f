//! Limits on cgroup v1.

use spec::runtime::{BlockIo, Cpu, Memory, Resources, ThrottleDevice};
use sys::cgroup::Cgroup;

use super::{Setting, setting};
use crate::error::{Error, Result};

/// The writes, in an order that the kernel takes.
pub(crate) fn settings(cgroup: &Cgroup, resources: &Resources) -> Result<Vec<Setting>> {
    let mut out = Vec::new();
    if let Some(memory) = &resources.memory {
        memory_settings(cgroup, memory, &mut out)?;
    }
    if let Some(cpu) = &resources.cpu {
        cpu_settings(cpu, &mut out);
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
        out.push(setting("pids", "pids.max", pids(limit), "pids.limit"));
    }
    if let Some(block) = &resources.block_io {
        block_settings(block, &mut out);
    }
    for huge in &resources.hugepage_limits {
        let file = format!("hugetlb.{}.limit_in_bytes", huge.page_size);
        out.push(setting("hugetlb", file, huge.limit, "hugepageLimits"));
    }
    if let Some(network) = &resources.network {
        if let Some(class) = network.class_id.filter(|class| *class != 0) {
            out.push(setting(
                "net_cls",
                "net_cls.classid",
                class,
                "network.classID",
            ));
        }
        for one in &network.priorities {
            let value = format!("{} {}", one.name, one.priority);
            out.push(setting(
                "net_prio",
                "net_prio.ifpriomap",
                value,
                "network.priorities",
            ));
        }
    }
    out.extend(super::v2::rdma(resources));
    if !resources.unified.is_empty() {
        return Err(Error::invalid("linux.resources.unified", "needs cgroup v2"));
    }
    Ok(out)
}

/// Zero or less is no limit.
pub(super) fn pids(limit: i64) -> String {
    if limit > 0 {
        limit.to_string()
    } else {
        "max".to_owned()
    }
}

fn memory_settings(cgroup: &Cgroup, memory: &Memory, out: &mut Vec<Setting>) -> Result<()> {
    let named = |value: Option<i64>| value.filter(|value| *value != 0);
    let (limit, mut swap) = (named(memory.limit), named(memory.swap));
    if limit == Some(-1) && swap.is_none() && has_swap(cgroup) {
        // Memory without limit within memory and swap with one would be refused.
        swap = Some(-1);
    }
    let limit_setting =
        limit.map(|value| setting("memory", "memory.limit_in_bytes", value, "memory.limit"));
    let swap_setting = swap.map(|value| {
        setting(
            "memory",
            "memory.memsw.limit_in_bytes",
            value,
            "memory.swap",
        )
    });
    // The sum must never be below its part.
    let current = cgroup
        .read("memory", "memory.limit_in_bytes")
        .ok()
        .and_then(|text| text.trim().parse::<i64>().ok());
    let raising = swap.is_some_and(|swap| swap == -1 || current.is_some_and(|now| now < swap));
    if raising {
        out.extend(swap_setting.into_iter().chain(limit_setting));
    } else {
        out.extend(limit_setting.into_iter().chain(swap_setting));
    }
    if memory.kernel.is_some_and(|value| value > 0) {
        return Err(Error::unimplemented("a limit of kernel memory"));
    }
    for (value, file, field) in [
        (
            named(memory.kernel_tcp),
            "memory.kmem.tcp.limit_in_bytes",
            "memory.kernelTCP",
        ),
        (
            named(memory.reservation),
            "memory.soft_limit_in_bytes",
            "memory.reservation",
        ),
    ] {
        out.extend(value.map(|value| setting("memory", file, value, field)));
    }
    if memory.disable_oom_killer == Some(true) {
        out.push(setting(
            "memory",
            "memory.oom_control",
            1,
            "memory.disableOOMKiller",
        ));
    }
    // -1 in the unsigned field of older writers means "leave as it is".
    match memory.swappiness.filter(|value| *value != u64::MAX) {
        Some(value) if value <= 100 => {
            out.push(setting(
                "memory",
                "memory.swappiness",
                value,
                "memory.swappiness",
            ));
        }
        Some(value) => {
            let reason = format!("{value} is not within 0 to 100");
            return Err(Error::invalid("linux.resources.memory.swappiness", reason));
        }
        None => {}
    }
    Ok(())
}

fn has_swap(cgroup: &Cgroup) -> bool {
    cgroup.read("memory", "memory.memsw.limit_in_bytes").is_ok()
}

fn cpu_settings(cpu: &Cpu, out: &mut Vec<Setting>) {
    for (value, file, field) in [
        (cpu.cpus.as_deref(), "cpuset.cpus", "cpu.cpus"),
        (cpu.mems.as_deref(), "cpuset.mems", "cpu.mems"),
    ] {
        let value = value.filter(|value| !value.is_empty());
        out.extend(value.map(|value| setting("cpuset", file, value, field)));
    }
    let unsigned = |value: Option<u64>| value.filter(|value| *value != 0).map(|v| v.to_string());
    let signed = |value: Option<i64>| value.filter(|value| *value != 0).map(|v| v.to_string());
    for (value, file, field) in [
        (unsigned(cpu.shares), "cpu.shares", "cpu.shares"),
        (
            unsigned(cpu.realtime_period),
            "cpu.rt_period_us",
            "cpu.realtimePeriod",
        ),
        (
            signed(cpu.realtime_runtime),
            "cpu.rt_runtime_us",
            "cpu.realtimeRuntime",
        ),
        (unsigned(cpu.period), "cpu.cfs_period_us", "cpu.period"),
        (signed(cpu.quota), "cpu.cfs_quota_us", "cpu.quota"),
        (
            cpu.burst.map(|burst| burst.to_string()),
            "cpu.cfs_burst_us",
            "cpu.burst",
        ),
        (
            cpu.idle.map(|idle| idle.to_string()),
            "cpu.idle",
            "cpu.idle",
        ),
    ] {
        out.extend(value.map(|value| setting("cpu", file, value, field)));
    }
}

fn block_settings(block: &BlockIo, out: &mut Vec<Setting>) {
    let field = "blockIO";
    for (weight, file) in [
        (block.weight, "blkio.bfq.weight"),
        (block.leaf_weight, "blkio.leaf_weight"),
    ] {
        let weight = weight.filter(|weight| *weight != 0);
        out.extend(weight.map(|weight| setting("blkio", file, weight, field)));
    }
    for one in &block.weight_device {
        for (weight, file) in [
            (one.weight, "blkio.bfq.weight_device"),
            (one.leaf_weight, "blkio.leaf_weight_device"),
        ] {
            let weight = weight.filter(|weight| *weight != 0);
            let value = |weight| format!("{}:{} {weight}", one.major, one.minor);
            out.extend(weight.map(|weight| setting("blkio", file, value(weight), field)));
        }
    }
    for (devices, file) in [
        (
            &block.throttle_read_bps_device,
            "blkio.throttle.read_bps_device",
        ),
        (
            &block.throttle_write_bps_device,
            "blkio.throttle.write_bps_device",
        ),
        (
            &block.throttle_read_iops_device,
            "blkio.throttle.read_iops_device",
        ),
        (
            &block.throttle_write_iops_device,
            "blkio.throttle.write_iops_device",
        ),
    ] {
        let value = |one: &ThrottleDevice| format!("{}:{} {}", one.major, one.minor, one.rate);
        out.extend(
            devices
                .iter()
                .map(|one| setting("blkio", file, value(one), field)),
        );
    }
}
