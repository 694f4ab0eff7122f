//! The system call filter: compiled once when the container is created, loaded by every process.

use std::io::{Read, Seek};

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use spec::runtime::{Seccomp, SeccompArg, SyscallRule};

use crate::error::{Error, Result};

/// Instructions that the kernel takes (`BPF_MAXINSNS`), in bytes.
const PROGRAM_BYTES_MAX: usize = 4096 * 8;

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// Instructions of 8 bytes.
    pub(crate) code: Vec<u8>,
    /// Flags of `seccomp(2)`.
    pub(crate) flags: u32,
}

fn failed(action: impl std::fmt::Display, error: impl std::fmt::Display) -> Error {
    Error::invalid("linux.seccomp", format!("{action}: {error}"))
}

impl Program {
    /// Compiles the filter of the specification.
    pub(crate) fn compile(seccomp: &Seccomp) -> Result<Option<Self>> {
        if seccomp.default_action == "SCMP_ACT_ALLOW" && seccomp.syscalls.is_empty() {
            return Ok(None);
        }
        let default = action(&seccomp.default_action, seccomp.default_errno_ret)?;
        let step = |error| failed("compile", error);
        let mut filter = ScmpFilterContext::new(default).map_err(step)?;
        filter.set_ctl_nnp(false).map_err(step)?;
        // A binary tree costs a tenth of the linear form to load. Libraries before 2.5 have only the latter.
        let _ignored = filter.set_ctl_optimize(2);
        for name in &seccomp.architectures {
            let arch: ScmpArch = name.parse().map_err(|error| failed(name, error))?;
            filter.add_arch(arch).map_err(step)?;
        }
        for rule in &seccomp.syscalls {
            add(&mut filter, rule, default)?;
        }
        let code = export(&filter)?;
        if code.len() > PROGRAM_BYTES_MAX {
            return Err(failed("compile", "the filter is too long"));
        }
        Ok(Some(Self {
            code,
            flags: flags(seccomp)?,
        }))
    }

    /// Puts the calling thread under the filter.
    pub(crate) fn load(&self) -> Result<()> {
        sys::process::load_filter(&self.code, self.flags)
            .map_err(|error| Error::step("load the system call filter", error))
    }
}

fn export(filter: &ScmpFilterContext) -> Result<Vec<u8>> {
    let io = |error: std::io::Error| failed("export", error);
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let memory = rustix::fs::memfd_create("seccomp", flags).map_err(|error| io(error.into()))?;
    let mut memory = std::fs::File::from(memory);
    // The library can write to a descriptor only (to memory from 2.6 on).
    filter
        .export_bpf(&memory)
        .map_err(|error| failed("export", error))?;
    let mut code = Vec::new();
    memory.rewind().map_err(io)?;
    memory.read_to_end(&mut code).map_err(io)?;
    Ok(code)
}

/// `SECCOMP_FILTER_FLAG_*` of `linux/seccomp.h`.
fn flags(seccomp: &Seccomp) -> Result<u32> {
    let mut flags = 0;
    for name in &seccomp.flags {
        flags |= match name.as_str() {
            // All threads share a filter that is loaded before there are any.
            "SECCOMP_FILTER_FLAG_TSYNC" => 0,
            "SECCOMP_FILTER_FLAG_LOG" => 2,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => 4,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => 32,
            other => return Err(failed("flags", format!("unknown flag {other}"))),
        };
    }
    Ok(flags)
}

fn action(name: &str, errno: Option<u32>) -> Result<ScmpAction> {
    let number = errno.unwrap_or(libc::EPERM as u32);
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => ScmpAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => ScmpAction::KillProcess,
        "SCMP_ACT_TRAP" => ScmpAction::Trap,
        "SCMP_ACT_ERRNO" => ScmpAction::Errno(number.cast_signed()),
        "SCMP_ACT_TRACE" => ScmpAction::Trace(number.try_into().unwrap_or(u16::MAX)),
        "SCMP_ACT_ALLOW" => ScmpAction::Allow,
        "SCMP_ACT_LOG" => ScmpAction::Log,
        "SCMP_ACT_NOTIFY" => return Err(Error::unimplemented("seccomp action SCMP_ACT_NOTIFY")),
        other => return Err(failed("action", format!("unknown action {other:?}"))),
    })
}

fn add(filter: &mut ScmpFilterContext, rule: &SyscallRule, default: ScmpAction) -> Result<()> {
    let action = action(&rule.action, rule.errno_ret)?;
    if action == default {
        // The library refuses what changes nothing.
        return Ok(());
    }
    for name in &rule.names {
        // Profiles name calls of newer kernels and other architectures.
        let Ok(call) = ScmpSyscall::from_name(name) else {
            continue;
        };
        let step = |error| failed(name, error);
        if rule.args.is_empty() {
            filter.add_rule(action, call).map_err(step)?;
        } else if twice(&rule.args) {
            // The library can't join conditions on one argument: each stands for itself, as in runc.
            for argument in &rule.args {
                let compare = [compare(argument)?];
                filter
                    .add_rule_conditional(action, call, &compare)
                    .map_err(step)?;
            }
        } else {
            let compare = rule.args.iter().map(compare).collect::<Result<Vec<_>>>()?;
            filter
                .add_rule_conditional(action, call, &compare)
                .map_err(step)?;
        }
    }
    Ok(())
}

fn twice(arguments: &[SeccompArg]) -> bool {
    arguments.iter().enumerate().any(|(index, one)| {
        arguments[..index]
            .iter()
            .any(|before| before.index == one.index)
    })
}

fn compare(argument: &SeccompArg) -> Result<ScmpArgCompare> {
    if argument.index > 5 {
        return Err(failed(
            "argument",
            format!("there is no argument {}", argument.index),
        ));
    }
    let (op, value) = match argument.op.as_str() {
        "SCMP_CMP_NE" => (ScmpCompareOp::NotEqual, argument.value),
        "SCMP_CMP_LT" => (ScmpCompareOp::Less, argument.value),
        "SCMP_CMP_LE" => (ScmpCompareOp::LessOrEqual, argument.value),
        "SCMP_CMP_EQ" => (ScmpCompareOp::Equal, argument.value),
        "SCMP_CMP_GE" => (ScmpCompareOp::GreaterEqual, argument.value),
        "SCMP_CMP_GT" => (ScmpCompareOp::Greater, argument.value),
        "SCMP_CMP_MASKED_EQ" => (
            ScmpCompareOp::MaskedEqual(argument.value),
            argument.value_two.unwrap_or(0),
        ),
        other => return Err(failed("argument", format!("unknown operator {other:?}"))),
    };
    Ok(ScmpArgCompare::new(argument.index, op, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_compile_and_mistakes_do_not() {
        let rule = |names: &[&str], action: &str| SyscallRule {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            action: action.to_owned(),
            ..SyscallRule::default()
        };
        let mut seccomp = Seccomp {
            default_action: "SCMP_ACT_ERRNO".to_owned(),
            syscalls: vec![rule(&["read", "call_of_the_future"], "SCMP_ACT_ALLOW")],
            ..Seccomp::default()
        };
        let program = Program::compile(&seccomp).unwrap().unwrap();
        assert!(program.code.len().is_multiple_of(8) && program.code.len() > 16);
        seccomp.syscalls.push(rule(&["write"], "SCMP_ACT_SLEEP"));
        assert!(Program::compile(&seccomp).is_err());
        seccomp.syscalls.pop();
        seccomp.flags.push("SECCOMP_FILTER_FLAG_X".to_owned());
        assert!(Program::compile(&seccomp).is_err());
    }
}
