//! A program as sealed memory: what runs can't be changed and is no file of the host (CVE-2019-5736).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

/// Programs larger than this are refused, in bytes.
pub const IMAGE_BYTES_MAX: u64 = 256 << 20;

/// A copy of a program in a memory file that nobody can write, grow or shrink any more.
#[derive(Debug)]
pub struct SealedImage {
    fd: OwnedFd,
}

impl SealedImage {
    /// Copies the program at `path`.
    ///
    /// # Errors
    /// Those of opening and reading the file; `InvalidData` above [`IMAGE_BYTES_MAX`].
    pub fn from_path(path: &Path) -> io::Result<Self> {
        Self::from_reader(File::open(path)?)
    }

    /// Copies a program from a stream, to its end.
    ///
    /// # Errors
    /// Those of reading, of `memfd_create` and of sealing; `InvalidData` above [`IMAGE_BYTES_MAX`].
    pub fn from_reader(reader: impl Read) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Kernels before 6.3 do not know the flag; later ones may demand it (vm.memfd_noexec).
        let fd = match memfd_create("hoist-program", flags | MemfdFlags::EXEC) {
            Err(Errno::INVAL) => memfd_create("hoist-program", flags)?,
            other => other?,
        };
        let mut file = File::from(fd);
        let copied = io::copy(&mut reader.take(IMAGE_BYTES_MAX + 1), &mut file)?;
        if copied > IMAGE_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "program larger than 256 MiB",
            ));
        }
        file.flush()?;
        let fd = OwnedFd::from(file);
        fcntl_add_seals(
            &fd,
            SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
        )?;
        Ok(Self { fd })
    }

    /// The path under which this process and its children before their exec can execute the image.
    ///
    /// It names a descriptor by its number: a child that places descriptors of its own must not reuse that number
    /// before its exec ([`crate::spawn`] sees to that).
    pub fn exec_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }
}

impl AsFd for SealedImage {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_image_runs_and_cant_be_written() {
        let image = SealedImage::from_path(Path::new("/bin/true")).unwrap();
        assert!(rustix::io::write(&image, b"x").is_err());
        let status = std::process::Command::new(image.exec_path())
            .status()
            .unwrap();
        assert!(status.success());
    }
}
