//! Counters of version 2.

use std::path::Path;

use super::{
    CpuV2, HugetlbStats, IoEntry, MemoryEvents, MemoryV2, Pressure, PressureLine, StatsV2,
    UNLIMITED, flat, huge_page_sizes, number, pids, rdma, text,
};

/// Reads all counters of the folder.
pub(crate) fn read(folder: &Path) -> StatsV2 {
    StatsV2 {
        pids: pids(folder),
        cpu: text(folder, "cpu.stat").ok().map(|stat| CpuV2 {
            stat: flat(&stat),
            pressure: pressure(folder, "cpu.pressure"),
        }),
        memory: memory(folder),
        io: text(folder, "io.stat")
            .unwrap_or_default()
            .lines()
            .filter_map(io)
            .collect(),
        io_pressure: pressure(folder, "io.pressure"),
        hugetlb: huge_page_sizes(folder, ".current")
            .into_iter()
            .map(|size| HugetlbStats {
                usage: number(folder, &format!("hugetlb.{size}.current")).unwrap_or(0),
                max: number(folder, &format!("hugetlb.{size}.max")).unwrap_or(UNLIMITED),
                failcnt: flat(&text(folder, &format!("hugetlb.{size}.events")).unwrap_or_default())
                    .get("max")
                    .copied()
                    .unwrap_or(0),
                page_size: size,
            })
            .collect(),
        rdma: rdma(folder),
        memory_events: text(folder, "memory.events").ok().map(|text| {
            let events = flat(&text);
            let value = |name: &str| events.get(name).copied().unwrap_or(0);
            MemoryEvents {
                low: value("low"),
                high: value("high"),
                max: value("max"),
                oom: value("oom"),
                oom_kill: value("oom_kill"),
            }
        }),
    }
}

fn memory(folder: &Path) -> Option<MemoryV2> {
    Some(MemoryV2 {
        stat: flat(&text(folder, "memory.stat").ok()?),
        usage: number(folder, "memory.current").unwrap_or(0),
        limit: number(folder, "memory.max").unwrap_or(UNLIMITED),
        peak: number(folder, "memory.peak").unwrap_or(0),
        swap_usage: number(folder, "memory.swap.current").unwrap_or(0),
        swap_limit: number(folder, "memory.swap.max").unwrap_or(UNLIMITED),
        swap_peak: number(folder, "memory.swap.peak").unwrap_or(0),
        pressure: pressure(folder, "memory.pressure"),
    })
}

fn io(line: &str) -> Option<IoEntry> {
    let mut words = line.split_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    let mut entry = IoEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        ..IoEntry::default()
    };
    for (name, value) in words.filter_map(|word| word.split_once('=')) {
        let value = value.parse().unwrap_or(0);
        match name {
            "rbytes" => entry.rbytes = value,
            "wbytes" => entry.wbytes = value,
            "rios" => entry.rios = value,
            "wios" => entry.wios = value,
            _ => {}
        }
    }
    Some(entry)
}

fn pressure(folder: &Path, file: &str) -> Option<Pressure> {
    let text = text(folder, file).ok()?;
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let target = match words.next() {
            Some("some") => &mut pressure.some,
            Some("full") => &mut pressure.full,
            _ => continue,
        };
        *target = pressure_line(words);
    }
    Some(pressure)
}

fn pressure_line<'a>(words: impl Iterator<Item = &'a str>) -> PressureLine {
    let mut line = PressureLine::default();
    for (name, value) in words.filter_map(|word| word.split_once('=')) {
        match name {
            "avg10" => line.avg10 = value.parse().unwrap_or(0.0),
            "avg60" => line.avg60 = value.parse().unwrap_or(0.0),
            "avg300" => line.avg300 = value.parse().unwrap_or(0.0),
            "total" => line.total = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    line
}
