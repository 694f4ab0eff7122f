//! The snapshotter suite, held against the smallest snapshotter that could pass: a table in memory over a driver.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};

use async_trait::async_trait;
use model::filter::Filters;
use model::{Labels, Mount, Timestamp};
use snapshots::{
    CommitOptions, Driver, Error, Info, Kind, Page, Result, SnapshotId, Snapshotter, Usage,
    WALK_PAGE_MAX, native, overlay, testing,
};

#[derive(Debug, Default)]
struct Table {
    next: u64,
    records: BTreeMap<String, (SnapshotId, Info, Usage)>,
}

#[derive(Debug)]
struct Memory {
    driver: Box<dyn Driver>,
    table: Arc<Mutex<Table>>,
}

impl Memory {
    fn chain(table: &Table, name: Option<&str>) -> Vec<SnapshotId> {
        let mut ids = Vec::new();
        let mut name = name;
        while let Some((id, info, _)) = name.and_then(|name| table.records.get(name)) {
            ids.push(*id);
            name = info.parent.as_deref();
        }
        ids
    }

    fn create(
        &self,
        key: &str,
        parent: Option<&str>,
        kind: Kind,
        labels: Labels,
    ) -> Result<Vec<Mount>> {
        let mut table = self.table.lock().unwrap();
        if key.is_empty() {
            let reason = "empty key".to_owned();
            return Err(Error::Invalid { reason });
        }
        if let Some(parent) = parent {
            let (_, info, _) = table.records.get(parent).ok_or_else(|| absent(parent))?;
            if info.kind != Kind::Committed {
                let reason = format!("parent {parent} is not committed snapshot");
                return Err(Error::Invalid { reason });
            }
        }
        if table.records.contains_key(key) {
            return Err(Error::AlreadyExists {
                key: key.to_owned(),
            });
        }
        table.next += 1;
        let id = SnapshotId(table.next);
        let parents = Self::chain(&table, parent);
        self.driver.create(id, kind, &parents, &labels)?;
        let mounts = self.driver.mounts(id, kind, &parents, &labels);
        let info = Info {
            name: key.to_owned(),
            parent: parent.map(str::to_owned),
            kind,
            created: Timestamp::now(),
            updated: Timestamp::now(),
            labels,
        };
        table
            .records
            .insert(key.to_owned(), (id, info, Usage::default()));
        mounts
    }
}

fn absent(key: &str) -> Error {
    Error::NotFound {
        key: key.to_owned(),
    }
}

fn refused(key: &str, reason: &str) -> Error {
    Error::Precondition {
        key: key.to_owned(),
        reason: reason.to_owned(),
    }
}

#[async_trait]
impl Snapshotter for Memory {
    async fn stat(&self, key: &str) -> Result<Info> {
        let table = self.table.lock().unwrap();
        let record = table.records.get(key).ok_or_else(|| absent(key))?;
        Ok(record.1.clone())
    }

    async fn update(&self, info: &Info, fields: Option<&[String]>) -> Result<Info> {
        let mut table = self.table.lock().unwrap();
        let record = table
            .records
            .get_mut(&info.name)
            .ok_or_else(|| absent(&info.name))?;
        let mut labels = record.1.labels.clone();
        let all = ["labels".to_owned()];
        for field in fields.filter(|fields| !fields.is_empty()).unwrap_or(&all) {
            match (field.as_str(), field.strip_prefix("labels.")) {
                ("labels", _) => labels = info.labels.clone(),
                (_, Some(key)) => match info.labels.get(key) {
                    Some(value) => drop(labels.insert(key.to_owned(), value.clone())),
                    None => drop(labels.remove(key)),
                },
                _ => {
                    let reason = format!("cannot update {field:?}");
                    return Err(Error::Invalid { reason });
                }
            }
        }
        record.1.labels = labels;
        record.1.updated = Timestamp::now();
        Ok(record.1.clone())
    }

    async fn usage(&self, key: &str) -> Result<Usage> {
        let table = self.table.lock().unwrap();
        let (id, info, usage) = table.records.get(key).ok_or_else(|| absent(key))?;
        match info.kind {
            Kind::Committed => Ok(*usage),
            _ => self.driver.usage(*id),
        }
    }

    async fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let table = self.table.lock().unwrap();
        let (id, info, _) = table.records.get(key).ok_or_else(|| absent(key))?;
        if info.kind == Kind::Committed {
            return Err(refused(key, "not active or view"));
        }
        let parents = Self::chain(&table, info.parent.as_deref());
        self.driver.mounts(*id, info.kind, &parents, &info.labels)
    }

    async fn prepare(&self, key: &str, parent: Option<&str>, labels: Labels) -> Result<Vec<Mount>> {
        self.create(key, parent, Kind::Active, labels)
    }

    async fn view(&self, key: &str, parent: Option<&str>, labels: Labels) -> Result<Vec<Mount>> {
        self.create(key, parent, Kind::View, labels)
    }

    async fn commit(&self, name: &str, key: &str, options: CommitOptions) -> Result<()> {
        let mut table = self.table.lock().unwrap();
        if table.records.contains_key(name) {
            return Err(Error::AlreadyExists {
                key: name.to_owned(),
            });
        }
        let (id, mut info, _) = table.records.get(key).cloned().ok_or_else(|| absent(key))?;
        if info.kind != Kind::Active {
            return Err(refused(key, "not active"));
        }
        let parents = Self::chain(&table, info.parent.as_deref());
        let usage = self.driver.commit(id, &parents, options.durability)?;
        table.records.remove(key);
        info.name = name.to_owned();
        info.kind = Kind::Committed;
        info.labels = options.labels;
        table.records.insert(name.to_owned(), (id, info, usage));
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<()> {
        let mut table = self.table.lock().unwrap();
        let id = table.records.get(key).ok_or_else(|| absent(key))?.0;
        let mut records = table.records.values();
        if records.any(|(_, info, _)| info.parent.as_deref() == Some(key)) {
            return Err(refused(key, "cannot remove snapshot with child"));
        }
        table.records.remove(key);
        self.driver.remove(id)
    }

    async fn walk(&self, filters: &[String], page: &mut Page<'_>) -> Result<()> {
        let filters = Filters::parse(filters).map_err(|error| Error::Invalid {
            reason: error.to_string(),
        })?;
        let infos: Vec<Info> = {
            let table = self.table.lock().unwrap();
            let infos = table.records.values().map(|(_, info, _)| info.clone());
            infos.filter(|info| filters.matches(info)).collect()
        };
        for infos in infos.chunks(WALK_PAGE_MAX) {
            if page(infos.to_vec()).await.is_break() {
                break;
            }
        }
        Ok(())
    }

    async fn cleanup(&self) -> Result<()> {
        self.driver.cleanup()
    }
}

/// What outlives a snapshotter: its table, by root.
static TABLES: LazyLock<Mutex<HashMap<PathBuf, Arc<Mutex<Table>>>>> = LazyLock::new(Mutex::default);

fn memory(root: PathBuf, driver: Box<dyn Driver>) -> Memory {
    let mut tables = TABLES.lock().unwrap();
    let table = Arc::clone(tables.entry(root).or_default());
    Memory { driver, table }
}

fn run(suite: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(suite);
}

#[test]
fn a_table_over_overlay_passes() {
    run(testing::snapshotter_suite(async |root: PathBuf| {
        let driver = overlay::Overlay::open(&root, overlay::Config::default()).unwrap();
        memory(root, Box::new(driver))
    }));
}

#[test]
fn a_table_over_native_passes() {
    run(testing::snapshotter_suite(async |root: PathBuf| {
        let driver = native::Native::open(&root, native::Config::default()).unwrap();
        memory(root, Box::new(driver))
    }));
}
