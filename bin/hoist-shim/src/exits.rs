//! Ends of processes: record, event, answers, in this order; the first process of a container last.

use crate::job::Work;
use crate::server::{Ended, Shim};
use crate::state::{Call, Container, HeldExit, Phase, Process, ProcessKey, now, wire_time};
use oci_runtime::Progress;
use proto::containerd::events::{TaskDelete, TaskExecStarted, TaskExit, TaskStart};
use proto::containerd::task::v2::{DeleteResponse, StartResponse, WaitResponse};
use rustix::fs::{Mode, OFlags};
use shim_protocol::exit::ExitRecord;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};
use ttrpc::Status;

/// How long the end of a first process waits for the ends of the others after they were killed.
const HOLD_MAX: Duration = Duration::from_secs(10);
/// How long a removal waits for clients to read the remaining output.
const DRAIN_MAX: Duration = Duration::from_secs(2);
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

impl Shim {
    /// Takes the ends of all children.
    pub(crate) fn reap(&mut self) {
        loop {
            match sys::signal::reap() {
                Ok(Some((pid, exit_status))) => {
                    let record = ExitRecord {
                        pid: pid.unsigned_abs(),
                        exit_status,
                        exited_at: now(),
                    };
                    match self.pids.remove(&pid) {
                        Some(key) => self.ended(&key, record),
                        None => self.keep_early(Ended { pid, record }),
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    self.log.warn(&format!("wait for children: {error}"));
                    return;
                }
            }
        }
    }

    /// A process was set up: it may have ended before we learned of it.
    pub(crate) fn adopt(&mut self, pid: i32, key: &ProcessKey) {
        match self.early.iter().position(|ended| ended.pid == pid) {
            Some(index) => {
                let ended = self.early.swap_remove(index);
                self.ended(key, ended.record);
            }
            None => {
                self.pids.insert(pid, key.clone());
            }
        }
    }

    fn ended(&mut self, key: &ProcessKey, record: ExitRecord) {
        let Some(container) = self.containers.get_mut(&key.container) else {
            return;
        };
        let Ok(process) = container.process(&key.exec) else {
            return;
        };
        if let Phase::Starting { ended, .. } = &mut process.phase {
            // The gate tells next whether the program ran: its start is told before its end.
            *ended = Some(record);
            return;
        }
        if key.is_init() {
            self.init_ended(key, record);
        } else {
            self.tell_exit(key, record);
            if self
                .containers
                .get(&key.container)
                .is_some_and(|container| !container.has_living_exec())
            {
                self.release_exit(&key.container);
            }
        }
    }

    fn init_ended(&mut self, key: &ProcessKey, record: ExitRecord) {
        let Some(container) = self.containers.get_mut(&key.container) else {
            return;
        };
        let others = container.has_living_exec();
        let kill = !container.traits.private_pids;
        if others {
            container.held_exit = Some(HeldExit {
                record: record.clone(),
                until: Instant::now() + HOLD_MAX,
            });
        }
        if kill && let Err(error) = self.work(&key.container, Work::KillAll(None, SIGKILL)) {
            self.log.warn(&format!(
                "kill the processes left in {}: {error}",
                key.container
            ));
        }
        if !others {
            self.tell_exit(key, record);
        }
    }

    /// Tells the end of a first process that waited for the others.
    pub(crate) fn release_exit(&mut self, id: &str) {
        if let Some(held) = self
            .containers
            .get_mut(id)
            .and_then(|container| container.held_exit.take())
        {
            self.tell_exit(&ProcessKey::init(id), held.record);
        }
    }

    fn tell_exit(&mut self, key: &ProcessKey, record: ExitRecord) {
        let Some(container) = self.containers.get_mut(&key.container) else {
            return;
        };
        let exec = model::ExecId::new(key.exec.as_str()).ok();
        let path = shim_protocol::bundle::exit_record(&container.bundle, exec.as_ref());
        if let Err(error) = write_whole(&path, &record.to_bytes()) {
            self.log.warn(&format!("write {}: {error}", path.display()));
        }
        let oom = if key.is_init() {
            container.oom_token.take()
        } else {
            None
        };
        if let Some(mut source) = oom.and_then(|token| self.ooms.remove(&token)) {
            // The kill may be what ended the process: it is told first.
            if source.occurred() {
                let event = proto::containerd::events::TaskOom {
                    container_id: key.container.clone(),
                };
                self.publish("/tasks/oom", &event);
            }
        }
        self.publish(
            "/tasks/exit",
            &TaskExit {
                container_id: key.container.clone(),
                id: key.id().to_owned(),
                pid: record.pid,
                exit_status: record.exit_status,
                exited_at: Some(wire_time(record.exited_at)),
            },
        );
        self.mark_stopped(key, record);
    }

    /// Answers who waits for the end.
    pub(crate) fn mark_stopped(&mut self, key: &ProcessKey, record: ExitRecord) {
        let Some(container) = self.containers.get_mut(&key.container) else {
            return;
        };
        let Ok(process) = container.process(&key.exec) else {
            return;
        };
        let response = WaitResponse {
            exit_status: record.exit_status,
            exited_at: Some(wire_time(record.exited_at)),
        };
        process.phase = Phase::Stopped(record);
        process.gate = None;
        let waiters = std::mem::take(&mut process.waiters);
        for call in waiters {
            self.reply(call, &response);
        }
        self.finish_delete(key);
    }

    /// Asks a gate what became of its process; true when it has told all.
    pub(crate) fn gate_progress(&mut self, key: &ProcessKey) -> bool {
        let Some(container) = self.containers.get_mut(&key.container) else {
            return true;
        };
        let poststart = key.is_init() && container.traits.poststart;
        let Ok(process) = container.process(&key.exec) else {
            return true;
        };
        let progress = match &process.gate {
            Some(gate) => gate.progress(),
            None => return true,
        };
        if matches!(progress, Progress::Pending) {
            return false;
        }
        process.gate = None;
        let Phase::Starting { call, ended } = std::mem::replace(&mut process.phase, Phase::Running)
        else {
            return true;
        };
        let pid = process.pid.unsigned_abs();
        match progress {
            Progress::Failed(error) => self.refuse(call, Status::from_error(&error)),
            Progress::Running | Progress::Pending => {
                self.tell_start(key, pid);
                self.reply(call, &StartResponse { pid });
            }
        }
        if let Some(record) = ended {
            self.ended(key, record);
        } else if poststart && let Err(error) = self.work(&key.container, Work::Poststart) {
            self.log
                .warn(&format!("poststart hooks of {}: {error}", key.container));
        }
        true
    }

    fn tell_start(&mut self, key: &ProcessKey, pid: u32) {
        let container_id = key.container.clone();
        if key.is_init() {
            self.publish("/tasks/start", &TaskStart { container_id, pid });
        } else {
            let exec_id = key.exec.clone();
            self.publish(
                "/tasks/exec-started",
                &TaskExecStarted {
                    container_id,
                    exec_id,
                    pid,
                },
            );
        }
    }

    /// What blocks of a removal is done: the remaining output may be read for a while.
    pub(crate) fn start_drain(&mut self, key: &ProcessKey) {
        if let Some(deleting) = self
            .process(key)
            .and_then(|process| process.deleting.as_mut())
        {
            deleting.drain_until = Some(Instant::now() + DRAIN_MAX);
        }
        self.finish_delete(key);
    }

    /// Ends a removal when the process has ended and its output was read or has waited long enough.
    pub(crate) fn finish_delete(&mut self, key: &ProcessKey) {
        let reading = self
            .relays
            .values()
            .any(|relay| relay.key == *key && !relay.input);
        let Some(process) = self.process(key) else {
            return;
        };
        let Some(until) = process
            .deleting
            .as_ref()
            .and_then(|deleting| deleting.drain_until)
        else {
            return;
        };
        let unstarted = matches!(process.phase, Phase::Added);
        let gone = process.exit().is_some() || unstarted;
        if (!gone || reading) && Instant::now() < until {
            return;
        }
        let record = process.exit().cloned();
        let Some(deleting) = process.deleting.take() else {
            return;
        };
        self.forget(key);
        let response = DeleteResponse {
            pid: record.as_ref().map_or(0, |record| record.pid),
            exit_status: record.as_ref().map_or(0, |record| record.exit_status),
            exited_at: record.as_ref().map(|record| wire_time(record.exited_at)),
        };
        if key.is_init() {
            self.publish(
                "/tasks/delete",
                &TaskDelete {
                    container_id: key.container.clone(),
                    pid: response.pid,
                    exit_status: response.exit_status,
                    exited_at: response.exited_at,
                    id: String::new(),
                },
            );
        }
        self.reply(deleting.call, &response);
    }

    /// Drops a process and everything that belongs to it; with the first one its container.
    pub(crate) fn forget(&mut self, key: &ProcessKey) {
        let of_it = |other: &ProcessKey| {
            other.container == key.container && (key.is_init() || other.exec == key.exec)
        };
        let relays: Vec<u64> = self
            .relays
            .iter()
            .filter(|(_, relay)| of_it(&relay.key))
            .map(|(token, _)| *token)
            .collect();
        self.pids.retain(|_, other| !of_it(other));
        let removed: Vec<Process> = if key.is_init() {
            let container = self.containers.remove(&key.container);
            let unanswered = container
                .iter()
                .flat_map(|container| container.queue.iter().filter_map(Work::call));
            let unanswered: Vec<Call> = unanswered.collect();
            for call in unanswered {
                self.refuse(call, gone(key));
            }
            if let Some(token) = container.as_ref().and_then(|container| container.oom_token) {
                self.end_oom(token);
            }
            container
                .into_iter()
                .flat_map(|Container { init, execs, .. }| execs.into_values().chain([init]))
                .collect()
        } else {
            self.containers
                .get_mut(&key.container)
                .and_then(|container| container.execs.remove(&key.exec))
                .into_iter()
                .collect()
        };
        for token in relays {
            self.end_relay(token);
        }
        for process in removed {
            for call in process.waiters {
                self.refuse(call, gone(key));
            }
            if let Some(logger) = process.logger {
                // A logger that has ended already is no concern.
                let _ended =
                    sys::pidfd::send_signal(std::os::fd::AsFd::as_fd(&logger.pidfd), SIGTERM)
                        .is_err();
            }
        }
    }

    /// The process with a key.
    pub(crate) fn process(&mut self, key: &ProcessKey) -> Option<&mut Process> {
        self.containers
            .get_mut(&key.container)?
            .process(&key.exec)
            .ok()
    }
}

fn gone(key: &ProcessKey) -> Status {
    Status::new(
        model::ErrorKind::NotFound,
        format!("process {} was deleted", key.id()),
    )
}

/// Writes a file that a reader sees whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(&temporary, flags, Mode::RUSR | Mode::WUSR)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(&file, rest)?..];
    }
    Ok(rustix::fs::rename(&temporary, path)?)
}
