//! Extended attributes by descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr, lsetxattr};
use rustix::io::Errno;

/// The largest list of names the kernel answers (`XATTR_LIST_MAX`), in bytes.
pub const LIST_BYTES_MAX: usize = 65_536;
/// The largest value of one attribute (`XATTR_SIZE_MAX`), in bytes.
pub const VALUE_BYTES_MAX: usize = 65_536;

/// Sets an attribute of an open file or folder, replacing an older value.
///
/// # Errors
/// Those of `fsetxattr`.
pub fn set(file: impl AsFd, name: &[u8], value: &[u8]) -> io::Result<()> {
    Ok(fsetxattr(file, name, value, XattrFlags::empty())?)
}

/// Sets an attribute of the entry `name` of `dir` itself, never of what a link points to.
///
/// It changes the working directory of the process: for single-threaded programs that use none.
///
/// # Errors
/// Those of `fchdir` and `lsetxattr`.
pub fn set_entry(dir: BorrowedFd<'_>, entry: &[u8], name: &[u8], value: &[u8]) -> io::Result<()> {
    rustix::process::fchdir(dir)?;
    Ok(lsetxattr(entry, name, value, XattrFlags::empty())?)
}

/// All attributes of an open file or folder, as far as the caller may see them.
///
/// # Errors
/// Those of `flistxattr` and `fgetxattr`; a file system without attributes has none.
pub fn list(file: impl AsFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let file = file.as_fd();
    let mut names = vec![0u8; LIST_BYTES_MAX];
    let length = match flistxattr(file, names.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    names.truncate(length);
    let mut value = vec![0u8; VALUE_BYTES_MAX];
    let mut found = Vec::new();
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        match fgetxattr(file, name, value.as_mut_slice()) {
            Ok(length) => found.push((name.to_vec(), value[..length].to_vec())),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}
