//! Applies the entries of a layer to folders (OCI image-spec, layer.md#applying-changesets).
//!
//! Every step starts from a descriptor: the folder of an entry is resolved by the kernel inside the target
//! ([`sys::beneath`]), its last component is never followed, and what exists there is removed first unless both are
//! folders.

mod copy_up;
mod entry;
mod meta;
mod tree;
mod whiteout;

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::fs::Timestamps;

use crate::compression::{Layer, Totals};
use crate::limits::Limits;
use crate::tar::{Entry, Reader};
use crate::{Error, tar};

use tree::{Folder, Tree};

/// Entries between two reports.
const REPORT_ENTRIES: u64 = 256;
/// Tar bytes between two reports.
const REPORT_BYTES: u64 = 4 << 20;

/// How far a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Compressed bytes read.
    pub layer_bytes: u64,
    /// Bytes of the tar stream read.
    pub tar_bytes: u64,
    /// Entries applied.
    pub entries: u64,
}

/// Where a layer goes.
#[derive(Debug)]
pub struct Folders {
    /// The folder that takes the entries.
    pub root: OwnedFd,
    /// The folders of the layers below, nearest first; empty for a plain target.
    pub parents: Vec<OwnedFd>,
    /// How deletions are written down.
    pub deletions: Deletions,
}

/// How a target takes deletions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletions {
    /// The target holds the layers below as well: what is deleted is removed.
    Remove,
    /// The target is an upper folder of overlayfs: marks under `trusted.overlay.`.
    Overlay,
    /// The same with marks under `user.overlay.`.
    OverlayUser,
}

/// What may be left out, and how early data goes to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Leave out device nodes, which a user namespace can't make.
    pub skip_devices: bool,
    /// Start writing data back while the layer is read.
    pub write_back: bool,
}

/// Calls back to whoever runs the application.
#[expect(
    missing_debug_implementations,
    reason = "closures have nothing to show"
)]
pub struct Hooks<'a> {
    /// Marks the folder at this path below the target opaque; the path holds no link.
    pub opaque: &'a mut dyn FnMut(&[u8]) -> Result<(), Error>,
    /// Hears of progress.
    pub progress: &'a mut dyn FnMut(Progress) -> Result<(), Error>,
}

/// What an applied layer was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Sizes and digests.
    pub totals: Totals,
    /// Entries in the archive.
    pub entries: u64,
    /// Attributes and devices that the target can't or must not take.
    pub skipped: u64,
}

/// Applies a layer, reading it to its end.
///
/// # Errors
/// Those of reading the layer, of its limits and of the file system. What was applied until then stays.
pub fn apply<R: Read>(
    source: R,
    limits: Limits,
    folders: Folders,
    options: Options,
    hooks: Hooks<'_>,
) -> Result<Outcome, Error> {
    let mut reader = Reader::new(Layer::new(source, limits));
    let mut applier = Applier {
        tree: Tree::new(folders.root, folders.parents)?,
        deletions: folders.deletions,
        options,
        hooks,
        own: HashSet::new(),
        hasher: RandomState::new(),
        times: Vec::new(),
        removed: false,
        skipped: 0,
        entries: 0,
        reported: Progress::default(),
    };
    while let Some(entry) = reader.next_entry()? {
        applier.entries += 1;
        if applier.entries > limits.entries {
            return Err(Error::Limit {
                what: "entries",
                limit: limits.entries,
            });
        }
        applier.entry(&entry, &mut reader)?;
        applier.report(&reader)?;
    }
    let totals = reader.into_inner().finish()?;
    applier.folder_times()?;
    Ok(Outcome {
        totals,
        entries: applier.entries,
        skipped: applier.skipped,
    })
}

struct Applier<'a> {
    tree: Tree,
    deletions: Deletions,
    options: Options,
    hooks: Hooks<'a>,
    /// Hashes of folder and name of what this layer brought: deletions do not touch it.
    own: HashSet<u64>,
    hasher: RandomState,
    /// Times of folders, set at the end because making entries changes them.
    times: Vec<(Vec<u8>, Timestamps)>,
    /// True once something was removed, so that a remembered folder may be another thing now.
    removed: bool,
    skipped: u64,
    entries: u64,
    reported: Progress,
}

impl Applier<'_> {
    fn key(&self, folder: &Folder, name: &[u8]) -> u64 {
        self.hasher_key(folder.inode, name)
    }

    fn hasher_key(&self, folder: u64, name: &[u8]) -> u64 {
        self.hasher.hash_one((folder, name))
    }

    fn report<R: Read>(&mut self, reader: &Reader<Layer<R>>) -> Result<(), Error> {
        let (layer_bytes, tar_bytes) = reader.get_ref().position();
        if self.entries < self.reported.entries + REPORT_ENTRIES
            && tar_bytes < self.reported.tar_bytes + REPORT_BYTES
        {
            return Ok(());
        }
        self.reported = Progress {
            layer_bytes,
            tar_bytes,
            entries: self.entries,
        };
        (self.hooks.progress)(self.reported)
    }

    fn refuse(&self, entry: &Entry, reason: &str) -> Error {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        Error::Archive {
            offset: self.reported.tar_bytes,
            reason: format!("{reason}: {path:?}"),
        }
    }

    fn folder_times(&mut self) -> Result<(), Error> {
        for (path, times) in std::mem::take(&mut self.times) {
            let (parent, name) = tree::split(&path);
            let Some(folder) = self.tree.find(parent)? else {
                continue;
            };
            if self.removed && !tree::is_folder(&folder.fd, name) {
                continue;
            }
            meta::entry_times(&folder.fd, name, &times)
                .map_err(Error::io("set times of", &path))?;
        }
        Ok(())
    }
}

/// The times an entry gets, as upstream bounds them: nothing before 1970 or after what 63 bits of nanoseconds hold.
fn times_of(entry: &Entry) -> Timestamps {
    let bound = |time: tar::Time| {
        let fits = (0..=i64::MAX / 1_000_000_000 - 1).contains(&time.seconds);
        let time = if fits { time } else { tar::Time::default() };
        rustix::fs::Timespec {
            tv_sec: time.seconds,
            tv_nsec: i64::from(time.nanoseconds) as _,
        }
    };
    let atime = entry.atime.unwrap_or(entry.mtime).max(entry.mtime);
    Timestamps {
        last_access: bound(atime),
        last_modification: bound(entry.mtime),
    }
}
