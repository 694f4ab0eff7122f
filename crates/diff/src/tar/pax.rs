//! PAX extended headers (POSIX.1-2001, pax, "pax Extended Header").

use super::Time;
use super::header::{Header, Refusal};
use crate::limits::{XATTR_BYTES_MAX, XATTRS_MAX};

const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";
const SPARSE_PREFIX: &[u8] = b"GNU.sparse.";

/// What the GNU sparse records of one extended header say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sparse {
    pub(super) major: Option<i64>,
    pub(super) minor: Option<i64>,
    pub(super) name: Option<Vec<u8>>,
    /// `GNU.sparse.size` or `GNU.sparse.realsize`.
    pub(super) size: Option<i64>,
    pub(super) blocks: Option<i64>,
    /// The numbers of `GNU.sparse.map`, or of the pairs of version 0.0.
    pub(super) map: Vec<i64>,
    pub(super) any: bool,
}

/// The records of one extended header that a layer needs. An empty value stands for "as in the block".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<i64>,
    uid: Option<i64>,
    gid: Option<i64>,
    mtime: Option<Time>,
    pub(super) atime: Option<Time>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Sparse,
}

impl Records {
    /// Decodes the body of an extended header.
    pub(super) fn decode(mut body: &[u8]) -> Result<Self, Refusal> {
        let mut records = Self::default();
        while !body.is_empty() {
            let (key, value, rest) = record(body)?;
            records.take(key, value)?;
            body = rest;
        }
        if !records.sparse.map.len().is_multiple_of(2) {
            return Err("sparse map with half a pair");
        }
        Ok(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Refusal> {
        if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
            return self.xattr(name, value);
        }
        if let Some(name) = key.strip_prefix(SPARSE_PREFIX) {
            return self.sparse.take(name, value);
        }
        let named = matches!(key, b"path" | b"linkpath" | b"uname" | b"gname");
        if named && value.contains(&0) {
            return Err("extended header with NUL in a name");
        }
        let empty = value.is_empty();
        match key {
            b"path" => self.path = (!empty).then(|| value.to_vec()),
            b"linkpath" => self.link = (!empty).then(|| value.to_vec()),
            b"size" => self.size = decimal_or_none(value)?,
            b"uid" => self.uid = decimal_or_none(value)?,
            b"gid" => self.gid = decimal_or_none(value)?,
            b"mtime" => self.mtime = time_or_none(value)?,
            b"atime" => self.atime = time_or_none(value)?,
            b"ctime" => {
                time_or_none(value)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        if name.is_empty() || name.len() > 255 {
            return Err("extended attribute with an impossible name");
        }
        if value.len() > XATTR_BYTES_MAX {
            return Err("extended attribute larger than 64 KiB");
        }
        self.xattrs.retain(|(known, _)| known != name);
        if self.xattrs.len() == XATTRS_MAX {
            return Err("more than 1024 extended attributes");
        }
        self.xattrs.push((name.to_vec(), value.to_vec()));
        Ok(())
    }

    /// Lays the records over the block they belong to.
    pub(super) fn merge(&self, header: &mut Header, mtime: &mut Time) {
        if let Some(path) = &self.path {
            header.name.clone_from(path);
        }
        if let Some(link) = &self.link {
            header.link.clone_from(link);
        }
        header.size = self.size.unwrap_or(header.size);
        header.uid = self.uid.unwrap_or(header.uid);
        header.gid = self.gid.unwrap_or(header.gid);
        *mtime = self.mtime.unwrap_or(*mtime);
    }

    /// True when the records would change which entries there are; a global header may not.
    pub(super) fn changes_entries(&self) -> bool {
        self.path.is_some() || self.link.is_some() || self.size.is_some() || self.sparse.any
    }
}

impl Sparse {
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        self.any = true;
        match name {
            b"major" => self.major = decimal_or_none(value)?,
            b"minor" => self.minor = decimal_or_none(value)?,
            b"name" if value.contains(&0) => return Err("extended header with NUL in a name"),
            b"name" => self.name = (!value.is_empty()).then(|| value.to_vec()),
            b"size" | b"realsize" => self.size = decimal_or_none(value)?,
            b"numblocks" => self.blocks = decimal_or_none(value)?,
            b"offset" if self.map.len().is_multiple_of(2) => self.map.push(decimal(value)?),
            b"numbytes" if !self.map.len().is_multiple_of(2) => self.map.push(decimal(value)?),
            b"offset" | b"numbytes" => return Err("sparse records out of order"),
            b"map" => {
                let numbers = value.split(|byte| *byte == b',').map(decimal);
                self.map = numbers.collect::<Result<_, _>>()?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Key, value, and what follows.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// One record `"%d %s=%s\n"`; the number counts the whole record.
fn record(body: &[u8]) -> Result<Record<'_>, Refusal> {
    const MALFORMED: Refusal = "malformed extended header";
    let space = body.iter().take(20).position(|byte| *byte == b' ');
    let space = space.ok_or(MALFORMED)?;
    let length = usize::try_from(decimal(&body[..space])?).map_err(|_| MALFORMED)?;
    if length > body.len() || length < space + 4 || body[length - 1] != b'\n' {
        return Err(MALFORMED);
    }
    let text = &body[space + 1..length - 1];
    let equals = text
        .iter()
        .position(|byte| *byte == b'=')
        .ok_or(MALFORMED)?;
    let (key, value) = (&text[..equals], &text[equals + 1..]);
    if key.is_empty() || key.contains(&0) {
        return Err(MALFORMED);
    }
    Ok((key, value, &body[length..]))
}

/// A decimal number with an optional minus sign.
pub(super) fn decimal(value: &[u8]) -> Result<i64, Refusal> {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err("number that is not decimal");
    }
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or("number larger than 63 bits")
}

fn decimal_or_none(value: &[u8]) -> Result<Option<i64>, Refusal> {
    if value.is_empty() {
        return Ok(None);
    }
    decimal(value).map(Some)
}

fn time_or_none(value: &[u8]) -> Result<Option<Time>, Refusal> {
    if value.is_empty() {
        return Ok(None);
    }
    let dot = value.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = dot.map_or((value, &[][..]), |dot| (&value[..dot], &value[dot + 1..]));
    let seconds = decimal(whole)?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err("time that is not decimal");
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0'));
    let nanoseconds = digits
        .take(9)
        .fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    if value.first() == Some(&b'-') && nanoseconds > 0 {
        return Ok(Some(Time {
            seconds: seconds.checked_sub(1).ok_or("time out of range")?,
            nanoseconds: 1_000_000_000 - nanoseconds,
        }));
    }
    Ok(Some(Time {
        seconds,
        nanoseconds,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_and_malformed_records() {
        let good = Records::decode(b"12 path=a/b\n16 size=1234567\n").unwrap();
        assert_eq!(
            (good.path.as_deref(), good.size),
            (Some(&b"a/b"[..]), Some(1_234_567))
        );
        assert_eq!(Records::decode(b"8 path=\n").unwrap().path, None);
        for bad in [
            &b"12 path=a/b"[..],
            b"11 path=a/b\n",
            b"13 path=a/b\n",
            b"path=a/b\n",
            b"0 path=a\n",
            b"5 =a\n\n",
            b"99999999999999999999 a=b\n",
            b"-9 path=a\n",
            b"11 path=a\0\n\n",
            b"10 size=x\n\n",
            b"25 GNU.sparse.numbytes=1\n",
            b"\0\0\0\0\0\0",
        ] {
            assert!(
                Records::decode(bad).is_err(),
                "{:?}",
                String::from_utf8_lossy(bad)
            );
        }
    }

    #[test]
    fn times() {
        let at = |text: &str| time_or_none(text.as_bytes()).unwrap().unwrap();
        let time = |seconds, nanoseconds| Time {
            seconds,
            nanoseconds,
        };
        assert_eq!(at("12.5"), time(12, 500_000_000));
        assert_eq!(at("-1.25"), time(-2, 750_000_000));
        assert_eq!(at("3.0000000019"), time(3, 1));
        assert!(time_or_none(b"1.x").is_err());
        assert!(time_or_none(b".5").is_err());
    }
}
