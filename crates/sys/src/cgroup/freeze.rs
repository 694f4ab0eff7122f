//! Stopping and letting go all processes of a group at once.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::error::{Error, Result};
use super::group::{Cgroup, write_file};

/// How long a group may take to freeze.
const FREEZE_WAIT_MAX: Duration = Duration::from_secs(10);
/// The pause between looks.
const PAUSE: Duration = Duration::from_micros(500);

impl Cgroup {
    /// Freezes all processes and waits until they stand still; on failure they go on.
    pub fn freeze(&self) -> Result<()> {
        let frozen = match self.freezer() {
            Some(folder) => freeze_v1(folder),
            None => freeze_v2(self.v2_or_error()?),
        };
        if frozen.is_err() {
            self.thaw()?;
        }
        frozen
    }

    /// Lets all processes go on.
    pub fn thaw(&self) -> Result<()> {
        let written = match self.freezer() {
            Some(folder) => write_file(&folder.join("freezer.state"), "THAWED"),
            None => write_file(&self.v2_or_error()?.join("cgroup.freeze"), "0"),
        };
        match written {
            Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(())
            }
            other => other,
        }
    }

    /// Whether the processes stand still or are about to.
    pub fn is_frozen(&self) -> bool {
        match self.freezer() {
            Some(folder) => fs::read_to_string(folder.join("freezer.state"))
                .is_ok_and(|state| state.trim() != "THAWED"),
            None => self.v2_folder().is_some_and(|folder| {
                fs::read_to_string(folder.join("cgroup.freeze"))
                    .is_ok_and(|text| text.trim() == "1")
            }),
        }
    }

    fn freezer(&self) -> Option<&Path> {
        if self.is_v2() {
            None
        } else {
            self.folder("freezer")
        }
    }

    fn v2_or_error(&self) -> Result<&Path> {
        self.v2_folder().ok_or(Error::NoController {
            controller: "freezer",
            setting: "pause",
        })
    }
}

fn freeze_v1(folder: &Path) -> Result<()> {
    let path = folder.join("freezer.state");
    let deadline = Instant::now() + FREEZE_WAIT_MAX;
    write_file(&path, "FROZEN")?;
    loop {
        let state = fs::read_to_string(&path).map_err(|error| Error::file("read", &path, error))?;
        if state.trim() == "FROZEN" {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::Busy { path });
        }
        sleep(PAUSE);
        // A process that forked meanwhile is caught by asking again.
        write_file(&path, "FROZEN")?;
    }
}

fn freeze_v2(folder: &Path) -> Result<()> {
    write_file(&folder.join("cgroup.freeze"), "1")?;
    let path = folder.join("cgroup.events");
    let deadline = Instant::now() + FREEZE_WAIT_MAX;
    loop {
        let events =
            fs::read_to_string(&path).map_err(|error| Error::file("read", &path, error))?;
        if events.lines().any(|line| line == "frozen 1") {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::Busy { path });
        }
        sleep(PAUSE);
    }
}
