//! A streaming reader of tar archives: ustar, PAX, GNU and old Unix forms.
//!
//! It accepts what Go's `archive/tar` accepts, because that reader decided what today's images mean, and reads the
//! same entries out of it. Where two readers could disagree on an archive, the archive is refused.

mod header;
mod pax;
mod reader;
mod sparse;

pub use reader::Reader;

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file with content.
    Regular,
    /// Another name of an entry named by the link target.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A folder.
    Directory,
    /// A named pipe.
    Fifo,
}

/// A point in time since 1970, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    /// Whole seconds; negative before 1970.
    pub seconds: i64,
    /// Nanoseconds of the second, less than 10^9.
    pub nanoseconds: u32,
}

/// One entry of an archive, after all headers that belong to it were merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name as written; never trusted, not cleaned.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// The target of a hard or symbolic link.
    pub link: Vec<u8>,
    /// Permission bits with set-uid, set-gid and sticky.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Bytes of the content, holes included.
    pub size: u64,
    /// Time of the last change of the content.
    pub mtime: Time,
    /// Time of the last access where the archive has it.
    pub atime: Option<Time>,
    /// The major number of a device.
    pub major: u32,
    /// The minor number of a device.
    pub minor: u32,
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// True when the content has holes.
    pub sparse: bool,
}
