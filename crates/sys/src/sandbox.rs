//! What a worker gives up before it reads data that nobody vouches for.
#![allow(
    unsafe_code,
    reason = "unshare and seccomp have no safe wrapper that fits"
)]

use std::io;
use std::os::fd::AsFd;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, unmount,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, remove_capability_from_bounding_set,
    set_capabilities, unshare_unsafe,
};

/// The audit number of the architecture this program is built for.
#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
/// The audit number of the architecture this program is built for.
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;
/// The audit number of the architecture this program is built for.
#[cfg(target_arch = "riscv64")]
const AUDIT_ARCH: u32 = 0xc000_00f3;

/// The highest capability number the kernel could know; unknown ones answer `EINVAL`.
const CAPABILITY_NUMBER_MAX: u32 = 63;
/// Jump distances of a filter are bytes, so a list is no longer than this.
const FILTER_CALLS_MAX: usize = 200;

/// Own mount, IPC and host-name namespaces. There is no network namespace: making and unmaking one costs
/// milliseconds under a global lock, and without `socket` in the filter there is nothing to reach.
///
/// # Errors
/// Those of `unshare`; `EPERM` without CAP_SYS_ADMIN.
pub fn namespaces() -> io::Result<()> {
    let flags = UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    // SAFETY: no flag unshares the descriptor table, which is what makes this call unsafe.
    Ok(unsafe { unshare_unsafe(flags) }?)
}

/// Makes an empty read-only folder the root: no path leads anywhere. Descriptors keep working.
///
/// # Errors
/// Those of the mount calls.
pub fn empty_root() -> io::Result<()> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "size", "4k")?;
    fsconfig_set_string(context.as_fd(), "mode", "0555")?;
    fsconfig_create(context.as_fd())?;
    let root = fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC
            | MountAttrFlags::MOUNT_ATTR_NOSUID,
    )?;
    move_mount(
        root.as_fd(),
        "",
        CWD,
        "/",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?;
    rustix::process::fchdir(&root)?;
    match rustix::process::pivot_root(".", ".") {
        Ok(()) => unmount(".", UnmountFlags::DETACH)?,
        // The root of an initramfs can't be pivoted; then the old root stays mounted below, out of reach of
        // any path once CAP_SYS_CHROOT is gone.
        Err(rustix::io::Errno::INVAL) => rustix::process::chroot(".")?,
        Err(error) => return Err(error.into()),
    }
    Ok(rustix::process::chdir("/")?)
}

/// Bounds what a runaway worker can take from the host.
///
/// # Errors
/// Those of `setrlimit`.
pub fn limits(address_bytes: u64, files: u64) -> io::Result<()> {
    for (resource, value) in [
        (Resource::Core, 0),
        (Resource::As, address_bytes),
        (Resource::Nofile, files),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
        (Resource::Nproc, 1),
    ] {
        let hard = rustix::process::getrlimit(resource).maximum;
        let value = hard.map_or(value, |hard| hard.min(value));
        let limit = Rlimit {
            current: Some(value),
            maximum: Some(value),
        };
        setrlimit(resource, limit)?;
    }
    Ok(())
}

/// Keeps at most `kept` of the capabilities the process has: in every set, for good.
///
/// # Errors
/// Those of `prctl` and `capset`.
pub fn keep_capabilities(kept: CapabilitySet) -> io::Result<()> {
    let now = rustix::thread::capabilities(None)?;
    for number in 0..=CAPABILITY_NUMBER_MAX {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            // Unknown to this kernel, or held by nobody here: the sets below are what counts then.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    let kept = kept & now.permitted;
    Ok(set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )?)
}

/// No exec can give rights any more, and the process can't be dumped or traced by its equals.
///
/// # Errors
/// Those of `prctl`.
pub fn no_new_privileges() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    Ok(rustix::process::set_dumpable_behavior(
        rustix::process::DumpableBehavior::NotDumpable,
    )?)
}

/// Allows the listed system calls and kills the process at any other; needs [`no_new_privileges`] before.
///
/// # Errors
/// Those of `seccomp`; `InvalidInput` for an empty list or one of more than 200 calls.
pub fn allow_only(calls: &[libc::c_long]) -> io::Result<()> {
    if calls.is_empty() || calls.len() > FILTER_CALLS_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a filter needs 1 to 200 system calls",
        ));
    }
    let program = filter(calls);
    let header = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies the program, which outlives the call, and never writes to it.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0u32,
            &raw const header,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn filter(calls: &[libc::c_long]) -> Vec<libc::sock_filter> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let count = calls.len();
    // Offsets in seccomp_data: the call's number at 0, the architecture at 4.
    let mut program = vec![
        step(LOAD, 0, 0, 4),
        step(EQUAL, 1, 0, AUDIT_ARCH),
        step(ANSWER, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        step(LOAD, 0, 0, 0),
    ];
    // The x32 calls of x86-64 carry bit 30 in their number, so no entry of the list equals one.
    for (at, call) in calls.iter().enumerate() {
        program.push(step(EQUAL, (count - at) as u8, 0, *call as u32));
    }
    program.push(step(ANSWER, 0, 0, libc::SECCOMP_RET_KILL_PROCESS));
    program.push(step(ANSWER, 0, 0, libc::SECCOMP_RET_ALLOW));
    program
}
