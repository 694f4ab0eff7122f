//! Running digests of the algorithms we accept.

use std::fmt;
use std::io;
use std::os::unix::fs::FileExt;

use model::{Algorithm, Digest};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// Bytes read at once while hashing what is on the disk.
const READ_BYTES: usize = 1 << 20;

/// A digest that grows with the bytes written.
#[derive(Clone)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha384 => Self::Sha384(Sha384::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha384(_) => Algorithm::Sha384,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha384(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of the bytes so far.
    pub(crate) fn digest(&self) -> Digest {
        match self.clone() {
            Self::Sha256(hasher) => Digest::from_sha256(hasher.finalize().into()),
            Self::Sha384(hasher) => named(Algorithm::Sha384, &hasher.finalize()),
            Self::Sha512(hasher) => named(Algorithm::Sha512, &hasher.finalize()),
        }
    }

    /// Hashes a file from its start to its end and answers how many bytes that were.
    pub(crate) fn read(&mut self, file: &impl FileExt) -> io::Result<u64> {
        let mut buffer = vec![0; READ_BYTES];
        let mut offset = 0;
        loop {
            match file.read_at(&mut buffer, offset) {
                Ok(0) => return Ok(offset),
                Ok(length) => {
                    self.update(&buffer[..length]);
                    offset += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.algorithm().as_str())
    }
}

fn named(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut text = format!("{}:", algorithm.as_str());
    text.push_str(&hex(bytes));
    text.parse()
        .expect("the digits of an algorithm's own length")
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.map(digit).collect()
}

/// The folder name of a ref: the hexadecimal SHA-256 of its text.
pub(crate) fn folder_of_ref(reference: &str) -> String {
    hex(&Sha256::digest(reference.as_bytes()))
}
