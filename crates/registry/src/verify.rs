//! Hashing while bytes pass.

use model::{Algorithm, Digest};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// A running digest of any algorithm that the store accepts.
#[derive(Debug, Clone)]
pub struct Hasher(State);

#[derive(Debug, Clone)]
enum State {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hasher {
    /// Starts with no bytes.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha384 => State::Sha384(Sha384::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha384(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of all bytes so far.
    pub fn finish(self) -> Digest {
        let (name, bytes) = match self.0 {
            State::Sha256(state) => ("sha256", state.finalize().to_vec()),
            State::Sha384(state) => ("sha384", state.finalize().to_vec()),
            State::Sha512(state) => ("sha512", state.finalize().to_vec()),
        };
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{name}:{hex}")
            .parse()
            .expect("a hash has its algorithm's length")
    }

    /// The digest of `bytes`.
    pub fn digest(algorithm: Algorithm, bytes: &[u8]) -> Digest {
        let mut hasher = Self::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests() {
        assert_eq!(
            Hasher::digest(Algorithm::Sha256, b"").hex(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        for algorithm in [Algorithm::Sha384, Algorithm::Sha512] {
            assert_eq!(Hasher::digest(algorithm, b"x").algorithm(), algorithm);
        }
    }
}
