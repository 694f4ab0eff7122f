//! What is asked about tasks.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use model::filter::{Fields, Filters};
use model::{ContainerId, ExecId, Namespace, Timestamp};
use proto::Any;
use shims::{Process, Shim};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::{Error, Tasks};

/// Time allowed for a shim to tell a process's state.
const STATE_LIMIT: Duration = Duration::from_secs(2);
/// Shims that are asked beside each other.
const PARALLEL_MAX: usize = 64;

/// The state of a process, as its shim told it.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The task.
    pub id: ContainerId,
    /// The exec; absent for the first process.
    pub exec: Option<ExecId>,
    /// The state.
    pub process: Process,
}

/// The metrics of one task.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// When they were taken.
    pub at: Timestamp,
    /// The task.
    pub id: ContainerId,
    /// `io.containerd.cgroups.v1.Metrics`, or v2.
    pub data: Option<Any>,
}

/// What metrics are filtered by.
struct Subject<'a> {
    namespace: &'a str,
    id: &'a str,
}

impl Fields for Subject<'_> {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["id"] => Some(Cow::Borrowed(self.id)),
            ["namespace"] => Some(Cow::Borrowed(self.namespace)),
            _ => None,
        }
    }
}

impl Tasks {
    /// The state of a process; a shim that does not tell it within two seconds is unavailable.
    pub async fn get(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        exec: Option<&ExecId>,
    ) -> Result<Report, Error> {
        let process = self.shim(namespace, id)?.state(exec, STATE_LIMIT).await?;
        Ok(Report {
            id: id.clone(),
            exec: exec.cloned(),
            process,
        })
    }

    /// The states of all first processes, by id; shims that do not tell are left out.
    pub async fn list(&self, namespace: &Namespace) -> Vec<Report> {
        let shims = self.shims.list(Some(namespace));
        each(shims, |shim| async move {
            let process = shim.state(None, STATE_LIMIT).await.ok()?;
            Some(Report {
                id: shim.id().clone(),
                exec: None,
                process,
            })
        })
        .await
    }

    /// The metrics of all tasks that the filters match, by id; shims that do not tell are left out.
    pub async fn metrics(
        &self,
        namespace: &Namespace,
        filters: &[String],
    ) -> Result<Vec<Metric>, Error> {
        let filters = Filters::parse(filters).map_err(|source| Error::Filter { source })?;
        let mut shims = self.shims.list(Some(namespace));
        shims.retain(|shim| {
            filters.matches(&Subject {
                namespace: namespace.as_str(),
                id: shim.id().as_str(),
            })
        });
        let clock = Arc::clone(&self.clock);
        let metrics = each(shims, move |shim| {
            let clock = Arc::clone(&clock);
            async move {
                let limited = tokio::time::timeout(STATE_LIMIT, shim.stats());
                let data = limited.await.ok()?.ok()?;
                Some(Metric {
                    at: clock.now(),
                    id: shim.id().clone(),
                    data,
                })
            }
        });
        Ok(metrics.await)
    }
}

/// Asks shims beside each other; answers in their order.
async fn each<T, F, R>(shims: Vec<Shim>, ask: F) -> Vec<T>
where
    T: Send + 'static,
    F: Fn(Shim) -> R,
    R: Future<Output = Option<T>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(PARALLEL_MAX));
    let mut work = JoinSet::new();
    for (index, shim) in shims.into_iter().enumerate() {
        let (places, asked) = (Arc::clone(&places), ask(shim));
        work.spawn(async move {
            let _place = places.acquire().await;
            (index, asked.await)
        });
    }
    let mut answers: Vec<(usize, T)> = Vec::new();
    while let Some(answer) = work.join_next().await {
        if let Ok((index, Some(answer))) = answer {
            answers.push((index, answer));
        }
    }
    answers.sort_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}
