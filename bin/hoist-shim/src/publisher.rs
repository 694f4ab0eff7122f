//! Events to the daemon: in order, one at a time, sent again until the daemon takes them.

use crate::state::{now, wire_time};
use prost::{Message, Name};
use proto::containerd::services::events::ttrpc::v1::ForwardRequest;
use proto::containerd::types::Envelope;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use sys::poll::{Interest, Poller, Ready};
use ttrpc::sync::{Connection, Incoming, Intake};
use ttrpc::{KeyValue, Request};

/// Events that wait for the daemon. Beyond, the oldest is dropped: exits are in their records.
const QUEUE_MAX: usize = 2048;
/// How often the daemon may refuse one event before it is dropped.
const REFUSALS_MAX: u8 = 5;
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long the daemon may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Link {
    stream: UnixStream,
    wire: Connection,
    next_stream: u32,
    in_flight: Option<(u32, Instant)>,
}

/// Sends events to the daemon.
#[derive(Debug)]
pub(crate) struct Publisher {
    address: String,
    namespace: String,
    token: u64,
    queue: VecDeque<(Vec<u8>, u8)>,
    link: Option<Link>,
    retry_at: Option<Instant>,
    pause: Duration,
}

impl Publisher {
    /// `address` is the path of the daemon's ttrpc socket; empty drops all events.
    pub(crate) fn new(address: &str, namespace: &str, token: u64) -> Self {
        Self {
            address: address
                .strip_prefix("unix://")
                .unwrap_or(address)
                .to_owned(),
            namespace: namespace.to_owned(),
            token,
            queue: VecDeque::new(),
            link: None,
            retry_at: None,
            pause: PAUSE_FIRST,
        }
    }

    /// Queues an event; answers whether an older one had to be dropped.
    pub(crate) fn publish<E: Name>(&mut self, topic: &str, event: &E) -> bool {
        if self.address.is_empty() {
            return false;
        }
        let envelope = Envelope {
            timestamp: Some(wire_time(now())),
            namespace: self.namespace.clone(),
            topic: topic.to_owned(),
            event: Some(proto::typeurl::pack(event)),
        };
        let dropped = self.queue.len() >= QUEUE_MAX && self.queue.pop_front().is_some();
        self.queue.push_back((
            ForwardRequest {
                envelope: Some(envelope),
            }
            .encode_to_vec(),
            0,
        ));
        dropped
    }

    /// True when nothing waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// When [`Publisher::drive`] has to be called at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let answer = self
            .link
            .as_ref()
            .and_then(|link| link.in_flight)
            .map(|(_, since)| since + ANSWER_MAX);
        [answer, self.retry_at].into_iter().flatten().min()
    }

    /// Sends what can be sent now.
    pub(crate) fn drive(&mut self, poller: &Poller) {
        let late = |link: &Link| {
            link.in_flight
                .is_some_and(|(_, since)| since.elapsed() >= ANSWER_MAX)
        };
        if self.link.as_ref().is_some_and(late) {
            self.lose(poller);
        }
        if self.queue.is_empty() || self.retry_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.retry_at = None;
        if self.send(poller).is_err() {
            self.lose(poller);
        }
    }

    /// Takes answers; `scratch` is shared by all connections.
    pub(crate) fn ready(&mut self, poller: &Poller, ready: Ready, scratch: &mut [u8]) {
        let Some(link) = &mut self.link else { return };
        let read = if ready.read {
            link.wire.read_from(&mut link.stream, scratch)
        } else {
            Ok(Intake::Open)
        };
        let mut refused = false;
        while let Ok(Some(incoming)) = link.wire.next_incoming() {
            let Incoming::Answer { stream, response } = incoming else {
                continue;
            };
            if link.in_flight.is_none_or(|(sent, _)| sent != stream) {
                continue;
            }
            link.in_flight = None;
            refused = response.status.is_some_and(|status| status.code != 0);
            let tries = self.queue.front().map_or(0, |(_, tries)| *tries);
            if !refused || tries >= REFUSALS_MAX {
                self.queue.pop_front();
            } else if let Some((_, tries)) = self.queue.front_mut() {
                *tries += 1;
            }
        }
        match read {
            Ok(Intake::Open) if refused => self.wait(),
            Ok(Intake::Open) => self.pause = PAUSE_FIRST,
            Ok(Intake::Closed) | Err(_) => self.lose(poller),
        }
        self.drive(poller);
    }

    fn send(&mut self, poller: &Poller) -> io::Result<()> {
        if self.link.is_none() {
            let stream = connect(&self.address)?;
            poller.add(&stream, self.token, Interest::READ)?;
            self.link = Some(Link {
                stream,
                wire: Connection::default(),
                next_stream: 1,
                in_flight: None,
            });
        }
        let (Some(link), Some((payload, _))) = (&mut self.link, self.queue.front()) else {
            return Ok(());
        };
        if link.in_flight.is_none() {
            let request = Request {
                service: "containerd.services.events.ttrpc.v1.Events".to_owned(),
                method: "Forward".to_owned(),
                payload: payload.clone(),
                timeout_nano: 0,
                metadata: vec![KeyValue {
                    key: ttrpc::NAMESPACE_KEY.to_owned(),
                    value: self.namespace.clone(),
                }],
            };
            link.wire
                .call(link.next_stream, &request)
                .map_err(io::Error::other)?;
            link.in_flight = Some((link.next_stream, Instant::now()));
            link.next_stream += 2;
        }
        let flushed = link.wire.flush_to(&mut link.stream)?;
        poller.modify(
            &link.stream,
            self.token,
            Interest {
                read: true,
                write: !flushed,
            },
        )
    }

    fn lose(&mut self, poller: &Poller) {
        if let Some(link) = self.link.take() {
            // The descriptor is closed next, which also forgets it.
            let _forgotten = poller.remove(&link.stream).is_err();
        }
        if !self.queue.is_empty() {
            self.wait();
        }
    }

    fn wait(&mut self) {
        self.retry_at = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

/// Connects without waiting: a full backlog is an error like any other.
fn connect(path: &str) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}
