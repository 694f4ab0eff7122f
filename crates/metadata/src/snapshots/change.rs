//! What makes, commits and removes snapshots: files first, then the record, or the record and then the files.

use model::{Labels, Mount};
use snapshots::{CommitOptions, Kind, LABEL_REF, SnapshotId, Usage};

use super::{Row, Snapshots, checked_key, missing, unlink};
use crate::error::{Error, exists, invalid, not_found, precondition};
use crate::key::{CHILDREN, prefix};
use crate::message::Message;
use crate::owner::{Rows, Tx};
use crate::record::settle_labels;

/// A snapshot that was found in place of the one to be made: its name and the words for it.
struct Taken {
    name: String,
    what: String,
}

/// Files whose record is not yet known to be durable; if the call goes away they are looked at by collection.
struct Unrecorded<'a> {
    snapshots: &'a Snapshots,
    id: SnapshotId,
    armed: bool,
}

impl Drop for Unrecorded<'_> {
    fn drop(&mut self) {
        if self.armed {
            let driver = self.snapshots.name().to_owned();
            self.snapshots.view.db.inner.orphan(driver, self.id);
        }
    }
}

impl Snapshots {
    /// Makes an active snapshot or a view.
    pub(super) async fn create(
        &self,
        kind: Kind,
        key: &str,
        parent: Option<&str>,
        mut labels: Labels,
    ) -> Result<Vec<Mount>, Error> {
        checked_key(key)?;
        settle_labels("info.Labels", &mut labels)?;
        let parent = parent.filter(|parent| !parent.is_empty());
        let parents = {
            let rows = self.view.db.snapshot()?;
            if let Some(taken) = self.taken(&rows, key, &labels)? {
                drop(rows);
                return Err(self.hold_taken(taken).await?);
            }
            self.check_parent(&rows, parent)?;
            self.parents(&rows, parent)?
        };
        let id = self.number().await?;
        let mut files = Unrecorded {
            snapshots: self,
            id,
            armed: true,
        };
        let (nearest, inherited) = (
            parents.first().copied(),
            snapshots::inherited_labels(&labels),
        );
        let mounts = self
            .files(format!("make snapshot {key}"), move |driver| {
                driver.create(id, kind, &parents, &inherited)?;
                driver.mounts(id, kind, &parents, &inherited)
            })
            .await?;
        let row = Row {
            id,
            kind,
            parent: parent.map(str::to_owned),
            labels,
            created: self.view.db.inner.clock.now(),
            updated: self.view.db.inner.clock.now(),
            usage: Usage::default(),
        };
        let (this, key) = (self.clone(), key.to_owned());
        let recorded = self
            .view
            .db
            .write(move |tx| this.record(tx, &key, &row, nearest))
            .await?;
        if let Some(taken) = recorded {
            return Err(exists(taken.what));
        }
        files.armed = false;
        Ok(mounts)
    }

    /// The snapshot that stands in the way of a new one.
    fn taken(&self, rows: &impl Rows, key: &str, labels: &Labels) -> Result<Option<Taken>, Error> {
        if let Some(target) = labels.get(LABEL_REF)
            && self.find(rows, target)?.is_some()
        {
            return Ok(Some(Taken {
                name: target.clone(),
                what: format!("target snapshot {target:?}"),
            }));
        }
        let taken = self.find(rows, key)?.map(|_| Taken {
            name: key.to_owned(),
            what: format!("snapshot {key:?}"),
        });
        Ok(taken)
    }

    /// Adds what was found to the lease; answers the refusal.
    async fn hold_taken(&self, taken: Taken) -> Result<Error, Error> {
        if self.view.lease.is_some() {
            let (this, name) = (self.clone(), taken.name);
            self.view
                .db
                .write(move |tx| this.view.hold(tx, &this.resource(), &name))
                .await?;
        }
        Ok(exists(taken.what))
    }

    fn check_parent(&self, rows: &impl Rows, parent: Option<&str>) -> Result<(), Error> {
        let Some(parent) = parent else {
            return Ok(());
        };
        let row = self
            .find(rows, parent)?
            .ok_or_else(|| not_found(format!("parent snapshot {parent} does not exist")))?;
        if row.kind != Kind::Committed {
            return Err(invalid(format!(
                "parent {parent:?} is not committed snapshot"
            )));
        }
        Ok(())
    }

    /// Records a snapshot whose files stand, unless somebody was faster.
    fn record(
        &self,
        tx: &mut Tx<'_>,
        key: &str,
        row: &Row,
        nearest: Option<SnapshotId>,
    ) -> Result<Option<Taken>, Error> {
        if let Some(taken) = self.taken(tx, key, &row.labels)? {
            self.view.hold(tx, &self.resource(), &taken.name)?;
            return Ok(Some(taken));
        }
        self.check_parent(tx, row.parent.as_deref())?;
        if let Some(parent) = &row.parent {
            if self.find(tx, parent)?.map(|found| found.id) != nearest {
                return Err(not_found(format!(
                    "parent snapshot {parent} does not exist"
                )));
            }
            tx.put(self.child_key(parent, key), Vec::new());
        }
        self.view.hold(tx, &self.resource(), key)?;
        tx.ensure_namespace(&self.view.namespace)?;
        tx.put(self.row_key(key), row.encode());
        if row.kind == Kind::Active {
            let event = Message::new("containerd.events.SnapshotPrepare")
                .text(1, key)
                .text(2, row.parent.as_deref().unwrap_or_default())
                .text(5, self.name());
            tx.publish(&self.view.namespace, "/snapshot/prepare", event.any());
        }
        Ok(None)
    }

    /// Makes the active snapshot `key` the committed one `name`.
    pub(super) async fn commit_files(
        &self,
        name: &str,
        key: &str,
        mut options: CommitOptions,
    ) -> Result<(), Error> {
        checked_key(name)?;
        settle_labels("info.Labels", &mut options.labels)?;
        options.parent = options.parent.filter(|parent| !parent.is_empty());
        let (row, parent, parents) = {
            let rows = self.view.db.snapshot()?;
            if self.find(&rows, name)?.is_some() {
                drop(rows);
                let taken = Taken {
                    name: name.to_owned(),
                    what: format!("snapshot {name:?}"),
                };
                return Err(self.hold_taken(taken).await?);
            }
            let row = self.must(&rows, key)?;
            if row.kind != Kind::Active {
                return Err(precondition(format!("snapshot {key:?} is not active")));
            }
            let parent = self.parent_at_commit(key, &row, options.parent)?;
            self.check_parent(&rows, parent.as_deref())?;
            let parents = self.parents(&rows, parent.as_deref())?;
            (row, parent, parents)
        };
        let (id, durability, nearest) = (row.id, options.durability, parents.first().copied());
        let usage = self
            .files(format!("commit files of snapshot {key}"), move |driver| {
                driver.commit(id, &parents, durability)
            })
            .await?;
        let committed = Row {
            kind: Kind::Committed,
            parent,
            labels: options.labels,
            usage,
            ..row
        };
        let (this, name, key) = (self.clone(), name.to_owned(), key.to_owned());
        self.view
            .db
            .write(move |tx| this.rename(tx, &name, &key, committed, nearest))
            .await?
            .map_or(Ok(()), |taken| Err(exists(taken.what)))
    }

    fn parent_at_commit(
        &self,
        key: &str,
        row: &Row,
        asked: Option<String>,
    ) -> Result<Option<String>, Error> {
        match (&row.parent, asked) {
            (parent, None) => Ok(parent.clone()),
            (Some(parent), Some(asked)) if *parent == asked => Ok(Some(asked)),
            (Some(_), Some(_)) => Err(invalid(format!(
                "cannot change parent of active snapshot {key:?} on commit"
            ))),
            (None, Some(asked)) => {
                if self
                    .driver()
                    .capabilities()
                    .contains(&snapshots::CAPABILITY_REBASE)
                {
                    Ok(Some(asked))
                } else {
                    Err(invalid(format!(
                        "snapshotter {} cannot change the parent of a snapshot on commit",
                        self.name()
                    )))
                }
            }
        }
    }

    /// Turns the record of `key` into that of `name`.
    fn rename(
        &self,
        tx: &mut Tx<'_>,
        name: &str,
        key: &str,
        mut row: Row,
        nearest: Option<SnapshotId>,
    ) -> Result<Option<Taken>, Error> {
        if self.find(tx, name)?.is_some() {
            self.view.hold(tx, &self.resource(), name)?;
            return Ok(Some(Taken {
                name: name.to_owned(),
                what: format!("snapshot {name:?}"),
            }));
        }
        let old = self.must(tx, key)?;
        if old.id != row.id {
            return Err(missing(key));
        }
        self.check_parent(tx, row.parent.as_deref())?;
        self.view.hold(tx, &self.resource(), name)?;
        if let Some(parent) = &row.parent {
            if self.find(tx, parent)?.map(|found| found.id) != nearest {
                return Err(not_found(format!(
                    "parent snapshot {parent} does not exist"
                )));
            }
            tx.put(self.child_key(parent, name), Vec::new());
        }
        if let Some(parent) = &old.parent {
            tx.delete(self.child_key(parent, key));
        }
        self.view.release(tx, &self.resource(), key);
        tx.delete(self.row_key(key));
        row.created = tx.now();
        row.updated = row.created;
        tx.put(self.row_key(name), row.encode());
        let event = Message::new("containerd.events.SnapshotCommit")
            .text(1, key)
            .text(2, name)
            .text(5, self.name());
        tx.publish(&self.view.namespace, "/snapshot/commit", event.any());
        Ok(None)
    }

    /// Removes the record; the files go with the next collection.
    pub(super) async fn remove_record(&self, key: &str) -> Result<(), Error> {
        let (this, key) = (self.clone(), key.to_owned());
        self.view
            .db
            .write(move |tx| {
                let row = this.must(tx, &key)?;
                let namespace = this.view.namespace.as_str();
                if tx.any(&prefix(CHILDREN, &[namespace, this.name(), &key]))? {
                    return Err(precondition("cannot remove snapshot with child"));
                }
                unlink(tx, &this.view.namespace, this.name(), &key, &row);
                this.view.release(tx, &this.resource(), &key);
                tx.mark_dirty();
                Ok(())
            })
            .await
    }
}
