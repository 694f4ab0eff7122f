//! The record of a snapshot.

use model::{Labels, Timestamp};
use snapshots::{Kind, SnapshotId, Usage};

use crate::codec::{Malformed, Reader, Writer};

const FORM: u8 = 1;

/// A snapshot as it is recorded, without its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: SnapshotId,
    pub(crate) kind: Kind,
    pub(crate) parent: Option<String>,
    pub(crate) labels: Labels,
    pub(crate) created: Timestamp,
    pub(crate) updated: Timestamp,
    /// As counted at commit; nothing before.
    pub(crate) usage: Usage,
}

impl Row {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(FORM);
        writer
            .number(self.id.0)
            .number(match self.kind {
                Kind::Active => 0,
                Kind::View => 1,
                Kind::Committed => 2,
            })
            .optional(self.parent.as_deref())
            .labels(&self.labels)
            .time(self.created)
            .time(self.updated)
            .number(self.usage.size)
            .number(self.usage.inodes);
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, FORM)?;
        Ok(Self {
            id: SnapshotId(reader.number()?),
            kind: match reader.number()? {
                0 => Kind::Active,
                1 => Kind::View,
                2 => Kind::Committed,
                _ => return Err(Malformed("a kind that is none")),
            },
            parent: reader.optional()?,
            labels: reader.labels()?,
            created: reader.time()?,
            updated: reader.time()?,
            usage: Usage {
                size: reader.number()?,
                inodes: reader.number()?,
            },
        })
    }
}
