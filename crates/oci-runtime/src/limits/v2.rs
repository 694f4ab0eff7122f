//! Limits on cgroup v2.

use spec::runtime::{BlockIo, Cpu, Memory, Resources, ThrottleDevice};

use super::{Setting, setting};
use crate::error::{Error, Result};

/// The writes, in an order that the kernel takes.
pub(crate) fn settings(resources: &Resources) -> Result<Vec<Setting>> {
    let mut out = Vec::new();
    if let Some(memory) = &resources.memory {
        memory_settings(memory, &mut out)?;
    }
    if let Some(cpu) = &resources.cpu {
        cpu_settings(cpu, &mut out);
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
        out.push(setting(
            "pids",
            "pids.max",
            super::v1::pids(limit),
            "pids.limit",
        ));
    }
    if let Some(block) = &resources.block_io {
        block_settings(block, &mut out);
    }
    for huge in &resources.hugepage_limits {
        let file = format!("hugetlb.{}.max", huge.page_size);
        out.push(setting("hugetlb", file, huge.limit, "hugepageLimits"));
    }
    out.extend(rdma(resources));
    for (file, value) in &resources.unified {
        // The key is a file of this very group, whatever an annotation says.
        if file.contains('/') || !file.contains('.') || file.starts_with('.') {
            let reason = format!("{file:?} is no file of a cgroup");
            return Err(Error::invalid("linux.resources.unified", reason));
        }
        out.extend(
            value
                .lines()
                .map(|line| setting("unified", file.clone(), line, "unified")),
        );
    }
    Ok(out)
}

/// The writes for RDMA devices, alike on both versions.
pub(super) fn rdma(resources: &Resources) -> Vec<Setting> {
    let one = |(device, limit): (&String, &spec::runtime::Rdma)| {
        let mut value = device.clone();
        for (name, number) in [
            ("hca_handle", limit.hca_handles),
            ("hca_object", limit.hca_objects),
        ] {
            if let Some(number) = number {
                value.push_str(&format!(" {name}={number}"));
            }
        }
        setting("rdma", "rdma.max", value, "rdma")
    };
    resources.rdma.iter().map(one).collect()
}

fn bytes(value: i64) -> String {
    if value < 0 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}

fn memory_settings(memory: &Memory, out: &mut Vec<Setting>) -> Result<()> {
    let named = |value: Option<i64>| value.filter(|value| *value != 0);
    if let Some(swap) = swap(named(memory.limit), named(memory.swap))? {
        out.push(setting("memory", "memory.swap.max", swap, "memory.swap"));
    }
    for (value, file, field) in [
        (named(memory.limit), "memory.max", "memory.limit"),
        (
            named(memory.reservation),
            "memory.low",
            "memory.reservation",
        ),
    ] {
        out.extend(value.map(|value| setting("memory", file, bytes(value), field)));
    }
    Ok(())
}

/// Version 2 limits swap alone, the specification memory and swap together.
fn swap(limit: Option<i64>, both: Option<i64>) -> Result<Option<String>> {
    let reason = |text: &str| Err(Error::invalid("linux.resources.memory.swap", text));
    match (limit, both) {
        (_, None) => Ok((limit == Some(-1)).then(|| "max".to_owned())),
        (_, Some(-1)) => Ok(Some("max".to_owned())),
        (None | Some(-1), Some(_)) => reason("needs a memory limit"),
        (Some(limit), Some(both)) if both < limit => reason("is below the memory limit"),
        (Some(limit), Some(both)) => Ok(Some((both - limit).to_string())),
    }
}

fn cpu_settings(cpu: &Cpu, out: &mut Vec<Setting>) {
    for (value, file, field) in [
        (cpu.cpus.as_deref(), "cpuset.cpus", "cpu.cpus"),
        (cpu.mems.as_deref(), "cpuset.mems", "cpu.mems"),
    ] {
        let value = value.filter(|value| !value.is_empty());
        out.extend(value.map(|value| setting("cpuset", file, value, field)));
    }
    if let Some(idle) = cpu.idle {
        out.push(setting("cpu", "cpu.idle", idle, "cpu.idle"));
    }
    if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
        out.push(setting("cpu", "cpu.weight", weight(shares), "cpu.shares"));
    }
    let quota = cpu.quota.filter(|quota| *quota != 0);
    let period = cpu.period.filter(|period| *period != 0);
    if quota.is_some() || period.is_some() {
        let quota = quota
            .filter(|quota| *quota > 0)
            .map_or("max".to_owned(), |q| q.to_string());
        let value = format!("{quota} {}", period.unwrap_or(100_000));
        out.push(setting("cpu", "cpu.max", value, "cpu.quota"));
    }
    if let Some(burst) = cpu.burst {
        out.push(setting("cpu", "cpu.max.burst", burst, "cpu.burst"));
    }
}

/// 2..=262144 to 1..=10000, along a straight line, as every runtime does.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn block_settings(block: &BlockIo, out: &mut Vec<Setting>) {
    let field = "blockIO";
    // 10..=1000 to 1..=10000.
    let weight = |weight: u16| 1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990;
    if let Some(value) = block.weight.filter(|value| *value != 0) {
        out.push(setting("io", "io.weight", weight(value), field));
    }
    for one in &block.weight_device {
        let value = one.weight.filter(|value| *value != 0);
        let line = |value| format!("{}:{} {}", one.major, one.minor, weight(value));
        out.extend(value.map(|value| setting("io", "io.weight", line(value), field)));
    }
    for (devices, name) in [
        (&block.throttle_read_bps_device, "rbps"),
        (&block.throttle_write_bps_device, "wbps"),
        (&block.throttle_read_iops_device, "riops"),
        (&block.throttle_write_iops_device, "wiops"),
    ] {
        let line = |one: &ThrottleDevice| {
            let rate = if one.rate == 0 {
                "max".to_owned()
            } else {
                one.rate.to_string()
            };
            format!("{}:{} {name}={rate}", one.major, one.minor)
        };
        out.extend(
            devices
                .iter()
                .map(|one| setting("io", "io.max", line(one), field)),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_version_2() {
        assert_eq!([weight(2), weight(1024), weight(262_144)], [1, 39, 10_000]);
        assert_eq!(swap(Some(10), Some(30)).unwrap().as_deref(), Some("20"));
        assert_eq!(swap(Some(10), Some(-1)).unwrap().as_deref(), Some("max"));
        assert!(swap(Some(30), Some(10)).is_err() && swap(None, Some(10)).is_err());
    }

    #[test]
    fn unified_names_stay_in_the_group() {
        for bad in ["../memory.max", "a/memory.max", "", ".", "memory"] {
            let mut resources = Resources::default();
            resources.unified.insert(bad.to_owned(), "1".to_owned());
            assert!(settings(&resources).is_err(), "{bad}");
        }
    }
}
