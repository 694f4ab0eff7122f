//! Archives made byte by byte, so that no writer's manners get in the way of a hostile one.

/// A tar stream in the making.
#[derive(Debug, Clone, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
}

/// One header block.
#[derive(Debug, Clone)]
pub(crate) struct Head<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) link: &'a [u8],
    pub(crate) flag: u8,
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) size: u64,
    pub(crate) mtime: u64,
    pub(crate) device: (i64, i64),
}

impl Default for Head<'_> {
    fn default() -> Self {
        Self {
            name: b"",
            link: b"",
            flag: b'0',
            mode: 0o644,
            owner: (0, 0),
            size: 0,
            mtime: 1_000_000_000,
            device: (0, 0),
        }
    }
}

fn number(field: &mut [u8], value: i64) {
    let digits = field.len() - 1;
    let octal = format!("{value:0digits$o}");
    if value >= 0 && octal.len() <= digits {
        field[..digits].copy_from_slice(octal.as_bytes());
        return;
    }
    field.fill(if value < 0 { 0xff } else { 0 });
    let bytes = value.to_be_bytes();
    let from = bytes.len().saturating_sub(field.len());
    let at = field.len().saturating_sub(bytes.len());
    field[at..].copy_from_slice(&bytes[from..]);
    field[0] |= 0x80;
}

impl Archive {
    pub(crate) fn head(mut self, head: &Head<'_>) -> Self {
        let mut block = [0u8; 512];
        assert!(head.name.len() <= 100 && head.link.len() <= 100, "use pax");
        block[..head.name.len()].copy_from_slice(head.name);
        number(&mut block[100..108], i64::from(head.mode));
        number(&mut block[108..116], head.owner.0 as i64);
        number(&mut block[116..124], head.owner.1 as i64);
        number(&mut block[124..136], head.size as i64);
        number(&mut block[136..148], head.mtime as i64);
        block[156] = head.flag;
        block[157..157 + head.link.len()].copy_from_slice(head.link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        number(&mut block[329..337], head.device.0);
        number(&mut block[337..345], head.device.1);
        sign(&mut block);
        self.bytes.extend_from_slice(&block);
        self
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.bytes.extend_from_slice(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, body: &[u8]) -> Self {
        self.file_mode(name, body, 0o644)
    }

    pub(crate) fn file_mode(self, name: &str, body: &[u8], mode: u32) -> Self {
        let head = Head {
            name: name.as_bytes(),
            size: body.len() as u64,
            mode,
            ..Head::default()
        };
        self.head(&head).body(body)
    }

    pub(crate) fn dir(self, name: &str, mode: u32) -> Self {
        self.head(&Head {
            name: name.as_bytes(),
            flag: b'5',
            mode,
            ..Head::default()
        })
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.link(name, target, b'2')
    }

    pub(crate) fn hardlink(self, name: &str, target: &str) -> Self {
        self.link(name, target, b'1')
    }

    fn link(self, name: &str, target: &str, flag: u8) -> Self {
        let head = Head {
            name: name.as_bytes(),
            flag,
            mode: 0o777,
            ..Head::default()
        };
        if target.len() > 100 {
            return self.pax(&[("linkpath", target.as_bytes())]).head(&head);
        }
        self.head(&Head {
            link: target.as_bytes(),
            mode: if flag == b'1' { 0o644 } else { 0o777 },
            ..head
        })
    }

    pub(crate) fn device(self, name: &str, flag: u8, device: (i64, i64)) -> Self {
        self.head(&Head {
            name: name.as_bytes(),
            flag,
            mode: 0o600,
            device,
            ..Head::default()
        })
    }

    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.special(b'x', &body)
    }

    pub(crate) fn special(self, flag: u8, body: &[u8]) -> Self {
        let head = Head {
            name: b"special",
            flag,
            size: body.len() as u64,
            ..Head::default()
        };
        self.head(&head).body(body)
    }

    /// The stream with its two zero blocks.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}

fn sign(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
