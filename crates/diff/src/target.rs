//! Where a layer goes, from the mounts of a snapshot.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use model::Mount;
use rustix::fs::{CWD, Mode, OFlags, openat};
use sys::mount::{Attributes, FsContext};

use crate::Error;
use crate::apply::Deletions;
use crate::limits::PARENTS_MAX;

/// The folders that take a layer, open.
#[derive(Debug)]
pub enum Target {
    /// The upper folder of an overlay; deletions become marks.
    Overlay {
        /// The folder that takes the entries, opened for reading.
        upper: OwnedFd,
        /// The folders of the layers below, nearest first.
        parents: Vec<OwnedFd>,
        /// Marks are `user.overlay.` attributes instead of `trusted.overlay.` ones.
        userxattr: bool,
    },
    /// A folder that holds the layers below as well; deletions remove.
    Plain {
        /// The folder, opened for reading.
        root: OwnedFd,
    },
}

impl Target {
    /// Opens what the mounts of an active snapshot stand for.
    ///
    /// A bind mount is its source, an overlay its upper and lower folders. Any other single mount is made detached, so
    /// it appears in no mount table and ends with the descriptor.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for several mounts, or one with a target inside; [`Error::Io`] when a folder does not
    /// open or the mount can't be made; [`Error::Limit`] for more than 500 lower folders.
    pub fn from_mounts(mounts: &[Mount]) -> Result<Self, Error> {
        let [mount] = mounts else {
            return Err(Error::Unsupported {
                what: format!("layer target of {} mounts", mounts.len()),
            });
        };
        if !matches!(mount.target.as_str(), "" | "/") {
            return Err(Error::Unsupported {
                what: format!("layer target with a mount inside at {:?}", mount.target),
            });
        }
        let has = |name: &str| mount.options.iter().any(|option| option == name);
        if mount.kind == "bind" || has("bind") || has("rbind") {
            let root = open_folder(&mount.source)?;
            return Ok(Self::Plain { root });
        }
        if mount.kind == "overlay"
            && let Some(target) = overlay(&mount.options)?
        {
            return Ok(target);
        }
        detached(mount).map(|root| Self::Plain { root })
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        match self {
            Self::Overlay { upper, .. } => upper.as_fd(),
            Self::Plain { root } => root.as_fd(),
        }
    }

    pub(crate) fn parents(&self) -> &[OwnedFd] {
        match self {
            Self::Overlay { parents, .. } => parents,
            Self::Plain { .. } => &[],
        }
    }

    pub(crate) fn deletions(&self) -> Deletions {
        match self {
            Self::Plain { .. } => Deletions::Remove,
            Self::Overlay {
                userxattr: false, ..
            } => Deletions::Overlay,
            Self::Overlay {
                userxattr: true, ..
            } => Deletions::OverlayUser,
        }
    }
}

fn open_folder(path: &str) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
        .map_err(std::io::Error::from)
        .map_err(Error::io("open folder", path.as_bytes()))
}

/// `None` for an overlay without an upper folder.
fn overlay(options: &[String]) -> Result<Option<Target>, Error> {
    let mut upper = None;
    let mut lower: Vec<String> = Vec::new();
    for option in options {
        if let Some(path) = option.strip_prefix("upperdir=") {
            upper = Some(unescape(path));
        } else if let Some(path) = option.strip_prefix("lowerdir+=") {
            lower.push(path.to_owned());
        } else if let Some(paths) = option.strip_prefix("lowerdir=") {
            lower = split_lower(paths);
        }
    }
    let Some(upper) = upper else { return Ok(None) };
    if lower.len() > PARENTS_MAX {
        return Err(Error::Limit {
            what: "layers below",
            limit: PARENTS_MAX as u64,
        });
    }
    let parents = lower.iter().map(|path| open_folder(path));
    Ok(Some(Target::Overlay {
        upper: open_folder(&upper)?,
        parents: parents.collect::<Result<_, _>>()?,
        userxattr: options.iter().any(|option| option == "userxattr"),
    }))
}

/// Colons separate lower folders unless a backslash precedes them; two end the list of those with names.
fn split_lower(paths: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut escaped = false;
    for letter in paths.chars() {
        match letter {
            ':' if !escaped => found.push(String::new()),
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            _ => found.last_mut().expect("starts with one").push(letter),
        }
        escaped = false;
    }
    // Folders behind `::` hold data without names.
    let named = found.iter().position(String::is_empty);
    found.truncate(named.unwrap_or(found.len()));
    found
}

fn unescape(path: &str) -> String {
    let mut plain = String::new();
    let mut letters = path.chars();
    while let Some(letter) = letters.next() {
        let letter = if letter == '\\' {
            letters.next()
        } else {
            Some(letter)
        };
        plain.extend(letter);
    }
    plain
}

fn detached(mount: &Mount) -> Result<OwnedFd, Error> {
    let failed = |error: sys::mount::FsError| {
        Error::io("mount", mount.source.as_bytes())(std::io::Error::from(error))
    };
    let context = FsContext::open(&mount.kind).map_err(failed)?;
    context.string("source", &mount.source).map_err(failed)?;
    for option in mount.options.iter().filter(|option| *option != "rw") {
        context.option(option).map_err(failed)?;
    }
    let attributes = Attributes::MOUNT_ATTR_NODEV | Attributes::MOUNT_ATTR_NOEXEC;
    let mounted = context.mount(attributes).map_err(failed)?;
    // The descriptor of a mount only names it; reading the folder and syncing need an open one.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(&mounted, ".", flags, Mode::empty())
        .map_err(std::io::Error::from)
        .map_err(Error::io("open mount of", mount.source.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_folders_are_split_and_unescaped() {
        for (text, wanted) in [
            ("/a", vec!["/a"]),
            ("/a:/b", vec!["/a", "/b"]),
            (r"/a\:b:/c", vec!["/a:b", "/c"]),
            ("/a:/b::/data", vec!["/a", "/b"]),
        ] {
            assert_eq!(split_lower(text), wanted, "{text}");
        }
        assert_eq!(unescape(r"/a\,b\\c"), r"/a,b\c");
    }

    #[test]
    fn mounts_that_are_no_single_tree_are_refused() {
        assert!(Target::from_mounts(&[]).is_err());
        let mount = Mount {
            kind: "bind".into(),
            source: "/tmp".into(),
            target: "/sub".into(),
            options: Vec::new(),
        };
        assert!(matches!(
            Target::from_mounts(&[mount]),
            Err(Error::Unsupported { .. })
        ));
    }
}
