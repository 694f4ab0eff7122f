//! Control groups, version 1, 2 and both at once.
//!
//! [`Hierarchies`] is what the host has mounted, [`Cgroup`] one group in all of them. A process enters version 2 at its
//! birth (`CLONE_INTO_CGROUP`) and version 1 by writing `0` to each `tasks` file itself: a write to `cgroup.procs` from
//! outside waits several milliseconds for a grace period of the kernel.

mod device_program;
mod error;
mod freeze;
mod group;
mod hierarchy;
mod oom;
mod stats;

pub use device_program::{DeviceKind, DeviceRule};
pub use error::{Error, Result};
pub use group::{Cgroup, Entry};
pub use hierarchy::Hierarchies;
pub use oom::OomSource;
pub use stats::{
    BlkioEntry, CpuV1, CpuV2, HugetlbStats, IoEntry, MemoryCounter, MemoryEvents, MemoryV1,
    MemoryV2, PidsStats, Pressure, PressureLine, RdmaEntry, Stats, StatsV1, StatsV2,
};
