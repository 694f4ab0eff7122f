//! The binary form of records: fields in order, numbers as LEB128, texts and bytes with their length before them.
//!
//! Every record begins with the version of its form, so that a later version can read an earlier one.

use std::collections::BTreeMap;

use events::Any;
use model::Timestamp;

/// Writes fields in order.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

/// The bytes end early or break the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl Writer {
    pub(crate) fn new(version: u8) -> Self {
        Self(vec![version])
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn number(&mut self, mut number: u64) -> &mut Self {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
        self
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    pub(crate) fn optional(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            None => self.number(0),
            Some(text) => self.number(1).text(text),
        }
    }

    /// Seconds since 1970 in zigzag form, then nanoseconds in zigzag form.
    pub(crate) fn time(&mut self, time: Timestamp) -> &mut Self {
        let zigzag = |number: i64| ((number << 1) ^ (number >> 63)).cast_unsigned();
        self.number(zigzag(time.as_second()));
        self.number(zigzag(i64::from(time.subsec_nanosecond())))
    }

    pub(crate) fn labels(&mut self, labels: &BTreeMap<String, String>) -> &mut Self {
        self.number(labels.len() as u64);
        for (key, value) in labels {
            self.text(key).text(value);
        }
        self
    }

    pub(crate) fn any(&mut self, any: Option<&Any>) -> &mut Self {
        match any {
            None => self.number(0),
            Some(any) => self.number(1).text(&any.type_url).bytes(&any.value),
        }
    }

    pub(crate) fn anys(&mut self, anys: &BTreeMap<String, Any>) -> &mut Self {
        self.number(anys.len() as u64);
        for (key, value) in anys {
            self.text(key).any(Some(value));
        }
        self
    }
}

/// Reads fields in the order in which they were written.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Begins a record that must be of `version`.
    pub(crate) fn new(bytes: &'a [u8], version: u8) -> Result<Self, Malformed> {
        match bytes.split_first() {
            Some((first, rest)) if *first == version => Ok(Self(rest)),
            Some(_) => Err(Malformed("a form of another version")),
            None => Err(Malformed("empty")),
        }
    }

    pub(crate) fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Malformed("cut off"))?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed("a number too long"))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.number()?).map_err(|_| Malformed("a length too long"))?;
        let (bytes, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(Malformed("cut off"))?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn text(&mut self) -> Result<String, Malformed> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| Malformed("text that is no UTF-8"))
    }

    pub(crate) fn optional(&mut self) -> Result<Option<String>, Malformed> {
        self.present()?.then(|| self.text()).transpose()
    }

    pub(crate) fn present(&mut self) -> Result<bool, Malformed> {
        match self.number()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("a flag that is neither 0 nor 1")),
        }
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, Malformed> {
        let mut zigzag = || {
            let number = self.number()?;
            Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
        };
        let second = zigzag()?;
        let nanosecond = i32::try_from(zigzag()?).map_err(|_| Malformed("a time out of range"))?;
        Timestamp::new(second, nanosecond).map_err(|_| Malformed("a time out of range"))
    }

    pub(crate) fn labels(&mut self) -> Result<BTreeMap<String, String>, Malformed> {
        let count = self.number()?;
        (0..count)
            .map(|_| Ok((self.text()?, self.text()?)))
            .collect()
    }

    pub(crate) fn any(&mut self) -> Result<Option<Any>, Malformed> {
        if !self.present()? {
            return Ok(None);
        }
        Ok(Some(Any {
            type_url: self.text()?,
            value: self.bytes()?.to_vec(),
        }))
    }

    pub(crate) fn anys(&mut self) -> Result<BTreeMap<String, Any>, Malformed> {
        let count = self.number()?;
        (0..count)
            .map(|_| {
                let key = self.text()?;
                let value = self.any()?.ok_or(Malformed("an extension without value"))?;
                Ok((key, value))
            })
            .collect()
    }
}
