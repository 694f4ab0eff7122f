//! Plans of failure and the record of steps taken.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

/// The name of a place in the product where durable files change, such as `content.commit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Point(&'static str);

impl Point {
    /// Names a place. Names are `crate.operation[.part]` in lower case.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// The name.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// What is done to a file at a [`Point`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Open or make a file.
    Create,
    /// Make a folder.
    MakeDir,
    /// Write bytes.
    Write,
    /// Cut or extend a file.
    SetLength,
    /// Set mode, owner or times.
    SetAttributes,
    /// Make the bytes of a file durable.
    SyncData,
    /// Make the names in a folder durable.
    SyncDir,
    /// Give a file its name.
    Rename,
    /// Remove a file, a folder or a tree.
    Remove,
}

impl Step {
    /// The verb used in error messages.
    pub(crate) fn act(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::MakeDir => "create folder",
            Self::Write => "write",
            Self::SetLength => "set length of",
            Self::SetAttributes => "set attributes of",
            Self::SyncData => "sync",
            Self::SyncDir => "sync folder",
            Self::Rename => "rename to",
            Self::Remove => "remove",
        }
    }

    /// The part of a fail point's name after the colon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::MakeDir => "mkdir",
            Self::Write => "write",
            Self::SetLength => "set-length",
            Self::SetAttributes => "set-attributes",
            Self::SyncData => "sync-data",
            Self::SyncDir => "sync-dir",
            Self::Rename => "rename",
            Self::Remove => "remove",
        }
    }
}

/// What happens instead of, or after, a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The step is not taken and this error number is answered.
    Errno(i32),
    /// The step and every later one through the same [`super::Files`] is not taken and answers EIO: what a crash
    /// leaves behind, inside one process.
    Halt,
    /// The process aborts before the step.
    Crash,
    /// The process aborts right after the step.
    CrashAfter,
}

/// A step that was taken, with how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Where.
    pub point: Point,
    /// What.
    pub step: Step,
    /// How often so far.
    pub count: u32,
}

impl fmt::Display for Hit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.point.name(), self.step.name())
    }
}

#[derive(Debug, Clone)]
struct Rule {
    name: String,
    nth: u32,
    failure: Failure,
}

/// Which steps fail, and how. Fail points are named `point:step`, such as `content.commit:rename`.
#[derive(Debug, Clone, Default)]
pub struct FailPlan {
    rules: Vec<Rule>,
}

impl FailPlan {
    /// A plan without failures.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a failure at the `nth` time (from 1) that the step named `point:step` is taken.
    #[must_use]
    pub fn at(mut self, name: impl Into<String>, nth: u32, failure: Failure) -> Self {
        self.rules.push(Rule {
            name: name.into(),
            nth,
            failure,
        });
        self
    }
}

#[derive(Debug, Default)]
struct Progress {
    hits: Vec<Hit>,
    halted: bool,
}

#[derive(Debug)]
pub(super) struct State {
    plan: FailPlan,
    progress: Mutex<Progress>,
}

impl State {
    pub(super) fn new(plan: FailPlan) -> Self {
        Self {
            plan,
            progress: Mutex::default(),
        }
    }

    pub(super) fn hits(&self) -> Vec<Hit> {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.hits.clone()
    }

    pub(super) fn before(&self, point: Point, step: Step) -> io::Result<()> {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if progress.halted {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let known = progress
            .hits
            .iter()
            .position(|hit| hit.point == point && hit.step == step);
        let index = known.unwrap_or_else(|| {
            progress.hits.push(Hit {
                point,
                step,
                count: 0,
            });
            progress.hits.len() - 1
        });
        progress.hits[index].count += 1;
        match self.planned(&progress.hits[index]) {
            Some(Failure::Errno(number)) => Err(io::Error::from_raw_os_error(number)),
            Some(Failure::Halt) => {
                progress.halted = true;
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
            Some(Failure::Crash) => std::process::abort(),
            Some(Failure::CrashAfter) | None => Ok(()),
        }
    }

    pub(super) fn after(&self, point: Point, step: Step) {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let hit = progress
            .hits
            .iter()
            .find(|hit| hit.point == point && hit.step == step);
        if hit.and_then(|hit| self.planned(hit)) == Some(Failure::CrashAfter) {
            std::process::abort();
        }
    }

    fn planned(&self, hit: &Hit) -> Option<Failure> {
        let rule = self.plan.rules.iter().find(|rule| {
            rule.nth == hit.count
                && rule.name.split_once(':') == Some((hit.point.name(), hit.step.name()))
        });
        rule.map(|rule| rule.failure)
    }
}
