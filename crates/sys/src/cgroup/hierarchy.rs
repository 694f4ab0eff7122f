//! Which hierarchies the host has mounted.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::statfs;

use super::error::{Error, Result};

/// `CGROUP2_SUPER_MAGIC` of `linux/magic.h`.
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// Where everybody mounts cgroups.
const USUAL_MOUNT: &str = "/sys/fs/cgroup";

/// One hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Controllers of version 1, or `name=…`; empty for version 2.
    pub(crate) controllers: Vec<String>,
    /// Where it is mounted.
    pub(crate) mount: PathBuf,
    /// The caller's own group, as a path below the mount.
    pub(crate) own: String,
}

/// The hierarchies that the host has mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchies {
    pub(crate) v1: Vec<Hierarchy>,
    pub(crate) v2: Option<Hierarchy>,
}

impl Hierarchies {
    /// Asks the kernel.
    pub fn detect() -> Result<Self> {
        let own = read("/proc/self/cgroup")?;
        let pure = statfs(USUAL_MOUNT).is_ok_and(|stat| stat.f_type as u64 == CGROUP2_MAGIC);
        let found = if pure {
            // Saves reading the mount table, which can be long.
            Self {
                v1: Vec::new(),
                v2: Some(Hierarchy {
                    controllers: Vec::new(),
                    mount: PathBuf::from(USUAL_MOUNT),
                    own: own_paths(&own).remove("").unwrap_or_else(|| "/".to_owned()),
                }),
            }
        } else {
            Self::parse(&read("/proc/self/mountinfo")?, &own)
        };
        if found.v1.is_empty() && found.v2.is_none() {
            return Err(Error::NotMounted);
        }
        Ok(found)
    }

    /// Whether the controllers are those of version 2.
    pub fn is_v2(&self) -> bool {
        self.v1.is_empty()
    }

    /// Mount point and controllers of each hierarchy of version 1.
    pub fn v1_mounts(&self) -> impl Iterator<Item = (&Path, &[String])> {
        self.v1
            .iter()
            .map(|one| (one.mount.as_path(), one.controllers.as_slice()))
    }

    /// Mount point of the hierarchy of version 2.
    pub fn v2_mount(&self) -> Option<&Path> {
        self.v2.as_ref().map(|one| one.mount.as_path())
    }

    fn parse(mountinfo: &str, own: &str) -> Self {
        let own = own_paths(own);
        let mut found = Self {
            v1: Vec::new(),
            v2: None,
        };
        for line in mountinfo.lines() {
            let Some((mount, kind)) = mount_of(line, &own) else {
                continue;
            };
            if kind == "cgroup2" {
                found.v2.get_or_insert(mount);
            } else if !found
                .v1
                .iter()
                .any(|seen| seen.controllers == mount.controllers)
            {
                found.v1.push(mount);
            }
        }
        found
    }
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).map_err(|error| Error::file("read", path, error))
}

/// Controllers, joined by commas, to the caller's group.
fn own_paths(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            Some((controllers.to_owned(), path.to_owned()))
        })
        .collect()
}

fn mount_of<'a>(line: &'a str, own: &BTreeMap<String, String>) -> Option<(Hierarchy, &'a str)> {
    let (left, right) = line.split_once(" - ")?;
    let mut right = right.split(' ');
    let kind = right.next()?;
    if kind != "cgroup" && kind != "cgroup2" {
        return None;
    }
    let mut left = left.split(' ').skip(3);
    let (root, point) = (left.next()?, left.next()?);
    let (controllers, own) = if kind == "cgroup2" {
        (Vec::new(), own.get("").cloned())
    } else {
        let options = right.nth(1)?;
        own.iter()
            .find(|(controllers, _)| {
                !controllers.is_empty()
                    && controllers
                        .split(',')
                        .all(|one| options.split(',').any(|option| option == one))
            })
            .map(|(controllers, own)| {
                let list = controllers.split(',').map(str::to_owned).collect();
                (list, Some(own.clone()))
            })?
    };
    let own = own.unwrap_or_else(|| "/".to_owned());
    // In a container the mount shows only a part of the hierarchy.
    let own = own.strip_prefix(root.trim_end_matches('/')).unwrap_or(&own);
    let hierarchy = Hierarchy {
        controllers,
        mount: PathBuf::from(unescape(point)),
        own: own.to_owned(),
    };
    Some((hierarchy, kind))
}

/// Blanks in paths are written as `\040`.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
42 31 0:29 / /mnt/second rw,relatime - cgroup cgroup rw,cpu,cpuacct
";

    #[test]
    fn hybrid_hosts_have_both() {
        let own = "9:name=systemd:/\n8:cpu,cpuacct:/a/b\n0::/c\n";
        let found = Hierarchies::parse(HYBRID, own);
        assert!(!found.is_v2());
        assert_eq!(found.v1.len(), 2);
        assert_eq!(found.v1[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(found.v1[0].own, "/a/b");
        assert_eq!(found.v1[1].controllers, ["name=systemd"]);
        assert_eq!(found.v2.unwrap().own, "/c");
    }
}
