//! The pipes between us and a container's process.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::net::unix::pipe;

/// Named pipes in a folder of their own, removed when dropped.
#[derive(Debug)]
pub(crate) struct Fifos {
    folder: PathBuf,
    /// Path for standard input, `""` for none.
    pub stdin: String,
    /// Path for standard output.
    pub stdout: String,
    /// Path for standard error, `""` with a terminal.
    pub stderr: String,
}

impl Fifos {
    /// Makes the pipes that are wanted beside the daemon's socket.
    pub(crate) fn create(
        address: &Path,
        name: &str,
        stdin: bool,
        terminal: bool,
    ) -> anyhow::Result<Self> {
        let base = address.parent().unwrap_or(Path::new("/")).join("fifo");
        let folder = base.join(format!("{}-{name}", std::process::id()));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("make folder {}", folder.display()))?;
        let path = |stream: &str| folder.join(stream).display().to_string();
        let fifos = Self {
            stdin: if stdin { path("stdin") } else { String::new() },
            stdout: path("stdout"),
            stderr: if terminal {
                String::new()
            } else {
                path("stderr")
            },
            folder,
        };
        for path in [&fifos.stdin, &fifos.stdout, &fifos.stderr] {
            if !path.is_empty() {
                mknodat(
                    CWD,
                    path.as_str(),
                    FileType::Fifo,
                    Mode::from_raw_mode(0o600),
                    0,
                )
                .with_context(|| format!("make pipe {path}"))?;
            }
        }
        Ok(fifos)
    }

    /// Our end of standard output; open it before the process exists, so that nothing is missed.
    pub(crate) fn output(&self) -> io::Result<pipe::Receiver> {
        pipe::OpenOptions::new().open_receiver(&self.stdout)
    }

    /// Our end of standard error, if there is one.
    pub(crate) fn error(&self) -> io::Result<Option<pipe::Receiver>> {
        (!self.stderr.is_empty())
            .then(|| pipe::OpenOptions::new().open_receiver(&self.stderr))
            .transpose()
    }

    /// Our end of standard input; the process's end must be open.
    pub(crate) fn input(&self) -> io::Result<Option<pipe::Sender>> {
        (!self.stdin.is_empty())
            .then(|| pipe::OpenOptions::new().open_sender(&self.stdin))
            .transpose()
    }
}

impl Drop for Fifos {
    fn drop(&mut self) {
        // The daemon's state folder is emptied at the next boot at the latest.
        let _left = fs::remove_dir_all(&self.folder);
    }
}
