//! A log in CRI's form: written by the shim, rotated by size, opened anew on demand.

use rustix::fs::{Mode, OFlags};
use shim_protocol::stdio::CriLog;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

/// A log file. Both streams of a process share one.
#[derive(Debug)]
pub(crate) struct LogFile {
    target: CriLog,
    file: File,
    size: u64,
}

impl LogFile {
    /// Opens the file for appending; made with its folder if it is missing.
    pub(crate) fn open(target: CriLog) -> io::Result<Self> {
        if let Some(folder) = target.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let (file, size) = open(&target)?;
        Ok(Self { target, file, size })
    }

    /// Longest content of a line in bytes.
    pub(crate) fn line_max(&self) -> usize {
        self.target.max_line
    }

    /// Appends whole lines.
    pub(crate) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let length = lines.len() as u64;
        if self.target.max_size > 0 && self.size > 0 && self.size + length > self.target.max_size {
            self.rotate()?;
        }
        self.file.write_all(lines)?;
        self.size += length;
        Ok(())
    }

    /// Opens the file anew: it was renamed by somebody else.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.size) = open(&self.target)?;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.target.max_files).rev() {
            let from = if number == 1 {
                self.target.path.clone()
            } else {
                self.numbered(number - 1)
            };
            match rustix::fs::rename(&from, self.numbered(number)) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.target.max_files == 1 {
            self.file.set_len(0)?;
        }
        self.reopen()
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut path = self.target.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }
}

fn open(target: &CriLog) -> io::Result<(File, u64)> {
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::CLOEXEC
        | OFlags::NONBLOCK
        | OFlags::NOFOLLOW;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
    let file = File::from(rustix::fs::open(&target.path, flags, mode)?);
    let size = file.metadata()?.len();
    Ok((file, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_rotated_and_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/0.log");
        let mut log = LogFile::open(CriLog {
            path: path.clone(),
            max_size: 10,
            max_files: 3,
            max_line: 9,
        })
        .unwrap();
        for line in ["111111\n", "222222\n", "333333\n", "444444\n"] {
            log.write(line.as_bytes()).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(folder.path().join("a").join(name)).ok();
        assert_eq!(read("0.log").as_deref(), Some("444444\n"));
        assert_eq!(read("0.log.1").as_deref(), Some("333333\n"));
        assert_eq!(read("0.log.2").as_deref(), Some("222222\n"));
        assert_eq!(read("0.log.3"), None);
        std::fs::remove_file(&path).unwrap();
        log.reopen().unwrap();
        log.write(b"5\n").unwrap();
        assert_eq!(read("0.log").as_deref(), Some("5\n"));
    }
}
