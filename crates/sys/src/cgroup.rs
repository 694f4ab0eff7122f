//! Control groups, version 1, 2 and both at once.

mod error;
mod oom;
mod stats;

pub use error::{Error, Result};
pub use oom::OomSource;
pub use stats::{
    BlkioEntry, CpuV1, CpuV2, HugetlbStats, IoEntry, MemoryCounter, MemoryEvents, MemoryV1,
    MemoryV2, PidsStats, Pressure, PressureLine, RdmaEntry, Stats, StatsV1, StatsV2,
};
