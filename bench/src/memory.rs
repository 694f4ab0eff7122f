//! What processes take, from `/proc/PID/smaps_rollup` and `status`.

use std::fs;

/// One process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Proportional set size, kB.
    pub(crate) pss_kb: u64,
    /// Private dirty memory, kB.
    pub(crate) private_dirty_kb: u64,
}

/// Memory of a process; absent when it has ended.
pub(crate) fn of(pid: u32) -> Option<Usage> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    Some(Usage {
        pss_kb: field(&text, "Pss:")?,
        private_dirty_kb: field(&text, "Private_Dirty:")?,
    })
}

/// Resident memory of a process in kB.
pub(crate) fn rss_kb(pid: u32) -> Option<u64> {
    field(
        &fs::read_to_string(format!("/proc/{pid}/status")).ok()?,
        "VmRSS:",
    )
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.strip_prefix(name)?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    })
}

/// Processes whose command line names a shim and the daemon's socket.
pub(crate) fn shims(socket: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        if line.contains("shim") && line.contains(socket) {
            found.push(pid);
        }
    }
    found
}
