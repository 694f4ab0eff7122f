//! An open file that is written through the seam.
#![allow(
    unsafe_code,
    reason = "sync_file_range has no safe wrapper in the libraries we use"
)]

use std::fs::{File, FileTimes};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Files, Point, Result, Step};

/// A file open for reading and writing whose every change is a step of [`Files`].
#[derive(Debug)]
pub struct Output {
    files: Files,
    file: File,
    path: PathBuf,
}

impl Output {
    pub(super) fn new(files: Files, file: File, path: PathBuf) -> Self {
        Self { files, file, path }
    }

    /// The open file. Writing to it goes past the seam: use it for reading and for `stat`.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The path under which the file was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all bytes at the present position.
    pub fn write_all(&mut self, point: Point, bytes: &[u8]) -> Result<()> {
        let Self { files, file, path } = self;
        files.step(point, Step::Write, path, || file.write_all(bytes))
    }

    /// Moves the position to `offset` bytes from the start.
    pub fn seek_to(&mut self, offset: u64) -> Result<()> {
        let moved = self.file.seek(SeekFrom::Start(offset));
        moved
            .map(drop)
            .map_err(super::Error::of("seek in", &self.path))
    }

    /// Cuts or extends the file to `length` bytes; the position stays.
    pub fn set_len(&mut self, point: Point, length: u64) -> Result<()> {
        let Self { files, file, path } = self;
        files.step(point, Step::SetLength, path, || file.set_len(length))
    }

    /// Sets the mode bits and both times of the file.
    pub fn set_attributes(&mut self, point: Point, mode: u32, time: SystemTime) -> Result<()> {
        let Self { files, file, path } = self;
        files.step(point, Step::SetAttributes, path, || {
            file.set_times(FileTimes::new().set_accessed(time).set_modified(time))?;
            Ok(rustix::fs::fchmod(
                &*file,
                rustix::fs::Mode::from_raw_mode(mode),
            )?)
        })
    }

    /// Makes the bytes (and what is needed to read them back) durable.
    pub fn sync_data(&mut self, point: Point) -> Result<()> {
        let Self { files, file, path } = self;
        files.step(point, Step::SyncData, path, || file.sync_data())
    }

    /// See [`start_writeback`].
    pub fn start_writeback(&self, offset: u64, length: u64) {
        start_writeback(&self.file, offset, length);
    }

    /// The length of the file in bytes.
    pub fn length(&self) -> Result<u64> {
        let metadata = self.file.metadata();
        metadata
            .map(|metadata| metadata.len())
            .map_err(super::Error::of::<io::Error>("stat", &self.path))
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Asks the kernel to start writing `length` bytes (0: all) of a file from `offset` to the disk, without waiting.
///
/// A hint that keeps a later sync short; it promises nothing, so a failure says nothing either (a write error is
/// reported by that sync).
pub fn start_writeback(file: impl AsFd, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else {
        return;
    };
    let file = file.as_fd();
    // SAFETY: the descriptor is borrowed for the call, which touches no memory of ours.
    let _hint = unsafe {
        libc::sync_file_range(
            file.as_raw_fd(),
            offset,
            length,
            libc::SYNC_FILE_RANGE_WRITE,
        )
    };
}
