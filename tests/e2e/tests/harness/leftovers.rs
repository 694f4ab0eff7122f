//! Processes, mounts, cgroups and loop devices that belong to one daemon of a test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Levels of folders below `/sys/fs/cgroup` that are looked at.
const CGROUP_DEPTH_MAX: usize = 6;

/// What of the machine refers to a folder, or to cgroups with a name of their own, at one moment.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    processes: BTreeSet<(i32, String)>,
    mounts: BTreeSet<PathBuf>,
    cgroups: BTreeSet<PathBuf>,
    loops: BTreeSet<String>,
}

impl Leftovers {
    /// Looks at the machine for a daemon's folder and for the namespace, which is a cgroup's name.
    pub(crate) fn now(folder: &Path, namespace: &str) -> Self {
        let needle = folder.to_str().expect("the folder is UTF-8");
        Self {
            processes: processes(needle, namespace),
            mounts: mounts(needle),
            cgroups: cgroups(namespace),
            loops: loops(needle),
        }
    }

    /// A line for each finding.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut left: Vec<String> = Vec::new();
        for (pid, line) in &self.processes {
            left.push(format!("process {pid}: {line}"));
        }
        for mount in &self.mounts {
            left.push(format!("mount {}", mount.display()));
        }
        for cgroup in &self.cgroups {
            left.push(format!("cgroup {}", cgroup.display()));
        }
        left.extend(self.loops.iter().map(|device| format!("loop {device}")));
        left
    }

    /// Kills the processes and takes mounts and cgroups away.
    pub(crate) fn end(&self) {
        for (pid, _) in &self.processes {
            if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
                let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        for mount in self.mounts.iter().rev() {
            let _gone = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
        }
        for cgroup in self.cgroups.iter().rev() {
            let _gone = fs::remove_dir(cgroup);
        }
    }
}

/// Takes away the cgroups that carry the namespace's name and hold nothing: a container's parent outlives it.
pub(crate) fn sweep(namespace: &str) {
    for parent in cgroup_parents(namespace) {
        let _busy = fs::remove_dir(parent);
    }
}

/// Processes that name the folder, stand or hold a file in it, or are in one of the namespace's cgroups.
fn processes(needle: &str, namespace: &str) -> BTreeSet<(i32, String)> {
    let group = format!("/{namespace}/");
    let own = std::process::id().cast_signed();
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        if pid == own {
            continue;
        }
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let place = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let groups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if line.contains(needle)
            || place.to_string_lossy().contains(needle)
            || groups.contains(&group)
            || holds(&entry.path(), needle)
        {
            found.insert((pid, line));
        }
    }
    found
}

/// Whether a process has a file of the folder open.
fn holds(process: &Path, needle: &str) -> bool {
    let files = fs::read_dir(process.join("fd")).into_iter().flatten();
    files
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|target| target.to_string_lossy().contains(needle))
}

fn mounts(needle: &str) -> BTreeSet<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter(|line| line.contains(needle))
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .collect()
}

fn loops(needle: &str) -> BTreeSet<String> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    devices
        .filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok())
        .filter(|file| file.contains(needle))
        .collect()
}

/// The cgroups below those of the namespace.
fn cgroups(namespace: &str) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = cgroup_parents(namespace);
    while let Some(folder) = folders.pop() {
        for entry in subfolders(&folder) {
            found.insert(entry.clone());
            folders.push(entry);
        }
    }
    found
}

fn cgroup_parents(namespace: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in subfolders(&folder) {
            if entry.file_name().is_some_and(|name| name == namespace) {
                found.push(entry);
            } else if depth < CGROUP_DEPTH_MAX {
                folders.push((entry, depth + 1));
            }
        }
    }
    found
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
