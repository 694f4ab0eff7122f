//! Linux capabilities by name.

use spec::runtime::Capabilities;

use crate::Error;

/// What containers have by default.
#[rustfmt::skip]
pub const DEFAULT: &[&str] = &[
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// All that the kernel has, by number.
#[rustfmt::skip]
pub const KNOWN: &[&str] = &[
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
];

/// The default sets: nothing inheritable, nothing ambient.
pub(crate) fn default_sets() -> Capabilities {
    same(&owned(DEFAULT))
}

/// Gives exactly these, in the bounding, effective and permitted set.
pub(crate) fn same(names: &[String]) -> Capabilities {
    Capabilities {
        bounding: names.to_vec(),
        effective: names.to_vec(),
        permitted: names.to_vec(),
        ..Capabilities::default()
    }
}

pub(crate) fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// `CAP_NET_ADMIN`, `net_admin` and `NET_ADMIN` are the same; `ALL` stands for every one in `all`.
fn expand(name: &str, all: &[String]) -> Result<Vec<String>, Error> {
    let upper = name.to_ascii_uppercase();
    if upper == "ALL" {
        return Ok(all.to_vec());
    }
    let full = if upper.starts_with("CAP_") {
        upper
    } else {
        format!("CAP_{upper}")
    };
    if !KNOWN.contains(&full.as_str()) {
        return Err(Error::Invalid {
            what: "capability",
            value: name.to_owned(),
            why: "no such capability",
        });
    }
    Ok(vec![full])
}

/// Adds to and drops from the sets; what is both added and dropped by name is dropped, and a drop of `ALL` keeps
/// what is added by name.
pub(crate) fn change(
    sets: &mut Capabilities,
    add: &[String],
    drop: &[String],
    all: &[String],
) -> Result<(), Error> {
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    if drop.iter().any(is_all) {
        *sets = Capabilities::default();
    }
    for name in add {
        for full in expand(name, all)? {
            for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
                if !set.contains(&full) {
                    set.push(full.clone());
                }
            }
        }
    }
    for name in drop.iter().filter(|name| !is_all(name)) {
        for full in expand(name, all)? {
            for set in [
                &mut sets.bounding,
                &mut sets.effective,
                &mut sets.permitted,
                &mut sets.inheritable,
                &mut sets.ambient,
            ] {
                set.retain(|held| *held != full);
            }
        }
    }
    Ok(())
}
