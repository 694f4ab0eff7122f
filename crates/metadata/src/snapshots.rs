//! Snapshots by key: one [`Snapshotter`] over any [`Driver`].
//!
//! Order of a prepare: a number that was never given before → the driver makes the files → the record names them. A
//! crash in between leaves files without a record, whose number is below the recorded mark: start-up removes them.
//! Order of a removal: the record goes and the number is put on the list of files to be removed, in one transaction.

mod change;
mod row;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use model::filter::Filters;
use model::{ErrorKind, Labels, Mount};
use snapshots::{CommitOptions, Driver, Info, Kind, Page, SnapshotId, Snapshotter, Usage};
use tokio::sync::Mutex;

use crate::db::{View, blocking};
use crate::error::{Error, backend, invalid, not_found, precondition};
use crate::key::{CHILDREN, SNAPSHOTS, checked, ids, key, prefix, trash_snapshot};
use crate::message::Message;
use crate::owner::{NEXT, Rows, Tx};
use crate::record::{bad_path, damaged, mask_labels, settle_labels};

pub(crate) use row::Row;

/// How many numbers are taken from the store at once, so that most prepares cost one sync.
const IDS_RESERVED: u64 = 64;

/// The loaded drivers, with the numbers reserved for each.
#[derive(Debug)]
pub(crate) struct Drivers {
    by_name: HashMap<String, Arc<Loaded>>,
}

#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) driver: Arc<dyn Driver>,
    /// The next number to give, and the first one that is not reserved.
    reserved: Mutex<(u64, u64)>,
}

impl Drivers {
    pub(crate) fn new(drivers: Vec<Arc<dyn Driver>>) -> Self {
        let loaded = |driver: Arc<dyn Driver>| {
            let loaded = Loaded {
                driver: Arc::clone(&driver),
                reserved: Mutex::new((0, 0)),
            };
            (driver.name().to_owned(), Arc::new(loaded))
        };
        Self {
            by_name: drivers.into_iter().map(loaded).collect(),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Loaded>> {
        self.by_name.get(name)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Loaded>> {
        self.by_name.values()
    }
}

/// The snapshots of one namespace in one driver.
#[derive(Debug, Clone)]
pub struct Snapshots {
    pub(crate) view: View,
    pub(crate) loaded: Arc<Loaded>,
}

impl Snapshots {
    /// What the driver can do, as `Introspection` shows it.
    pub fn capabilities(&self) -> &[&'static str] {
        self.loaded.driver.capabilities()
    }

    fn driver(&self) -> &Arc<dyn Driver> {
        &self.loaded.driver
    }

    fn name(&self) -> &str {
        self.loaded.driver.name()
    }

    /// The kind under which leases know these snapshots.
    fn resource(&self) -> String {
        format!("snapshots/{}", self.name())
    }

    fn row_key(&self, name: &str) -> Vec<u8> {
        key(
            SNAPSHOTS,
            &[self.view.namespace.as_str(), self.name(), name],
        )
    }

    fn child_key(&self, parent: &str, child: &str) -> Vec<u8> {
        let namespace = self.view.namespace.as_str();
        key(CHILDREN, &[namespace, self.name(), parent, child])
    }

    fn find(&self, rows: &impl Rows, name: &str) -> Result<Option<Row>, Error> {
        let key = self.row_key(name);
        rows.get(&key)?
            .map(|bytes| Row::decode(&bytes).map_err(|malformed| damaged(&key, malformed)))
            .transpose()
    }

    fn must(&self, rows: &impl Rows, name: &str) -> Result<Row, Error> {
        self.find(rows, name)?.ok_or_else(|| missing(name))
    }

    /// The numbers of a snapshot's parents, nearest first.
    fn parents(&self, rows: &impl Rows, parent: Option<&str>) -> Result<Vec<SnapshotId>, Error> {
        let mut numbers = Vec::new();
        let mut next = parent.map(str::to_owned);
        while let Some(name) = next {
            if numbers.len() == snapshots::PARENTS_MAX {
                let max = snapshots::PARENTS_MAX;
                return Err(invalid(format!("snapshot has more than {max} parents")));
            }
            let row = self
                .find(rows, &name)?
                .ok_or_else(|| not_found(format!("parent snapshot {name} does not exist")))?;
            numbers.push(row.id);
            next = row.parent;
        }
        Ok(numbers)
    }

    fn info(&self, name: &str, row: Row) -> Info {
        let mut labels = row.labels;
        labels.extend(self.driver().shown_labels(row.id));
        Info {
            name: name.to_owned(),
            parent: row.parent,
            kind: row.kind,
            created: row.created,
            updated: row.updated,
            labels,
        }
    }

    /// A number that was never given before.
    async fn number(&self) -> Result<SnapshotId, Error> {
        let mut reserved = self.loaded.reserved.lock().await;
        if reserved.0 == reserved.1 {
            let mark = ids(self.name());
            *reserved = self
                .view
                .db
                .write(move |tx| {
                    // Numbers begin at 1, as containerd's.
                    let first = tx.counter(&mark)?.max(1);
                    let end = first + IDS_RESERVED;
                    tx.put(mark, end.to_be_bytes().to_vec());
                    Ok((first, end))
                })
                .await?;
        }
        let number = reserved.0;
        reserved.0 += 1;
        Ok(SnapshotId(number))
    }

    fn fail(&self, act: &'static str, key: &str, error: Error) -> snapshots::Error {
        let kind = model::Kinded::kind(&error);
        snapshots::Error::Backend {
            act,
            key: key.to_owned(),
            kind,
            source: Box::new(error),
        }
    }

    async fn files<T: Send + 'static>(
        &self,
        act: String,
        work: impl FnOnce(&dyn Driver) -> Result<T, snapshots::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let driver = Arc::clone(self.driver());
        let done = blocking(move || work(driver.as_ref())).await?;
        done.map_err(|source| backend(act, source))
    }

    async fn update_labels(&self, info: &Info, mask: Vec<String>) -> Result<Info, Error> {
        let (this, name, labels) = (self.clone(), info.name.clone(), info.labels.clone());
        let row = self
            .view
            .db
            .write(move |tx| {
                let mut row = this.must(tx, &name)?;
                if mask.is_empty() {
                    row.labels.clone_from(&labels);
                }
                for path in &mask {
                    if !mask_labels(path, "labels", &mut row.labels, &labels) {
                        return Err(bad_path(path, &format!("snapshot {name:?}")));
                    }
                }
                settle_labels("info.Labels", &mut row.labels)?;
                row.updated = tx.now();
                tx.put(this.row_key(&name), row.encode());
                tx.mark_dirty();
                Ok(row)
            })
            .await?;
        Ok(self.info(&info.name, row))
    }

    async fn usage_of(&self, name: &str) -> Result<Usage, Error> {
        let row = self.must(&self.view.db.snapshot()?, name)?;
        if row.kind == Kind::Committed {
            return Ok(row.usage);
        }
        self.files(format!("usage of snapshot {name}"), move |driver| {
            driver.usage(row.id)
        })
        .await
    }

    async fn mounts_of(&self, name: &str) -> Result<Vec<Mount>, Error> {
        let rows = self.view.db.snapshot()?;
        let row = self.must(&rows, name)?;
        if row.kind == Kind::Committed {
            return Err(precondition(format!(
                "requested snapshot {name} not active or view"
            )));
        }
        let parents = self.parents(&rows, row.parent.as_deref())?;
        let labels = snapshots::inherited_labels(&row.labels);
        self.files(format!("mounts of snapshot {name}"), move |driver| {
            driver.mounts(row.id, row.kind, &parents, &labels)
        })
        .await
    }

    /// All records in order, without the labels that the driver shows.
    fn all(&self) -> Result<Vec<(String, Row)>, Error> {
        let start = prefix(SNAPSHOTS, &[self.view.namespace.as_str(), self.name()]);
        let mut found = Vec::new();
        self.view.db.snapshot()?.each(&start, &mut |key, bytes| {
            let name = String::from_utf8_lossy(&key[start.len()..]).into_owned();
            let row = Row::decode(bytes).map_err(|malformed| damaged(key, malformed))?;
            found.push((name, row));
            NEXT
        })?;
        Ok(found)
    }
}

fn missing(name: &str) -> Error {
    not_found(format!("snapshot {name} does not exist"))
}

/// Removes a snapshot's record and lets its files be removed.
pub(crate) fn unlink(
    tx: &mut Tx<'_>,
    namespace: &model::Namespace,
    driver: &str,
    name: &str,
    row: &Row,
) {
    let parts = [namespace.as_str(), driver, name];
    tx.delete(key(SNAPSHOTS, &parts));
    if let Some(parent) = &row.parent {
        tx.delete(key(CHILDREN, &[namespace.as_str(), driver, parent, name]));
    }
    tx.put(trash_snapshot(driver, row.id.0), Vec::new());
    let event = Message::new("containerd.events.SnapshotRemove")
        .text(1, name)
        .text(5, driver);
    tx.publish(namespace, "/snapshot/remove", event.any());
}

#[async_trait]
impl Snapshotter for Snapshots {
    async fn stat(&self, key: &str) -> snapshots::Result<Info> {
        let find = || self.must(&self.view.db.snapshot()?, key);
        let row = find().map_err(|error| self.fail("stat", key, error))?;
        Ok(self.info(key, row))
    }

    async fn update(&self, info: &Info, fields: Option<&[String]>) -> snapshots::Result<Info> {
        let mask = fields.unwrap_or_default().to_vec();
        self.update_labels(info, mask)
            .await
            .map_err(|error| self.fail("update", &info.name, error))
    }

    async fn usage(&self, key: &str) -> snapshots::Result<Usage> {
        let usage = self.usage_of(key).await;
        usage.map_err(|error| self.fail("count", key, error))
    }

    async fn mounts(&self, key: &str) -> snapshots::Result<Vec<Mount>> {
        let mounts = self.mounts_of(key).await;
        mounts.map_err(|error| self.fail("mount", key, error))
    }

    async fn prepare(
        &self,
        key: &str,
        parent: Option<&str>,
        labels: Labels,
    ) -> snapshots::Result<Vec<Mount>> {
        let made = self.create(Kind::Active, key, parent, labels).await;
        made.map_err(|error| self.fail("prepare", key, error))
    }

    async fn view(
        &self,
        key: &str,
        parent: Option<&str>,
        labels: Labels,
    ) -> snapshots::Result<Vec<Mount>> {
        let made = self.create(Kind::View, key, parent, labels).await;
        made.map_err(|error| self.fail("view", key, error))
    }

    async fn commit(&self, name: &str, key: &str, options: CommitOptions) -> snapshots::Result<()> {
        let done = self.commit_files(name, key, options).await;
        done.map_err(|error| self.fail("commit", key, error))
    }

    async fn remove(&self, key: &str) -> snapshots::Result<()> {
        let done = self.remove_record(key).await;
        done.map_err(|error| self.fail("remove", key, error))
    }

    async fn walk(&self, filters: &[String], page: &mut Page<'_>) -> snapshots::Result<()> {
        let parsed = Filters::parse(filters);
        let parsed = parsed.map_err(|error| self.fail("list", "", error.into()))?;
        let rows = self.all().map_err(|error| self.fail("list", "", error))?;
        let mut waiting = Vec::new();
        for (name, row) in rows {
            let info = self.info(&name, row);
            if parsed.matches(&info) {
                waiting.push(info);
            }
            let full = waiting.len() == snapshots::WALK_PAGE_MAX;
            if full && page(std::mem::take(&mut waiting)).await.is_break() {
                return Ok(());
            }
        }
        if !waiting.is_empty() {
            // Whether to go on after the last page does not matter.
            let _ = page(waiting).await;
        }
        Ok(())
    }

    async fn cleanup(&self) -> snapshots::Result<()> {
        let done = self.files("clean up".into(), |driver| driver.cleanup());
        match done.await {
            Err(Error::Backend {
                kind: ErrorKind::Unimplemented,
                ..
            }) => Err(snapshots::Error::Unimplemented {
                driver: self.name().to_owned(),
                act: "cleanup",
            }),
            done => done.map_err(|error| self.fail("clean up", "", error)),
        }
    }
}

/// Refuses a key that can't be recorded.
fn checked_key(name: &str) -> Result<(), Error> {
    checked("snapshot key", name).map(drop)
}
