//! The messages between the daemon and its worker: one each a packet, numbers little-endian.

use model::ErrorKind;

use crate::Error;
use crate::apply::{Deletions, Progress};
use crate::limits::{Limits, PATH_BYTES_MAX};

/// Largest message, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 << 10;
/// Longest text of an error that is sent, in bytes.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// What the worker is told; the layer and the target travel with it, the parents in messages behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) limits: Limits,
    pub(crate) deletions: Deletions,
    pub(crate) skip_devices: bool,
    pub(crate) write_back: bool,
    pub(crate) parents: u32,
}

/// What the worker answers when all is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) diff_id: [u8; 32],
    pub(crate) tar_size: u64,
    pub(crate) layer_digest: [u8; 32],
    pub(crate) layer_size: u64,
    pub(crate) entries: u64,
    pub(crate) skipped: u64,
    pub(crate) landlock: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    Progress(Progress),
    /// Asks to mark a folder opaque; the worker waits for [`Message::Marked`].
    Opaque(Vec<u8>),
    /// 0, or the number of the error.
    Marked(i32),
    Done(Box<Done>),
    Failed(ErrorKind, String),
}

const KINDS: [ErrorKind; 16] = [
    ErrorKind::Unknown,
    ErrorKind::InvalidArgument,
    ErrorKind::NotFound,
    ErrorKind::AlreadyExists,
    ErrorKind::PermissionDenied,
    ErrorKind::ResourceExhausted,
    ErrorKind::FailedPrecondition,
    ErrorKind::Aborted,
    ErrorKind::OutOfRange,
    ErrorKind::Unimplemented,
    ErrorKind::Internal,
    ErrorKind::Unavailable,
    ErrorKind::DataLoss,
    ErrorKind::Unauthenticated,
    ErrorKind::DeadlineExceeded,
    ErrorKind::Canceled,
];

struct Writer(Vec<u8>);

impl Writer {
    fn numbers(mut self, numbers: &[u64]) -> Vec<u8> {
        for number in numbers {
            self.0.extend_from_slice(&number.to_le_bytes());
        }
        self.0
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Error::Protocol {
            reason: "short message",
        })?;
        self.0 = rest;
        Ok(*head)
    }

    fn number(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn byte(&mut self) -> Result<u8, Error> {
        Ok(self.take::<1>()?[0])
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn end(&self) -> Result<(), Error> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Error::Protocol {
                reason: "long message",
            })
        }
    }
}

impl Start {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let deletions = match self.deletions {
            Deletions::Remove => 0,
            Deletions::Overlay => 1,
            Deletions::OverlayUser => 2,
        };
        let flags = vec![
            deletions,
            u8::from(self.skip_devices),
            u8::from(self.write_back),
        ];
        let limits = &self.limits;
        Writer(flags).numbers(&[
            limits.tar_bytes,
            limits.layer_bytes,
            limits.ratio,
            limits.ratio_free_bytes,
            limits.entries,
            u64::from(self.parents),
        ])
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut cursor = Cursor(bytes);
        let deletions = match cursor.byte()? {
            0 => Deletions::Remove,
            1 => Deletions::Overlay,
            2 => Deletions::OverlayUser,
            _ => {
                return Err(Error::Protocol {
                    reason: "unknown target",
                });
            }
        };
        let start = Self {
            deletions,
            skip_devices: cursor.byte()? != 0,
            write_back: cursor.byte()? != 0,
            limits: Limits {
                tar_bytes: cursor.number()?,
                layer_bytes: cursor.number()?,
                ratio: cursor.number()?,
                ratio_free_bytes: cursor.number()?,
                entries: cursor.number()?,
            },
            parents: u32::try_from(cursor.number()?).unwrap_or(u32::MAX),
        };
        cursor.end()?;
        Ok(start)
    }
}

impl Message {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Progress(now) => {
                Writer(vec![1]).numbers(&[now.layer_bytes, now.tar_bytes, now.entries])
            }
            Self::Opaque(path) => [&[2], path.as_slice()].concat(),
            Self::Marked(errno) => [&[3], errno.to_le_bytes().as_slice()].concat(),
            Self::Done(done) => {
                let digests = [&[4], done.diff_id.as_slice(), &done.layer_digest].concat();
                Writer(digests).numbers(&[
                    done.tar_size,
                    done.layer_size,
                    done.entries,
                    done.skipped,
                    u64::from(done.landlock),
                ])
            }
            Self::Failed(kind, text) => {
                let kind = KINDS.iter().position(|known| known == kind).unwrap_or(0);
                let text = &text.as_bytes()[..text.len().min(TEXT_BYTES_MAX)];
                [&[5, kind as u8], text].concat()
            }
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut cursor = Cursor(bytes);
        let message = match cursor.byte()? {
            1 => Self::Progress(Progress {
                layer_bytes: cursor.number()?,
                tar_bytes: cursor.number()?,
                entries: cursor.number()?,
            }),
            2 => {
                let path = cursor.rest();
                if path.len() > PATH_BYTES_MAX {
                    return Err(Error::Protocol {
                        reason: "long path",
                    });
                }
                Self::Opaque(path.to_vec())
            }
            3 => Self::Marked(i32::from_le_bytes(cursor.take()?)),
            4 => Self::Done(Box::new(Done {
                diff_id: cursor.take()?,
                layer_digest: cursor.take()?,
                tar_size: cursor.number()?,
                layer_size: cursor.number()?,
                entries: cursor.number()?,
                skipped: cursor.number()?,
                landlock: u32::try_from(cursor.number()?).unwrap_or(0),
            })),
            5 => {
                let kind = usize::from(cursor.byte()?);
                let kind = KINDS.get(kind).copied().unwrap_or(ErrorKind::Unknown);
                Self::Failed(kind, String::from_utf8_lossy(cursor.rest()).into_owned())
            }
            _ => {
                return Err(Error::Protocol {
                    reason: "unknown message",
                });
            }
        };
        cursor.end()?;
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_way() {
        let done = Done {
            diff_id: [1; 32],
            tar_size: 2,
            layer_digest: [3; 32],
            layer_size: 4,
            entries: 5,
            skipped: 6,
            landlock: 7,
        };
        for message in [
            Message::Progress(Progress {
                layer_bytes: 1,
                tar_bytes: u64::MAX,
                entries: 3,
            }),
            Message::Opaque(b"a/b".to_vec()),
            Message::Marked(-5),
            Message::Done(Box::new(done)),
            Message::Failed(ErrorKind::Unimplemented, "no".into()),
        ] {
            let bytes = message.encode();
            assert_eq!(Message::decode(&bytes).unwrap(), message);
            if !matches!(message, Message::Opaque(_) | Message::Failed(..)) {
                assert!(Message::decode(&bytes[..bytes.len() - 1]).is_err());
                assert!(Message::decode(&[&bytes[..], &[0]].concat()).is_err());
            }
        }
        let start = Start {
            limits: Limits::default(),
            deletions: Deletions::OverlayUser,
            skip_devices: true,
            write_back: false,
            parents: 300,
        };
        assert_eq!(Start::decode(&start.encode()).unwrap(), start);
    }
}
