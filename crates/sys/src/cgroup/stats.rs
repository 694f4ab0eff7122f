//! What a cgroup uses, as plain values.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// `max` and other unlimited values.
pub(crate) const UNLIMITED: u64 = u64::MAX;

/// What a cgroup uses.
#[derive(Debug, Clone, PartialEq)]
pub enum Stats {
    /// The controllers are of version 1.
    V1(Box<StatsV1>),
    /// The controllers are of version 2.
    V2(Box<StatsV2>),
}

/// Counters of version 1; a part whose controller is absent is `None` or empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StatsV1 {
    /// Processes.
    pub pids: Option<PidsStats>,
    /// Processor time.
    pub cpu: Option<CpuV1>,
    /// Memory.
    pub memory: Option<MemoryV1>,
    /// Block devices: file (`io_service_bytes_recursive`, `io_serviced_recursive`, `io_queued_recursive`,
    /// `io_service_time_recursive`, `io_wait_time_recursive`, `io_merged_recursive`, `io_time_recursive`,
    /// `sectors_recursive`) to its entries.
    pub blkio: BTreeMap<&'static str, Vec<BlkioEntry>>,
    /// Huge pages, by size.
    pub hugetlb: Vec<HugetlbStats>,
    /// RDMA devices.
    pub rdma: Vec<RdmaEntry>,
}

/// Counters of version 2; a part whose controller is absent is `None` or empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StatsV2 {
    /// Processes.
    pub pids: Option<PidsStats>,
    /// Processor time; `cpu.stat` exists without the controller.
    pub cpu: Option<CpuV2>,
    /// Memory.
    pub memory: Option<MemoryV2>,
    /// Block devices.
    pub io: Vec<IoEntry>,
    /// Stalls on block devices.
    pub io_pressure: Option<Pressure>,
    /// Huge pages, by size.
    pub hugetlb: Vec<HugetlbStats>,
    /// RDMA devices.
    pub rdma: Vec<RdmaEntry>,
    /// `memory.events`.
    pub memory_events: Option<MemoryEvents>,
}

/// Processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// How many there are.
    pub current: u64,
    /// How many there may be; 0 is unlimited.
    pub limit: u64,
}

/// Processor time of version 1, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuV1 {
    /// All.
    pub usage_ns: u64,
    /// In the kernel.
    pub kernel_ns: u64,
    /// In programs.
    pub user_ns: u64,
    /// By processor.
    pub per_cpu_ns: Vec<u64>,
    /// Periods with a quota.
    pub periods: u64,
    /// Periods in which the quota ran out.
    pub throttled_periods: u64,
    /// How long processes waited for the next period.
    pub throttled_ns: u64,
}

/// Processor time of version 2.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CpuV2 {
    /// `cpu.stat`: `usage_usec`, `user_usec`, `system_usec`, `nr_periods`, `nr_throttled`, `throttled_usec`, …
    pub stat: BTreeMap<String, u64>,
    /// Stalls.
    pub pressure: Option<Pressure>,
}

/// One kind of memory of version 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryCounter {
    /// The limit in bytes.
    pub limit: u64,
    /// In use, in bytes.
    pub usage: u64,
    /// The most ever in use, in bytes.
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Memory of version 1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryV1 {
    /// `memory.stat` as it is: `cache`, `rss`, …, `total_unevictable`.
    pub stat: BTreeMap<String, u64>,
    /// Memory.
    pub usage: MemoryCounter,
    /// Memory and swap.
    pub swap: Option<MemoryCounter>,
    /// The kernel's memory.
    pub kernel: Option<MemoryCounter>,
    /// TCP buffers.
    pub kernel_tcp: Option<MemoryCounter>,
    /// `memory.oom_control`: `oom_kill_disable`, `under_oom`, `oom_kill`.
    pub oom_control: BTreeMap<String, u64>,
}

/// Memory of version 2, in bytes; `u64::MAX` is unlimited.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemoryV2 {
    /// `memory.stat` as it is.
    pub stat: BTreeMap<String, u64>,
    /// In use.
    pub usage: u64,
    /// The limit.
    pub limit: u64,
    /// The most ever in use.
    pub peak: u64,
    /// Swap in use.
    pub swap_usage: u64,
    /// The limit of swap.
    pub swap_limit: u64,
    /// The most swap ever in use.
    pub swap_peak: u64,
    /// Stalls.
    pub pressure: Option<Pressure>,
}

/// `memory.events` of version 2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryEvents {
    /// Below the low mark and reclaimed all the same.
    pub low: u64,
    /// Throttled.
    pub high: u64,
    /// At the limit.
    pub max: u64,
    /// Out of memory.
    pub oom: u64,
    /// Processes killed.
    pub oom_kill: u64,
}

/// One line of a blkio file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlkioEntry {
    /// The major number.
    pub major: u64,
    /// The minor number.
    pub minor: u64,
    /// `Read`, `Write`, …; empty when the file has none.
    pub op: String,
    /// Bytes, operations or nanoseconds.
    pub value: u64,
}

/// One line of `io.stat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoEntry {
    /// The major number.
    pub major: u64,
    /// The minor number.
    pub minor: u64,
    /// Bytes read.
    pub rbytes: u64,
    /// Bytes written.
    pub wbytes: u64,
    /// Read operations.
    pub rios: u64,
    /// Write operations.
    pub wios: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HugetlbStats {
    /// The size, such as `2MB`.
    pub page_size: String,
    /// In use, in bytes.
    pub usage: u64,
    /// Version 1: the most ever in use. Version 2: the limit.
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// One RDMA device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdmaEntry {
    /// The device.
    pub device: String,
    /// Whether the numbers are limits, not use.
    pub limit: bool,
    /// Handles.
    pub hca_handles: u32,
    /// Objects.
    pub hca_objects: u32,
}

/// Stalls on a resource.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// Some tasks stalled.
    pub some: PressureLine,
    /// All tasks stalled.
    pub full: PressureLine,
}

/// One line of a pressure file.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PressureLine {
    /// Per cent in the last 10 seconds.
    pub avg10: f64,
    /// Per cent in the last minute.
    pub avg60: f64,
    /// Per cent in the last 5 minutes.
    pub avg300: f64,
    /// Microseconds in all.
    pub total: u64,
}

/// Reads `name value` lines.
pub(crate) fn flat(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

fn text(folder: &Path, file: &str) -> io::Result<String> {
    std::fs::read_to_string(folder.join(file))
}

/// One number; `max` is [`UNLIMITED`].
fn number(folder: &Path, file: &str) -> Option<u64> {
    let text = text(folder, file).ok()?;
    match text.trim() {
        "max" => Some(UNLIMITED),
        digits => digits.parse().ok(),
    }
}

fn pids(folder: &Path) -> Option<PidsStats> {
    let limit = number(folder, "pids.max").unwrap_or(UNLIMITED);
    Some(PidsStats {
        current: number(folder, "pids.current")?,
        limit: if limit == UNLIMITED { 0 } else { limit },
    })
}

fn rdma(folder: &Path) -> Vec<RdmaEntry> {
    let mut entries = Vec::new();
    for (file, limit) in [("rdma.current", false), ("rdma.max", true)] {
        for line in text(folder, file).unwrap_or_default().lines() {
            let mut words = line.split_whitespace();
            let mut entry = RdmaEntry {
                device: words.next().unwrap_or_default().to_owned(),
                limit,
                ..RdmaEntry::default()
            };
            for (name, value) in words.filter_map(|word| word.split_once('=')) {
                let value = value.parse().unwrap_or(u32::MAX);
                match name {
                    "hca_handle" => entry.hca_handles = value,
                    "hca_object" => entry.hca_objects = value,
                    _ => {}
                }
            }
            entries.push(entry);
        }
    }
    entries
}

/// Sizes for which the folder has huge page files, such as `2MB`.
fn huge_page_sizes(folder: &Path, suffix: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut sizes: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let size = name.strip_prefix("hugetlb.")?.strip_suffix(suffix)?;
            (!size.contains('.')).then(|| size.to_owned())
        })
        .collect();
    sizes.sort();
    sizes
}

mod v1;
mod v2;

pub(crate) use v1::read as read_v1;
pub(crate) use v2::read as read_v2;
