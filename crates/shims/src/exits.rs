//! How processes ended.

use std::path::Path;

use events::Exchange;
use model::{ContainerId, ExecId, Namespace, Timestamp};
use proto::containerd::events::{TaskDelete, TaskExit};
use shim_protocol::bundle;
use shim_protocol::exit::ExitRecord;

use crate::Bundle;

/// Exit records of one bundle that are read; more belong to nobody's container.
const RECORDS_MAX: usize = 16_384;
/// The status of a process that was killed.
pub(crate) const KILLED: u32 = 137;
/// The status when nobody knows.
pub(crate) const UNKNOWN: u32 = 255;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The process, as the host numbered it; 0 when nobody knows.
    pub pid: u32,
    /// Its exit code, or 128 plus the signal.
    pub status: u32,
    /// When.
    pub at: Timestamp,
}

impl From<ExitRecord> for Exit {
    fn from(record: ExitRecord) -> Self {
        Self {
            pid: record.pid,
            status: record.exit_status,
            at: record.exited_at,
        }
    }
}

/// Reads one exit record. Blocks.
pub(crate) fn read(bundle: &Bundle, exec: Option<&ExecId>) -> Option<Exit> {
    read_path(&bundle::exit_record(&bundle.path, exec))
}

/// Reads every exit record of a bundle, those of execs first, each kind by time. Blocks.
pub(crate) fn read_all(bundle: &Bundle) -> Vec<(Option<ExecId>, Exit)> {
    let Ok(entries) = std::fs::read_dir(&bundle.path) else {
        return Vec::new();
    };
    let mut found: Vec<_> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| bundle::exit_record_name(entry.file_name().to_str()?))
        .take(RECORDS_MAX)
        .filter_map(|exec| Some((exec.clone(), read(bundle, exec.as_ref())?)))
        .collect();
    // Clients want the exits of execs before that of the first process.
    found.sort_by_key(|(exec, exit)| (exec.is_none(), exit.at));
    found
}

fn read_path(path: &Path) -> Option<Exit> {
    let bytes = std::fs::read(path).ok()?;
    match ExitRecord::from_bytes(&bytes) {
        Ok(record) => Some(record.into()),
        Err(error) => {
            tracing::warn!(record = %path.display(), error = %model::chain(&error), "exit record is damaged");
            None
        }
    }
}

pub(crate) fn to_proto(time: Timestamp) -> proto::Timestamp {
    proto::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    }
}

pub(crate) fn from_proto(time: Option<proto::Timestamp>) -> Option<Timestamp> {
    let time = time?;
    Timestamp::new(time.seconds, time.nanos).ok()
}

/// Tells of an exit; `exec` is absent for the first process.
pub(crate) fn publish_exit(
    events: &Exchange,
    namespace: &Namespace,
    id: &ContainerId,
    exec: Option<&ExecId>,
    exit: Exit,
) {
    let event = TaskExit {
        container_id: id.to_string(),
        id: exec.map_or_else(|| id.to_string(), ToString::to_string),
        pid: exit.pid,
        exit_status: exit.status,
        exited_at: Some(to_proto(exit.at)),
    };
    publish(events, namespace, "/tasks/exit", &event);
}

/// Tells that a task is gone.
pub(crate) fn publish_delete(
    events: &Exchange,
    namespace: &Namespace,
    id: &ContainerId,
    exit: Exit,
) {
    let event = TaskDelete {
        container_id: id.to_string(),
        pid: exit.pid,
        exit_status: exit.status,
        exited_at: Some(to_proto(exit.at)),
        id: String::new(),
    };
    publish(events, namespace, "/tasks/delete", &event);
}

fn publish(events: &Exchange, namespace: &Namespace, topic: &str, event: &impl prost::Name) {
    if let Err(error) = events.publish(namespace, topic, proto::typeurl::pack(event)) {
        tracing::error!(topic, error = %model::chain(&error), "event is lost");
    }
}
