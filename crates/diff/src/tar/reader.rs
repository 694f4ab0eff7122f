//! The stream of entries.

use std::io::BufRead;

use super::header::{BLOCK, Header, Refusal};
use super::pax::Records;
use super::sparse::{Map, Segment, TextMap, Version, version};
use super::{Entry, Kind, Time};
use crate::Error;
use crate::limits::{PATH_BYTES_MAX, SPECIAL_BYTES_MAX, SPECIAL_HEADERS_MAX};

/// Reads entries one after the other; the content of the current one through [`Reader::chunk`].
#[derive(Debug)]
pub struct Reader<R> {
    stream: R,
    offset: u64,
    /// Stored bytes of the current entry that were not read yet.
    stored: u64,
    padding: u64,
    /// Bytes lent by the last [`Reader::chunk`].
    lent: usize,
    /// Segments of the current entry in reverse order.
    segments: Vec<Segment>,
    ended: bool,
}

/// What the headers before an entry say about it.
#[derive(Default)]
struct Extra {
    pax: Option<Records>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<R: BufRead> Reader<R> {
    /// Reads an archive from a stream, whose errors are told as they are.
    pub fn new(stream: R) -> Self {
        Self {
            stream,
            offset: 0,
            stored: 0,
            padding: 0,
            lent: 0,
            segments: Vec::new(),
            ended: false,
        }
    }

    /// The stream, positioned behind what was read of the archive.
    pub fn into_inner(mut self) -> R {
        self.give_back();
        self.stream
    }

    /// The stream.
    pub fn get_ref(&self) -> &R {
        &self.stream
    }

    /// Bytes of the archive read so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next entry, or `None` at the end of the archive. What was left of the current content is skipped.
    ///
    /// # Errors
    /// [`Error::Archive`], [`Error::Truncated`] and [`Error::Unsupported`]; those of the stream.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        if self.ended {
            return Ok(None);
        }
        self.skip_content()?;
        let mut extra = Extra::default();
        for _ in 0..=SPECIAL_HEADERS_MAX {
            let Some(block) = self.header_block()? else {
                if extra.pax.is_some() || extra.name.is_some() || extra.link.is_some() {
                    return Err(self.refuse("extended header without an entry"));
                }
                self.ended = true;
                return Ok(None);
            };
            let header = Header::decode(&block).map_err(|reason| self.refuse(reason))?;
            match header.flag {
                b'x' => {
                    let body = self.special(header.size)?;
                    let records = Records::decode(&body).map_err(|reason| self.refuse(reason))?;
                    extra.pax = Some(records);
                }
                b'g' => self.global(header.size)?,
                b'L' => extra.name = Some(self.long_name(header.size)?),
                b'K' => extra.link = Some(self.long_name(header.size)?),
                _ => return self.entry(&block, header, extra).map(Some),
            }
        }
        Err(self.refuse("too many headers before one entry"))
    }

    /// The next bytes of the current content and their offset in the file; `None` at its end.
    ///
    /// # Errors
    /// [`Error::Truncated`]; those of the stream.
    pub fn chunk(&mut self) -> Result<Option<(u64, &[u8])>, Error> {
        self.give_back();
        while self.segments.last().is_some_and(|next| next.length == 0) {
            self.segments.pop();
        }
        let Some(segment) = self.segments.last_mut() else {
            return Ok(None);
        };
        let at = segment.offset;
        let buffer = self.stream.fill_buf().map_err(from_stream)?;
        if buffer.is_empty() {
            return Err(Error::Truncated {
                what: "the content of a file",
            });
        }
        let length =
            usize::try_from(segment.length).map_or(buffer.len(), |most| most.min(buffer.len()));
        segment.offset += length as u64;
        segment.length -= length as u64;
        self.lent = length;
        self.stored -= length as u64;
        Ok(Some((at, &buffer[..length])))
    }

    fn give_back(&mut self) {
        let lent = std::mem::take(&mut self.lent);
        self.offset += lent as u64;
        self.stream.consume(lent);
    }

    fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::Archive {
            offset: self.offset,
            reason: reason.into(),
        }
    }

    fn skip_content(&mut self) -> Result<(), Error> {
        self.give_back();
        self.segments.clear();
        let mut left = self.stored + std::mem::take(&mut self.padding);
        self.stored = 0;
        while left > 0 {
            let length = self.stream.fill_buf().map_err(from_stream)?.len();
            if length == 0 {
                return Err(Error::Truncated {
                    what: "the content of a file",
                });
            }
            let length = usize::try_from(left).map_or(length, |left| left.min(length));
            self.stream.consume(length);
            self.offset += length as u64;
            left -= length as u64;
        }
        Ok(())
    }

    /// Reads a whole block; `None` when the stream ends exactly here.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        let mut block = [0u8; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let buffer = self.stream.fill_buf().map_err(from_stream)?;
            if buffer.is_empty() {
                if filled == 0 {
                    return Ok(None);
                }
                return Err(Error::Truncated { what: "a header" });
            }
            let length = buffer.len().min(BLOCK - filled);
            block[filled..filled + length].copy_from_slice(&buffer[..length]);
            self.stream.consume(length);
            self.offset += length as u64;
            filled += length;
        }
        Ok(Some(block))
    }

    /// A block that is no zero block; `None` at the end: two zero blocks, or the end of the stream.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        let Some(block) = self.block()? else {
            return Ok(None);
        };
        if block.iter().any(|byte| *byte != 0) {
            return Ok(Some(block));
        }
        match self.block()? {
            Some(second) if second.iter().any(|byte| *byte != 0) => {
                Err(self.refuse("one zero block and then more"))
            }
            _ => Ok(None),
        }
    }

    /// The body of an extended header or long name.
    fn special(&mut self, size: i64) -> Result<Vec<u8>, Error> {
        let size = u64::try_from(size).map_err(|_| self.refuse("header with a negative size"))?;
        if size > SPECIAL_BYTES_MAX {
            return Err(Error::Limit {
                what: "bytes in one extended header",
                limit: SPECIAL_BYTES_MAX,
            });
        }
        let mut body = Vec::new();
        while (body.len() as u64) < size {
            let Some(block) = self.block()? else {
                return Err(Error::Truncated {
                    what: "an extended header",
                });
            };
            body.extend_from_slice(&block);
        }
        body.truncate(size as usize);
        Ok(body)
    }

    fn long_name(&mut self, size: i64) -> Result<Vec<u8>, Error> {
        let body = self.special(size)?;
        let name = super::header::text(&body);
        if name.is_empty() {
            return Err(self.refuse("empty long name"));
        }
        Ok(name.to_vec())
    }

    /// Global records are read and not applied, as Go does; those that other readers would apply to which entries
    /// there are can't be left to taste.
    fn global(&mut self, size: i64) -> Result<(), Error> {
        let body = self.special(size)?;
        let records = Records::decode(&body).map_err(|reason| self.refuse(reason))?;
        if records.changes_entries() {
            return Err(self.refuse("global header that changes entries"));
        }
        Ok(())
    }

    fn entry(
        &mut self,
        block: &[u8; BLOCK],
        mut header: Header,
        extra: Extra,
    ) -> Result<Entry, Error> {
        let mut mtime = Time {
            seconds: header.mtime,
            nanoseconds: 0,
        };
        let pax = extra.pax.unwrap_or_default();
        if extra.name.is_some() && pax.path.is_some() && extra.name != pax.path {
            return Err(self.refuse("two different long names for one entry"));
        }
        pax.merge(&mut header, &mut mtime);
        if let Some(name) = extra.name {
            header.name = name;
        }
        if let Some(link) = extra.link {
            header.link = link;
        }
        let kind = self.kind(&header)?;
        let stored = u64::try_from(header.size).map_err(|_| self.refuse("negative size"))?;
        // Go reads no content for these whatever their size says, and so must everybody who judges images.
        let stored = if kind == Kind::Regular { stored } else { 0 };
        self.stored = stored;
        self.padding = (BLOCK as u64 - stored % BLOCK as u64) % BLOCK as u64;
        self.segments.push(Segment {
            offset: 0,
            length: stored,
        });
        let mut size = stored;
        let sparse = self.sparse(block, &mut header, &pax, &mut size)?;
        if sparse && kind != Kind::Regular {
            return Err(self.refuse("sparse map of something that is no file"));
        }
        let atime = pax.atime.or((header.atime > 0).then_some(Time {
            seconds: header.atime,
            nanoseconds: 0,
        }));
        self.finish(kind, header, pax.xattrs, (mtime, atime), (size, sparse))
    }

    fn kind(&self, header: &Header) -> Result<Kind, Error> {
        Ok(match header.flag {
            0 if header.name.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::Regular,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Char,
            b'4' => Kind::Block,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            flag => {
                return Err(Error::Unsupported {
                    what: format!("tar entry of type {:?}", char::from(flag)),
                });
            }
        })
    }

    /// Fills the segments of a sparse file and its real size; answers whether it is one.
    fn sparse(
        &mut self,
        block: &[u8; BLOCK],
        header: &mut Header,
        pax: &Records,
        size: &mut u64,
    ) -> Result<bool, Error> {
        let mut map = Map::default();
        if header.flag == b'S' {
            if !header.gnu {
                return Err(self.refuse("sparse file outside the GNU format"));
            }
            let refused = |reader: &Self, reason: Refusal| reader.refuse(reason);
            let mut more = map
                .old_gnu(&block[386..482], block[482])
                .map_err(|r| refused(self, r))?;
            while more {
                let Some(block) = self.block()? else {
                    return Err(Error::Truncated {
                        what: "a sparse map",
                    });
                };
                more = map
                    .old_gnu(&block[..504], block[504])
                    .map_err(|r| refused(self, r))?;
            }
            header.size = super::header::number(&block[483..495]).map_err(|r| refused(self, r))?;
        } else {
            match version(&pax.sparse).map_err(|reason| self.refuse(reason))? {
                Version::None => return Ok(false),
                Version::InHeader => map.pairs(&pax.sparse.map).map_err(|r| self.refuse(r))?,
                Version::InContent => self.text_map(&mut map)?,
            }
            if let Some(name) = &pax.sparse.name {
                header.name.clone_from(name);
            }
            header.size = pax.sparse.size.unwrap_or(header.size);
        }
        *size = u64::try_from(header.size).map_err(|_| self.refuse("negative size"))?;
        map.check(*size, self.stored)
            .map_err(|reason| self.refuse(reason))?;
        map.segments.reverse();
        self.segments = map.segments;
        Ok(true)
    }

    fn text_map(&mut self, map: &mut Map) -> Result<(), Error> {
        let mut text = TextMap::default();
        let mut read = 0;
        loop {
            if self.stored < BLOCK as u64 || read > SPECIAL_BYTES_MAX {
                return Err(self.refuse("sparse map longer than its file or 1 MiB"));
            }
            let Some(block) = self.block()? else {
                return Err(Error::Truncated {
                    what: "a sparse map",
                });
            };
            self.stored -= BLOCK as u64;
            read += BLOCK as u64;
            if text.block(&block).map_err(|reason| self.refuse(reason))? {
                return map
                    .pairs(text.pairs())
                    .map_err(|reason| self.refuse(reason));
            }
        }
    }

    fn finish(
        &self,
        kind: Kind,
        header: Header,
        xattrs: Vec<(Vec<u8>, Vec<u8>)>,
        (mtime, atime): (Time, Option<Time>),
        (size, sparse): (u64, bool),
    ) -> Result<Entry, Error> {
        for (name, what) in [
            (&header.name, "bytes in a path"),
            (&header.link, "bytes in a link target"),
        ] {
            if name.len() > PATH_BYTES_MAX {
                return Err(Error::Limit {
                    what,
                    limit: PATH_BYTES_MAX as u64,
                });
            }
        }
        let id = |value: i64| {
            // The highest number means "leave as it is" to chown.
            u32::try_from(value)
                .ok()
                .filter(|id| *id != u32::MAX)
                .ok_or_else(|| self.refuse(format!("owner or group {value} out of range")))
        };
        let device = matches!(kind, Kind::Char | Kind::Block);
        let part = |value: i64, bits: u32| match u32::try_from(value) {
            _ if !device => Ok(0),
            // Linux packs 12 bits of major and 20 bits of minor: more would be another device.
            Ok(part) if part >> bits == 0 => Ok(part),
            _ => Err(self.refuse(format!(
                "device number {}:{} out of range",
                header.major, header.minor
            ))),
        };
        Ok(Entry {
            kind,
            mode: (header.mode & 0o7777) as u32,
            uid: id(header.uid)?,
            gid: id(header.gid)?,
            size,
            mtime,
            atime,
            major: part(header.major, 12)?,
            minor: part(header.minor, 20)?,
            xattrs,
            sparse,
            path: header.name,
            link: header.link,
        })
    }
}

/// Errors of our own decompressor travel through `std::io`; others are failures to read.
fn from_stream(error: std::io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => own,
        Err(source) => Error::Io {
            act: "read",
            path: "layer".to_owned(),
            source,
        },
    }
}
