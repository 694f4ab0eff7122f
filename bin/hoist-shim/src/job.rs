//! Work that may block, in forked children of the shim: one at a time for each container, each with a deadline.

mod worker;

pub(crate) use worker::parse;

use crate::server::{Shim, Source};
use crate::state::{Call, Container, Phase, ProcessKey, Traits};
use model::ErrorKind;
use oci_runtime::Created;
use prost::Message;
use proto::containerd::events::TaskCreate;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use sys::poll::Interest;
use ttrpc::{Response, Status};

/// Time for the set-up of a container, its hooks included.
const CREATE_MAX: Duration = Duration::from_secs(300);
/// Time for anything else.
const WORK_MAX: Duration = Duration::from_secs(120);
/// Work that may wait for one container's worker.
const QUEUE_MAX: usize = 128;
/// Longest answer of a worker in bytes; the kernel's limit for one message is about the same.
const ANSWER_BYTES_MAX: usize = 160 << 10;

/// Work for a container.
#[derive(Debug)]
pub(crate) enum Work {
    /// Set up an additional process.
    Exec(Call, ProcessKey),
    /// Remove the container.
    Delete(ProcessKey),
    /// Freeze all processes.
    Pause(Call),
    /// Thaw all processes.
    Resume(Call),
    /// Change limits: the resources as JSON.
    Update(Call, Vec<u8>),
    /// Tell what is used.
    Stats(Call),
    /// Tell the processes.
    Pids(Call),
    /// Kill all processes; `None` when the shim itself wants it.
    KillAll(Option<Call>, i32),
    /// Run the poststart hooks.
    Poststart,
}

impl Work {
    /// The call that waits for it.
    pub(crate) fn call(&self) -> Option<Call> {
        match self {
            Self::Exec(call, _)
            | Self::Pause(call)
            | Self::Resume(call)
            | Self::Update(call, _)
            | Self::Stats(call)
            | Self::Pids(call)
            | Self::KillAll(Some(call), _) => Some(*call),
            Self::Delete(_) | Self::KillAll(None, _) | Self::Poststart => None,
        }
    }

    /// Kills must get through while another worker hangs.
    fn overtakes(&self) -> bool {
        matches!(self, Self::KillAll(..))
    }
}

/// What a running worker does.
#[derive(Debug)]
pub(crate) enum Task {
    /// Sets a container up.
    Create(Call, Box<TaskCreate>),
    /// Anything else.
    Work(Work),
}

/// A running worker.
#[derive(Debug)]
pub(crate) struct Job {
    /// Its process id.
    pub(crate) pid: i32,
    socket: OwnedFd,
    /// It is killed then.
    pub(crate) deadline: Instant,
    /// The container it works for.
    pub(crate) container: String,
    /// What it does.
    pub(crate) task: Task,
    traits: Option<Traits>,
    late: bool,
}

/// What [`Shim::start_create`] hands to the worker.
#[derive(Debug)]
pub(crate) struct CreateOrder {
    /// The container.
    pub(crate) id: String,
    /// What to mount as its root.
    pub(crate) rootfs: Vec<model::Mount>,
    /// Its streams; `None` for a terminal.
    pub(crate) stdio: Option<[OwnedFd; 3]>,
    /// The event that announces it.
    pub(crate) event: TaskCreate,
}

impl Shim {
    /// Starts the set-up of a container that stands in the table already.
    pub(crate) fn start_create(&mut self, call: Call, order: CreateOrder) -> Result<(), Status> {
        let CreateOrder {
            id,
            rootfs,
            stdio,
            event,
        } = order;
        let container = self.containers.get(&id).ok_or_else(missing)?;
        let root = container.options.state_root(&self.config.namespace);
        let (bundle, options) = (container.bundle.clone(), container.options.clone());
        let (mut keep, ready) = worker::handed(&container.init, stdio)?;
        let (ours, theirs) = channel()?;
        keep.push(theirs);
        let name = id.clone();
        let pid = sys::worker::fork(keep, move |fds| {
            let (socket, stdio, logger) = worker::unpack(fds, ready);
            let outcome = ready.wait(logger).and_then(|()| {
                worker::create(&socket, stdio, &bundle, &root, &name, &rootfs, &options)
            });
            i32::from(oci_runtime::send_outcome(socket.as_fd(), &outcome).is_err())
        })
        .map_err(|error| Status::new(ErrorKind::Internal, format!("fork a worker: {error}")))?;
        self.watch(
            pid,
            ours,
            id,
            Task::Create(call, Box::new(event)),
            CREATE_MAX,
        )
    }

    /// Starts work for a container, or queues it behind what runs.
    pub(crate) fn work(&mut self, id: &str, work: Work) -> Result<(), Status> {
        let container = self.containers.get_mut(id).ok_or_else(missing)?;
        if container.busy && !work.overtakes() {
            if container.queue.len() >= QUEUE_MAX {
                let text = format!("more than {QUEUE_MAX} operations wait for container {id}");
                return Err(Status::new(ErrorKind::ResourceExhausted, text));
            }
            container.queue.push_back(work);
            return Ok(());
        }
        if let Work::Exec(call, key) = work {
            return self.start_exec(call, key);
        }
        let container = self.containers.get(id).ok_or_else(missing)?;
        let root = container.options.state_root(&self.config.namespace);
        let (bundle, name) = (container.bundle.clone(), id.to_owned());
        let (ours, theirs) = channel()?;
        let order = worker::order(&work);
        let pid = sys::worker::fork(vec![theirs], move |fds| {
            let response = match worker::perform(&order, &root, &name, &bundle) {
                Ok(payload) => Response::ok(payload),
                Err(error) => Response::failed(Status::from_error(&error)),
            };
            worker::answer(&fds[0], &response)
        })
        .map_err(|error| Status::new(ErrorKind::Internal, format!("fork a worker: {error}")))?;
        self.watch(pid, ours, id.to_owned(), Task::Work(work), WORK_MAX)
    }

    fn start_exec(&mut self, call: Call, key: ProcessKey) -> Result<(), Status> {
        let streams = {
            let container = self
                .containers
                .get_mut(&key.container)
                .ok_or_else(missing)?;
            let options = container.options.clone();
            let names = container.process(&key.exec)?.names.clone();
            self.open_streams(&key, &names, &options)?
        };
        let container = self
            .containers
            .get_mut(&key.container)
            .ok_or_else(missing)?;
        let root = container.options.state_root(&self.config.namespace);
        let no_new_keyring = container.options.no_new_keyring;
        let process = container.process(&key.exec)?;
        process.phase = Phase::Creating;
        let spec = std::mem::take(&mut process.spec);
        let (mut keep, ready) = worker::handed(process, streams)?;
        let (ours, theirs) = channel()?;
        keep.push(theirs);
        let name = key.container.clone();
        let pid = sys::worker::fork(keep, move |fds| {
            let (socket, stdio, logger) = worker::unpack(fds, ready);
            let outcome = ready
                .wait(logger)
                .and_then(|()| worker::exec(&spec, stdio, &root, &name, no_new_keyring));
            i32::from(oci_runtime::send_outcome(socket.as_fd(), &outcome).is_err())
        })
        .map_err(|error| Status::new(ErrorKind::Internal, format!("fork a worker: {error}")))?;
        let id = key.container.clone();
        self.watch(pid, ours, id, Task::Work(Work::Exec(call, key)), WORK_MAX)
    }

    fn watch(
        &mut self,
        pid: i32,
        socket: OwnedFd,
        container: String,
        task: Task,
        limit: Duration,
    ) -> Result<(), Status> {
        let exclusive = !matches!(&task, Task::Work(work) if work.overtakes());
        if exclusive && let Some(container) = self.containers.get_mut(&container) {
            container.busy = true;
        }
        let token = self.token(Source::Job);
        crate::stdio::nonblocking(&socket)?;
        let watched = self.poller.add(&socket, token, Interest::READ);
        let deadline = Instant::now() + limit;
        self.jobs.insert(
            token,
            Job {
                pid,
                socket,
                deadline,
                container,
                task,
                traits: None,
                late: false,
            },
        );
        watched
            .map_err(|error| Status::new(ErrorKind::Internal, format!("watch a worker: {error}")))
    }

    /// Kills workers that take too long; their end is told like any other.
    pub(crate) fn check_jobs(&mut self) {
        let now = Instant::now();
        for job in self
            .jobs
            .values_mut()
            .filter(|job| !job.late && job.deadline <= now)
        {
            job.late = true;
            // The worker is ours and not reaped before its socket is read, so the number is its own.
            let pid = rustix::process::Pid::from_raw(job.pid);
            let _ended =
                pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        }
    }

    /// A worker said something.
    pub(crate) fn job_ready(&mut self, token: u64) {
        let Some(job) = self.jobs.get_mut(&token) else {
            return;
        };
        let starts = matches!(job.task, Task::Create(..) | Task::Work(Work::Exec(..)));
        if starts {
            if matches!(job.task, Task::Create(..)) && job.traits.is_none() {
                // The first message of a creation holds the traits; it is short, an outcome is not.
                match peek_traits(&job.socket) {
                    Peek::Nothing => return,
                    Peek::Traits(traits) => {
                        job.traits = Some(traits);
                        return;
                    }
                    Peek::Other => {}
                }
            }
            let Some(outcome) = oci_runtime::receive_outcome(job.socket.as_fd()) else {
                return;
            };
            let late = job.late;
            let outcome = outcome.map_err(|error| {
                if late {
                    too_late()
                } else {
                    Status::from_error(&error)
                }
            });
            self.created(token, outcome);
            return;
        }
        let mut buffer = vec![0; ANSWER_BYTES_MAX];
        let response = match sys::fdpass::receive(&job.socket, &mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            Ok((length, _)) if length > 0 && buffer[0] == ANSWER => {
                Response::decode(&buffer[1..length]).unwrap_or_else(|_| {
                    Response::failed(Status::new(
                        ErrorKind::Internal,
                        "the worker's answer is broken",
                    ))
                })
            }
            _ if job.late => Response::failed(too_late()),
            _ => Response::failed(Status::new(
                ErrorKind::Internal,
                "the worker ended without an answer",
            )),
        };
        let result = match response.status {
            Some(status) => Err(status),
            None => Ok(response.payload),
        };
        if let Some(Job {
            container,
            task: Task::Work(work),
            ..
        }) = self.end_job(token)
        {
            let exclusive = !work.overtakes();
            self.worked(&container, work, result);
            self.next_work(&container, exclusive);
        }
    }

    fn created(&mut self, token: u64, outcome: Result<Created, Status>) {
        let Some(job) = self.end_job(token) else {
            return;
        };
        let container = job.container;
        match job.task {
            Task::Create(call, event) => self.container_created(
                call,
                &container,
                *event,
                job.traits.unwrap_or_default(),
                outcome,
            ),
            Task::Work(Work::Exec(call, key)) => self.exec_created(call, &key, outcome),
            Task::Work(_) => {}
        }
        self.next_work(&container, true);
        if !self.expects_children() {
            self.early.clear();
        }
    }

    /// True while a worker may bring a child that has ended already.
    pub(crate) fn expects_children(&self) -> bool {
        self.jobs
            .values()
            .any(|job| matches!(job.task, Task::Create(..) | Task::Work(Work::Exec(..))))
    }

    fn end_job(&mut self, token: u64) -> Option<Job> {
        self.sources.remove(&token);
        let job = self.jobs.remove(&token)?;
        // Closing forgets it too; a failure here changes nothing.
        let _forgotten = self.poller.remove(&job.socket).is_err();
        Some(job)
    }

    fn next_work(&mut self, id: &str, exclusive: bool) {
        if !exclusive {
            return;
        }
        if let Some(container) = self.containers.get_mut(id) {
            container.busy = false;
        }
        while let Some(work) = self
            .containers
            .get_mut(id)
            .filter(|container| !container.busy)
            .and_then(Container::next)
        {
            let call = work.call();
            let key = if let Work::Exec(_, key) = &work {
                Some(key.clone())
            } else {
                None
            };
            if let Err(status) = self.work(id, work) {
                if let Some(key) = key {
                    self.exec_failed(&key);
                }
                if let Some(call) = call {
                    self.refuse(call, status);
                }
            }
        }
    }
}

impl Container {
    fn next(&mut self) -> Option<Work> {
        self.queue.pop_front()
    }
}

fn missing() -> Status {
    Status::new(ErrorKind::NotFound, "container not created")
}

fn too_late() -> Status {
    Status::new(
        ErrorKind::DeadlineExceeded,
        "the runtime did not finish in time and was stopped",
    )
}

fn channel() -> Result<(OwnedFd, OwnedFd), Status> {
    oci_runtime::channel()
        .map_err(|error| Status::new(ErrorKind::Internal, format!("make a channel: {error}")))
}

enum Peek {
    Nothing,
    Traits(Traits),
    Other,
}

fn peek_traits(socket: &OwnedFd) -> Peek {
    use rustix::net::{RecvFlags, recv};
    let mut bytes = [0; 2];
    match recv(socket, &mut bytes, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Err(rustix::io::Errno::AGAIN) => Peek::Nothing,
        Ok((_, 2)) if bytes[0] == TRAITS => {
            // Taken off the queue: it was peeked at a moment ago.
            let _taken = recv(socket, &mut bytes, RecvFlags::DONTWAIT).is_ok();
            Peek::Traits(Traits::from_byte(bytes[1]))
        }
        _ => Peek::Other,
    }
}

/// First byte of an answer other than a created process.
const ANSWER: u8 = b'A';
/// First byte of the message with the traits; an outcome never starts so.
const TRAITS: u8 = b'T';
