//! One group in all hierarchies.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::error::{Error, Result};
use super::hierarchy::{Hierarchies, Hierarchy};
use super::oom::OomSource;
use super::stats::{Stats, read_v1, read_v2};

/// How long a removal waits for the kernel to let go of processes that have ended.
const REMOVE_WAIT_MAX: Duration = Duration::from_secs(5);
/// The first pause between attempts.
const REMOVE_PAUSE_FIRST: Duration = Duration::from_micros(100);
/// Levels of groups below one that are listed or removed.
const DEPTH_MAX: usize = 32;

/// One group in all hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Controller (or `name=…`) of version 1 to its folder; joint controllers share one.
    v1: BTreeMap<String, PathBuf>,
    v2: Option<PathBuf>,
}

/// What a new process needs to enter a group; opened before it is born.
#[derive(Debug)]
pub struct Entry {
    tasks: Vec<(PathBuf, File)>,
    folder: Option<OwnedFd>,
}

impl Entry {
    /// The folder of version 2, for `CLONE_INTO_CGROUP`.
    pub fn folder(&self) -> Option<&OwnedFd> {
        self.folder.as_ref()
    }

    /// Moves the calling thread, the only one of its process, into the groups of version 1.
    pub fn join_v1(&self) -> Result<()> {
        for (path, file) in &self.tasks {
            (&*file)
                .write_all(b"0")
                .map_err(|error| Error::file("write 0 to", path, error))?;
        }
        Ok(())
    }
}

impl Cgroup {
    /// The group `path`: absolute below each mount, relative below the caller's own group.
    pub fn at(hierarchies: &Hierarchies, path: &str) -> Result<Self> {
        if path.split('/').any(|part| part == "..") || path.contains('\0') {
            return Err(Error::Invalid {
                setting: "path".to_owned(),
                reason: format!("{path:?} must not contain .."),
            });
        }
        let folder = |hierarchy: &Hierarchy| {
            let base = if path.starts_with('/') {
                hierarchy.mount.clone()
            } else {
                hierarchy.mount.join(hierarchy.own.trim_start_matches('/'))
            };
            base.join(path.trim_start_matches('/'))
        };
        let mut v1 = BTreeMap::new();
        for hierarchy in &hierarchies.v1 {
            for controller in &hierarchy.controllers {
                v1.insert(controller.clone(), folder(hierarchy));
            }
        }
        Ok(Self {
            v1,
            v2: hierarchies.v2.as_ref().map(folder),
        })
    }

    /// The group that was recorded as [`Cgroup::paths`].
    pub fn from_paths(paths: &BTreeMap<String, PathBuf>) -> Self {
        let mut v1 = paths.clone();
        let v2 = v1.remove("");
        Self { v1, v2 }
    }

    /// Controller to folder, version 2 under the empty name.
    pub fn paths(&self) -> BTreeMap<String, PathBuf> {
        let mut paths = self.v1.clone();
        paths.extend(self.v2.clone().map(|path| (String::new(), path)));
        paths
    }

    /// Whether the controllers are those of version 2.
    pub fn is_v2(&self) -> bool {
        self.v1.is_empty()
    }

    /// The folder of a controller, of whichever version.
    pub fn folder(&self, controller: &str) -> Option<&Path> {
        self.v1
            .get(controller)
            .map(PathBuf::as_path)
            .or_else(|| self.is_v2().then_some(self.v2.as_deref()).flatten())
    }

    /// The folder of version 2, also on a hybrid host.
    pub fn v2_folder(&self) -> Option<&Path> {
        self.v2.as_deref()
    }

    /// Folders without repetition.
    fn folders(&self) -> Vec<&Path> {
        let mut folders: Vec<&Path> = self.v1.values().map(PathBuf::as_path).collect();
        folders.extend(self.v2.as_deref());
        folders.sort_unstable();
        folders.dedup();
        folders
    }

    /// Makes the folders; says whether any of them was new.
    pub fn create(&self, hierarchies: &Hierarchies) -> Result<bool> {
        let mut made = false;
        for hierarchy in &hierarchies.v1 {
            let cpuset = hierarchy.controllers.iter().any(|one| one == "cpuset");
            let Some(folder) = hierarchy
                .controllers
                .first()
                .and_then(|one| self.v1.get(one))
            else {
                continue;
            };
            made |= create_folders(&hierarchy.mount, folder, |parent, child| {
                if cpuset {
                    inherit_cpuset(parent, child)
                } else {
                    Ok(())
                }
            })?;
        }
        if let (Some(hierarchy), Some(folder)) = (&hierarchies.v2, &self.v2) {
            let enable = self.is_v2();
            made |= create_folders(&hierarchy.mount, folder, |parent, _| {
                if enable {
                    enable_controllers(parent);
                }
                Ok(())
            })?;
            if enable {
                enable_up_to(&hierarchy.mount, folder);
            }
        }
        Ok(made)
    }

    /// Opens what a new process needs to enter.
    pub fn entry(&self) -> Result<Entry> {
        let mut tasks = Vec::new();
        for folder in self.folders() {
            if Some(folder) == self.v2.as_deref() {
                continue;
            }
            let path = folder.join("tasks");
            let file = OpenOptions::new()
                .write(true)
                .open(&path)
                .map_err(|error| Error::file("open", &path, error))?;
            tasks.push((path, file));
        }
        let folder = self
            .v2
            .as_ref()
            .map(|path| {
                File::open(path)
                    .map(OwnedFd::from)
                    .map_err(|error| Error::file("open", path, error))
            })
            .transpose()?;
        Ok(Entry { tasks, folder })
    }

    /// The same group's child `name`, which must exist.
    pub fn child(&self, name: &str) -> Self {
        Self {
            v1: self
                .v1
                .iter()
                .map(|(controller, path)| (controller.clone(), path.join(name)))
                .collect(),
            v2: self.v2.as_ref().map(|path| path.join(name)),
        }
    }

    /// Writes a setting; `setting` names it in the error that a missing controller is.
    pub fn write(
        &self,
        controller: &'static str,
        file: &str,
        value: &str,
        setting: &'static str,
    ) -> Result<()> {
        let folder = self.folder(controller).ok_or(Error::NoController {
            controller,
            setting,
        })?;
        write_file(&folder.join(file), value)
    }

    /// Reads a file of a controller.
    pub fn read(&self, controller: &'static str, file: &str) -> Result<String> {
        let folder = self.folder(controller).ok_or(Error::NoController {
            controller,
            setting: "reading",
        })?;
        let path = folder.join(file);
        fs::read_to_string(&path).map_err(|error| Error::file("read", path, error))
    }

    /// The folder that lists the processes best: one that every process of the container is in.
    fn listing(&self) -> Option<&Path> {
        self.v1
            .get("devices")
            .or_else(|| self.v1.get("pids"))
            .or_else(|| self.v1.values().next())
            .or(self.v2.as_ref())
            .map(PathBuf::as_path)
    }

    /// All processes of the group and the groups below it.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        if let Some(folder) = self.listing() {
            collect_pids(folder, &mut pids, 0)?;
        }
        Ok(pids)
    }

    /// Kills all processes of the group and the groups below it, frozen ones too.
    pub fn kill(&self) -> Result<()> {
        let whole = self
            .v2
            .as_ref()
            .is_some_and(|folder| write_file(&folder.join("cgroup.kill"), "1").is_ok());
        // On a hybrid host something may have left the unified group; without `cgroup.kill` there is only this way.
        if !whole || !self.is_v2() {
            self.signal(libc::SIGKILL)?;
        }
        self.thaw()
    }

    /// Sends a signal to all processes of the group and the groups below it.
    pub fn signal(&self, number: i32) -> Result<()> {
        for pid in self.pids()? {
            // Whoever is gone by now needs no signal.
            if let Ok(process) = crate::pidfd::open(pid) {
                let _ignored =
                    crate::pidfd::send_signal(std::os::fd::AsFd::as_fd(&process), number);
            }
        }
        Ok(())
    }

    /// What the group uses.
    pub fn stats(&self) -> Stats {
        match (&self.v2, self.is_v2()) {
            (Some(folder), true) => Stats::V2(Box::new(read_v2(folder))),
            _ => Stats::V1(Box::new(read_v1(|controller| {
                self.v1.get(controller).map(PathBuf::as_path)
            }))),
        }
    }

    /// Registers for out-of-memory kills.
    pub fn oom_source(&self) -> Result<OomSource> {
        if self.is_v2() {
            let folder = self.v2.as_deref().ok_or(Error::NotMounted)?;
            return OomSource::v2(folder);
        }
        let folder = self.v1.get("memory").ok_or(Error::NoController {
            controller: "memory",
            setting: "out-of-memory events",
        })?;
        OomSource::v1(folder)
    }

    /// Removes the folders, those below them first. Folders that are gone are no error.
    pub fn remove(&self) -> Result<()> {
        for folder in self.folders() {
            remove_folder(folder)?;
        }
        Ok(())
    }
}

/// Makes `folder` and what lies between it and `mount`; tells `made` of each new one and its parent.
fn create_folders(
    mount: &Path,
    folder: &Path,
    mut made: impl FnMut(&Path, &Path) -> Result<()>,
) -> Result<bool> {
    // Most often only the last one is missing.
    match fs::create_dir(folder) {
        Ok(()) => {
            made(folder.parent().unwrap_or(mount), folder)?;
            return Ok(true);
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::file("create", folder, error)),
    }
    let relative = folder.strip_prefix(mount).unwrap_or(folder);
    let mut path = mount.to_path_buf();
    let mut any = false;
    for part in relative.components() {
        let parent = path.clone();
        path.push(part);
        match fs::create_dir(&path) {
            Ok(()) => {
                made(&parent, &path)?;
                any = true;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::file("create", path, error)),
        }
    }
    Ok(any)
}

/// A new cpuset of version 1 is empty and takes no process until it has processors and memory nodes.
fn inherit_cpuset(parent: &Path, child: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let path = child.join(file);
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|error| Error::file("read", path, error))
        };
        if read(&path)?.trim().is_empty() {
            let value = read(&parent.join(file))?;
            write_file(&path, value.trim())?;
        }
    }
    Ok(())
}

/// Enables every controller that the parent has for its children; one that can't be is missed when a limit needs it.
fn enable_controllers(parent: &Path) {
    let available = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
    let enabled = fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
    for controller in available.split_whitespace() {
        if enabled.split_whitespace().any(|one| one == controller) {
            continue;
        }
        let _ignored = write_file(
            &parent.join("cgroup.subtree_control"),
            &format!("+{controller}"),
        );
    }
}

fn enable_up_to(mount: &Path, folder: &Path) {
    let have = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    let all = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
    if have.split_whitespace().count() == all.split_whitespace().count() {
        return;
    }
    let relative = folder.strip_prefix(mount).unwrap_or(folder);
    let mut path = mount.to_path_buf();
    for part in relative.components() {
        enable_controllers(&path);
        path.push(part);
    }
}

pub(super) fn write_file(path: &Path, value: &str) -> Result<()> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.write_all(value.as_bytes())
    };
    write().map_err(|error| Error::file(format!("write {value:?} to"), path, error))
}

fn collect_pids(folder: &Path, pids: &mut Vec<i32>, depth: usize) -> Result<()> {
    let path = folder.join("cgroup.procs");
    match fs::read_to_string(&path) {
        Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
        Err(error) if gone(&error) => return Ok(()),
        Err(error) => return Err(Error::file("read", path, error)),
    }
    if depth < DEPTH_MAX {
        for child in children(folder) {
            collect_pids(&child, pids, depth + 1)?;
        }
    }
    Ok(())
}

fn gone(error: &io::Error) -> bool {
    // A folder that is removed while it is read answers ENODEV.
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENODEV | libc::ENOTDIR)
    )
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            entry.file_type().ok()?.is_dir().then(|| entry.path())
        })
        .collect()
}

fn remove_folder(folder: &Path) -> Result<()> {
    let deadline = Instant::now() + REMOVE_WAIT_MAX;
    let mut pause = REMOVE_PAUSE_FIRST;
    loop {
        match fs::remove_dir(folder) {
            Ok(()) => return Ok(()),
            Err(error) if gone(&error) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                if Instant::now() >= deadline {
                    return Err(Error::Busy {
                        path: folder.to_path_buf(),
                    });
                }
                remove_below(folder, 0);
                if fs::remove_dir(folder).is_ok() {
                    return Ok(());
                }
                sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            Err(error) => return Err(Error::file("remove", folder, error)),
        }
    }
}

fn remove_below(folder: &Path, depth: usize) {
    if depth >= DEPTH_MAX {
        return;
    }
    for child in children(folder) {
        remove_below(&child, depth + 1);
        let _ignored = fs::remove_dir(child);
    }
}
