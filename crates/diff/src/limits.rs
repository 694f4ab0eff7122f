//! Bounds on what one layer may cost.

/// Longest path or link target of an entry, in bytes (`PATH_MAX` with its NUL).
pub const PATH_BYTES_MAX: usize = 4095;
/// Longest name of one path component, in bytes (`NAME_MAX`).
pub const NAME_BYTES_MAX: usize = 255;
/// Attributes of one entry.
pub const XATTRS_MAX: usize = 1024;
/// Largest value of one attribute, in bytes (`XATTR_SIZE_MAX`).
pub const XATTR_BYTES_MAX: usize = 65_536;
/// Size of one extended header, long name or sparse map, in bytes.
pub const SPECIAL_BYTES_MAX: u64 = 1 << 20;
/// Headers that may precede one entry (extended headers, long names).
pub const SPECIAL_HEADERS_MAX: u32 = 32;
/// Links followed in one path, as the kernel's own limit.
pub const LINKS_MAX: u32 = 40;
/// Lower folders of an overlay target.
pub const PARENTS_MAX: usize = 500;
/// Largest window of a zstd frame as a power of two, in bytes: 128 MiB.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Bounds that a caller may set for a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the tar stream.
    pub tar_bytes: u64,
    /// Bytes of the compressed stream.
    pub layer_bytes: u64,
    /// Tar bytes for each compressed byte, once `ratio_free_bytes` are exceeded.
    pub ratio: u64,
    /// Tar bytes below which the ratio is not looked at.
    pub ratio_free_bytes: u64,
    /// Entries of the archive.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tar_bytes: 100 << 30,
            layer_bytes: 100 << 30,
            ratio: 200,
            ratio_free_bytes: 512 << 20,
            entries: 5_000_000,
        }
    }
}
