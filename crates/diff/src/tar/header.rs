//! One 512-byte header block.

/// Bytes of a block.
pub(super) const BLOCK: usize = 512;

/// Why a block is no header.
pub(super) type Refusal = &'static str;

/// The dialect that a block's magic names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    V7,
    Ustar,
    Star,
    Gnu,
}

/// A header block, decoded but not merged with what preceded it.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) flag: u8,
    pub(super) mode: i64,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) size: i64,
    pub(super) mtime: i64,
    pub(super) atime: i64,
    pub(super) major: i64,
    pub(super) minor: i64,
    pub(super) gnu: bool,
}

/// The text of a field up to its first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0);
    &field[..end.unwrap_or(field.len())]
}

/// A number in octal text or in base 256.
pub(super) fn number(field: &[u8]) -> Result<i64, Refusal> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base256(field),
        _ => octal(field),
    }
}

fn base256(field: &[u8]) -> Result<i64, Refusal> {
    let negative = field[0] & 0x40 != 0;
    let invert = if negative { 0xff } else { 0 };
    let mut value = 0u64;
    for (at, byte) in field.iter().enumerate() {
        let mut byte = byte ^ invert;
        if at == 0 {
            byte &= 0x7f;
        }
        if value >> 56 != 0 {
            return Err("number larger than 64 bits");
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).map_err(|_| "number larger than 63 bits")?;
    Ok(if negative { !value } else { value })
}

fn octal(field: &[u8]) -> Result<i64, Refusal> {
    let is_pad = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_pad(byte));
    let Some(start) = start else { return Ok(0) };
    let end = field
        .iter()
        .rposition(|byte| !is_pad(byte))
        .unwrap_or(start);
    let digits = text(&field[start..=end]);
    let mut value = 0i64;
    for byte in digits {
        if !matches!(byte, b'0'..=b'7') {
            return Err("number that is not octal");
        }
        value = value
            .checked_mul(8)
            .and_then(|value| value.checked_add(i64::from(byte - b'0')))
            .ok_or("number larger than 63 bits")?;
    }
    Ok(value)
}

fn format(block: &[u8; BLOCK]) -> Format {
    match (&block[257..263], &block[263..265]) {
        (b"ustar ", b" \0") => Format::Gnu,
        (b"ustar\0", _) if &block[508..512] == b"tar\0" => Format::Star,
        (b"ustar\0", _) => Format::Ustar,
        _ => Format::V7,
    }
}

fn check_sum(block: &[u8; BLOCK]) -> Result<(), Refusal> {
    let (mut unsigned, mut signed) = (0i64, 0i64);
    for (at, byte) in block.iter().enumerate() {
        // The sum is taken with its own field as blanks; some writers added signed bytes.
        let byte = if (148..156).contains(&at) {
            b' '
        } else {
            *byte
        };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    let wanted = octal(&block[148..156])?;
    if wanted == unsigned || wanted == signed {
        Ok(())
    } else {
        Err("header checksum is wrong")
    }
}

impl Header {
    pub(super) fn decode(block: &[u8; BLOCK]) -> Result<Self, Refusal> {
        check_sum(block)?;
        let format = format(block);
        let mut header = Self {
            name: text(&block[0..100]).to_vec(),
            link: text(&block[157..257]).to_vec(),
            flag: block[156],
            mode: number(&block[100..108])?,
            uid: number(&block[108..116])?,
            gid: number(&block[116..124])?,
            size: number(&block[124..136])?,
            mtime: number(&block[136..148])?,
            atime: 0,
            major: 0,
            minor: 0,
            gnu: format == Format::Gnu,
        };
        if format == Format::V7 {
            return Ok(header);
        }
        header.major = number(&block[329..337])?;
        header.minor = number(&block[337..345])?;
        let prefix = match format {
            Format::V7 => &[][..],
            Format::Ustar => text(&block[345..500]),
            Format::Star => {
                header.atime = number(&block[476..488])?;
                number(&block[488..500])?;
                text(&block[345..476])
            }
            Format::Gnu => header.gnu_times(block),
        };
        if !prefix.is_empty() {
            let name = std::mem::take(&mut header.name);
            header.name = [prefix, b"/", &name].concat();
        }
        Ok(header)
    }

    /// GNU keeps times where ustar keeps the prefix. Writers before Go 1.9 wrote a prefix there all the same, and
    /// images made with them are still pulled: times that are no numbers mean a prefix.
    fn gnu_times<'a>(&mut self, block: &'a [u8; BLOCK]) -> &'a [u8] {
        let time = |range: std::ops::Range<usize>| {
            if block[range.start] == 0 {
                Ok(0)
            } else {
                number(&block[range])
            }
        };
        match (time(345..357), time(357..369)) {
            (Ok(atime), Ok(_)) => {
                self.atime = atime;
                &[]
            }
            _ => {
                let prefix = text(&block[345..500]);
                if prefix.is_ascii() { prefix } else { &[] }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let cases: [(&[u8], Result<i64, ()>); 12] = [
            (b"0000644\0", Ok(0o644)),
            (b" 644 \0\0\0", Ok(0o644)),
            (b"\0\0\0\0", Ok(0)),
            (b"", Ok(0)),
            (b"9", Err(())),
            (b"12 4", Err(())),
            (b"-1", Err(())),
            (&[0x80, 0, 1, 0], Ok(256)),
            (&[0xff, 0xff, 0xff], Ok(-1)),
            (&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0], Err(())),
            (&[0x80, 0x80, 0, 0, 0, 0, 0, 0, 0], Err(())),
            (&[0xff, 0xfe], Ok(-2)),
        ];
        for (field, wanted) in cases {
            assert_eq!(number(field).map_err(|_| ()), wanted, "{field:?}");
        }
    }
}
