//! Commands that look at a container or end it.

use std::io::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use oci_runtime::{Container, Error, State, Stats};
use serde_json::{Value, json};
use sys::cgroup::{BlkioEntry, MemoryCounter, StatsV1, StatsV2};

use super::{Context, Failure};

/// Signals by name, without `SIG`.
const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// Writes to the standard output.
pub(super) fn print(text: &str) -> Result<u8, Failure> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Failure::Usage(format!("write to the standard output: {error}")))?;
    Ok(0)
}

/// Writes a document in lines.
pub(super) fn print_json(value: &Value) -> Result<u8, Failure> {
    print(&format!("{value:#}"))
}

/// Sends a signal.
pub(super) fn kill(context: &Context<'_>) -> Result<u8, Failure> {
    let word = context.parsed.rest.get(1).map_or("SIGTERM", String::as_str);
    let upper = word.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = SIGNALS.iter().find(|(known, _)| *known == name);
    let number = named
        .map(|(_, number)| *number)
        .or_else(|| word.parse().ok().filter(|number| (1..=64).contains(number)))
        .ok_or_else(|| Failure::Usage(format!("unknown signal {word:?}")))?;
    let all = context.parsed.flags.on(&["all", "a"]);
    context.container()?.kill(number, all)?;
    Ok(0)
}

/// Removes a container.
pub(super) fn delete(context: &Context<'_>) -> Result<u8, Failure> {
    let force = context.parsed.flags.on(&["force", "f"]);
    match context.container() {
        Err(Failure::Runtime(Error::NotFound { .. })) if force => Ok(0),
        Err(error) => Err(error),
        Ok(container) => {
            container.delete(force)?;
            Ok(0)
        }
    }
}

fn state_value(state: &State) -> Value {
    let mut value = json!({
        "ociVersion": state.oci_version,
        "id": state.id,
        "pid": state.pid,
        "status": state.status.as_str(),
        "bundle": state.bundle,
        "rootfs": state.rootfs,
        "created": state.created.to_string(),
    });
    if !state.annotations.is_empty() {
        value["annotations"] = json!(state.annotations);
    }
    value["owner"] = json!("");
    value
}

/// Tells the state (runtime.md#query-state).
pub(super) fn state(context: &Context<'_>) -> Result<u8, Failure> {
    print_json(&state_value(&context.container()?.state()?))
}

/// Lists containers.
pub(super) fn list(context: &Context<'_>) -> Result<u8, Failure> {
    let flags = &context.parsed.flags;
    let states = Container::list(&context.root)?
        .iter()
        .map(|container| Ok(container.state()?))
        .collect::<Result<Vec<State>, Failure>>()?;
    if flags.on(&["quiet", "q"]) {
        let ids: String = states
            .iter()
            .map(|state| format!("{}\n", state.id))
            .collect();
        return print(&ids);
    }
    if flags.value(&["format", "f"]) == Some("json") {
        let all: Vec<Value> = states.iter().map(state_value).collect();
        return print(&Value::from(all).to_string());
    }
    let width = states
        .iter()
        .map(|state| state.id.len())
        .max()
        .unwrap_or(0)
        .max(2)
        + 4;
    let mut text = format!(
        "{:width$}{:12}{:12}{:40}CREATED\n",
        "ID", "PID", "STATUS", "BUNDLE"
    );
    for state in &states {
        text.push_str(&format!(
            "{:width$}{:<12}{:12}{:40}{}\n",
            state.id,
            state.pid,
            state.status.as_str(),
            state.bundle.display(),
            state.created,
        ));
    }
    print(&text)
}

/// Lists the processes.
pub(super) fn ps(context: &Context<'_>) -> Result<u8, Failure> {
    let pids = context.container()?.pids()?;
    if context.parsed.flags.value(&["format", "f"]) == Some("json") {
        return print(&json!(pids).to_string());
    }
    let arguments = match context.parsed.rest.get(1..) {
        Some(arguments) if !arguments.is_empty() => arguments.to_vec(),
        _ => vec!["-ef".to_owned()],
    };
    let output = std::process::Command::new("ps")
        .args(&arguments)
        .output()
        .map_err(|error| Failure::file("run", Path::new("ps"), error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head
        .split_whitespace()
        .position(|word| word == "PID")
        .ok_or_else(|| Failure::Usage("couldn't find PID field in ps output".to_owned()))?;
    let mut shown = format!("{head}\n");
    for line in lines {
        let pid = line
            .split_whitespace()
            .nth(column)
            .and_then(|word| word.parse().ok());
        if pid.is_some_and(|pid: i32| pids.contains(&pid)) {
            shown.push_str(line);
            shown.push('\n');
        }
    }
    print(&shown)
}

/// Tells what the container uses, once or again and again.
pub(super) fn events(context: &Context<'_>) -> Result<u8, Failure> {
    let container = context.container()?;
    let once = context.parsed.flags.on(&["stats"]);
    let interval = context.parsed.flags.value(&["interval"]).unwrap_or("5s");
    let seconds = interval.trim_end_matches('s').parse().unwrap_or(5).max(1);
    loop {
        let data = stats_value(&container.stats()?);
        let event = json!({"type": "stats", "id": container.id(), "data": data});
        print(&format!("{event}\n"))?;
        if once || container.state()?.pid == 0 {
            return Ok(0);
        }
        sleep(Duration::from_secs(seconds));
    }
}

fn stats_value(stats: &Stats) -> Value {
    match stats {
        Stats::V1(stats) => v1(stats),
        Stats::V2(stats) => v2(stats),
    }
}

fn v1(stats: &StatsV1) -> Value {
    let counter = |one: &MemoryCounter| json!({"limit": one.limit, "usage": one.usage, "max": one.max, "failcnt": one.failcnt});
    let optional = |one: &Option<MemoryCounter>| counter(&one.unwrap_or_default());
    let cpu = stats.cpu.clone().unwrap_or_default();
    let memory = stats.memory.clone().unwrap_or_default();
    let entries = |name: &str| -> Vec<Value> {
        let one = |entry: &BlkioEntry| json!({"major": entry.major, "minor": entry.minor, "op": entry.op, "value": entry.value});
        stats
            .blkio
            .get(name)
            .map(|list| list.iter().map(one).collect())
            .unwrap_or_default()
    };
    json!({
        "cpu": {
            "usage": {"total": cpu.usage_ns, "percpu": cpu.per_cpu_ns, "kernel": cpu.kernel_ns, "user": cpu.user_ns},
            "throttling": {"periods": cpu.periods, "throttledPeriods": cpu.throttled_periods, "throttledTime": cpu.throttled_ns},
        },
        "memory": {
            "cache": memory.stat.get("cache").copied().unwrap_or(0),
            "usage": counter(&memory.usage),
            "swap": optional(&memory.swap),
            "kernel": optional(&memory.kernel),
            "kernelTCP": optional(&memory.kernel_tcp),
            "raw": memory.stat,
        },
        "pids": {
            "current": stats.pids.unwrap_or_default().current,
            "limit": stats.pids.unwrap_or_default().limit,
        },
        "blkio": {
            "ioServiceBytesRecursive": entries("io_service_bytes_recursive"),
            "ioServicedRecursive": entries("io_serviced_recursive"),
        },
        "hugetlb": hugetlb(&stats.hugetlb),
        "network_interfaces": null,
    })
}

fn v2(stats: &StatsV2) -> Value {
    let cpu = stats.cpu.clone().unwrap_or_default().stat;
    let micro = |name: &str| cpu.get(name).copied().unwrap_or(0).saturating_mul(1000);
    let memory = stats.memory.clone().unwrap_or_default();
    json!({
        "cpu": {
            "usage": {"total": micro("usage_usec"), "kernel": micro("system_usec"), "user": micro("user_usec")},
            "throttling": {
                "periods": cpu.get("nr_periods"),
                "throttledPeriods": cpu.get("nr_throttled"),
                "throttledTime": micro("throttled_usec"),
            },
        },
        "memory": {
            "cache": memory.stat.get("file").copied().unwrap_or(0),
            "usage": {"limit": memory.limit, "usage": memory.usage, "max": memory.peak, "failcnt": 0},
            "swap": {"limit": memory.swap_limit, "usage": memory.swap_usage, "failcnt": 0},
            "raw": memory.stat,
        },
        "pids": {
            "current": stats.pids.unwrap_or_default().current,
            "limit": stats.pids.unwrap_or_default().limit,
        },
        "blkio": {"ioServiceBytesRecursive": stats.io.iter().flat_map(|one| [
            json!({"major": one.major, "minor": one.minor, "op": "Read", "value": one.rbytes}),
            json!({"major": one.major, "minor": one.minor, "op": "Write", "value": one.wbytes}),
        ]).collect::<Vec<_>>()},
        "hugetlb": hugetlb(&stats.hugetlb),
        "network_interfaces": null,
    })
}

fn hugetlb(list: &[sys::cgroup::HugetlbStats]) -> Value {
    list.iter()
        .map(|one| {
            let value = json!({"usage": one.usage, "max": one.max, "failcnt": one.failcnt});
            (one.page_size.clone(), value)
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}
