//! Device rules: lines of version 1, a BPF program of version 2.
#![allow(unsafe_code, reason = "bpf(2) has no safe wrapper")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::error::{Error, Result};
use super::group::{Cgroup, write_file};

/// Rules of one group at most: a BPF program has 4096 instructions where older kernels check it, a rule takes up to 9.
const RULES_MAX: usize = 400;

/// Which devices a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// All devices.
    All,
    /// Character devices.
    Char,
    /// Block devices.
    Block,
}

/// Allows or denies the use of devices; the last rule that matches counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// Whether it allows.
    pub allow: bool,
    /// Which kind.
    pub kind: DeviceKind,
    /// The major number; `None` is all.
    pub major: Option<u32>,
    /// The minor number; `None` is all.
    pub minor: Option<u32>,
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
    /// Making nodes.
    pub mknod: bool,
}

impl DeviceRule {
    fn everything(&self) -> bool {
        self.kind == DeviceKind::All
    }

    /// The line of `devices.allow` and `devices.deny`.
    fn line(&self) -> String {
        if self.everything() {
            return "a".to_owned();
        }
        let kind = if self.kind == DeviceKind::Char {
            'c'
        } else {
            'b'
        };
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |n| n.to_string());
        let mut line = format!("{kind} {}:{} ", number(self.major), number(self.minor));
        for (set, letter) in [(self.read, 'r'), (self.write, 'w'), (self.mknod, 'm')] {
            if set {
                line.push(letter);
            }
        }
        line
    }

    /// `BPF_DEVCG_ACC_*` of `linux/bpf.h`.
    fn access(&self) -> u32 {
        u32::from(self.mknod) | u32::from(self.read) << 1 | u32::from(self.write) << 2
    }
}

impl Cgroup {
    /// Denies all devices, then applies the rules in their order.
    pub fn set_devices(&self, rules: &[DeviceRule]) -> Result<()> {
        if rules.len() > RULES_MAX {
            return Err(Error::Invalid {
                setting: "devices".to_owned(),
                reason: format!("{} rules, at most {RULES_MAX} are taken", rules.len()),
            });
        }
        // What came before a rule for everything does not matter any more.
        let last = rules.iter().rposition(DeviceRule::everything);
        let allow_all = last.is_some_and(|index| rules[index].allow);
        let rest = &rules[last.map_or(0, |index| index + 1)..];
        if let Some(folder) = self.folder("devices").filter(|_| !self.is_v2()) {
            return set_v1(folder, allow_all, rest);
        }
        let folder = self
            .v2_folder()
            .filter(|_| self.is_v2())
            .ok_or(Error::NoController {
                controller: "devices",
                setting: "devices",
            })?;
        attach(folder, &program(allow_all, rest))
    }
}

fn set_v1(folder: &Path, allow_all: bool, rules: &[DeviceRule]) -> Result<()> {
    let file = |allow: bool| {
        folder.join(if allow {
            "devices.allow"
        } else {
            "devices.deny"
        })
    };
    write_file(&file(allow_all), "a")?;
    for rule in rules {
        write_file(&file(rule.allow), &rule.line())?;
    }
    Ok(())
}

/// One instruction: code, registers, jump offset, constant (`struct bpf_insn`).
fn instruction(code: u8, registers: u8, offset: i16, constant: i32) -> u64 {
    u64::from(code)
        | u64::from(registers) << 8
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(constant.cast_unsigned()) << 32
}

/// Builds the program: registers 2, 3, 4 and 5 hold kind, access, major and minor; the last rule is asked first.
fn program(allow_all: bool, rules: &[DeviceRule]) -> Vec<u64> {
    const LOAD_WORD: u8 = 0x61;
    const AND_32: u8 = 0x54;
    const SHIFT_RIGHT_32: u8 = 0x74;
    const MOVE_32: u8 = 0xb4;
    const EXIT: u8 = 0x95;
    let mut code = vec![
        instruction(LOAD_WORD, 0x12, 0, 0),
        instruction(AND_32, 0x02, 0, 0xffff),
        instruction(LOAD_WORD, 0x13, 0, 0),
        instruction(SHIFT_RIGHT_32, 0x03, 0, 16),
        instruction(LOAD_WORD, 0x14, 4, 0),
        instruction(LOAD_WORD, 0x15, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let body = rule_code(rule);
        code.extend(body);
        code.push(instruction(MOVE_32, 0x00, 0, i32::from(rule.allow)));
        code.push(instruction(EXIT, 0, 0, 0));
    }
    code.push(instruction(MOVE_32, 0x00, 0, i32::from(allow_all)));
    code.push(instruction(EXIT, 0, 0, 0));
    code
}

/// Tests that jump over the verdict when the rule does not match.
fn rule_code(rule: &DeviceRule) -> Vec<u64> {
    const JUMP_NOT_EQUAL_32: u8 = 0x56;
    const JUMP_NOT_EQUAL_REGISTER_32: u8 = 0x5e;
    const JUMP_EQUAL_32: u8 = 0x16;
    const MOVE_REGISTER_32: u8 = 0xbc;
    const AND_32: u8 = 0x54;
    // (code, registers, constant) with the offset filled in below; `None` for what does not jump.
    let mut tests: Vec<(u8, u8, i32, bool)> = Vec::new();
    // BPF_DEVCG_DEV_BLOCK is 1, BPF_DEVCG_DEV_CHAR 2.
    match rule.kind {
        DeviceKind::All => {}
        DeviceKind::Block => tests.push((JUMP_NOT_EQUAL_32, 0x02, 1, true)),
        DeviceKind::Char => tests.push((JUMP_NOT_EQUAL_32, 0x02, 2, true)),
    }
    if rule.access() != 7 {
        let access = rule.access().cast_signed();
        tests.push((MOVE_REGISTER_32, 0x31, 0, false));
        tests.push((AND_32, 0x01, access, false));
        if rule.allow {
            // All that is asked for must be allowed.
            tests.push((JUMP_NOT_EQUAL_REGISTER_32, 0x31, 0, true));
        } else {
            // One denied kind of access is enough.
            tests.push((JUMP_EQUAL_32, 0x01, 0, true));
        }
    }
    if let Some(major) = rule.major {
        tests.push((JUMP_NOT_EQUAL_32, 0x04, major.cast_signed(), true));
    }
    if let Some(minor) = rule.minor {
        tests.push((JUMP_NOT_EQUAL_32, 0x05, minor.cast_signed(), true));
    }
    let count = tests.len();
    tests
        .into_iter()
        .enumerate()
        .map(|(index, (code, registers, constant, jumps))| {
            // Past the remaining tests and the two instructions of the verdict.
            let offset = if jumps {
                (count - index - 1 + 2) as i16
            } else {
                0
            };
            instruction(code, registers, offset, constant)
        })
        .collect()
}

/// `union bpf_attr` for `BPF_PROG_LOAD`, the part that we fill.
#[repr(C)]
struct LoadAttr {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
}

/// `union bpf_attr` for `BPF_PROG_ATTACH`, `BPF_PROG_DETACH` and `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target: u32,
    program: u32,
    attach_kind: u32,
    flags: u32,
    replace: u32,
}

/// `union bpf_attr` for `BPF_PROG_QUERY`.
#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target: u32,
    attach_kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
}

const PROG_LOAD: u32 = 5;
const PROG_ATTACH: u32 = 8;
const PROG_DETACH: u32 = 9;
const PROG_GET_FD_BY_ID: u32 = 13;
const PROG_QUERY: u32 = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
/// Programs that are replaced when rules change.
const ATTACHED_MAX: usize = 64;

fn bpf<T>(command: u32, attr: &mut T) -> io::Result<i64> {
    // SAFETY: `attr` is a prefix of `union bpf_attr` for the command and outlives the call; addresses in it too.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    };
    if result >= 0 {
        Ok(result)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn attach(folder: &Path, program: &[u64]) -> Result<()> {
    let failed = |action: &str, error| Error::file(action, folder, error);
    let group = File::open(folder).map_err(|error| failed("open", error))?;
    let mut load = LoadAttr {
        kind: PROG_TYPE_CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
    };
    let loaded =
        bpf(PROG_LOAD, &mut load).map_err(|error| failed("load the device program of", error))?;
    // SAFETY: the kernel made the descriptor for us just now.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded as i32) };
    let old = attached(&group).map_err(|error| failed("list the device programs of", error))?;
    let attr = |program: &OwnedFd, flags| AttachAttr {
        target: group.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        attach_kind: CGROUP_DEVICE,
        flags,
        replace: 0,
    };
    bpf(PROG_ATTACH, &mut attr(&loaded, ALLOW_MULTI))
        .map_err(|error| failed("attach the device program to", error))?;
    // New rules hold before the old ones are taken away: access is never wider than one of them.
    for program in old {
        bpf(PROG_DETACH, &mut attr(&program, 0))
            .map_err(|error| failed("detach the old device program of", error))?;
    }
    Ok(())
}

fn attached(group: &File) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0u32; ATTACHED_MAX];
    let mut query = QueryAttr {
        target: group.as_raw_fd() as u32,
        attach_kind: CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: ATTACHED_MAX as u32,
        ..QueryAttr::default()
    };
    bpf(PROG_QUERY, &mut query)?;
    let count = query.count as usize;
    let mut programs = Vec::new();
    for id in ids.into_iter().take(count).take_while(|id| *id != 0) {
        let fd = bpf(PROG_GET_FD_BY_ID, &mut [id, 0, 0])?;
        // SAFETY: as above.
        programs.push(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, kind: DeviceKind, major: Option<u32>, minor: Option<u32>) -> DeviceRule {
        DeviceRule {
            allow,
            kind,
            major,
            minor,
            read: true,
            write: true,
            mknod: true,
        }
    }

    #[test]
    fn lines_are_those_of_version_1() {
        let mut one = rule(true, DeviceKind::Char, Some(136), None);
        one.mknod = false;
        assert_eq!(one.line(), "c 136:* rw");
        assert_eq!(rule(false, DeviceKind::All, None, None).line(), "a");
    }

    #[test]
    fn the_kernel_takes_the_program() {
        let Some(mount) = Path::new("/sys/fs/cgroup/unified/cgroup.procs")
            .exists()
            .then_some(Path::new("/sys/fs/cgroup/unified"))
            .or_else(|| {
                Path::new("/sys/fs/cgroup/cgroup.procs")
                    .exists()
                    .then_some(Path::new("/sys/fs/cgroup"))
            })
        else {
            println!("SKIPPED: no cgroup v2 hierarchy");
            return;
        };
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: needs root");
            return;
        }
        let folder = mount.join(format!("hoist-devices-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let mut partial = rule(true, DeviceKind::Block, None, Some(3));
        partial.write = false;
        let rules = [rule(true, DeviceKind::Char, Some(1), Some(3)), partial];
        let first = attach(&folder, &program(false, &rules));
        let second = attach(&folder, &program(true, &[]));
        let count = attached(&File::open(&folder).unwrap()).unwrap().len();
        std::fs::remove_dir(&folder).unwrap();
        first.unwrap();
        second.unwrap();
        assert_eq!(count, 1, "the second program replaces the first");
    }
}
