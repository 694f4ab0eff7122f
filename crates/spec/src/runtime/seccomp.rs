//! The system call filter (config-linux.md#seccomp).

record! {
    /// A system call filter.
    open struct Seccomp {
        /// What happens to calls that no rule names.
        default_action: String,
        /// The error number of a default `SCMP_ACT_ERRNO` or `SCMP_ACT_TRACE`.
        default_errno_ret: Option<u32>,
        /// Architectures beside the native one.
        architectures: Vec<String>,
        /// Flags of `seccomp(2)`.
        flags: Vec<String>,
        /// The socket to which the descriptor of `SCMP_ACT_NOTIFY` is sent.
        listener_path: Option<String>,
        /// Opaque text sent with it.
        listener_metadata: Option<String>,
        /// The rules.
        syscalls: Vec<SyscallRule>,
    }
}

record! {
    /// What happens to some system calls.
    struct SyscallRule {
        /// The names; those that the kernel does not know are skipped.
        names: Vec<String>,
        /// The action.
        action: String,
        /// The error number of `SCMP_ACT_ERRNO` or `SCMP_ACT_TRACE`.
        errno_ret: Option<u32>,
        /// Conditions on arguments, all of which must hold.
        args: Vec<SeccompArg>,
    }
}

record! {
    /// A condition on an argument of a system call.
    struct SeccompArg {
        /// The argument, 0 to 5.
        index: u32,
        /// What it is compared with.
        value: u64,
        /// What a masked argument is compared with.
        value_two: Option<u64>,
        /// The operator, such as `SCMP_CMP_EQ`.
        op: String,
    }
}
