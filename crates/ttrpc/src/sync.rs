//! The buffers of one connection for a program with its own event loop.
//!
//! [`Connection`] never waits: it reads what is there, hands out whole calls, takes answers in any order and writes
//! what the peer accepts. The same type serves both ends.

use crate::codec::{self, Decoder, Kind, ProtocolError};
use crate::message::{Request, Response, Status};
use model::ErrorKind;
use prost::Message;
use std::io::{self, Read, Write};

/// Bytes that may wait for the peer to read; more closes the connection.
pub const BACKLOG_BYTES_MAX: usize = 2 * codec::PAYLOAD_BYTES_MAX;

/// Bytes taken in one turn of the loop, so that one peer cannot keep the others waiting.
const TURN_BYTES_MAX: usize = 256 << 10;

/// Capacity in bytes that an idle connection may keep for answers.
const IDLE_BYTES_MAX: usize = 16 << 10;

/// What one read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// The peer may send more.
    Open,
    /// The peer has closed its side; frames already read are still to be handled.
    Closed,
}

/// What a peer sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// A call; answer it with [`Connection::respond`] and its stream.
    Call {
        /// The stream to answer on.
        stream: u32,
        /// The call.
        request: Request,
    },
    /// The answer to a call of ours.
    Answer {
        /// The stream of the call.
        stream: u32,
        /// The answer.
        response: Response,
    },
}

/// Buffers of one connection.
#[derive(Debug, Default)]
pub struct Connection {
    decoder: Decoder,
    out: Vec<u8>,
    written: usize,
    last_stream: u32,
}

impl Connection {
    /// Reads until the peer would block, at most a bounded number of bytes.
    ///
    /// `scratch` is shared between connections so that each one costs nothing while idle.
    pub fn read_from(&mut self, source: &mut impl Read, scratch: &mut [u8]) -> io::Result<Intake> {
        let mut total = 0;
        while total < TURN_BYTES_MAX {
            match source.read(scratch) {
                Ok(0) => return Ok(Intake::Closed),
                Ok(count) => {
                    self.decoder.push(&scratch[..count]);
                    total += count;
                    if count < scratch.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Intake::Open)
    }

    /// The next whole call or answer.
    ///
    /// Misuse that leaves the connection usable (a stream, an even stream number) is answered here.
    /// An error means that the connection has to be closed.
    pub fn next_incoming(&mut self) -> Result<Option<Incoming>, ProtocolError> {
        while let Some(frame) = self.decoder.next_frame()? {
            let stream = frame.stream;
            match frame.kind {
                Kind::Request => {
                    if stream.is_multiple_of(2) || stream <= self.last_stream {
                        let status = Status::new(
                            ErrorKind::InvalidArgument,
                            format!("stream id {stream} is even or was used before"),
                        );
                        self.respond(stream, &Response::failed(status))?;
                        continue;
                    }
                    self.last_stream = stream;
                    let Ok(request) = Request::decode(frame.payload.as_slice()) else {
                        let status =
                            Status::new(ErrorKind::InvalidArgument, "request cannot be decoded");
                        self.respond(stream, &Response::failed(status))?;
                        continue;
                    };
                    if frame.flags & codec::FLAG_REMOTE_OPEN != 0 {
                        let status = Status::unimplemented(&request.service, &request.method);
                        self.respond(stream, &Response::failed(status))?;
                        continue;
                    }
                    return Ok(Some(Incoming::Call { stream, request }));
                }
                Kind::Response => {
                    let response = Response::decode(frame.payload.as_slice()).map_err(|_| {
                        ProtocolError::Malformed {
                            stream,
                            what: "response",
                        }
                    })?;
                    return Ok(Some(Incoming::Answer { stream, response }));
                }
                Kind::Data | Kind::Other(_) => {}
            }
        }
        Ok(None)
    }

    /// Queues the answer to a call; an answer too long for a frame becomes a failure.
    pub fn respond(&mut self, stream: u32, response: &Response) -> Result<(), ProtocolError> {
        let sent = codec::encode_message(&mut self.out, stream, Kind::Response, response);
        if let Err(error) = sent {
            let failure = Response::failed(Status::from_error(&error));
            codec::encode_message(&mut self.out, stream, Kind::Response, &failure)?;
        }
        self.check_backlog()
    }

    /// Queues a call of ours.
    pub fn call(&mut self, stream: u32, request: &Request) -> Result<(), ProtocolError> {
        codec::encode_message(&mut self.out, stream, Kind::Request, request)?;
        self.check_backlog()
    }

    fn check_backlog(&self) -> Result<(), ProtocolError> {
        if self.out.len() - self.written > BACKLOG_BYTES_MAX {
            return Err(ProtocolError::Backlog {
                limit: BACKLOG_BYTES_MAX,
            });
        }
        Ok(())
    }

    /// Writes what the peer takes; true when nothing is left.
    pub fn flush_to(&mut self, sink: &mut impl Write) -> io::Result<bool> {
        while self.wants_write() {
            match sink.write(&self.out[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.written = 0;
        if self.out.capacity() > IDLE_BYTES_MAX {
            self.out = Vec::new();
        } else {
            self.out.clear();
        }
        Ok(true)
    }

    /// True while bytes wait to be written.
    pub fn wants_write(&self) -> bool {
        self.written < self.out.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn pump(from: &mut Connection, to: &mut Connection, wire: &mut (UnixStream, UnixStream)) {
        assert!(from.flush_to(&mut wire.0).unwrap());
        assert_eq!(
            to.read_from(&mut wire.1, &mut [0; 512]).unwrap(),
            Intake::Open
        );
    }

    #[test]
    fn answers_go_out_of_order() {
        let (left, right) = UnixStream::pair().unwrap();
        left.set_nonblocking(true).unwrap();
        right.set_nonblocking(true).unwrap();
        let mut wire = (left.try_clone().unwrap(), right.try_clone().unwrap());
        let mut back = (right, left);
        let (mut client, mut server) = (Connection::default(), Connection::default());
        for stream in [1, 3] {
            let request = Request {
                service: "s".into(),
                method: format!("m{stream}"),
                ..Request::default()
            };
            client.call(stream, &request).unwrap();
        }
        pump(&mut client, &mut server, &mut wire);
        let mut calls = Vec::new();
        while let Some(Incoming::Call { stream, request }) = server.next_incoming().unwrap() {
            calls.push((stream, request.method));
        }
        assert_eq!(calls, [(1, "m1".to_owned()), (3, "m3".to_owned())]);
        server.respond(3, &Response::ok(vec![3])).unwrap();
        server.respond(1, &Response::ok(vec![1])).unwrap();
        pump(&mut server, &mut client, &mut back);
        let mut answers = Vec::new();
        while let Some(Incoming::Answer { stream, response }) = client.next_incoming().unwrap() {
            answers.push((stream, response.payload));
        }
        assert_eq!(answers, [(3, vec![3]), (1, vec![1])]);
    }

    #[test]
    fn an_even_or_repeated_stream_is_refused_and_the_connection_lives() {
        let mut bytes = Vec::new();
        for stream in [2, 1, 1, 3] {
            codec::encode_message(&mut bytes, stream, Kind::Request, &Request::default()).unwrap();
        }
        let mut connection = Connection::default();
        connection
            .read_from(&mut bytes.as_slice(), &mut [0; 4096])
            .unwrap();
        let mut seen = Vec::new();
        while let Some(Incoming::Call { stream, .. }) = connection.next_incoming().unwrap() {
            seen.push(stream);
        }
        assert_eq!(seen, [1, 3]);
        assert!(connection.wants_write());
    }
}
