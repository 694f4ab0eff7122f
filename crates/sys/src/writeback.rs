//! Data on its way to the disk.
#![allow(unsafe_code, reason = "sync_file_range(2) has no safe wrapper")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Starts writing a range of a file to its disk and does not wait for it. It promises nothing: what must be durable
/// needs `fdatasync` or `syncfs` later, which then find less to do.
///
/// # Errors
/// Those of `sync_file_range`; a file system that does not know it is none.
pub fn start(file: impl AsFd, offset: u64, length: u64) -> io::Result<()> {
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // SAFETY: takes an open descriptor and numbers.
    let done = unsafe {
        libc::sync_file_range(
            file.as_fd().as_raw_fd(),
            offset,
            length,
            libc::SYNC_FILE_RANGE_WRITE,
        )
    };
    if done == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::ESPIPE | libc::EINVAL) => Ok(()),
        _ => Err(error),
    }
}
