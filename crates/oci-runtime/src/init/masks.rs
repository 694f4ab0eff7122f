//! Paths that the container can't read or can't write.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::FileType;
use sys::mount::{Attributes, Change, FsContext, attach, clone_tree};

use super::devices;
use super::resolve::{Missing, Place, walk};
use crate::error::{Error, Result};
use crate::plan::Plan;

/// Applies `readonlyPaths` and `maskedPaths`.
pub(crate) fn apply(plan: &Plan<'_>, root: BorrowedFd<'_>) -> Result<()> {
    for path in &plan.linux.readonly_paths {
        if let Some(place) = find(root, path)? {
            readonly(&place)
                .map_err(|error| Error::step(format!("make {path} read-only"), error))?;
        }
    }
    let mut masks = Masks::default();
    for path in &plan.linux.masked_paths {
        if let Some(place) = find(root, path)? {
            let step = |error| Error::step(format!("mask {path}"), error);
            if place.kind == FileType::Directory {
                masks.folder(&place).map_err(step)?;
            } else {
                masks.file(&place).map_err(step)?;
            }
        }
    }
    Ok(())
}

/// What does not exist needs no mask.
fn find(root: BorrowedFd<'_>, path: &str) -> Result<Option<Place>> {
    match walk(root, path, Missing::Fail) {
        Ok(place) => Ok(Some(place)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Ok(None),
        Err(error) => Err(Error::step(format!("find {path}"), error)),
    }
}

fn readonly(place: &Place) -> std::io::Result<()> {
    let copy = clone_tree(place.fd.as_fd(), "", true)?;
    let change = Change {
        set: Attributes::MOUNT_ATTR_RDONLY,
        ..Change::default()
    };
    sys::mount::change(copy.as_fd(), change)?;
    attach(copy.as_fd(), place.fd.as_fd())
}

/// What lies over masked paths: all folders share one empty file system.
#[derive(Debug, Default)]
struct Masks {
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
}

impl Masks {
    fn file(&mut self, place: &Place) -> std::io::Result<()> {
        let null = match self.null.take() {
            Some(null) => null,
            None => devices::null().map_err(|error| match error {
                Error::Step { source, .. } => source,
                other => std::io::Error::other(other),
            })?,
        };
        let copy = clone_tree(null.as_fd(), "", false)?;
        attach(copy.as_fd(), place.fd.as_fd())?;
        self.null = Some(null);
        Ok(())
    }

    fn folder(&mut self, place: &Place) -> std::io::Result<()> {
        let mask = match &self.empty {
            // Attached by now, so it can be copied.
            Some(first) => clone_tree(first.as_fd(), "", false)?,
            None => {
                let context = FsContext::open("tmpfs")?;
                context.string("source", "tmpfs")?;
                context.flag("ro")?;
                context.mount(Attributes::MOUNT_ATTR_RDONLY)?
            }
        };
        attach(mask.as_fd(), place.fd.as_fd())?;
        self.empty.get_or_insert(mask);
        Ok(())
    }
}
