//! Kernel parameters of the container, and its AppArmor profile: writes into a proc file system that nobody can cover.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use sys::mount::{Attributes, FsContext};
use sys::namespace::Kind;

use crate::error::{Error, Result};
use crate::plan::Plan;

/// Parameters of the IPC namespace.
const IPC: [&str; 9] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.auto_msgmni",
];

/// Refuses parameters that are not the container's own.
pub(crate) fn check(name: &str, has: impl Fn(Kind) -> bool) -> Result<()> {
    let dotted = dotted(name);
    let odd = |byte: u8| !(byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte));
    let refused = |reason: String| Err(Error::invalid("linux.sysctl", reason));
    if name.bytes().any(odd)
        || path(name)
            .split('/')
            .any(|part| matches!(part, "" | "." | ".."))
    {
        return refused(format!("{name:?} is no name of a parameter"));
    }
    let owner = if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
        Kind::Ipc
    } else if dotted.starts_with("net.") {
        Kind::Network
    } else if dotted == "kernel.domainname" {
        Kind::Uts
    } else if dotted.starts_with("user.") {
        Kind::User
    } else {
        return refused(format!("{name:?} is not in a separate kernel namespace"));
    };
    if has(owner) {
        Ok(())
    } else {
        refused(format!(
            "{name:?} needs a private {} namespace",
            owner.oci_name()
        ))
    }
}

/// Whichever separator comes first is the separator, the other is part of a name.
fn slashes(name: &str) -> bool {
    name.find(['.', '/'])
        .is_some_and(|at| name.as_bytes()[at] == b'/')
}

fn dotted(name: &str) -> String {
    if slashes(name) {
        swap(name)
    } else {
        name.to_owned()
    }
}

fn path(name: &str) -> String {
    if slashes(name) {
        name.to_owned()
    } else {
        swap(name)
    }
}

fn swap(name: &str) -> String {
    name.chars()
        .map(|letter| match letter {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect()
}

/// Writes the parameters.
pub(crate) fn apply(plan: &Plan<'_>) -> Result<()> {
    if plan.linux.sysctl.is_empty() {
        return Ok(());
    }
    let proc = private_proc()?;
    for (name, value) in &plan.linux.sysctl {
        write(&proc, &format!("sys/{}", path(name)), value)
            .map_err(|error| Error::step(format!("set sysctl {name}"), error))?;
    }
    Ok(())
}

/// Sets the profile under which the next program runs.
pub(crate) fn apparmor(profile: Option<&str>) -> Result<()> {
    let Some(profile) = profile.filter(|profile| !profile.is_empty()) else {
        return Ok(());
    };
    let proc = private_proc()?;
    let order = format!("exec {profile}");
    write(&proc, "self/attr/apparmor/exec", &order)
        .or_else(|_| write(&proc, "self/attr/exec", &order))
        .map_err(|error| Error::step(format!("apply apparmor profile {profile}"), error))
}

fn private_proc() -> Result<OwnedFd> {
    let make = || FsContext::open("proc")?.mount(Attributes::empty());
    make().map_err(|error| Error::step("make a private proc file system", error))
}

fn write(proc: &OwnedFd, path: &str, value: &str) -> std::io::Result<()> {
    let file = openat2(
        proc.as_fd(),
        path,
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV,
    )?;
    rustix::io::write(&file, value.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_parameters_pass() {
        let all = |_: Kind| true;
        for good in [
            "net.ipv4.ip_forward",
            "net/ipv4/conf/eth0.1/forwarding",
            "kernel.shmmax",
        ] {
            assert!(check(good, all).is_ok(), "{good}");
            assert!(check(good, |_| false).is_err(), "{good}");
        }
        for bad in [
            "kernel.core_pattern",
            "net.ipv4/../../kernel.core_pattern",
            "net/../kernel/core_pattern",
            "net..x",
            "net.ipv4+kernel.x",
            "vm.swappiness",
            "",
        ] {
            assert!(check(bad, all).is_err(), "{bad}");
        }
        assert_eq!(
            path("net/ipv4/conf/eth0.1/forwarding"),
            "net/ipv4/conf/eth0.1/forwarding"
        );
        assert_eq!(
            path("net.ipv4.conf.eth0/1.forwarding"),
            "net/ipv4/conf/eth0.1/forwarding"
        );
    }
}
