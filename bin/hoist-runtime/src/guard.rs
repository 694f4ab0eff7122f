//! Keeps the container away from this program's own file (CVE-2019-5736).
//!
//! A program in the container can make us execute `/proc/self/exe`, that is our own file, and through the process that
//! results reach the file itself. So we run from a read-only detached mount of it: the file can't be opened for writing
//! through that mount, which is in no mount namespace once its descriptor is closed, so that nobody can change it.
//! Where mounts can't be made (rootless) a sealed copy in memory does the same at the cost of copying.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{SealFlags, StatVfsMountFlags, fcntl_get_seals, statvfs};
use sys::mount::{Attributes, Change};
use sys::sealed::SealedImage;

/// Makes sure that this program runs from something that can't be written; most often by running itself again.
pub(crate) fn secure() -> io::Result<()> {
    let own = Path::new("/proc/self/exe");
    if is_protected(own)? {
        return Ok(());
    }
    let arguments: Vec<CString> = std::env::args_os()
        .map(|word| CString::new(std::os::unix::ffi::OsStringExt::into_vec(word)))
        .collect::<Result<_, _>>()?;
    let environment: Vec<CString> = std::env::vars_os()
        .map(|(name, value)| {
            use std::os::unix::ffi::OsStringExt;
            let mut pair = name.into_vec();
            pair.push(b'=');
            pair.extend(value.into_vec());
            CString::new(pair)
        })
        .collect::<Result<_, _>>()?;
    let error = match read_only(own) {
        Ok(mount) => sys::process::exec_fd(mount.as_fd(), &arguments, &environment),
        Err(_) => {
            let image = SealedImage::from_path(own)?;
            sys::process::exec_fd(image.as_fd(), &arguments, &environment)
        }
    };
    Err(error)
}

/// Whether the running file can't be written through `/proc/self/exe`.
fn is_protected(own: &Path) -> io::Result<bool> {
    if statvfs(own)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(true);
    }
    let file = std::fs::File::open(own)?;
    Ok(fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::WRITE)))
}

fn read_only(own: &Path) -> io::Result<std::os::fd::OwnedFd> {
    let file = std::fs::File::open(own)?;
    let mount = sys::mount::clone_tree(file.as_fd(), "", false)?;
    let change = Change {
        set: Attributes::MOUNT_ATTR_RDONLY,
        ..Change::default()
    };
    sys::mount::change(mount.as_fd(), change)?;
    Ok(mount)
}
