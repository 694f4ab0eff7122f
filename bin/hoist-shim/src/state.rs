//! What the shim knows of containers and their processes.
//!
//! ```text
//!            create                start               program runs
//!  Creating ───────▶ Created ───────────────▶ Starting ───────────▶ Running
//!                       │  (an exec: Added)      │                     │
//!                       └───────────▶ Stopped ◀──┴─────────────────────┘   one end, whatever came before
//! ```

use crate::job::Work;
use crate::stdio::{LoggerProcess, Names};
use model::{Clock, ErrorKind, SystemClock, Timestamp};
use oci_runtime::Gate;
use shim_protocol::exit::ExitRecord;
use shim_protocol::options::RuncOptions;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;
use ttrpc::Status;

/// Calls that may wait for the end of one process.
pub(crate) const WAITERS_MAX: usize = 1024;
/// Additional processes that one container may have at a time, ended but not deleted ones included.
pub(crate) const EXECS_MAX: usize = 1024;

/// The present moment.
pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

/// A moment as messages carry it.
pub(crate) fn wire_time(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    }
}

/// A call that is answered later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    /// The connection it came on.
    pub(crate) connection: u64,
    /// Its number there.
    pub(crate) stream: u32,
}

/// Names a process; `exec` is empty for the first one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProcessKey {
    /// The container.
    pub(crate) container: String,
    /// The exec id.
    pub(crate) exec: String,
}

impl ProcessKey {
    /// The first process of a container.
    pub(crate) fn init(container: &str) -> Self {
        Self {
            container: container.to_owned(),
            exec: String::new(),
        }
    }

    /// True for the first process.
    pub(crate) fn is_init(&self) -> bool {
        self.exec.is_empty()
    }

    /// The name under which clients know the process.
    pub(crate) fn id(&self) -> &str {
        if self.is_init() {
            &self.container
        } else {
            &self.exec
        }
    }
}

/// Where a process is in its life.
#[derive(Debug)]
pub(crate) enum Phase {
    /// A worker sets it up.
    Creating,
    /// An exec that was announced but not set up.
    Added,
    /// It waits at its gate.
    Created,
    /// Its gate is open; whether its program runs is not known yet.
    Starting {
        /// The call to answer then.
        call: Call,
        /// It has ended in the meantime.
        ended: Option<ExitRecord>,
    },
    /// Its program runs.
    Running,
    /// It has ended and its end was told.
    Stopped(ExitRecord),
}

/// One process.
#[derive(Debug)]
pub(crate) struct Process {
    /// Where it is in its life.
    pub(crate) phase: Phase,
    /// Its process id; 0 before it is set up.
    pub(crate) pid: i32,
    /// The process, for signals that can't hit another one.
    pub(crate) pidfd: Option<OwnedFd>,
    /// The master of its terminal.
    pub(crate) console: Option<OwnedFd>,
    /// Where it waits for its start.
    pub(crate) gate: Option<Gate>,
    /// Its streams as the client named them.
    pub(crate) names: Names,
    /// Our writing end of its input, until `CloseIO`.
    pub(crate) held_input: Option<OwnedFd>,
    /// The program that takes its streams.
    pub(crate) logger: Option<LoggerProcess>,
    /// The `process` section of an exec, until it is set up.
    pub(crate) spec: Vec<u8>,
    /// Calls to answer at its end.
    pub(crate) waiters: Vec<Call>,
    /// Its removal is under way.
    pub(crate) deleting: Option<Deleting>,
}

/// A removal that waits for the last output.
#[derive(Debug)]
pub(crate) struct Deleting {
    /// The call to answer.
    pub(crate) call: Call,
    /// What blocks is done; until this moment the remaining output may be read.
    pub(crate) drain_until: Option<Instant>,
}

impl Process {
    /// A process before its set-up.
    pub(crate) fn new(phase: Phase, names: Names, spec: Vec<u8>) -> Self {
        Self {
            phase,
            pid: 0,
            pidfd: None,
            console: None,
            gate: None,
            names,
            held_input: None,
            logger: None,
            spec,
            waiters: Vec::new(),
            deleting: None,
        }
    }

    /// How it ended.
    pub(crate) fn exit(&self) -> Option<&ExitRecord> {
        match &self.phase {
            Phase::Stopped(record) => Some(record),
            _ => None,
        }
    }

    /// True from set-up to end.
    pub(crate) fn lives(&self) -> bool {
        matches!(
            self.phase,
            Phase::Created | Phase::Starting { .. } | Phase::Running
        )
    }
}

/// The end of a first process that waits for the ends of the others.
#[derive(Debug)]
pub(crate) struct HeldExit {
    /// How it ended.
    pub(crate) record: ExitRecord,
    /// It is told at this moment even if others are left.
    pub(crate) until: Instant,
}

/// One container.
#[derive(Debug)]
pub(crate) struct Container {
    /// Its folder.
    pub(crate) bundle: PathBuf,
    /// What the client said of the runtime.
    pub(crate) options: RuncOptions,
    /// The first process.
    pub(crate) init: Process,
    /// Additional processes by exec id.
    pub(crate) execs: BTreeMap<String, Process>,
    /// Frozen.
    pub(crate) paused: bool,
    /// What its specification says that matters here.
    pub(crate) traits: Traits,
    /// A worker runs for it.
    pub(crate) busy: bool,
    /// What waits for that worker.
    pub(crate) queue: VecDeque<Work>,
    /// Number under which out-of-memory kills are told.
    pub(crate) oom_token: Option<u64>,
    /// The end of the first process, not told yet.
    pub(crate) held_exit: Option<HeldExit>,
}

/// What a container's specification says that matters after its creation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    /// The kernel kills all its processes when the first one ends.
    pub(crate) private_pids: bool,
    /// Hooks are to be run once it runs.
    pub(crate) poststart: bool,
}

impl Traits {
    /// One byte on the way from a worker.
    pub(crate) fn to_byte(self) -> u8 {
        u8::from(self.private_pids) | u8::from(self.poststart) << 1
    }

    /// Undoes [`Traits::to_byte`].
    pub(crate) fn from_byte(byte: u8) -> Self {
        Self {
            private_pids: byte & 1 != 0,
            poststart: byte & 2 != 0,
        }
    }
}

impl Container {
    /// The process with an exec id, or the first one.
    pub(crate) fn process(&mut self, exec: &str) -> Result<&mut Process, Status> {
        if exec.is_empty() {
            return Ok(&mut self.init);
        }
        self.execs.get_mut(exec).ok_or_else(|| {
            Status::new(
                ErrorKind::NotFound,
                format!("process does not exist {exec}"),
            )
        })
    }

    /// True while an additional process lives.
    pub(crate) fn has_living_exec(&self) -> bool {
        self.execs
            .values()
            .any(|process| process.lives() || matches!(process.phase, Phase::Creating))
    }
}

/// The call does not fit the state.
pub(crate) fn precondition(text: impl Into<String>) -> Status {
    Status::new(ErrorKind::FailedPrecondition, text)
}

/// An exec may start: its container lives.
pub(crate) fn check_exec(container: &Container, id: &str) -> Result<(), Status> {
    if container.held_exit.is_some() || container.init.exit().is_some() {
        return Err(precondition(format!(
            "container {id} init process is not running"
        )));
    }
    Ok(())
}

/// Where the shim writes a file of a bundle.
pub(crate) fn bundle_file(container: &Container, name: &str) -> PathBuf {
    container.bundle.join(name)
}
