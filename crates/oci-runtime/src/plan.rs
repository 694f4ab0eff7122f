//! What the specification asks for, checked before anything is made.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use spec::runtime::{Linux, Mount, Process, Spec};
use sys::capability::Set;
use sys::mount::Propagation;
use sys::namespace::Kind;
use sys::rlimit::Resource;

use crate::error::{Error, Result};
use crate::mount_options::{self, Options};

/// Mounts of one container.
const MOUNTS_MAX: usize = 4096;

/// A container to make, with all of its specification understood.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) process: &'a Process,
    pub(crate) linux: Linux,
    /// `CLONE_NEW…` of the namespaces to make.
    pub(crate) new: u64,
    /// Namespaces to join.
    pub(crate) joined: Vec<(Kind, PathBuf)>,
    pub(crate) mounts: Vec<(Mount, Options)>,
    pub(crate) root_propagation: Option<(Propagation, bool)>,
}

impl<'a> Plan<'a> {
    /// Checks the specification.
    pub(crate) fn new(spec: &'a Spec) -> Result<Self> {
        let process = spec
            .process
            .as_ref()
            .ok_or_else(|| Error::invalid("process", "a container needs one"))?;
        let linux = spec.linux.clone().unwrap_or_default();
        let (new, joined) = namespaces(&linux)?;
        let plan = Self {
            spec,
            process,
            new,
            joined,
            mounts: mounts(spec)?,
            root_propagation: linux
                .rootfs_propagation
                .as_deref()
                .filter(|name| !name.is_empty())
                .map(mount_options::root_propagation)
                .transpose()?,
            linux,
        };
        plan.check()?;
        check_process(process)?;
        Ok(plan)
    }

    /// Whether a namespace is made or joined.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.makes(kind) || self.joined.iter().any(|(joined, _)| *joined == kind)
    }

    /// Whether a namespace is made.
    pub(crate) fn makes(&self, kind: Kind) -> bool {
        self.new & kind.flag() != 0
    }

    fn check(&self) -> Result<()> {
        if !self.makes(Kind::Mount) {
            return Err(Error::unimplemented(
                "a container without its own mount namespace",
            ));
        }
        let root = self.spec.root.as_ref();
        if root.is_none_or(|root| root.path.is_empty()) {
            return Err(Error::invalid("root.path", "is empty"));
        }
        if self.makes(Kind::Time) || !self.linux.time_offsets.is_empty() {
            return Err(Error::unimplemented("a time namespace"));
        }
        if self
            .joined
            .iter()
            .any(|(kind, _)| matches!(kind, Kind::User | Kind::Mount))
        {
            return Err(Error::unimplemented(
                "joining a user or mount namespace by its path",
            ));
        }
        let mapped = !self.linux.uid_mappings.is_empty() || !self.linux.gid_mappings.is_empty();
        if self.makes(Kind::User) != mapped {
            return Err(Error::invalid(
                "linux.uidMappings",
                "id mappings and a new user namespace need each other",
            ));
        }
        for (set, feature) in [
            (self.linux.intel_rdt.is_some(), "Intel RDT"),
            (!self.linux.net_devices.is_empty(), "moving network devices"),
            (self.linux.memory_policy.is_some(), "a memory policy"),
            (
                text(self.linux.mount_label.as_deref()),
                "an SELinux mount label",
            ),
        ] {
            if set {
                return Err(Error::unimplemented(feature));
            }
        }
        for (name, kind) in [
            (self.spec.hostname.as_deref(), "hostname"),
            (self.spec.domainname.as_deref(), "domainname"),
        ] {
            if text(name) && !self.has(Kind::Uts) {
                return Err(Error::invalid(kind, "needs a private UTS namespace"));
            }
        }
        for name in self.linux.sysctl.keys() {
            crate::init::sysctl::check(name, |kind| self.has(kind))?;
        }
        Ok(())
    }

    /// Opens the namespaces to join.
    pub(crate) fn open_joined(&self) -> Result<Vec<(Kind, OwnedFd)>> {
        self.joined
            .iter()
            .map(|(kind, path)| {
                let file = File::open(path).map_err(|source| Error::File {
                    action: "open namespace",
                    path: path.clone(),
                    source,
                })?;
                Ok((*kind, OwnedFd::from(file)))
            })
            .collect()
    }
}

fn text(value: Option<&str>) -> bool {
    value.is_some_and(|value| !value.is_empty())
}

fn namespaces(linux: &Linux) -> Result<(u64, Vec<(Kind, PathBuf)>)> {
    let (mut new, mut joined, mut seen) = (0, Vec::new(), 0);
    for namespace in &linux.namespaces {
        let kind = Kind::from_oci_name(&namespace.kind).ok_or_else(|| {
            Error::invalid(
                "linux.namespaces",
                format!("unknown type {:?}", namespace.kind),
            )
        })?;
        if seen & kind.flag() != 0 {
            return Err(Error::invalid(
                "linux.namespaces",
                format!("{} is named twice", namespace.kind),
            ));
        }
        seen |= kind.flag();
        match namespace.path.as_deref() {
            None | Some("") => new |= kind.flag(),
            Some(path) if path.starts_with('/') => joined.push((kind, PathBuf::from(path))),
            Some(path) => {
                return Err(Error::invalid(
                    "linux.namespaces",
                    format!("{path:?} is not absolute"),
                ));
            }
        }
    }
    Ok((new, joined))
}

fn mounts(spec: &Spec) -> Result<Vec<(Mount, Options)>> {
    if spec.mounts.len() > MOUNTS_MAX {
        return Err(Error::invalid("mounts", format!("more than {MOUNTS_MAX}")));
    }
    spec.mounts
        .iter()
        .map(|mount| {
            if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
                return Err(Error::unimplemented(format!(
                    "the id-mapped mount {}",
                    mount.destination
                )));
            }
            let mut options = mount_options::parse(&mount.destination, &mount.options)?;
            // Callers write the type "bind" with the option "rbind", or either alone.
            if mount.kind.as_deref() == Some("bind") {
                options.bind = true;
            }
            Ok((mount.clone(), options))
        })
        .collect()
}

/// Checks a process, the first or another.
pub(crate) fn check_process(process: &Process) -> Result<()> {
    if !process.cwd.starts_with('/') {
        return Err(Error::invalid(
            "process.cwd",
            format!("{:?} is not an absolute path", process.cwd),
        ));
    }
    if process.args.is_empty() {
        return Err(Error::invalid("process.args", "must not be empty"));
    }
    let all = process.args.iter().chain(&process.env);
    if all.into_iter().any(|item| item.contains('\0')) {
        return Err(Error::invalid(
            "process",
            "arguments and variables hold no zero bytes",
        ));
    }
    let mut seen = Vec::new();
    for limit in &process.rlimits {
        if Resource::from_name(&limit.kind).is_none() || seen.contains(&&limit.kind) {
            return Err(Error::invalid(
                "process.rlimits",
                format!("{:?} is unknown or named twice", limit.kind),
            ));
        }
        seen.push(&limit.kind);
    }
    for (set, feature) in [
        (text(process.selinux_label.as_deref()), "an SELinux label"),
        (process.scheduler.is_some(), "a scheduler"),
        (process.io_priority.is_some(), "an I/O priority"),
        (process.exec_cpu_affinity.is_some(), "a CPU affinity"),
    ] {
        if set {
            return Err(Error::unimplemented(feature));
        }
    }
    for id in [process.user.uid, process.user.gid]
        .into_iter()
        .chain(process.user.additional_gids.iter().copied())
    {
        // -1 means "leave as it is" to the kernel: a process would stay root.
        if id == u32::MAX {
            return Err(Error::invalid("process.user", "4294967295 is no id"));
        }
    }
    Ok(())
}

/// The union of named capabilities; names that this kernel can't have are passed over, as runc does.
pub(crate) fn capabilities(names: &[String]) -> Set {
    names
        .iter()
        .filter_map(|name| Set::from_name(name))
        .fold(Set::default(), Set::union)
}
