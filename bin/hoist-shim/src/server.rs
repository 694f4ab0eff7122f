//! The loop: everything the shim waits for, and the connections it serves.

use crate::job::Job;
use crate::log::Log;
use crate::publisher::Publisher;
use crate::relay::{Flow, Relay, Sink};
use crate::state::{Call, Container, ProcessKey};
use prost::Message;
use shim_protocol::exit::ExitRecord;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use sys::cgroup::OomSource;
use sys::poll::{Interest, Poller, Ready};
use sys::signal::Signals;
use ttrpc::sync::{Connection, Incoming, Intake};
use ttrpc::{Response, Status};

/// Connections at a time; more are closed at once.
const CONNECTIONS_MAX: usize = 128;
/// Bytes read at a time, by all streams and connections in turn.
const SCRATCH_BYTES: usize = 32 << 10;
/// How long the shim stays after `Shutdown` for the daemon to take the last events and answers.
const LINGER_MAX: Duration = Duration::from_secs(3);
/// Ends of children that are kept until a worker tells whose they are.
const EARLY_MAX: usize = 256;

/// What the shim was started with.
#[derive(Debug)]
pub(crate) struct Config {
    /// The daemon's namespace.
    pub(crate) namespace: String,
    /// Path of the shim's socket.
    pub(crate) socket: PathBuf,
    /// Path of the daemon's ttrpc socket.
    pub(crate) ttrpc_address: String,
}

/// What a number in the poller stands for.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Listener,
    Signals,
    Connection,
    Job,
    /// Source or sink of the relay with the first of its two numbers.
    Relay(u64),
    Gate(ProcessKey),
    Oom(String),
    Publisher,
}

#[derive(Debug)]
struct Peer {
    stream: UnixStream,
    wire: Connection,
}

/// A child that ended before the shim knew whose it is.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its process id.
    pub(crate) pid: i32,
    /// How it ended.
    pub(crate) record: ExitRecord,
}

/// The whole state of the shim.
#[derive(Debug)]
pub(crate) struct Shim {
    pub(crate) config: Config,
    pub(crate) log: Log,
    pub(crate) poller: Poller,
    pub(crate) sources: BTreeMap<u64, Source>,
    pub(crate) containers: BTreeMap<String, Container>,
    pub(crate) pids: BTreeMap<i32, ProcessKey>,
    pub(crate) jobs: BTreeMap<u64, Job>,
    pub(crate) early: Vec<Ended>,
    pub(crate) relays: BTreeMap<u64, Relay>,
    pub(crate) ooms: BTreeMap<u64, OomSource>,
    /// What was opened for terminals that do not exist yet: input, and where output leads.
    pub(crate) consoles: BTreeMap<ProcessKey, (Option<OwnedFd>, Option<Sink>)>,
    pub(crate) publisher: Publisher,
    listener: Option<UnixListener>,
    signals: Signals,
    peers: BTreeMap<u64, Peer>,
    last_token: u64,
    scratch: Vec<u8>,
    stopping: Option<Instant>,
}

impl Shim {
    /// Takes the listening socket and blocks the signals the shim reads.
    pub(crate) fn new(config: Config, log: Log, listener: OwnedFd) -> io::Result<Self> {
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(true)?;
        let signals = Signals::new(&[CHLD, TERM, INT])?;
        let poller = Poller::new()?;
        poller.add(&listener, 1, Interest::READ)?;
        poller.add(&signals, 2, Interest::READ)?;
        let publisher = Publisher::new(&config.ttrpc_address, &config.namespace, 3);
        let sources = BTreeMap::from([
            (1, Source::Listener),
            (2, Source::Signals),
            (3, Source::Publisher),
        ]);
        Ok(Self {
            config,
            log,
            poller,
            sources,
            containers: BTreeMap::new(),
            pids: BTreeMap::new(),
            jobs: BTreeMap::new(),
            early: Vec::new(),
            relays: BTreeMap::new(),
            ooms: BTreeMap::new(),
            consoles: BTreeMap::new(),
            publisher,
            listener: Some(listener),
            signals,
            peers: BTreeMap::new(),
            last_token: 3,
            scratch: vec![0; SCRATCH_BYTES],
            stopping: None,
        })
    }

    /// Serves until `Shutdown`; removes the socket.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        while !self.is_done() {
            ready.clear();
            let limit = self
                .deadline()
                .map(|at| at.saturating_duration_since(Instant::now()));
            self.poller.wait(limit, &mut ready)?;
            for event in &ready {
                self.handle(*event);
            }
            self.check_jobs();
            self.check_deadlines();
            self.publisher.drive(&self.poller);
            self.flush();
        }
        Ok(())
    }

    fn handle(&mut self, ready: Ready) {
        match self.sources.get(&ready.token).cloned() {
            Some(Source::Listener) => self.accept(),
            Some(Source::Signals) => self.take_signals(),
            Some(Source::Connection) => self.peer_ready(ready),
            Some(Source::Job) => self.job_ready(ready.token),
            Some(Source::Relay(token)) => self.relay_ready(token),
            Some(Source::Gate(key)) => self.gate_ready(ready.token, &key),
            Some(Source::Oom(id)) => self.oom_ready(ready.token, &id),
            Some(Source::Publisher) => self.publisher.ready(&self.poller, ready, &mut self.scratch),
            // An earlier event of the same turn has closed it.
            None => {}
        }
    }

    /// A number never used before, for the poller.
    pub(crate) fn token(&mut self, source: Source) -> u64 {
        self.last_token += 1;
        self.sources.insert(self.last_token, source);
        self.last_token
    }

    fn deadline(&self) -> Option<Instant> {
        let jobs = self.jobs.values().map(|job| job.deadline);
        let containers = self.containers.values().flat_map(|container| {
            let held = container.held_exit.as_ref().map(|held| held.until);
            let processes = container.execs.values().chain([&container.init]);
            let drains = processes.filter_map(|process| process.deleting.as_ref()?.drain_until);
            held.into_iter().chain(drains)
        });
        jobs.chain(containers)
            .chain(self.publisher.deadline())
            .chain(self.stopping)
            .min()
    }

    fn accept(&mut self) {
        while let Some(Ok((stream, _))) = self.listener.as_ref().map(UnixListener::accept) {
            if self.peers.len() >= CONNECTIONS_MAX
                || !admitted(&stream)
                || stream.set_nonblocking(true).is_err()
            {
                continue;
            }
            let token = self.token(Source::Connection);
            if self.poller.add(&stream, token, Interest::READ).is_ok() {
                self.peers.insert(
                    token,
                    Peer {
                        stream,
                        wire: Connection::default(),
                    },
                );
            } else {
                self.sources.remove(&token);
            }
        }
    }

    fn peer_ready(&mut self, ready: Ready) {
        let token = ready.token;
        let mut closed = false;
        if ready.read
            && let Some(peer) = self.peers.get_mut(&token)
        {
            let read = peer.wire.read_from(&mut peer.stream, &mut self.scratch);
            closed = !matches!(read, Ok(Intake::Open));
        }
        while let Some(peer) = self.peers.get_mut(&token) {
            match peer.wire.next_incoming() {
                Ok(Some(Incoming::Call { stream, request })) => {
                    let call = Call {
                        connection: token,
                        stream,
                    };
                    match self.dispatch(call, &request) {
                        Ok(Some(payload)) => self.answer(call, &Response::ok(payload)),
                        Ok(None) => {}
                        Err(status) => self.refuse(call, status),
                    }
                }
                Ok(Some(Incoming::Answer { .. })) => {}
                Ok(None) => break,
                Err(_) => closed = true,
            }
            if closed {
                break;
            }
        }
        if closed {
            self.close(token);
        }
    }

    /// Answers a call; one whose connection is gone needs none.
    pub(crate) fn answer(&mut self, call: Call, response: &Response) {
        let Some(peer) = self.peers.get_mut(&call.connection) else {
            return;
        };
        if peer.wire.respond(call.stream, response).is_err() {
            self.close(call.connection);
        }
    }

    /// Answers a call with a message.
    pub(crate) fn reply(&mut self, call: Call, message: &impl Message) {
        self.answer(call, &Response::ok(message.encode_to_vec()));
    }

    /// Answers a call with a failure.
    pub(crate) fn refuse(&mut self, call: Call, status: Status) {
        self.answer(call, &Response::failed(status));
    }

    fn flush(&mut self) {
        let mut gone = Vec::new();
        for (token, peer) in &mut self.peers {
            if !peer.wire.wants_write() {
                continue;
            }
            let flushed = peer.wire.flush_to(&mut peer.stream);
            let watched = flushed.and_then(|all| {
                self.poller.modify(
                    &peer.stream,
                    *token,
                    Interest {
                        read: true,
                        write: !all,
                    },
                )
            });
            if watched.is_err() {
                gone.push(*token);
            }
        }
        for token in gone {
            self.close(token);
        }
    }

    fn close(&mut self, token: u64) {
        self.sources.remove(&token);
        if let Some(peer) = self.peers.remove(&token) {
            // Closing forgets it too.
            let _forgotten = self.poller.remove(&peer.stream).is_err();
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.take() {
            // Containers outlive whoever wants the shim gone; without any there is no reason to stay.
            if signal != CHLD && self.containers.is_empty() {
                self.stop();
            }
        }
        self.reap();
    }

    fn relay_ready(&mut self, token: u64) {
        let Some(relay) = self.relays.get_mut(&token) else {
            return;
        };
        let flow = relay
            .pump(&self.poller, &mut self.scratch)
            .unwrap_or_else(|error| {
                self.log
                    .debug(&format!("stream of {}: {error}", relay.key.id()));
                Flow::Ended
            });
        if flow == Flow::Ended {
            self.end_relay(token);
        }
    }

    /// Closes both ends of a relay.
    pub(crate) fn end_relay(&mut self, token: u64) {
        self.sources.remove(&token);
        self.sources.remove(&(token + 1));
        if let Some(relay) = self.relays.remove(&token) {
            relay.stop(&self.poller);
            self.finish_delete(&relay.key);
        }
    }

    fn oom_ready(&mut self, token: u64, id: &str) {
        let Some(source) = self.ooms.get_mut(&token) else {
            return;
        };
        let occurred = source.occurred();
        if occurred {
            self.publish(
                "/tasks/oom",
                &proto::containerd::events::TaskOom {
                    container_id: id.to_owned(),
                },
            );
        } else if !self
            .containers
            .get(id)
            .is_some_and(|container| container.init.lives())
        {
            self.end_oom(token);
        }
    }

    /// No more out-of-memory kills are told.
    pub(crate) fn end_oom(&mut self, token: u64) {
        self.sources.remove(&token);
        if let Some(source) = self.ooms.remove(&token) {
            let _forgotten = self.poller.remove(source.as_fd()).is_err();
        }
    }

    /// Queues an event for the daemon.
    pub(crate) fn publish<E: prost::Name>(&mut self, topic: &str, event: &E) {
        if self.publisher.publish(topic, event) {
            self.log
                .warn("the daemon takes no events: the oldest one was dropped");
        }
    }

    /// Keeps the end of a child until a worker tells whose it was.
    pub(crate) fn keep_early(&mut self, ended: Ended) {
        if self.expects_children() && self.early.len() < EARLY_MAX {
            self.early.push(ended);
        }
    }

    fn check_deadlines(&mut self) {
        let now = Instant::now();
        let due: Vec<ProcessKey> = self
            .containers
            .iter()
            .flat_map(|(id, container)| {
                let execs = container
                    .execs
                    .iter()
                    .map(|(exec, process)| (exec.clone(), process));
                execs
                    .chain([(String::new(), &container.init)])
                    .filter_map(|(exec, process)| {
                        let due = process.deleting.as_ref()?.drain_until? <= now;
                        due.then(|| ProcessKey {
                            container: id.clone(),
                            exec,
                        })
                    })
            })
            .collect();
        for key in due {
            self.finish_delete(&key);
        }
        let held: Vec<String> = self
            .containers
            .iter()
            .filter(|(_, container)| {
                container
                    .held_exit
                    .as_ref()
                    .is_some_and(|held| held.until <= now)
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in held {
            self.release_exit(&id);
        }
    }

    /// Ends the service: no new connections, no socket, and soon no process.
    pub(crate) fn stop(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(Instant::now() + LINGER_MAX);
        if let Some(listener) = self.listener.take() {
            let _forgotten = self.poller.remove(&listener).is_err();
            if let Err(error) = std::fs::remove_file(&self.config.socket) {
                self.log
                    .warn(&format!("remove {}: {error}", self.config.socket.display()));
            }
        }
    }

    fn is_done(&self) -> bool {
        let Some(until) = self.stopping else {
            return false;
        };
        let answered = self.peers.values().all(|peer| !peer.wire.wants_write());
        (answered && self.publisher.is_idle()) || Instant::now() >= until
    }

    /// The gate of a process told something.
    fn gate_ready(&mut self, token: u64, key: &ProcessKey) {
        if self.gate_progress(key) {
            self.sources.remove(&token);
        }
    }
}

const CHLD: i32 = rustix::process::Signal::CHILD.as_raw();
const TERM: i32 = rustix::process::Signal::TERM.as_raw();
const INT: i32 = rustix::process::Signal::INT.as_raw();

/// Only root and our own user are served, whatever the mode of the socket is.
fn admitted(stream: &UnixStream) -> bool {
    let ours = rustix::process::geteuid();
    rustix::net::sockopt::socket_peercred(stream)
        .is_ok_and(|peer| peer.uid.is_root() || peer.uid == ours)
}
