//! The task service: each call is answered at once, or kept until what it waits for has happened.

mod control;
mod create;

use crate::job::Work;
use crate::server::Shim;
use crate::state::{
    Call, Container, Deleting, EXECS_MAX, Phase, Process, ProcessKey, WAITERS_MAX, check_exec,
    precondition, wire_time,
};
use crate::stdio::Names;
use model::ErrorKind;
use prost::Message;
use proto::containerd::events::TaskExecAdded;
use proto::containerd::task::v2::{
    DeleteRequest, ExecProcessRequest, KillRequest, StartRequest, StateRequest, StateResponse,
    WaitRequest, WaitResponse,
};
use proto::containerd::v1::types::Status as TaskStatus;
use std::os::fd::AsFd;
use sys::poll::Interest;
use ttrpc::{Request, Status};

/// A result now, or `None` when the call is answered later.
pub(crate) type Outcome = Result<Option<Vec<u8>>, Status>;

const SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

fn decode<M: Message + Default>(request: &Request) -> Result<M, Status> {
    M::decode(request.payload.as_slice()).map_err(|error| {
        Status::new(
            ErrorKind::InvalidArgument,
            format!("decode argument of {}: {error}", request.method),
        )
    })
}

/// An answer without content.
fn empty() -> Outcome {
    Ok(Some(Vec::new()))
}

impl Shim {
    /// Carries out a call.
    pub(crate) fn dispatch(&mut self, call: Call, request: &Request) -> Outcome {
        let service = request.service.as_str();
        if service == shim_protocol::bootstrap::SERVICE && request.method == "ReopenLogs" {
            return self.reopen_logs(&decode::<StateRequest>(request)?);
        }
        if !SERVICES.contains(&service) {
            return Err(Status::unimplemented(service, &request.method));
        }
        self.log.debug(&format!("call {}", request.method));
        match request.method.as_str() {
            "State" => self.state(&decode(request)?),
            "Create" => self.create(call, decode(request)?),
            "Start" => self.start(call, &decode(request)?),
            "Delete" => self.delete(call, &decode(request)?),
            "Exec" => self.exec(decode(request)?),
            "Kill" => self.kill(call, &decode(request)?),
            "Wait" => self.wait(call, &decode(request)?),
            "Pids" => self.pids(call, &decode(request)?),
            "Pause" => self.pause(call, &decode(request)?),
            "Resume" => self.resume(call, &decode(request)?),
            "ResizePty" => self.resize(&decode(request)?),
            "CloseIO" => self.close_io(&decode(request)?),
            "Update" => self.update(call, decode(request)?),
            "Stats" => self.stats(call, &decode(request)?),
            "Connect" => self.connect(&decode(request)?),
            "Shutdown" => self.shutdown(&decode(request)?),
            method => Err(Status::unimplemented(service, method)),
        }
    }

    /// A container that has been created.
    pub(crate) fn container(&mut self, id: &str) -> Result<&mut Container, Status> {
        self.containers
            .get_mut(id)
            .filter(|container| !matches!(container.init.phase, Phase::Creating))
            .ok_or_else(|| Status::new(ErrorKind::NotFound, format!("container not created: {id}")))
    }

    fn state(&mut self, request: &StateRequest) -> Outcome {
        let container = self.container(&request.id)?;
        let (bundle, paused) = (
            container.bundle.to_string_lossy().into_owned(),
            container.paused,
        );
        let process = container.process(&request.exec_id)?;
        let status = match process.phase {
            Phase::Creating | Phase::Added | Phase::Created | Phase::Starting { .. } => {
                TaskStatus::Created
            }
            Phase::Running if paused => TaskStatus::Paused,
            Phase::Running => TaskStatus::Running,
            Phase::Stopped(_) => TaskStatus::Stopped,
        };
        let exit = process.exit();
        let response = StateResponse {
            id: if request.exec_id.is_empty() {
                request.id.clone()
            } else {
                request.exec_id.clone()
            },
            bundle,
            pid: process.pid.unsigned_abs(),
            status: status.into(),
            stdin: process.names.stdin.clone(),
            stdout: process.names.stdout.clone(),
            stderr: process.names.stderr.clone(),
            terminal: process.names.terminal,
            exit_status: exit.map_or(0, |record| record.exit_status),
            exited_at: exit.map(|record| wire_time(record.exited_at)),
            exec_id: request.exec_id.clone(),
        };
        Ok(Some(response.encode_to_vec()))
    }

    fn start(&mut self, call: Call, request: &StartRequest) -> Outcome {
        let container = self.container(&request.id)?;
        let key = ProcessKey {
            container: request.id.clone(),
            exec: request.exec_id.clone(),
        };
        if !key.is_init() {
            check_exec(container, &request.id)?;
            let process = container.process(&key.exec)?;
            if !matches!(process.phase, Phase::Added) {
                return Err(precondition(format!(
                    "cannot start exec {} twice",
                    key.exec
                )));
            }
            // From here on a second start is refused, even while this one is queued.
            process.phase = Phase::Creating;
            if let Err(status) = self.work(&request.id, Work::Exec(call, key.clone())) {
                self.exec_failed(&key);
                return Err(status);
            }
            return Ok(None);
        }
        match container.init.phase {
            Phase::Created => self.open_gate(call, &key).map(|()| None),
            Phase::Stopped(_) => Err(precondition("cannot start a stopped process")),
            _ => Err(precondition("cannot start a running process")),
        }
    }

    /// Lets a process go on to its program; the call is answered when it is known to run.
    pub(crate) fn open_gate(&mut self, call: Call, key: &ProcessKey) -> Result<(), Status> {
        let token = self.token(crate::server::Source::Gate(key.clone()));
        let opened = {
            let poller = &self.poller;
            let container = self.containers.get_mut(&key.container);
            let process = container.and_then(|container| container.process(&key.exec).ok());
            match process.and_then(|process| process.gate.as_ref()) {
                None => Err(precondition(format!(
                    "process {} does not wait for its start",
                    key.id()
                ))),
                Some(gate) => gate
                    .open()
                    .and_then(|()| poller.add(gate.as_fd(), token, Interest::READ))
                    .map_err(|error| {
                        Status::new(ErrorKind::Unknown, format!("start {}: {error}", key.id()))
                    }),
            }
        };
        if let Err(status) = opened {
            self.sources.remove(&token);
            return Err(status);
        }
        if let Some(process) = self.process(key) {
            process.phase = Phase::Starting { call, ended: None };
        }
        Ok(())
    }

    fn delete(&mut self, call: Call, request: &DeleteRequest) -> Outcome {
        let container = self.container(&request.id)?;
        let key = ProcessKey {
            container: request.id.clone(),
            exec: request.exec_id.clone(),
        };
        let process = container.process(&key.exec)?;
        if process.deleting.is_some() {
            return Err(precondition(format!(
                "process {} is being deleted",
                key.id()
            )));
        }
        match process.phase {
            Phase::Stopped(_) | Phase::Added => {}
            Phase::Created if key.is_init() => {}
            _ => return Err(precondition("cannot delete a running process")),
        }
        process.deleting = Some(Deleting {
            call,
            drain_until: None,
        });
        if !key.is_init() {
            self.start_drain(&key);
            return Ok(None);
        }
        let deleted = self.work(&request.id, Work::Delete(key.clone()));
        if let Err(status) = deleted {
            if let Some(process) = self.process(&key) {
                process.deleting = None;
            }
            return Err(status);
        }
        Ok(None)
    }

    fn exec(&mut self, request: ExecProcessRequest) -> Outcome {
        let container = self.container(&request.id)?;
        check_exec(container, &request.id)?;
        let exec = model::ExecId::new(request.exec_id.as_str())
            .map_err(|error| Status::new(ErrorKind::InvalidArgument, error.to_string()))?;
        if container.execs.contains_key(exec.as_str()) {
            return Err(Status::new(ErrorKind::AlreadyExists, format!("id {exec}")));
        }
        if container.execs.len() >= EXECS_MAX {
            let text = format!(
                "container {} has {EXECS_MAX} additional processes",
                request.id
            );
            return Err(Status::new(ErrorKind::ResourceExhausted, text));
        }
        let spec = request.spec.map(|any| any.value).unwrap_or_default();
        // Only a worker keeps the parsed form, but the caller learns of a mistake now.
        crate::job::parse::<spec::runtime::Process>("process", &spec)
            .map_err(|error| Status::from_error(&error))?;
        let names = Names {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        container
            .execs
            .insert(exec.to_string(), Process::new(Phase::Added, names, spec));
        self.publish(
            "/tasks/exec-added",
            &TaskExecAdded {
                container_id: request.id,
                exec_id: exec.to_string(),
            },
        );
        empty()
    }

    fn kill(&mut self, call: Call, request: &KillRequest) -> Outcome {
        let signal = i32::try_from(request.signal)
            .ok()
            .filter(|signal| (1..=64).contains(signal))
            .ok_or_else(|| {
                Status::new(
                    ErrorKind::InvalidArgument,
                    format!("signal {} does not exist", request.signal),
                )
            })?;
        let container = self.container(&request.id)?;
        if request.all {
            self.work(&request.id, Work::KillAll(Some(call), signal))?;
            return Ok(None);
        }
        let held = container.held_exit.is_some();
        let process = container.process(&request.exec_id)?;
        let finished = || Status::new(ErrorKind::NotFound, "process already finished");
        match &process.phase {
            Phase::Stopped(_) => return Err(finished()),
            Phase::Added | Phase::Creating => return Err(precondition("process not created")),
            _ if held && request.exec_id.is_empty() => return Err(finished()),
            _ => {}
        }
        let pidfd = process.pidfd.as_ref().ok_or_else(finished)?;
        match sys::pidfd::send_signal(pidfd.as_fd(), signal) {
            Ok(()) => empty(),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
                Err(finished())
            }
            Err(error) => Err(Status::new(
                ErrorKind::Unknown,
                format!("kill {}: {error}", request.id),
            )),
        }
    }

    fn wait(&mut self, call: Call, request: &WaitRequest) -> Outcome {
        let process = self.container(&request.id)?.process(&request.exec_id)?;
        if let Some(record) = process.exit() {
            let response = WaitResponse {
                exit_status: record.exit_status,
                exited_at: Some(wire_time(record.exited_at)),
            };
            return Ok(Some(response.encode_to_vec()));
        }
        if process.waiters.len() >= WAITERS_MAX {
            let text = format!("{WAITERS_MAX} calls wait for the end of one process");
            return Err(Status::new(ErrorKind::ResourceExhausted, text));
        }
        process.waiters.push(call);
        Ok(None)
    }
}
