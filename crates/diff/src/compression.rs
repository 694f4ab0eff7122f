//! From the bytes of a layer to the bytes of its tar, hashing both.
//!
//! Nothing is ever executed for it: formats that are not built in are refused (CVE-2014-9357, CVE-2026-41567).

use std::io::{self, BufRead, Read};

use flate2::{Decompress, FlushDecompress, Status};
use model::Digest;
use sha2::{Digest as _, Sha256};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use crate::Error;
use crate::limits::{Limits, ZSTD_WINDOW_LOG_MAX};

/// Bytes read at once, and bytes decompressed at once.
const BUFFER_BYTES: usize = 256 << 10;
/// Bytes needed to tell the formats apart.
const MAGIC_BYTES: usize = 6;

/// How a layer is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// gzip (RFC 1952), any number of members.
    Gzip,
    /// Zstandard (RFC 8878), any number of frames, skippable ones included.
    Zstd,
}

impl Compression {
    /// Tells the format from the first bytes; fewer than six are enough only at the end of a stream.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for xz and bzip2, which no image specification knows.
    pub fn sniff(start: &[u8]) -> Result<Self, Error> {
        if start.starts_with(&[0x1f, 0x8b, 8]) {
            return Ok(Self::Gzip);
        }
        if is_zstd(start) {
            return Ok(Self::Zstd);
        }
        let unsupported = |what: &str| {
            Err(Error::Unsupported {
                what: format!("compression {what}"),
            })
        };
        if start.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
            return unsupported("xz");
        }
        if start.starts_with(b"BZh") {
            return unsupported("bzip2");
        }
        Ok(Self::Plain)
    }
}

fn is_zstd(start: &[u8]) -> bool {
    start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        || (start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == [0x2a, 0x4d, 0x18])
}

enum Codec {
    Unknown,
    Plain,
    /// The decompressor of the current member.
    Gzip(Box<Decompress>),
    /// The decompressor, and whether it stands inside a frame.
    Zstd(Box<Decoder<'static>>, bool),
    /// The stream has ended; what follows is only hashed.
    Ended,
}

/// The tar stream of a layer, as a [`BufRead`] whose errors carry [`Error`].
pub struct Layer<R> {
    source: R,
    codec: Codec,
    limits: Limits,
    input: Box<[u8]>,
    /// The part of `input` that was read and not decompressed.
    pending: std::ops::Range<usize>,
    output: Box<[u8]>,
    /// The part of the current buffer that was not consumed.
    ready: std::ops::Range<usize>,
    source_ended: bool,
    layer_bytes: u64,
    tar_bytes: u64,
    layer_hash: Sha256,
    tar_hash: Sha256,
}

impl<R> std::fmt::Debug for Layer<R> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Layer")
            .field("layer_bytes", &self.layer_bytes)
            .field("tar_bytes", &self.tar_bytes)
            .finish_non_exhaustive()
    }
}

/// What was read of a layer, once it has been read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    /// Digest of the tar stream.
    pub diff_id: Digest,
    /// Bytes of the tar stream.
    pub tar_size: u64,
    /// Digest of the bytes as they came.
    pub layer_digest: Digest,
    /// Bytes as they came.
    pub layer_size: u64,
}

impl<R: Read> Layer<R> {
    /// Reads a layer from `source`.
    pub fn new(source: R, limits: Limits) -> Self {
        Self {
            source,
            codec: Codec::Unknown,
            limits,
            input: vec![0; BUFFER_BYTES].into(),
            pending: 0..0,
            output: vec![0; BUFFER_BYTES].into(),
            ready: 0..0,
            source_ended: false,
            layer_bytes: 0,
            tar_bytes: 0,
            layer_hash: Sha256::new(),
            tar_hash: Sha256::new(),
        }
    }

    /// Bytes read and bytes decompressed so far.
    pub fn position(&self) -> (u64, u64) {
        (self.layer_bytes, self.tar_bytes)
    }

    /// Reads what is left, of the tar stream and of the source behind it, and tells the digests.
    ///
    /// # Errors
    /// Those of decompression and of the source.
    pub fn finish(mut self) -> Result<Totals, Error> {
        loop {
            self.ready = 0..0;
            if !self.fill()? {
                break;
            }
        }
        while !self.source_ended {
            self.pending = 0..0;
            self.read_more()?;
        }
        Ok(Totals {
            diff_id: Digest::from_sha256(self.tar_hash.finalize().into()),
            tar_size: self.tar_bytes,
            layer_digest: Digest::from_sha256(self.layer_hash.finalize().into()),
            layer_size: self.layer_bytes,
        })
    }

    /// Reads once behind what is pending.
    fn read_more(&mut self) -> Result<(), Error> {
        if self.pending.start > 0 {
            self.input.copy_within(self.pending.clone(), 0);
            self.pending = 0..self.pending.len();
        }
        let space = &mut self.input[self.pending.end..];
        let length = loop {
            match self.source.read(space) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(Error::io("read", b"layer"))?,
            }
        };
        self.source_ended = length == 0;
        self.layer_hash.update(&space[..length]);
        self.pending.end += length;
        self.layer_bytes += length as u64;
        if self.layer_bytes > self.limits.layer_bytes {
            return Err(Error::Limit {
                what: "compressed bytes",
                limit: self.limits.layer_bytes,
            });
        }
        Ok(())
    }

    /// Makes `ready` not empty, or answers false at the end of the tar stream.
    fn fill(&mut self) -> Result<bool, Error> {
        if matches!(self.codec, Codec::Unknown) {
            self.start()?;
        }
        let length = match &self.codec {
            Codec::Unknown | Codec::Ended => 0,
            Codec::Plain => self.plain()?,
            Codec::Gzip(_) => self.gzip()?,
            Codec::Zstd(..) => self.zstd()?,
        };
        if length == 0 {
            return Ok(false);
        }
        self.tar_bytes += length as u64;
        self.check_limits()?;
        let buffer = match self.codec {
            Codec::Plain => &self.input,
            _ => &self.output,
        };
        self.tar_hash.update(&buffer[self.ready.clone()]);
        Ok(true)
    }

    fn start(&mut self) -> Result<(), Error> {
        while self.pending.len() < MAGIC_BYTES && !self.source_ended {
            self.read_more()?;
        }
        self.codec = match Compression::sniff(&self.input[self.pending.clone()])? {
            Compression::Plain => Codec::Plain,
            Compression::Gzip => Codec::Gzip(Box::new(Decompress::new_gzip(15))),
            Compression::Zstd => {
                let mut decoder = Decoder::new().map_err(zstd_error)?;
                decoder
                    .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))
                    .map_err(zstd_error)?;
                Codec::Zstd(Box::new(decoder), false)
            }
        };
        Ok(())
    }

    fn check_limits(&self) -> Result<(), Error> {
        if self.tar_bytes > self.limits.tar_bytes {
            return Err(Error::Limit {
                what: "uncompressed bytes",
                limit: self.limits.tar_bytes,
            });
        }
        let allowed = self.limits.ratio.saturating_mul(self.layer_bytes);
        if self.tar_bytes > self.limits.ratio_free_bytes.max(allowed) {
            return Err(Error::Limit {
                what: "uncompressed bytes for each compressed byte",
                limit: self.limits.ratio,
            });
        }
        Ok(())
    }

    fn plain(&mut self) -> Result<usize, Error> {
        if self.pending.is_empty() && !self.source_ended {
            self.read_more()?;
        }
        self.ready = self.pending.clone();
        self.pending = self.pending.end..self.pending.end;
        if self.ready.is_empty() {
            self.codec = Codec::Ended;
        }
        Ok(self.ready.len())
    }

    fn gzip(&mut self) -> Result<usize, Error> {
        loop {
            if self.pending.is_empty() && !self.source_ended {
                self.read_more()?;
            }
            let Codec::Gzip(inflate) = &mut self.codec else {
                return Ok(0);
            };
            let (read, written) = (inflate.total_in(), inflate.total_out());
            let status = inflate
                .decompress(
                    &self.input[self.pending.clone()],
                    &mut self.output,
                    FlushDecompress::None,
                )
                .map_err(|error| Error::Compression {
                    format: "gzip",
                    reason: error.message().unwrap_or("invalid data").to_owned(),
                })?;
            let consumed = (inflate.total_in() - read) as usize;
            let length = (inflate.total_out() - written) as usize;
            self.pending.start += consumed;
            self.ready = 0..length;
            if status == Status::StreamEnd {
                self.next_member()?;
            } else if length == 0 && self.source_ended && self.pending.is_empty() {
                return Err(Error::Truncated {
                    what: "the gzip stream",
                });
            } else if length == 0 && consumed == 0 && !self.pending.is_empty() {
                return Err(Error::Compression {
                    format: "gzip",
                    reason: "no progress".to_owned(),
                });
            }
            if length > 0 || matches!(self.codec, Codec::Ended) {
                return Ok(length);
            }
        }
    }

    /// Another member follows where its magic stands; other trailing bytes are only hashed.
    fn next_member(&mut self) -> Result<(), Error> {
        while self.pending.len() < 3 && !self.source_ended {
            self.read_more()?;
        }
        self.codec = if self.input[self.pending.clone()].starts_with(&[0x1f, 0x8b, 8]) {
            Codec::Gzip(Box::new(Decompress::new_gzip(15)))
        } else {
            Codec::Ended
        };
        Ok(())
    }

    fn zstd(&mut self) -> Result<usize, Error> {
        loop {
            if matches!(self.codec, Codec::Zstd(_, true)) {
                if self.pending.is_empty() && !self.source_ended {
                    self.read_more()?;
                }
            } else if !self.next_frame()? {
                return Ok(0);
            }
            let Codec::Zstd(decoder, inside) = &mut self.codec else {
                return Ok(0);
            };
            let mut input = InBuffer::around(&self.input[self.pending.clone()]);
            let mut output = OutBuffer::around(&mut self.output[..]);
            let hint = decoder.run(&mut input, &mut output).map_err(zstd_error)?;
            let (consumed, length) = (input.pos(), output.pos());
            *inside = hint != 0;
            self.pending.start += consumed;
            self.ready = 0..length;
            if length > 0 {
                return Ok(length);
            }
            if *inside && consumed == 0 && self.source_ended {
                return Err(Error::Truncated {
                    what: "the zstd stream",
                });
            }
        }
    }

    /// Another frame follows where its magic stands; other trailing bytes are only hashed.
    fn next_frame(&mut self) -> Result<bool, Error> {
        while self.pending.len() < 4 && !self.source_ended {
            self.read_more()?;
        }
        let follows = is_zstd(&self.input[self.pending.clone()]);
        if !follows {
            self.codec = Codec::Ended;
        }
        Ok(follows)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err takes")]
fn zstd_error(error: io::Error) -> Error {
    Error::Compression {
        format: "zstd",
        reason: error.to_string(),
    }
}

impl<R: Read> Read for Layer<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let length = ready.len().min(buffer.len());
        buffer[..length].copy_from_slice(&ready[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl<R: Read> BufRead for Layer<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.ready.is_empty() {
            self.fill().map_err(io::Error::other)?;
        }
        let buffer = match self.codec {
            Codec::Plain => &self.input,
            _ => &self.output,
        };
        Ok(&buffer[self.ready.clone()])
    }

    fn consume(&mut self, length: usize) {
        self.ready.start = (self.ready.start + length).min(self.ready.end);
    }
}
