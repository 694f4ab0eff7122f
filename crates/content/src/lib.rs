//! Blobs by digest: ingest, commit, read.
//!
//! On disk, as containerd has it:
//! ```text
//! <root>/blobs/<algorithm>/<hex>      0444, the content
//! <root>/ingest/<sha256 of the ref>/  one per running or resumable write
//!     ref                             the ref, as text
//!     data                            the bytes so far
//!     startedat  updatedat            RFC 3339 with nanoseconds
//!     total                           expected size in decimal, when it is known
//! ```
//! Promises: a blob has the content its name says (bytes are hashed as they are written and the file is renamed only
//! after they are durable); [`Ingest::commit`] answers only when the blob survives a power cut; a ref never becomes a
//! path; names under the root that are not ours are ignored and never deleted.
//!
//! The store knows no namespaces, labels, leases or collection: `metadata` decides what lives. It takes one process
//! per root for granted (the daemon holds a lock on it). All calls block.

mod error;
mod hasher;
mod ingest;
mod local;
mod stamp;
mod status;

pub use error::{Error, Result};
pub use ingest::{Committed, Ingest};
pub use local::{Blob, Info, Local};
pub use status::{IngestDir, Status};

/// Longest ref of a write, in bytes. A client's ref comes with namespace and sequence put before it.
pub const REF_BYTES_MAX: usize = 4096;
/// Most ingests that [`Local::statuses`] lists.
pub const STATUSES_MAX: usize = 65_536;

/// Where the store changes durable files.
pub mod points {
    use sys::file::Point;

    /// [`crate::Local::open`].
    pub const OPEN: Point = Point::new("content.open");
    /// Starting a write.
    pub const BEGIN: Point = Point::new("content.begin");
    /// Writing bytes.
    pub const WRITE: Point = Point::new("content.write");
    /// Starting over.
    pub const TRUNCATE: Point = Point::new("content.truncate");
    /// Turning a write into a blob.
    pub const COMMIT: Point = Point::new("content.commit");
    /// Removing the folder of a write that is over.
    pub const FINISH: Point = Point::new("content.finish");
    /// Removing an abandoned write.
    pub const ABORT: Point = Point::new("content.abort");
    /// Removing a blob.
    pub const DELETE: Point = Point::new("content.delete");

    /// All names `point:step`, for sweeps that let each of them fail. A test holds this list to what is taken.
    pub const ALL: &[&str] = &[
        "content.open:mkdir",
        "content.open:sync-dir",
        "content.begin:mkdir",
        "content.begin:create",
        "content.begin:set-length",
        "content.begin:write",
        "content.write:write",
        "content.truncate:set-length",
        "content.commit:set-attributes",
        "content.commit:sync-data",
        "content.commit:rename",
        "content.commit:sync-dir",
        "content.finish:remove",
        "content.abort:remove",
        "content.delete:remove",
    ];
}
