//! The events that the store publishes, in their wire form (`containerd.events`).

use events::Any;
use model::Labels;

/// Builds one message of texts and labels; empty fields are left out, as proto3 does.
#[derive(Debug)]
pub(crate) struct Message {
    name: &'static str,
    value: Vec<u8>,
}

impl Message {
    /// `name` is the full name of the message; a nested one needs none.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            value: Vec::new(),
        }
    }

    pub(crate) fn text(mut self, field: u8, text: &str) -> Self {
        if !text.is_empty() {
            delimited(&mut self.value, field, text.as_bytes());
        }
        self
    }

    pub(crate) fn number(mut self, field: u8, number: u64) -> Self {
        if number != 0 {
            self.value.push(field << 3);
            varint(&mut self.value, number);
        }
        self
    }

    pub(crate) fn labels(mut self, field: u8, labels: &Labels) -> Self {
        for (key, value) in labels {
            let mut entry = Vec::with_capacity(key.len() + value.len() + 8);
            delimited(&mut entry, 1, key.as_bytes());
            delimited(&mut entry, 2, value.as_bytes());
            delimited(&mut self.value, field, &entry);
        }
        self
    }

    pub(crate) fn message(mut self, field: u8, inner: &Self) -> Self {
        delimited(&mut self.value, field, &inner.value);
        self
    }

    pub(crate) fn any_field(self, field: u8, any: Option<&Any>) -> Self {
        let Some(any) = any else { return self };
        let mut inner = Self::new("").text(1, &any.type_url);
        if !any.value.is_empty() {
            delimited(&mut inner.value, 2, &any.value);
        }
        self.message(field, &inner)
    }

    pub(crate) fn any(self) -> Any {
        Any {
            type_url: self.name.to_owned(),
            value: self.value,
        }
    }
}

fn delimited(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
