//! What a filter can ask about an event: `namespace`, `topic` and `event.<field path>`.
//!
//! The messages of `containerd.events` are read straight from their wire form by one table of field numbers, so
//! that a filter costs no decoding of what it does not ask for. Fields that are no text, a message of another
//! type, or damaged bytes never match, as upstream.

use std::borrow::Cow;

use model::filter::{Fields, text_field};
use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};

use crate::Envelope;

impl Fields for Envelope {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["namespace"] => text_field(self.namespace.as_str()),
            ["topic"] => text_field(&self.topic),
            ["event", path @ ..] => {
                let name = self.event.type_url.rsplit('/').next()?;
                // The image events alone live in the package of their service.
                let name = name
                    .strip_prefix("containerd.events.")
                    .or_else(|| name.strip_prefix("containerd.services.images.v1."))?;
                lookup(message(name)?, &self.event.value, path)
            }
            _ => None,
        }
    }
}

/// The name and number of one field.
struct Field(&'static str, u32, Kind);

enum Kind {
    Text,
    Flag,
    Labels,
    Message(&'static [Field]),
}
use Kind::{Flag, Labels, Message, Text};

/// The fields that upstream lets filters ask for.
fn message(name: &str) -> Option<&'static [Field]> {
    Some(match name {
        "ContainerCreate" => &[
            Field("id", 1, Text),
            Field("image", 2, Text),
            Field("runtime", 3, Message(&[Field("name", 1, Text)])),
        ],
        "ContainerUpdate" => &[
            Field("id", 1, Text),
            Field("image", 2, Text),
            Field("labels", 3, Labels),
            Field("snapshot_key", 4, Text),
        ],
        "ContainerDelete" => &[Field("id", 1, Text)],
        "ContentCreate" => &[Field("digest", 1, Text), Field("mediaType", 3, Text)],
        "ContentDelete" => &[Field("digest", 1, Text)],
        "ImageCreate" | "ImageUpdate" | "NamespaceCreate" | "NamespaceUpdate" => {
            &[Field("name", 1, Text), Field("labels", 2, Labels)]
        }
        "ImageDelete" | "NamespaceDelete" => &[Field("name", 1, Text)],
        "SandboxCreate" | "SandboxStart" | "SandboxExit" => &[Field("sandbox_id", 1, Text)],
        "SnapshotPrepare" => &[
            Field("key", 1, Text),
            Field("parent", 2, Text),
            Field("snapshotter", 5, Text),
        ],
        "SnapshotCommit" => &[
            Field("key", 1, Text),
            Field("name", 2, Text),
            Field("snapshotter", 5, Text),
        ],
        "SnapshotRemove" => &[Field("key", 1, Text), Field("snapshotter", 5, Text)],
        "TaskCreate" => &[
            Field("container_id", 1, Text),
            Field("bundle", 2, Text),
            Field("io", 4, Message(TASK_IO)),
            Field("checkpoint", 5, Text),
        ],
        "TaskStart" | "TaskOOM" | "TaskPaused" | "TaskResumed" => &[Field("container_id", 1, Text)],
        "TaskDelete" => &[Field("container_id", 1, Text), Field("id", 5, Text)],
        "TaskExit" => &[Field("container_id", 1, Text), Field("id", 2, Text)],
        "TaskExecAdded" | "TaskExecStarted" => {
            &[Field("container_id", 1, Text), Field("exec_id", 2, Text)]
        }
        "TaskCheckpointed" => &[Field("container_id", 1, Text), Field("checkpoint", 2, Text)],
        _ => return None,
    })
}

const TASK_IO: &[Field] = &[
    Field("stdin", 1, Text),
    Field("stdout", 2, Text),
    Field("stderr", 3, Text),
    Field("terminal", 4, Flag),
];

fn lookup<'a>(fields: &[Field], bytes: &'a [u8], path: &[&str]) -> Option<Cow<'a, str>> {
    let (name, rest) = path.split_first()?;
    let Field(_, number, kind) = fields.iter().find(|field| field.0 == *name)?;
    match kind {
        Text => {
            let text = std::str::from_utf8(last(bytes, *number)?.bytes()?).ok()?;
            text_field(text)
        }
        Flag => match last(bytes, *number) {
            Some(Value::Varint(number)) if number != 0 => Some("true".into()),
            _ => Some("false".into()),
        },
        Labels => label(bytes, *number, &rest.join(".")),
        Message(inner) => lookup(inner, last(bytes, *number)?.bytes()?, rest),
    }
}

fn label<'a>(bytes: &'a [u8], number: u32, key: &str) -> Option<Cow<'a, str>> {
    let mut found = None;
    for (field, value) in Walk(bytes) {
        let Some(entry) = (field == number).then(|| value.bytes()).flatten() else {
            continue;
        };
        // A map entry is a message with the key as field 1 and the value as field 2; absent means empty.
        let text = |number| {
            let bytes = last(entry, number).and_then(Value::bytes).unwrap_or(&[]);
            std::str::from_utf8(bytes).ok()
        };
        if text(1) == Some(key) {
            found = text(2).map(Cow::Borrowed);
        }
    }
    found
}

/// The last value of a field: of several the last one counts (protobuf encoding, "last one wins").
fn last(bytes: &[u8], number: u32) -> Option<Value<'_>> {
    Walk(bytes)
        .filter(|(field, _)| *field == number)
        .last()
        .map(|(_, value)| value)
}

enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed,
}

impl<'a> Value<'a> {
    fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Varint(_) | Self::Fixed => None,
        }
    }
}

/// The fields of a message in wire order; ends at the first damaged one.
struct Walk<'a>(&'a [u8]);

impl<'a> Iterator for Walk<'a> {
    type Item = (u32, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if !self.0.has_remaining() {
            return None;
        }
        let (number, wire) = decode_key(&mut self.0).ok()?;
        let value = match wire {
            WireType::Varint => Value::Varint(decode_varint(&mut self.0).ok()?),
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut self.0).ok()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            WireType::ThirtyTwoBit => {
                self.0 = self.0.get(4..)?;
                Value::Fixed
            }
            WireType::SixtyFourBit => {
                self.0 = self.0.get(8..)?;
                Value::Fixed
            }
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        Some((number, value))
    }
}
