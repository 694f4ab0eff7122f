//! Looks into a root file system without mounting it: the user database is needed before anything runs.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use proto::containerd::types::Mount;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;

/// Largest user database that is read, in bytes.
const FILE_BYTES_MAX: u64 = 10 << 20;

/// The folders of a mount, newest first.
fn layers(mounts: &[Mount]) -> Vec<&str> {
    let mut layers = Vec::new();
    for mount in mounts {
        match mount.r#type.as_str() {
            "overlay" => {
                let option = |key: &str| {
                    mount
                        .options
                        .iter()
                        .find_map(|option| option.strip_prefix(key))
                };
                layers.extend(option("upperdir="));
                layers.extend(
                    option("lowerdir=")
                        .into_iter()
                        .flat_map(|lower| lower.split(':')),
                );
            }
            _ => layers.push(&mount.source),
        }
    }
    layers
}

/// Reads a file such as `etc/passwd` from the newest layer that has it; links are followed inside their layer.
///
/// Absent files read as empty, as a container without a user database is none the worse.
pub(crate) fn read(mounts: &[Mount], path: &str) -> anyhow::Result<String> {
    for layer in layers(mounts) {
        let folder = match openat(
            CWD,
            layer,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            Ok(folder) => folder,
            Err(error) => anyhow::bail!("open layer {layer}: {error}"),
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = match openat2(&folder, Path::new(path), flags, Mode::empty(), resolve) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            // A whiteout is a device that nothing drives: the file is gone.
            Err(Errno::NXIO) => return Ok(String::new()),
            Err(error) => anyhow::bail!("open {path} in layer {layer}: {error}"),
        };
        if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
            return Ok(String::new());
        }
        let mut text = Vec::new();
        File::from(file)
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut text)?;
        anyhow::ensure!(
            text.len() as u64 <= FILE_BYTES_MAX,
            "{path} in the image has more than {FILE_BYTES_MAX} bytes"
        );
        return Ok(String::from_utf8_lossy(&text).into_owned());
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_layer_wins_and_links_stay_inside() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for layer in ["upper/etc", "lower/etc"] {
            std::fs::create_dir_all(path(layer)).unwrap();
        }
        std::fs::write(path("lower/etc/passwd"), "lower").unwrap();
        std::fs::write(path("lower/etc/real"), "inside").unwrap();
        std::os::unix::fs::symlink("/etc/real", path("lower/etc/group")).unwrap();
        let mount = Mount {
            r#type: "overlay".into(),
            options: vec![
                format!("upperdir={}", path("upper").display()),
                format!("lowerdir={}", path("lower").display()),
            ],
            ..Default::default()
        };
        let mounts = [mount];
        assert_eq!(read(&mounts, "etc/passwd").unwrap(), "lower");
        std::fs::write(path("upper/etc/passwd"), "upper").unwrap();
        assert_eq!(read(&mounts, "etc/passwd").unwrap(), "upper");
        assert_eq!(read(&mounts, "etc/group").unwrap(), "inside");
        assert_eq!(read(&mounts, "etc/shadow").unwrap(), "");
    }
}
