//! The default system call filter: docker's and containerd's list of what containers may call.

mod table;

use spec::runtime::{Seccomp, SeccompArg, SyscallRule};

const ALLOW: &str = "SCMP_ACT_ALLOW";
const ERRNO: &str = "SCMP_ACT_ERRNO";
/// `ENOSYS`, so that the C library falls back from `clone3` to `clone`, whose flags a filter can see.
const ENOSYS: u32 = 38;
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;
/// Flags of `clone(2)` that make namespaces: mount, cgroup, UTS, IPC, user, process, network.
const NEW_NAMESPACES: u64 = 0x7e02_0000;
/// Values of `personality(2)`: Linux, Linux on 32 bit, no stack randomisation, both, and the query.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The filter for a process with this bounding set on this architecture (Go's name).
pub fn default_profile(architecture: &str, bounding: &[String]) -> Seccomp {
    let mut syscalls = vec![allow(table::ALWAYS, Vec::new())];
    // A rule with two conditions on one argument would be split into two and allow both families, so three ranges
    // leave out AF_ALG and AF_VSOCK.
    for (value, op) in [
        (AF_ALG, "SCMP_CMP_LT"),
        (AF_ALG + 1, "SCMP_CMP_EQ"),
        (AF_VSOCK, "SCMP_CMP_GT"),
    ] {
        syscalls.push(allow(&["socket"], vec![condition(0, value, op)]));
    }
    for value in PERSONALITIES {
        syscalls.push(allow(
            &["personality"],
            vec![condition(0, value, "SCMP_CMP_EQ")],
        ));
    }
    // Before Linux 4.8 ptrace could get round a filter; our floor is above.
    syscalls.push(allow(
        &["process_vm_readv", "process_vm_writev", "ptrace"],
        Vec::new(),
    ));
    for (architectures, names) in table::BY_ARCHITECTURE {
        if architectures.contains(&architecture) {
            syscalls.push(allow(names, Vec::new()));
        }
    }
    for held in bounding {
        for (capability, names) in table::BY_CAPABILITY {
            if capability == held {
                syscalls.push(allow(names, Vec::new()));
            }
        }
    }
    if !bounding.iter().any(|held| held == "CAP_SYS_ADMIN") {
        let flags_argument = u32::from(architecture.starts_with("s390"));
        let mask = SeccompArg {
            value_two: Some(0),
            ..condition(flags_argument, NEW_NAMESPACES, "SCMP_CMP_MASKED_EQ")
        };
        syscalls.push(allow(&["clone"], vec![mask]));
        syscalls.push(SyscallRule {
            action: ERRNO.to_owned(),
            errno_ret: Some(ENOSYS),
            ..allow(&["clone3"], Vec::new())
        });
    }
    Seccomp {
        default_action: ERRNO.to_owned(),
        architectures: table::ARCHITECTURES
            .iter()
            .find(|(native, _)| *native == architecture)
            .map(|(_, all)| owned(all))
            .unwrap_or_default(),
        syscalls,
        ..Seccomp::default()
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn allow(names: &[&str], args: Vec<SeccompArg>) -> SyscallRule {
    SyscallRule {
        names: owned(names),
        action: ALLOW.to_owned(),
        errno_ret: None,
        args,
    }
}

fn condition(index: u32, value: u64, op: &str) -> SeccompArg {
    SeccompArg {
        index,
        value,
        value_two: None,
        op: op.to_owned(),
    }
}
