//! The mounts of the specification, each attached onto a descriptor inside the root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::FileType;
use spec::runtime::Mount;
use sys::mount::{Attributes, Change, FsContext};
use sys::namespace::Kind;

use super::Setup;
use super::resolve::{self, Missing, Place, walk};
use crate::error::{Error, Result};
use crate::mount_options::Options;
use crate::plan::Plan;
use crate::rootfs::{Source, configure, spread};

/// Files of /proc that may be mounted over: they tell numbers that a container may want to see in its own way.
const PROC_FILES: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Whether /dev is a file system of the container's own, so that device nodes are made in it.
pub(crate) fn dev_is_ours(plan: &Plan<'_>) -> bool {
    !plan
        .mounts
        .iter()
        .any(|(mount, options)| options.bind && clean(&mount.destination) == "/dev")
}

fn clean(path: &str) -> String {
    let names: Vec<&str> = path
        .split('/')
        .filter(|name| !name.is_empty() && *name != ".")
        .collect();
    format!("/{}", names.join("/"))
}

/// Makes all mounts in their order.
pub(crate) fn all(setup: &Setup<'_>) -> Result<()> {
    let root = setup.root.as_fd();
    for ((mount, options), source) in setup.plan.mounts.iter().zip(&setup.sources) {
        let made = match (source, mount.kind.as_deref().unwrap_or_default()) {
            (Some(source), _) => bind(root, mount, options, source),
            (None, "cgroup" | "cgroup2") => cgroup(setup, mount, options),
            (None, kind) => file_system(root, mount, options, kind),
        };
        made.map_err(|error| named(mount, error))?;
    }
    Ok(())
}

fn named(mount: &Mount, error: Error) -> Error {
    let kind = mount.kind.as_deref().unwrap_or("bind");
    let step = format!("mount {kind} at {}", mount.destination);
    match error {
        Error::Step {
            step: inner,
            source,
        } if inner.is_empty() => Error::step(step, source),
        Error::Step {
            step: inner,
            source,
        } => Error::step(format!("{step}: {inner}"), source),
        other => other,
    }
}

fn plain(error: impl Into<std::io::Error>) -> Error {
    Error::step("", error)
}

/// Refuses to cover what the kernel tells, and what we rely on when labels and limits are written.
fn check_target(place: &Place, kind: &str, source: Option<&Source>) -> Result<()> {
    if place.path == "/" {
        return Err(Error::invalid("mounts", "/ can't be mounted over"));
    }
    let inside = place.path.starts_with("/proc/") || (place.is_proc() && place.path != "/proc");
    if inside && PROC_FILES.contains(&place.path.as_str()) {
        return Ok(());
    }
    let proc_again =
        kind == "proc" || source.is_some_and(|one| resolve::is_proc(one.mount.as_fd()));
    if inside || (place.path == "/proc" && !proc_again) {
        return Err(Error::invalid(
            "mounts",
            format!(
                "{:?} cannot be mounted because it is inside /proc",
                place.path
            ),
        ));
    }
    Ok(())
}

fn bind(root: BorrowedFd<'_>, mount: &Mount, options: &Options, source: &Source) -> Result<()> {
    let missing = if source.is_folder {
        Missing::Folder
    } else {
        Missing::File
    };
    let place = walk(root, &mount.destination, missing).map_err(plain)?;
    check_target(&place, "bind", Some(source))?;
    if options.names_attributes() {
        // As a remount does: what is not named is cleared, except the mode of access times.
        let mut clear = Attributes::MOUNT_ATTR_RDONLY
            | Attributes::MOUNT_ATTR_NOSUID
            | Attributes::MOUNT_ATTR_NODEV
            | Attributes::MOUNT_ATTR_NOEXEC
            | Attributes::MOUNT_ATTR_NOSYMFOLLOW;
        if options.clear.intersects(Attributes::MOUNT_ATTR__ATIME) {
            clear |= Attributes::MOUNT_ATTR__ATIME;
        }
        let change = Change {
            set: options.set,
            clear: clear & !options.set,
            ..Change::default()
        };
        sys::mount::change(source.mount.as_fd(), change)
            .map_err(|error| Error::step("set options", error))?;
    }
    below(&source.mount, options)?;
    spread(&source.mount, &options.propagation)?;
    sys::mount::attach(source.mount.as_fd(), place.fd.as_fd()).map_err(plain)
}

fn below(mount: &OwnedFd, options: &Options) -> Result<()> {
    if options.set_below.is_empty() && options.clear_below.is_empty() {
        return Ok(());
    }
    let change = Change {
        set: options.set_below,
        clear: options.clear_below,
        recursive: true,
        ..Change::default()
    };
    sys::mount::change(mount.as_fd(), change)
        .map_err(|error| Error::step("set recursive options", error))
}

fn file_system(root: BorrowedFd<'_>, mount: &Mount, options: &Options, kind: &str) -> Result<()> {
    if kind.is_empty() {
        return Err(Error::invalid(
            "mounts",
            format!("{} has no type", mount.destination),
        ));
    }
    let existing = walk(root, &mount.destination, Missing::Fail).ok();
    let mut data = Vec::new();
    if let (Some(place), "tmpfs") = (&existing, kind) {
        // The folder that is covered lends its permissions.
        data.push(format!("mode={:04o}", place.mode));
    }
    let place = match existing {
        Some(place) => place,
        None => walk(root, &mount.destination, Missing::Folder).map_err(plain)?,
    };
    check_target(&place, kind, None)?;
    if matches!(kind, "proc" | "sysfs")
        && (place.kind != FileType::Directory || place.path != clean(&mount.destination))
    {
        return Err(Error::invalid(
            "mounts",
            format!(
                "{kind} must be mounted on an ordinary folder, {} is none",
                mount.destination
            ),
        ));
    }
    let made = make(
        kind,
        mount.source.as_deref().unwrap_or_default(),
        &data,
        options,
    )?;
    below(&made, options)?;
    sys::mount::attach(made.as_fd(), place.fd.as_fd()).map_err(plain)?;
    spread(&made, &options.propagation)
}

/// Makes a file system; `first` are options that those of the specification may overrule.
fn make(kind: &str, source: &str, first: &[String], options: &Options) -> Result<OwnedFd> {
    let made = || {
        let context = FsContext::open(kind)?;
        if !source.is_empty() {
            context.string("source", source)?;
        }
        for option in first {
            context.option(option)?;
        }
        configure(&context, options)?;
        context.mount(options.set)
    };
    made().map_err(plain)
}

/// Shows the container its cgroups (config-linux.md#default-filesystems).
fn cgroup(setup: &Setup<'_>, mount: &Mount, options: &Options) -> Result<()> {
    if setup.hierarchies.is_v2() {
        return file_system(setup.root.as_fd(), mount, options, "cgroup2");
    }
    let root = setup.root.as_fd();
    let place = walk(root, &mount.destination, Missing::Folder).map_err(plain)?;
    check_target(&place, "cgroup", None)?;
    let flags = Attributes::MOUNT_ATTR_NOEXEC
        | Attributes::MOUNT_ATTR_NOSUID
        | Attributes::MOUNT_ATTR_NODEV;
    let top = {
        let made = || {
            let context = FsContext::open("tmpfs")?;
            context.string("source", "tmpfs")?;
            context.string("mode", "755")?;
            context.mount(flags)
        };
        made().map_err(plain)?
    };
    sys::mount::attach(top.as_fd(), place.fd.as_fd()).map_err(plain)?;
    spread(&top, &options.propagation)?;
    for (point, controllers) in setup.hierarchies.v1_mounts() {
        let name = point
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if setup.plan.makes(Kind::Cgroup) {
            hierarchy(top.as_fd(), name, controllers, options, flags)?;
        } else {
            bind_hierarchy(setup, top.as_fd(), name, controllers, options)?;
        }
        if name.contains(',') {
            for link in controllers {
                rustix::fs::symlinkat(name, &top, link.as_str()).map_err(plain)?;
            }
        }
    }
    if options.set.contains(Attributes::MOUNT_ATTR_RDONLY) {
        let change = Change {
            set: Attributes::MOUNT_ATTR_RDONLY,
            ..Change::default()
        };
        sys::mount::change(top.as_fd(), change).map_err(plain)?;
    }
    Ok(())
}

/// Mounts one hierarchy anew: the cgroup namespace makes the container's group its root.
fn hierarchy(
    top: BorrowedFd<'_>,
    name: &str,
    controllers: &[String],
    options: &Options,
    flags: Attributes,
) -> Result<()> {
    let place = walk(top, name, Missing::Folder).map_err(plain)?;
    let flags = flags | options.set & Attributes::MOUNT_ATTR_RDONLY;
    let made = || {
        let context = FsContext::open("cgroup")?;
        context.string(
            "source",
            if name == "systemd" {
                "systemd"
            } else {
                "cgroup"
            },
        )?;
        for controller in controllers {
            match controller.strip_prefix("name=") {
                Some(named) => {
                    context.flag("none")?;
                    context.string("name", named)?;
                }
                None => context.flag(controller)?,
            }
        }
        context.mount(flags)
    };
    let made = made().map_err(|error| Error::step(name.to_owned(), error))?;
    sys::mount::attach(made.as_fd(), place.fd.as_fd()).map_err(plain)
}

/// Without a cgroup namespace the container's own group is bound.
fn bind_hierarchy(
    setup: &Setup<'_>,
    top: BorrowedFd<'_>,
    name: &str,
    controllers: &[String],
    options: &Options,
) -> Result<()> {
    let Some(folder) = controllers.first().and_then(|one| setup.cgroup.folder(one)) else {
        return Ok(());
    };
    let source = crate::rootfs::clone_host(folder, true)?;
    let place = walk(top, name, Missing::Folder).map_err(plain)?;
    if options.names_attributes() {
        let change = Change {
            set: options.set,
            ..Change::default()
        };
        sys::mount::change(source.mount.as_fd(), change).map_err(plain)?;
    }
    spread(&source.mount, &options.propagation)?;
    sys::mount::attach(source.mount.as_fd(), place.fd.as_fd()).map_err(plain)
}
