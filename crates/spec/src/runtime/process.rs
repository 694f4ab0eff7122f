//! The process of a container (config.md#process).

record! {
    /// A process (config.md#process), also the value of an `Any` of type [`super::PROCESS_TYPE_URL`].
    open struct Process {
        /// Whether the process gets a pseudo terminal.
        terminal: bool,
        /// The first size of the terminal.
        console_size: Option<ConsoleSize>,
        /// Who the process runs as.
        user: User,
        /// The arguments, the program first.
        args: Vec<String>,
        /// The command line; Windows only.
        command_line: Option<String>,
        /// `NAME=value` pairs.
        env: Vec<String>,
        /// The absolute working folder in the container.
        cwd: String,
        /// Linux capabilities; absent means none at all.
        capabilities: Option<Capabilities>,
        /// Limits of `setrlimit(2)`.
        rlimits: Vec<Rlimit>,
        /// Whether set-user-id programs and file capabilities gain nothing.
        no_new_privileges: bool,
        /// The AppArmor profile that the program runs under.
        apparmor_profile: Option<String>,
        /// The value of `oom_score_adj`; absent leaves the runtime's.
        oom_score_adj: Option<i32>,
        /// How the kernel schedules the process.
        scheduler: Option<Scheduler>,
        /// The SELinux label that the program runs under.
        selinux_label: Option<String>,
        /// The I/O priority.
        io_priority: Option<IoPriority>,
        /// The processors of an exec'd process.
        #[serde(rename = "execCPUAffinity")]
        exec_cpu_affinity: Option<CpuAffinity>,
    }
}

impl Process {
    /// Reads the value of an `Any` of type [`super::PROCESS_TYPE_URL`].
    pub fn from_slice(bytes: &[u8]) -> Result<Self, crate::Error> {
        crate::parse(
            "process specification",
            bytes,
            crate::RUNTIME_JSON_BYTES_MAX,
        )
    }
}

record! {
    /// The size of a terminal, in characters.
    struct ConsoleSize {
        /// Rows.
        height: u32,
        /// Columns.
        width: u32,
    }
}

record! {
    /// Who a process runs as (config.md#posix-platform-user).
    struct User {
        /// The user id in the container's user namespace.
        uid: u32,
        /// The group id in the container's user namespace.
        gid: u32,
        /// The file mode creation mask.
        umask: Option<u32>,
        /// Supplementary groups.
        additional_gids: Vec<u32>,
        /// The user's name; Windows only.
        username: Option<String>,
    }
}

record! {
    /// The five sets of Linux capabilities, by name (`CAP_CHOWN`).
    struct Capabilities {
        /// What can ever be gained.
        bounding: Vec<String>,
        /// What is checked.
        effective: Vec<String>,
        /// What is kept over `execve` of a program with inheritable file capabilities.
        inheritable: Vec<String>,
        /// What can be made effective.
        permitted: Vec<String>,
        /// What is kept over `execve` of a plain program.
        ambient: Vec<String>,
    }
}

record! {
    /// One limit of `setrlimit(2)`.
    struct Rlimit {
        /// The name, such as `RLIMIT_NOFILE`.
        #[serde(rename = "type")]
        kind: String,
        /// The ceiling for the soft limit.
        hard: u64,
        /// The limit that the kernel enforces.
        soft: u64,
    }
}

record! {
    /// Arguments of `sched_setattr(2)`.
    struct Scheduler {
        /// The policy, such as `SCHED_FIFO`.
        policy: String,
        /// The nice value, -20 to 19, for `SCHED_OTHER` and `SCHED_BATCH`.
        nice: Option<i32>,
        /// The static priority, 1 to 99, for `SCHED_FIFO` and `SCHED_RR`.
        priority: Option<i32>,
        /// Flags, such as `SCHED_FLAG_RESET_ON_FORK`.
        flags: Vec<String>,
        /// Nanoseconds of run time each period, for `SCHED_DEADLINE`.
        runtime: Option<u64>,
        /// Nanoseconds until the deadline, for `SCHED_DEADLINE`.
        deadline: Option<u64>,
        /// Nanoseconds of the period, for `SCHED_DEADLINE`.
        period: Option<u64>,
    }
}

record! {
    /// Arguments of `ioprio_set(2)`.
    struct IoPriority {
        /// `IOPRIO_CLASS_RT`, `IOPRIO_CLASS_BE` or `IOPRIO_CLASS_IDLE`.
        class: String,
        /// 0 (highest) to 7 (lowest).
        priority: i64,
    }
}

record! {
    /// Processors that an exec'd process runs on, as lists such as `0-3,7`.
    struct CpuAffinity {
        /// Before it moves to the container's cgroup.
        initial: Option<String>,
        /// After it moved.
        #[serde(rename = "final")]
        last: Option<String>,
    }
}
