//! Who the process is: ids, groups, capabilities.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Gid, Mode, OFlags, Uid, openat};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use spec::runtime::{Process, User};
use sys::capability::{self, Set};

use crate::error::{Error, Result};
use crate::plan;

/// Bytes of `/etc/passwd` that are read at most.
const PASSWD_BYTES_MAX: u64 = 1 << 20;

/// Becomes user 0 of a new user namespace.
pub(crate) fn become_root() -> Result<()> {
    let step = |error| Error::step("become user 0 of the user namespace", error);
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    set_thread_groups(&[]).map_err(step)?;
    set_thread_res_gid(gid, gid, gid).map_err(step)?;
    set_thread_res_uid(uid, uid, uid).map_err(step)
}

/// The five sets of a process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Capabilities {
    bounding: Set,
    effective: Set,
    permitted: Set,
    inheritable: Set,
    ambient: Set,
}

impl Capabilities {
    pub(crate) fn of(process: &Process) -> Self {
        let Some(named) = &process.capabilities else {
            return Self::default();
        };
        Self {
            bounding: plan::capabilities(&named.bounding),
            effective: plan::capabilities(&named.effective),
            permitted: plan::capabilities(&named.permitted),
            inheritable: plan::capabilities(&named.inheritable),
            ambient: plan::capabilities(&named.ambient),
        }
    }
}

/// Takes on the user, the groups and the capabilities; `between` runs as the user with all capabilities left.
pub(crate) fn apply(process: &Process, between: impl FnOnce() -> Result<()>) -> Result<()> {
    let step = |error| Error::step("apply capabilities", error);
    let capabilities = Capabilities::of(process);
    capability::limit_bounding(capabilities.bounding).map_err(step)?;
    capability::keep_over_setuid(true).map_err(step)?;
    ids(&process.user)?;
    between()?;
    capability::keep_over_setuid(false).map_err(step)?;
    capability::set(
        capabilities.effective,
        capabilities.permitted,
        capabilities.inheritable,
    )
    .map_err(step)?;
    capability::set_ambient(capabilities.ambient).map_err(step)
}

fn ids(user: &User) -> Result<()> {
    let groups: Vec<Gid> = user
        .additional_gids
        .iter()
        .map(|gid| Gid::from_raw(*gid))
        .collect();
    set_thread_groups(&groups).map_err(|error| Error::step("set additional groups", error))?;
    let gid = Gid::from_raw(user.gid);
    set_thread_res_gid(gid, gid, gid)
        .map_err(|error| Error::step(format!("set group id {}", user.gid), error))?;
    let uid = Uid::from_raw(user.uid);
    set_thread_res_uid(uid, uid, uid)
        .map_err(|error| Error::step(format!("set user id {}", user.uid), error))
}

/// Gives the standard streams to the user, so that it can open them again by /proc/self/fd.
pub(crate) fn own_streams(user: &User) {
    for number in 0..3 {
        // SAFETY of the number: the streams were placed there just before.
        let stream = crate::fork::stream(number);
        let Ok(stat) = rustix::fs::fstat(stream) else {
            continue;
        };
        let null = stat.st_rdev == rustix::fs::makedev(1, 3);
        if stat.st_uid != user.uid && !null {
            // Sockets and foreign file systems may refuse; the streams themselves work all the same.
            let _ignored = rustix::fs::fchown(stream, Some(Uid::from_raw(user.uid)), None);
        }
    }
}

/// The home folder of a user in the container's `/etc/passwd`, or `/`.
pub(crate) fn home(root: BorrowedFd<'_>, uid: u32) -> String {
    passwd(root)
        .and_then(|text| home_in(&text, uid))
        .unwrap_or_else(|| "/".to_owned())
}

fn passwd(root: BorrowedFd<'_>) -> Option<String> {
    let place = super::resolve::walk(root, "/etc/passwd", super::resolve::Missing::Fail).ok()?;
    if place.kind != rustix::fs::FileType::RegularFile {
        return None;
    }
    let (folder, name) = super::resolve::parent_of(root, &place.path).ok()?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(folder.as_fd(), name.as_str(), flags, Mode::empty()).ok()?;
    let mut text = String::new();
    std::fs::File::from(file)
        .take(PASSWD_BYTES_MAX)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}

fn home_in(text: &str, uid: u32) -> Option<String> {
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(2)?.parse::<u32>().ok()? == uid)
            .then(|| fields.get(5).map(|home| (*home).to_owned()))
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_found_by_number() {
        let text = "root:x:0:0:root:/root:/bin/sh\n1000:x:0:0::/evil:\nu:x:1000:1000::/home/u:/bin/sh\nbad\n";
        assert_eq!(home_in(text, 1000).as_deref(), Some("/home/u"));
        assert_eq!(home_in(text, 0).as_deref(), Some("/root"));
        assert_eq!(home_in(text, 7), None);
    }
}
