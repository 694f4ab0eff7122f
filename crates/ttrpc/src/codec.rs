//! Frames as bytes, without IO.

/// Length of a frame's header in bytes.
pub const HEADER_BYTES: usize = 10;

/// Largest payload of one frame in bytes (ttrpc `PROTOCOL.md`, "Message Frame").
pub const PAYLOAD_BYTES_MAX: usize = 4 << 20;

/// Capacity in bytes that an idle decoder may keep.
const IDLE_BYTES_MAX: usize = 16 << 10;

/// Flag: the sender will send no more on this stream.
pub const FLAG_REMOTE_CLOSED: u8 = 0x01;
/// Flag: the sender will send data messages on this stream.
pub const FLAG_REMOTE_OPEN: u8 = 0x02;
/// Flag: the frame carries no message.
pub const FLAG_NO_DATA: u8 = 0x04;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A call, client to server.
    Request,
    /// The answer, server to client.
    Response,
    /// One message of a stream.
    Data,
    /// A kind this version does not know.
    Other(u8),
}

impl Kind {
    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Data,
            other => Self::Other(other),
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Data => 3,
            Self::Other(byte) => byte,
        }
    }
}

/// The first ten bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Length of the payload in bytes.
    pub length: u32,
    /// The call this frame belongs to: odd and growing when a client began it.
    pub stream: u32,
    /// What the payload is.
    pub kind: Kind,
    /// `FLAG_*` bits.
    pub flags: u8,
}

impl Header {
    /// The header as it goes over the wire.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&self.length.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.stream.to_be_bytes());
        bytes[8] = self.kind.byte();
        bytes[9] = self.flags;
        bytes
    }

    /// Reads a header; any ten bytes are one.
    pub fn from_bytes(bytes: [u8; HEADER_BYTES]) -> Self {
        let [l0, l1, l2, l3, s0, s1, s2, s3, kind, flags] = bytes;
        Self {
            length: u32::from_be_bytes([l0, l1, l2, l3]),
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            kind: Kind::from_byte(kind),
            flags,
        }
    }
}

/// One whole frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The call this frame belongs to.
    pub stream: u32,
    /// What the payload is.
    pub kind: Kind,
    /// `FLAG_*` bits.
    pub flags: u8,
    /// The encoded message.
    pub payload: Vec<u8>,
}

/// The peer, or the caller, broke the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A payload is longer than [`PAYLOAD_BYTES_MAX`].
    #[error("message of {length} bytes exceeds the maximum of {PAYLOAD_BYTES_MAX} bytes")]
    TooLong {
        /// Length of the payload in bytes.
        length: usize,
    },
    /// The payload is not the message its header promises.
    #[error("payload of stream {stream} is no {what}")]
    Malformed {
        /// The stream of the frame.
        stream: u32,
        /// The expected message.
        what: &'static str,
    },
    /// More answers wait to be sent than the peer may leave unread.
    #[error("peer leaves more than {limit} bytes unread")]
    Backlog {
        /// The limit in bytes.
        limit: usize,
    },
}

impl model::Kinded for ProtocolError {
    fn kind(&self) -> model::ErrorKind {
        match self {
            Self::TooLong { .. } | Self::Backlog { .. } => model::ErrorKind::ResourceExhausted,
            Self::Malformed { .. } => model::ErrorKind::InvalidArgument,
        }
    }
}

/// Appends one frame with an already encoded payload.
///
/// Fails with [`ProtocolError::TooLong`] and then leaves `out` as it was.
pub fn encode(
    out: &mut Vec<u8>,
    stream: u32,
    kind: Kind,
    flags: u8,
    payload: &[u8],
) -> Result<(), ProtocolError> {
    let header = header_for(payload.len(), stream, kind, flags)?;
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(payload);
    Ok(())
}

/// Appends one frame with `message` as payload, encoded in place.
///
/// Fails with [`ProtocolError::TooLong`] and then leaves `out` as it was.
pub fn encode_message(
    out: &mut Vec<u8>,
    stream: u32,
    kind: Kind,
    message: &impl prost::Message,
) -> Result<(), ProtocolError> {
    let header = header_for(message.encoded_len(), stream, kind, 0)?;
    out.extend_from_slice(&header.to_bytes());
    message
        .encode(out)
        .expect("a Vec grows, so prost's only error cannot occur");
    Ok(())
}

fn header_for(length: usize, stream: u32, kind: Kind, flags: u8) -> Result<Header, ProtocolError> {
    if length > PAYLOAD_BYTES_MAX {
        return Err(ProtocolError::TooLong { length });
    }
    let length = u32::try_from(length).map_err(|_| ProtocolError::TooLong { length })?;
    Ok(Header {
        length,
        stream,
        kind,
        flags,
    })
}

/// Cuts a stream of bytes into frames; holds at most one frame and what was read along with it.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// Takes bytes as they came from the peer.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// True when no part of a frame is held.
    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// The next whole frame, or `None` until more bytes come.
    ///
    /// After [`ProtocolError::TooLong`] the connection has to be closed: the place of the next frame is unknown.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ProtocolError> {
        let rest = &self.bytes[self.start..];
        let Some((header, body)) = rest.split_first_chunk::<HEADER_BYTES>() else {
            self.compact();
            return Ok(None);
        };
        let header = Header::from_bytes(*header);
        let length = header.length as usize;
        if length > PAYLOAD_BYTES_MAX {
            return Err(ProtocolError::TooLong { length });
        }
        let Some(payload) = body.get(..length) else {
            self.compact();
            return Ok(None);
        };
        let frame = Frame {
            stream: header.stream,
            kind: header.kind,
            flags: header.flags,
            payload: payload.to_vec(),
        };
        self.start += HEADER_BYTES + length;
        Ok(Some(frame))
    }

    fn compact(&mut self) {
        self.bytes.drain(..self.start);
        self.start = 0;
        if self.bytes.is_empty() && self.bytes.capacity() > IDLE_BYTES_MAX {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn header_is_big_endian() {
        let header = Header {
            length: 0x0102,
            stream: 3,
            kind: Kind::Request,
            flags: FLAG_REMOTE_CLOSED,
        };
        assert_eq!(header.to_bytes(), [0, 0, 1, 2, 0, 0, 0, 3, 1, 1]);
    }

    #[test]
    fn the_limit_is_exact() {
        let mut out = Vec::new();
        let full = vec![0; PAYLOAD_BYTES_MAX + 1];
        assert!(encode(&mut out, 1, Kind::Data, 0, &full[1..]).is_ok());
        out.clear();
        assert!(encode(&mut out, 1, Kind::Data, 0, &full).is_err());
        assert!(out.is_empty());
        let mut decoder = Decoder::default();
        decoder.push(&[0, 0x40, 0, 1, 0, 0, 0, 1, 1, 0]);
        assert_eq!(
            decoder.next_frame(),
            Err(ProtocolError::TooLong {
                length: PAYLOAD_BYTES_MAX + 1
            })
        );
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(
            frames in prop::collection::vec((any::<u32>(), any::<u8>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..300)), 0..8),
            cut in 1usize..64,
        ) {
            let mut wire = Vec::new();
            for (stream, kind, flags, payload) in &frames {
                encode(&mut wire, *stream, Kind::from_byte(*kind), *flags, payload).unwrap();
            }
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for piece in wire.chunks(cut) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    seen.push((frame.stream, frame.kind.byte(), frame.flags, frame.payload));
                }
            }
            prop_assert_eq!(seen, frames);
            prop_assert!(decoder.is_empty());
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }
}
