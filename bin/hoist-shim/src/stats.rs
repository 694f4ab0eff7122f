//! What a container uses, as the messages that clients expect: `io.containerd.cgroups.v1.Metrics` and `v2`.

use prost_types::Any;
use proto::io::containerd::cgroups::{v1, v2};
use std::collections::BTreeMap;
use sys::cgroup::{
    MemoryCounter, MemoryV1, MemoryV2, Pressure, PressureLine, Stats, StatsV1, StatsV2,
};

/// Packs statistics of either version.
pub(crate) fn pack(stats: &Stats) -> Any {
    match stats {
        Stats::V1(stats) => proto::typeurl::pack(&first(stats)),
        Stats::V2(stats) => proto::typeurl::pack(&second(stats)),
    }
}

fn number(stat: &BTreeMap<String, u64>, name: &str) -> u64 {
    stat.get(name).copied().unwrap_or(0)
}

fn first(stats: &StatsV1) -> v1::Metrics {
    v1::Metrics {
        hugetlb: stats
            .hugetlb
            .iter()
            .map(|page| v1::HugetlbStat {
                usage: page.usage,
                max: page.max,
                failcnt: page.failcnt,
                pagesize: page.page_size.clone(),
            })
            .collect(),
        pids: stats.pids.as_ref().map(|pids| v1::PidsStat {
            current: pids.current,
            limit: pids.limit,
        }),
        cpu: stats.cpu.as_ref().map(|cpu| v1::CpuStat {
            usage: Some(v1::CpuUsage {
                total: cpu.usage_ns,
                kernel: cpu.kernel_ns,
                user: cpu.user_ns,
                per_cpu: cpu.per_cpu_ns.clone(),
            }),
            throttling: Some(v1::Throttle {
                periods: cpu.periods,
                throttled_periods: cpu.throttled_periods,
                throttled_time: cpu.throttled_ns,
            }),
        }),
        memory: stats.memory.as_ref().map(memory_first),
        memory_oom_control: stats.memory.as_ref().map(|memory| v1::MemoryOomControl {
            oom_kill_disable: number(&memory.oom_control, "oom_kill_disable"),
            under_oom: number(&memory.oom_control, "under_oom"),
            oom_kill: number(&memory.oom_control, "oom_kill"),
        }),
        blkio: Some(blkio(stats)),
        rdma: Some(v1::RdmaStat {
            current: rdma_first(stats, false),
            limit: rdma_first(stats, true),
        }),
        network: Vec::new(),
        cgroup_stats: None,
    }
}

fn counter(counter: &MemoryCounter) -> v1::MemoryEntry {
    v1::MemoryEntry {
        limit: counter.limit,
        usage: counter.usage,
        max: counter.max,
        failcnt: counter.failcnt,
    }
}

fn memory_first(memory: &MemoryV1) -> v1::MemoryStat {
    let stat = |name| number(&memory.stat, name);
    v1::MemoryStat {
        cache: stat("cache"),
        rss: stat("rss"),
        rss_huge: stat("rss_huge"),
        mapped_file: stat("mapped_file"),
        dirty: stat("dirty"),
        writeback: stat("writeback"),
        pg_pg_in: stat("pgpgin"),
        pg_pg_out: stat("pgpgout"),
        pg_fault: stat("pgfault"),
        pg_maj_fault: stat("pgmajfault"),
        inactive_anon: stat("inactive_anon"),
        active_anon: stat("active_anon"),
        inactive_file: stat("inactive_file"),
        active_file: stat("active_file"),
        unevictable: stat("unevictable"),
        hierarchical_memory_limit: stat("hierarchical_memory_limit"),
        hierarchical_swap_limit: stat("hierarchical_memsw_limit"),
        total_cache: stat("total_cache"),
        total_rss: stat("total_rss"),
        total_rss_huge: stat("total_rss_huge"),
        total_mapped_file: stat("total_mapped_file"),
        total_dirty: stat("total_dirty"),
        total_writeback: stat("total_writeback"),
        total_pg_pg_in: stat("total_pgpgin"),
        total_pg_pg_out: stat("total_pgpgout"),
        total_pg_fault: stat("total_pgfault"),
        total_pg_maj_fault: stat("total_pgmajfault"),
        total_inactive_anon: stat("total_inactive_anon"),
        total_active_anon: stat("total_active_anon"),
        total_inactive_file: stat("total_inactive_file"),
        total_active_file: stat("total_active_file"),
        total_unevictable: stat("total_unevictable"),
        usage: Some(counter(&memory.usage)),
        swap: memory.swap.as_ref().map(counter),
        kernel: memory.kernel.as_ref().map(counter),
        kernel_tcp: memory.kernel_tcp.as_ref().map(counter),
    }
}

fn blkio(stats: &StatsV1) -> v1::BlkIoStat {
    let entries = |name: &str| -> Vec<v1::BlkIoEntry> {
        let found = stats.blkio.get(name).into_iter().flatten();
        found
            .map(|entry| v1::BlkIoEntry {
                op: entry.op.clone(),
                device: String::new(),
                major: entry.major,
                minor: entry.minor,
                value: entry.value,
            })
            .collect()
    };
    v1::BlkIoStat {
        io_service_bytes_recursive: entries("io_service_bytes_recursive"),
        io_serviced_recursive: entries("io_serviced_recursive"),
        io_queued_recursive: entries("io_queued_recursive"),
        io_service_time_recursive: entries("io_service_time_recursive"),
        io_wait_time_recursive: entries("io_wait_time_recursive"),
        io_merged_recursive: entries("io_merged_recursive"),
        io_time_recursive: entries("io_time_recursive"),
        sectors_recursive: entries("sectors_recursive"),
    }
}

fn rdma_first(stats: &StatsV1, limit: bool) -> Vec<v1::RdmaEntry> {
    let entries = stats.rdma.iter().filter(|entry| entry.limit == limit);
    entries
        .map(|entry| v1::RdmaEntry {
            device: entry.device.clone(),
            hca_handles: entry.hca_handles,
            hca_objects: entry.hca_objects,
        })
        .collect()
}

fn second(stats: &StatsV2) -> v2::Metrics {
    v2::Metrics {
        pids: stats.pids.as_ref().map(|pids| v2::PidsStat {
            current: pids.current,
            limit: pids.limit,
        }),
        cpu: stats.cpu.as_ref().map(|cpu| {
            let stat = |name| number(&cpu.stat, name);
            v2::CpuStat {
                usage_usec: stat("usage_usec"),
                user_usec: stat("user_usec"),
                system_usec: stat("system_usec"),
                nr_periods: stat("nr_periods"),
                nr_throttled: stat("nr_throttled"),
                throttled_usec: stat("throttled_usec"),
                psi: cpu.pressure.as_ref().map(pressure),
                nr_bursts: stat("nr_bursts"),
                burst_usec: stat("burst_usec"),
            }
        }),
        memory: stats.memory.as_ref().map(memory_second),
        rdma: Some(v2::RdmaStat {
            current: rdma_second(stats, false),
            limit: rdma_second(stats, true),
        }),
        io: Some(v2::IoStat {
            usage: stats
                .io
                .iter()
                .map(|entry| v2::IoEntry {
                    major: entry.major,
                    minor: entry.minor,
                    rbytes: entry.rbytes,
                    wbytes: entry.wbytes,
                    rios: entry.rios,
                    wios: entry.wios,
                })
                .collect(),
            psi: stats.io_pressure.as_ref().map(pressure),
        }),
        hugetlb: stats
            .hugetlb
            .iter()
            .map(|page| v2::HugeTlbStat {
                current: page.usage,
                max: page.max,
                pagesize: page.page_size.clone(),
                failcnt: page.failcnt,
            })
            .collect(),
        memory_events: stats.memory_events.as_ref().map(|events| v2::MemoryEvents {
            low: events.low,
            high: events.high,
            max: events.max,
            oom: events.oom,
            oom_kill: events.oom_kill,
            ..v2::MemoryEvents::default()
        }),
        network: Vec::new(),
    }
}

fn pressure(pressure: &Pressure) -> v2::PsiStats {
    let line = |line: &PressureLine| {
        Some(v2::PsiData {
            avg10: line.avg10,
            avg60: line.avg60,
            avg300: line.avg300,
            total: line.total,
        })
    };
    v2::PsiStats {
        some: line(&pressure.some),
        full: line(&pressure.full),
    }
}

fn memory_second(memory: &MemoryV2) -> v2::MemoryStat {
    let stat = |name| number(&memory.stat, name);
    v2::MemoryStat {
        anon: stat("anon"),
        file: stat("file"),
        kernel_stack: stat("kernel_stack"),
        slab: stat("slab"),
        sock: stat("sock"),
        shmem: stat("shmem"),
        file_mapped: stat("file_mapped"),
        file_dirty: stat("file_dirty"),
        file_writeback: stat("file_writeback"),
        anon_thp: stat("anon_thp"),
        inactive_anon: stat("inactive_anon"),
        active_anon: stat("active_anon"),
        inactive_file: stat("inactive_file"),
        active_file: stat("active_file"),
        unevictable: stat("unevictable"),
        slab_reclaimable: stat("slab_reclaimable"),
        slab_unreclaimable: stat("slab_unreclaimable"),
        pgfault: stat("pgfault"),
        pgmajfault: stat("pgmajfault"),
        workingset_refault: stat("workingset_refault"),
        workingset_activate: stat("workingset_activate"),
        workingset_nodereclaim: stat("workingset_nodereclaim"),
        pgrefill: stat("pgrefill"),
        pgscan: stat("pgscan"),
        pgsteal: stat("pgsteal"),
        pgactivate: stat("pgactivate"),
        pgdeactivate: stat("pgdeactivate"),
        pglazyfree: stat("pglazyfree"),
        pglazyfreed: stat("pglazyfreed"),
        thp_fault_alloc: stat("thp_fault_alloc"),
        thp_collapse_alloc: stat("thp_collapse_alloc"),
        usage: memory.usage,
        usage_limit: memory.limit,
        swap_usage: memory.swap_usage,
        swap_limit: memory.swap_limit,
        max_usage: memory.peak,
        swap_max_usage: memory.swap_peak,
        psi: memory.pressure.as_ref().map(pressure),
    }
}

fn rdma_second(stats: &StatsV2, limit: bool) -> Vec<v2::RdmaEntry> {
    let entries = stats.rdma.iter().filter(|entry| entry.limit == limit);
    entries
        .map(|entry| v2::RdmaEntry {
            device: entry.device.clone(),
            hca_handles: entry.hca_handles,
            hca_objects: entry.hca_objects,
        })
        .collect()
}
