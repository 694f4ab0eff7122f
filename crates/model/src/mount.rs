//! The hinge between storage and execution.

/// A mount as snapshotters emit it and shims perform it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// The file system type, such as `overlay` or `bind`.
    pub kind: String,
    /// The source device or folder.
    pub source: String,
    /// The target below the root, most often empty.
    pub target: String,
    /// Options as fstab writes them, one an item.
    pub options: Vec<String>,
}
