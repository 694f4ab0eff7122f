//! Maps of sparse files: old GNU headers and the PAX versions 0.0, 0.1 and 1.0.

use super::header::{BLOCK, Refusal, number};
use super::pax::{Sparse, decimal};

/// Segments of one map: what a map of 1 MiB of text can name.
const SEGMENTS_MAX: usize = 1 << 16;

/// Bytes of content at an offset of the file; all else is hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Segments still to be taken in, from one source or another.
#[derive(Debug, Default)]
pub(super) struct Map {
    pub(super) segments: Vec<Segment>,
}

impl Map {
    fn push(&mut self, offset: i64, length: i64) -> Result<(), Refusal> {
        if self.segments.len() == SEGMENTS_MAX {
            return Err("sparse map of more than 65536 segments");
        }
        let negative = "sparse map with a negative number";
        self.segments.push(Segment {
            offset: u64::try_from(offset).map_err(|_| negative)?,
            length: u64::try_from(length).map_err(|_| negative)?,
        });
        Ok(())
    }

    /// Takes up to 4 or 21 descriptors of an old GNU block; answers whether another block follows.
    pub(super) fn old_gnu(&mut self, descriptors: &[u8], extended: u8) -> Result<bool, Refusal> {
        for descriptor in descriptors.chunks_exact(24) {
            if descriptor[0] == 0 {
                break;
            }
            self.push(number(&descriptor[..12])?, number(&descriptor[12..])?)?;
        }
        Ok(extended != 0)
    }

    /// Takes the pairs of the versions 0.0 and 0.1.
    pub(super) fn pairs(&mut self, numbers: &[i64]) -> Result<(), Refusal> {
        for pair in numbers.chunks_exact(2) {
            self.push(pair[0], pair[1])?;
        }
        Ok(())
    }

    /// Checks order and overlap, and that the segments are what the archive holds for the file.
    pub(super) fn check(&self, size: u64, stored: u64) -> Result<(), Refusal> {
        let (mut end, mut sum) = (0u64, 0u64);
        for segment in &self.segments {
            let stop = segment.offset.checked_add(segment.length);
            if segment.offset < end || stop.is_none_or(|stop| stop > size) {
                return Err("sparse map overlaps or leaves its file");
            }
            end = stop.unwrap_or(size);
            sum = sum.saturating_add(segment.length);
        }
        if sum != stored {
            return Err("sparse map and stored bytes differ");
        }
        Ok(())
    }
}

/// What a PAX header says about holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// No sparse file.
    None,
    /// The map stands in the header.
    InHeader,
    /// The map precedes the content (version 1.0).
    InContent,
}

/// The version that the records name, or a refusal of an unknown one.
pub(super) fn version(sparse: &Sparse) -> Result<Version, Refusal> {
    match (sparse.major, sparse.minor) {
        (Some(1), Some(0)) => Ok(Version::InContent),
        (Some(0), Some(0 | 1)) | (None, None) => match sparse.blocks {
            Some(blocks) if usize::try_from(blocks).is_ok_and(|b| b == sparse.map.len() / 2) => {
                Ok(Version::InHeader)
            }
            // One empty pair is what writers leave for a file that is one hole.
            Some(_) => Err("sparse map and its count differ"),
            None if sparse.map.is_empty() && !sparse.any => Ok(Version::None),
            None => Err("sparse map without a count"),
        },
        _ => Err("unknown version of the sparse format"),
    }
}

/// Reads a map of version 1.0 block by block: decimal numbers, each with a newline, the count first.
#[derive(Debug, Default)]
pub(super) struct TextMap {
    numbers: Vec<i64>,
    partial: Vec<u8>,
}

impl TextMap {
    /// Takes one block; answers true when the map is complete.
    pub(super) fn block(&mut self, block: &[u8; BLOCK]) -> Result<bool, Refusal> {
        for byte in block {
            if *byte != b'\n' {
                if self.partial.len() == 20 {
                    return Err("sparse map with a long number");
                }
                self.partial.push(*byte);
                continue;
            }
            let value = decimal(&self.partial)?;
            self.partial.clear();
            self.numbers.push(value);
            if self.wanted()? == self.numbers.len() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn wanted(&self) -> Result<usize, Refusal> {
        let count = self.numbers.first().copied().unwrap_or(0);
        match usize::try_from(count) {
            Ok(count) if count <= SEGMENTS_MAX => Ok(1 + 2 * count),
            _ => Err("sparse map of more than 65536 segments"),
        }
    }

    pub(super) fn pairs(&self) -> &[i64] {
        self.numbers.get(1..).unwrap_or(&[])
    }
}
