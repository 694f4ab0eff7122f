//! Setting processes up: what comes before and after the worker.

use super::Outcome;
use crate::job::CreateOrder;
use crate::relay::{Relay, Sink};
use crate::server::{Shim, Source};
use crate::state::{Call, Container, Phase, Process, ProcessKey, Traits, bundle_file, now};
use crate::stdio::{Names, Owner, Streams};
use model::ErrorKind;
use oci_runtime::Created;
use proto::containerd::events::{TaskCreate, TaskIo};
use proto::containerd::task::v2::{CreateTaskRequest, CreateTaskResponse};
use shim_protocol::bundle;
use shim_protocol::exit::ExitRecord;
use shim_protocol::options::RuncOptions;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use sys::poll::Interest;
use ttrpc::Status;

/// Containers in one shim.
const CONTAINERS_MAX: usize = 1024;
/// What an exec ends with that could not be set up.
const NOT_STARTED: u32 = 255;

impl Shim {
    pub(super) fn create(&mut self, call: Call, request: CreateTaskRequest) -> Outcome {
        let (options, bundle) = self.check_create(&request)?;
        let id = request.id.clone();
        let names = Names {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        };
        let rootfs = request.rootfs.iter().map(mount).collect();
        let event = TaskCreate {
            container_id: id.clone(),
            bundle: request.bundle,
            rootfs: request.rootfs,
            io: Some(TaskIo {
                stdin: names.stdin.clone(),
                stdout: names.stdout.clone(),
                stderr: names.stderr.clone(),
                terminal: names.terminal,
            }),
            checkpoint: String::new(),
            pid: 0,
        };
        let container = Container {
            bundle,
            options: options.clone(),
            init: Process::new(Phase::Creating, names.clone(), Vec::new()),
            execs: BTreeMap::new(),
            paused: false,
            traits: Traits::default(),
            busy: false,
            queue: VecDeque::new(),
            oom_token: None,
            held_exit: None,
        };
        write_options(&container)?;
        self.containers.insert(id.clone(), container);
        let key = ProcessKey::init(&id);
        let started = self.open_streams(&key, &names, &options).and_then(|stdio| {
            self.start_create(
                call,
                CreateOrder {
                    id,
                    rootfs,
                    stdio,
                    event,
                },
            )
        });
        if let Err(status) = started {
            self.forget(&key);
            return Err(status);
        }
        Ok(None)
    }

    fn check_create(&self, request: &CreateTaskRequest) -> Result<(RuncOptions, PathBuf), Status> {
        let invalid = |text: String| Status::new(ErrorKind::InvalidArgument, text);
        model::ContainerId::new(request.id.as_str()).map_err(|error| invalid(error.to_string()))?;
        if self.containers.contains_key(&request.id) {
            return Err(Status::new(
                ErrorKind::AlreadyExists,
                format!("container {} exists", request.id),
            ));
        }
        if self.containers.len() >= CONTAINERS_MAX {
            let text = format!("this shim has {CONTAINERS_MAX} containers");
            return Err(Status::new(ErrorKind::ResourceExhausted, text));
        }
        let bundle = PathBuf::from(&request.bundle);
        if !bundle.is_absolute() {
            return Err(invalid(format!(
                "bundle {:?} is not absolute",
                request.bundle
            )));
        }
        let options = RuncOptions::from_any(request.options.as_ref())
            .map_err(|error| Status::from_error(&error))?;
        if let Some(name) = options.external_runtime() {
            let text = format!("external runtime {name:?} is not supported by this shim");
            return Err(Status::new(ErrorKind::Unimplemented, text));
        }
        if !request.checkpoint.is_empty() {
            return Err(Status::new(
                ErrorKind::Unimplemented,
                "restoring a checkpoint is not supported",
            ));
        }
        Ok((options, bundle))
    }

    /// Opens the streams of a process and starts to move what needs no terminal; answers what the process gets.
    pub(crate) fn open_streams(
        &mut self,
        key: &ProcessKey,
        names: &Names,
        options: &RuncOptions,
    ) -> Result<Option<[OwnedFd; 3]>, Status> {
        let owner = Owner {
            namespace: &self.config.namespace,
            id: &key.container,
            uid: options.io_uid,
            gid: options.io_gid,
        };
        let streams = crate::stdio::open(names, owner)?;
        let Streams {
            child,
            input,
            stdin,
            stdout,
            stderr,
            logger,
        } = streams;
        if let Some((fd, sink)) = stderr {
            self.relay(key, false, fd, sink)?;
        }
        let mut console = None;
        match stdout {
            Some((Some(fd), sink)) => self.relay(key, false, fd, sink)?,
            Some((None, sink)) => console = Some(sink),
            None => {}
        }
        let mut reader = None;
        if let Some((fifo, writer)) = input {
            match stdin {
                Some(pipe) => self.relay(key, true, fifo, Sink::Stream(pipe))?,
                None => reader = Some(fifo),
            }
            if let Some(process) = self.process(key) {
                process.held_input = Some(writer);
            }
        }
        if let Some(process) = self.process(key) {
            process.logger = logger;
        }
        if names.terminal {
            self.consoles.insert(key.clone(), (reader, console));
        }
        Ok(child)
    }

    fn relay(
        &mut self,
        key: &ProcessKey,
        input: bool,
        source: OwnedFd,
        sink: Sink,
    ) -> Result<(), Status> {
        let token = self.token(Source::Job);
        self.sources.insert(token, Source::Relay(token));
        let second = self.token(Source::Relay(token));
        debug_assert_eq!(second, token + 1, "the sink's number follows the source's");
        let relay = Relay::start(key.clone(), input, source, sink, &self.poller, token).map_err(
            |error| Status::new(ErrorKind::Unknown, format!("wait for a stream: {error}")),
        )?;
        self.relays.insert(token, relay);
        Ok(())
    }

    /// Connects a terminal with what was opened for it.
    fn attach_console(&mut self, key: &ProcessKey, master: &OwnedFd) -> Result<(), Status> {
        let Some((input, output)) = self.consoles.remove(key) else {
            return Ok(());
        };
        crate::stdio::nonblocking(master)?;
        let copy = || {
            master
                .try_clone()
                .map_err(|error| Status::new(ErrorKind::Unknown, error.to_string()))
        };
        if let Some(fifo) = input {
            self.relay(key, true, fifo, Sink::Stream(copy()?))?;
        }
        // Without a reader the terminal's buffer would fill and hold the container up.
        let sink = match output {
            Some(sink) => sink,
            None => Sink::Nothing,
        };
        self.relay(key, false, copy()?, sink)
    }

    /// The worker has set a container up, or not.
    pub(crate) fn container_created(
        &mut self,
        call: Call,
        id: &str,
        event: TaskCreate,
        traits: Traits,
        outcome: Result<Created, Status>,
    ) {
        let key = ProcessKey::init(id);
        let pid = match outcome.and_then(|created| self.settle(&key, created)) {
            Ok(pid) => pid,
            Err(status) => {
                self.consoles.remove(&key);
                self.forget(&key);
                self.refuse(call, status);
                return;
            }
        };
        if let Some(container) = self.containers.get_mut(id) {
            container.traits = traits;
            let path = bundle_file(container, bundle::INIT_PID);
            if let Err(error) = std::fs::write(&path, pid.to_string()) {
                self.log.warn(&format!("write {}: {error}", path.display()));
            }
        }
        self.publish(
            "/tasks/create",
            &TaskCreate {
                pid: pid.unsigned_abs(),
                ..event
            },
        );
        self.watch_oom(id);
        self.reply(
            call,
            &CreateTaskResponse {
                pid: pid.unsigned_abs(),
            },
        );
        self.adopt(pid, &key);
    }

    /// The worker has set an additional process up, or not.
    pub(crate) fn exec_created(
        &mut self,
        call: Call,
        key: &ProcessKey,
        outcome: Result<Created, Status>,
    ) {
        let pid = match outcome.and_then(|created| self.settle(key, created)) {
            Ok(pid) => pid,
            Err(status) => {
                self.exec_failed(key);
                self.refuse(call, status);
                return;
            }
        };
        let opened = self.open_gate(call, key);
        self.adopt(pid, key);
        if let Err(status) = opened {
            self.refuse(call, status);
        }
    }

    /// An exec will never run.
    pub(crate) fn exec_failed(&mut self, key: &ProcessKey) {
        self.consoles.remove(key);
        self.mark_stopped(
            key,
            ExitRecord {
                pid: 0,
                exit_status: NOT_STARTED,
                exited_at: now(),
            },
        );
    }

    fn settle(&mut self, key: &ProcessKey, created: Created) -> Result<i32, Status> {
        if let Some(master) = &created.console {
            self.attach_console(key, master)?;
        }
        let Some(process) = self.process(key) else {
            return Err(Status::new(
                ErrorKind::NotFound,
                format!("process {} was deleted", key.id()),
            ));
        };
        process.pid = created.pid;
        process.pidfd = Some(created.pidfd);
        process.console = created.console;
        process.gate = created.gate;
        process.phase = Phase::Created;
        if let Some(logger) = &mut process.logger {
            logger.ready = None;
        }
        Ok(created.pid)
    }

    fn watch_oom(&mut self, id: &str) {
        let Some(container) = self.containers.get(id) else {
            return;
        };
        let root = container.options.state_root(&self.config.namespace);
        let source = match oci_runtime::Container::load(&root, id)
            .and_then(|container| container.oom_source())
        {
            Ok(source) => source,
            Err(error) => {
                self.log.debug(&format!(
                    "watch {id} for out-of-memory kills: {}",
                    model::chain(&error)
                ));
                return;
            }
        };
        let token = self.token(Source::Oom(id.to_owned()));
        if self
            .poller
            .add(source.as_fd(), token, Interest::READ)
            .is_ok()
        {
            self.ooms.insert(token, source);
            if let Some(container) = self.containers.get_mut(id) {
                container.oom_token = Some(token);
            }
        }
    }
}

fn mount(mount: &proto::containerd::types::Mount) -> model::Mount {
    model::Mount {
        kind: mount.r#type.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        options: mount.options.clone(),
    }
}

/// `delete` without a shim reads these.
fn write_options(container: &Container) -> Result<(), Status> {
    for (name, content) in [
        (bundle::OPTIONS, container.options.to_json()),
        (
            bundle::RUNTIME,
            container.options.binary_name.clone().into_bytes(),
        ),
    ] {
        let path = bundle_file(container, name);
        std::fs::write(&path, content).map_err(|error| {
            let kind = match error.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ => ErrorKind::Unknown,
            };
            Status::new(kind, format!("write {}: {error}", path.display()))
        })?;
    }
    Ok(())
}
