//! Counters of version 1.

use std::path::Path;

use super::{
    BlkioEntry, CpuV1, HugetlbStats, MemoryCounter, MemoryV1, StatsV1, flat, huge_page_sizes,
    number, pids, rdma, text,
};

/// Nanoseconds of a clock tick of `cpuacct.stat`; the kernel's `USER_HZ` is 100 on every architecture of ours.
const TICK_NS: u64 = 10_000_000;

/// Block device files with the name of their counters, and the file of schedulers without BFQ accounting.
const BLKIO_FILES: [(&str, &str, &str); 8] = [
    (
        "io_service_bytes_recursive",
        "blkio.io_service_bytes_recursive",
        "blkio.throttle.io_service_bytes_recursive",
    ),
    (
        "io_serviced_recursive",
        "blkio.io_serviced_recursive",
        "blkio.throttle.io_serviced_recursive",
    ),
    (
        "io_queued_recursive",
        "blkio.io_queued_recursive",
        "blkio.bfq.io_queued_recursive",
    ),
    (
        "io_service_time_recursive",
        "blkio.io_service_time_recursive",
        "blkio.bfq.io_service_time_recursive",
    ),
    (
        "io_wait_time_recursive",
        "blkio.io_wait_time_recursive",
        "blkio.bfq.io_wait_time_recursive",
    ),
    (
        "io_merged_recursive",
        "blkio.io_merged_recursive",
        "blkio.bfq.io_merged_recursive",
    ),
    (
        "io_time_recursive",
        "blkio.time_recursive",
        "blkio.bfq.time_recursive",
    ),
    (
        "sectors_recursive",
        "blkio.sectors_recursive",
        "blkio.bfq.sectors_recursive",
    ),
];

/// Reads all counters; `folder` answers the folder of a controller.
pub(crate) fn read<'a>(folder: impl Fn(&str) -> Option<&'a Path>) -> StatsV1 {
    let mut stats = StatsV1 {
        pids: folder("pids").and_then(pids),
        cpu: cpu(folder("cpuacct"), folder("cpu")),
        memory: folder("memory").and_then(memory),
        rdma: folder("rdma").map(rdma).unwrap_or_default(),
        ..StatsV1::default()
    };
    if let Some(folder) = folder("blkio") {
        for (name, file, fallback) in BLKIO_FILES {
            let mut entries = blkio(folder, file);
            if entries.is_empty() {
                entries = blkio(folder, fallback);
            }
            stats.blkio.insert(name, entries);
        }
    }
    if let Some(folder) = folder("hugetlb") {
        stats.hugetlb = huge_page_sizes(folder, ".usage_in_bytes")
            .into_iter()
            .map(|size| HugetlbStats {
                usage: number(folder, &format!("hugetlb.{size}.usage_in_bytes")).unwrap_or(0),
                max: number(folder, &format!("hugetlb.{size}.max_usage_in_bytes")).unwrap_or(0),
                failcnt: number(folder, &format!("hugetlb.{size}.failcnt")).unwrap_or(0),
                page_size: size,
            })
            .collect();
    }
    stats
}

fn cpu(accounting: Option<&Path>, cpu: Option<&Path>) -> Option<CpuV1> {
    let mut stats = CpuV1::default();
    if let Some(folder) = accounting {
        stats.usage_ns = number(folder, "cpuacct.usage")?;
        let ticks = flat(&text(folder, "cpuacct.stat").unwrap_or_default());
        stats.user_ns = ticks
            .get("user")
            .copied()
            .unwrap_or(0)
            .saturating_mul(TICK_NS);
        stats.kernel_ns = ticks
            .get("system")
            .copied()
            .unwrap_or(0)
            .saturating_mul(TICK_NS);
        stats.per_cpu_ns = text(folder, "cpuacct.usage_percpu")
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
    }
    let throttling = flat(&text(cpu.or(accounting)?, "cpu.stat").unwrap_or_default());
    let value = |name: &str| throttling.get(name).copied().unwrap_or(0);
    stats.periods = value("nr_periods");
    stats.throttled_periods = value("nr_throttled");
    stats.throttled_ns = value("throttled_time");
    Some(stats)
}

fn memory(folder: &Path) -> Option<MemoryV1> {
    let counter = |kind: &str| {
        Some(MemoryCounter {
            limit: number(folder, &format!("memory.{kind}limit_in_bytes"))?,
            usage: number(folder, &format!("memory.{kind}usage_in_bytes"))?,
            max: number(folder, &format!("memory.{kind}max_usage_in_bytes"))?,
            failcnt: number(folder, &format!("memory.{kind}failcnt"))?,
        })
    };
    Some(MemoryV1 {
        stat: flat(&text(folder, "memory.stat").ok()?),
        usage: counter("")?,
        swap: counter("memsw."),
        kernel: counter("kmem."),
        kernel_tcp: counter("kmem.tcp."),
        oom_control: flat(&text(folder, "memory.oom_control").unwrap_or_default()),
    })
}

fn blkio(folder: &Path, file: &str) -> Vec<BlkioEntry> {
    let text = text(folder, file).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (device, rest) = line.split_once(' ')?;
            let (major, minor) = device.split_once(':')?;
            let (op, value) = rest.rsplit_once(' ').unwrap_or(("", rest));
            Some(BlkioEntry {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
                op: op.to_owned(),
                value: value.parse().ok()?,
            })
        })
        .collect()
}
