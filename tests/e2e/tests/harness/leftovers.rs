//! Processes, mounts and cgroups that belong to one folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What of the machine refers to a folder at one moment.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    processes: BTreeSet<(i32, String)>,
    mounts: BTreeSet<PathBuf>,
    cgroups: BTreeSet<PathBuf>,
}

impl Leftovers {
    /// Looks at the machine.
    pub(crate) fn now(folder: &Path) -> Self {
        let needle = folder.to_str().expect("the folder is UTF-8");
        Self {
            processes: processes(needle),
            mounts: mounts(needle),
            cgroups: cgroups(),
        }
    }

    /// What is there now and was not before.
    pub(crate) fn since(&self, before: &Self) -> Vec<String> {
        let mut left: Vec<String> = self
            .processes
            .difference(&before.processes)
            .map(|(pid, line)| format!("process {pid}: {line}"))
            .collect();
        left.extend(
            self.mounts
                .difference(&before.mounts)
                .map(|mount| format!("mount {}", mount.display())),
        );
        left
    }

    /// The cgroups of this moment, for a test that runs alone with its names.
    pub(crate) fn cgroups_named(&self, part: &str) -> Vec<PathBuf> {
        self.cgroups
            .iter()
            .filter(|path| path.to_string_lossy().contains(part))
            .cloned()
            .collect()
    }

    /// Kills the processes and takes the mounts away.
    pub(crate) fn end(&self) {
        for (pid, _) in &self.processes {
            if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
                let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        for mount in self.mounts.iter().rev() {
            let _gone = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// Processes whose command line or working folder names the folder.
fn processes(needle: &str) -> BTreeSet<(i32, String)> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let place = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if line.contains(needle) || place.to_string_lossy().contains(needle) {
            found.insert((pid, line));
        }
    }
    found
}

fn mounts(needle: &str) -> BTreeSet<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|path| path.contains(needle))
        .map(PathBuf::from)
        .collect()
}

fn cgroups() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && depth < 5 {
                found.insert(entry.path());
                folders.push((entry.path(), depth + 1));
            }
        }
    }
    found
}
