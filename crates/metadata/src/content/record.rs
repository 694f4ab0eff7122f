//! The records of blobs and ingests.

use model::{Digest, Timestamp};

use super::ContentInfo;
use crate::codec::{Malformed, Reader, Writer};
use crate::key::{BLOBS, INGESTS};
use crate::record::Record;

const FORM: u8 = 1;

impl Record for ContentInfo {
    const TABLE: u8 = BLOBS;

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(FORM);
        writer
            .time(self.created)
            .time(self.updated)
            .number(self.size)
            .labels(&self.labels);
        writer.finish()
    }

    fn decode(name: &str, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, FORM)?;
        Ok(Self {
            digest: digest(name)?,
            created: reader.time()?,
            updated: reader.time()?,
            size: reader.number()?,
            labels: reader.labels()?,
        })
    }
}

/// An ingest as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IngestRow {
    /// The client's ref.
    pub(crate) reference: String,
    /// The ref of the backend: namespace, number, client's ref.
    pub(crate) backend: String,
    /// When it is given up; `None` while a lease holds it.
    pub(crate) expires: Option<Timestamp>,
    /// The blob of another namespace that it links when committed.
    pub(crate) expected: Option<Digest>,
}

impl Record for IngestRow {
    const TABLE: u8 = INGESTS;

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(FORM);
        writer.text(&self.backend);
        match self.expires {
            None => writer.number(0),
            Some(time) => writer.number(1).time(time),
        };
        writer.optional(self.expected.as_ref().map(Digest::as_str));
        writer.finish()
    }

    fn decode(name: &str, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, FORM)?;
        Ok(Self {
            reference: name.to_owned(),
            backend: reader.text()?,
            expires: reader.present()?.then(|| reader.time()).transpose()?,
            expected: reader.optional()?.map(|text| digest(&text)).transpose()?,
        })
    }
}

fn digest(text: &str) -> Result<Digest, Malformed> {
    text.parse().map_err(|_| Malformed("a bad digest"))
}
