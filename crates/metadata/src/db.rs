//! The open store, and the view of one namespace through which everything is read and changed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use events::Exchange;
use model::{Clock, Namespace};
use redb::{Database, ReadableDatabase};
use snapshots::{Driver, SnapshotId};

use crate::containers::Containers;
use crate::content::{Content, Sharing};
use crate::error::{Error, not_found};
use crate::gc::{Gc, Pulse, Turn};
use crate::images::Images;
use crate::key::{self, LEASES, RESOURCES, SCHEMA};
use crate::leases::Leases;
use crate::namespaces::Namespaces;
use crate::owner::{Owner, Rows, Snapshot, TABLE, Tx, failed};
use crate::pins::Pins;
use crate::reconcile::{Reconciled, reconcile};
use crate::sandboxes::Sandboxes;
use crate::snapshots::{Drivers, Snapshots};

/// The version of the keys and records that this program writes.
const SCHEMA_VERSION: u32 = 1;

/// Steps that bring an older store to [`SCHEMA_VERSION`]: the step at index `n` leads from version `n + 1` on.
const MIGRATIONS: &[Migration] = &[];

type Migration = fn(&redb::WriteTransaction) -> Result<(), redb::Error>;

/// Where the store lies and how much memory it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file of the store; created when missing.
    pub path: PathBuf,
    /// Most bytes of the page cache.
    pub cache_bytes: usize,
}

/// The store of names for everything. Clones share one store; it is closed when the last one is gone.
#[derive(Debug, Clone)]
pub struct Db {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) database: Arc<Database>,
    pub(crate) path: PathBuf,
    /// `None` only while the store closes.
    owner: Option<Owner>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) turn: Turn,
    pub(crate) content: Arc<content::Local>,
    pub(crate) drivers: Drivers,
    pub(crate) pins: Arc<Pins>,
    sharing: AtomicBool,
    /// Snapshots whose maker went away before it knew whether they were recorded.
    orphans: Mutex<Vec<(String, SnapshotId)>>,
    reconciled: OnceLock<Vec<Reconciled>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Db")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Db {
    /// Opens or creates the store, brings it to the present schema, starts its owner thread and compares the folders
    /// of the drivers with the records.
    ///
    /// Fails when the store is of a later schema than this program knows, is in use, or is damaged.
    pub async fn open(
        config: &Config,
        content: Arc<content::Local>,
        drivers: Vec<Arc<dyn Driver>>,
        exchange: Arc<Exchange>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let database = {
            let config = config.clone();
            blocking(move || open_database(&config)).await??
        };
        let database = Arc::new(database);
        let pulse = Arc::new(Pulse::default());
        let (owner, thread) = Owner::start(
            Arc::clone(&database),
            &config.path,
            Arc::clone(&clock),
            exchange,
            Arc::clone(&pulse),
        )
        .map_err(|source| {
            let source = redb::Error::Io(source);
            failed("start the owner", &config.path, source)
        })?;
        let db = Self {
            inner: Arc::new(Inner {
                database,
                path: config.path.clone(),
                owner: Some(owner),
                clock,
                pulse,
                turn: Turn::default(),
                content,
                drivers: Drivers::new(drivers),
                pins: Arc::default(),
                sharing: AtomicBool::new(true),
                orphans: Mutex::default(),
                reconciled: OnceLock::new(),
                thread: Mutex::new(Some(thread)),
            }),
        };
        let found = reconcile(&db).await?;
        db.inner.reconciled.get_or_init(|| found);
        Ok(db)
    }

    /// What start-up found in the folders of the drivers.
    pub fn reconciled(&self) -> &[Reconciled] {
        self.inner.reconciled.get().map_or(&[], Vec::as_slice)
    }

    /// Says who may link blobs of other namespaces; at first everybody.
    pub fn set_sharing(&self, sharing: Sharing) {
        let shared = sharing == Sharing::Shared;
        self.inner.sharing.store(shared, Ordering::Release);
    }

    /// Garbage collection.
    pub fn gc(&self) -> Gc {
        Gc { db: self.clone() }
    }

    /// The names of the loaded snapshotters, in no order.
    pub fn snapshotters(&self) -> Vec<String> {
        let names = self.inner.drivers.all();
        names
            .map(|loaded| loaded.driver.name().to_owned())
            .collect()
    }

    /// The blob store behind all namespaces.
    pub fn content_store(&self) -> &Arc<content::Local> {
        &self.inner.content
    }

    /// The view of one namespace; what it creates or touches is held by `lease`.
    pub fn namespace(&self, namespace: &Namespace, lease: Option<&str>) -> View {
        View {
            db: self.clone(),
            namespace: namespace.clone(),
            lease: lease.map(Arc::from),
        }
    }

    /// The namespaces themselves.
    pub fn namespaces(&self) -> Namespaces {
        Namespaces { db: self.clone() }
    }

    /// The file of the store.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    pub(crate) fn snapshot(&self) -> Result<Snapshot, Error> {
        Snapshot::begin(&self.inner.database, &self.inner.path)
    }

    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        match &self.inner.owner {
            Some(owner) => owner.write(work).await,
            None => Err(Error::Closed),
        }
    }

    /// Waits until everything queued is durable and the file is closed. Blocks.
    ///
    /// Returns false, without waiting, while another clone is alive.
    pub fn close(self) -> bool {
        Arc::try_unwrap(self.inner).map(drop).is_ok()
    }
}

impl Drop for Inner {
    /// Waits for the owner, so that the file can be opened again at once.
    fn drop(&mut self) {
        drop(self.owner.take());
        let thread = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(thread) = thread.take() else { return };
        // The last handle may have been in a mutation, which the owner itself drops.
        if thread.thread().id() != std::thread::current().id() {
            // A panic of the owner was reported by the panic hook when it happened.
            drop(thread.join());
        }
    }
}

impl Inner {
    pub(crate) fn sharing(&self) -> Sharing {
        if self.sharing.load(Ordering::Acquire) {
            Sharing::Shared
        } else {
            Sharing::Isolated
        }
    }

    pub(crate) fn orphan(&self, driver: String, id: SnapshotId) {
        let mut orphans = self.orphans.lock().unwrap_or_else(PoisonError::into_inner);
        orphans.push((driver, id));
        drop(orphans);
        self.pulse.beat(0, 1);
    }

    pub(crate) fn take_orphans(&self) -> Vec<(String, SnapshotId)> {
        let mut orphans = self.orphans.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut orphans)
    }
}

/// Runs work that blocks where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    // Fails when the work panicked, which the panic hook reported, or the program ends.
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::Closed)
}

/// One namespace, seen under a lease or under none.
#[derive(Debug, Clone)]
pub struct View {
    pub(crate) db: Db,
    pub(crate) namespace: Namespace,
    pub(crate) lease: Option<Arc<str>>,
}

impl View {
    /// The namespace of this view.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The lease of this view.
    pub fn lease(&self) -> Option<&str> {
        self.lease.as_deref()
    }

    /// The images.
    pub fn images(&self) -> Images {
        Images { view: self.clone() }
    }

    /// The containers.
    pub fn containers(&self) -> Containers {
        Containers { view: self.clone() }
    }

    /// The blobs and ingests.
    pub fn content(&self) -> Content {
        Content { view: self.clone() }
    }

    /// The snapshots of one driver; `None` when it is not loaded.
    pub fn snapshots(&self, driver: &str) -> Option<Snapshots> {
        Some(Snapshots {
            view: self.clone(),
            loaded: Arc::clone(self.db.inner.drivers.get(driver)?),
        })
    }

    /// The leases.
    pub fn leases(&self) -> Leases {
        Leases { view: self.clone() }
    }

    /// The sandboxes.
    pub fn sandboxes(&self) -> Sandboxes {
        Sandboxes { view: self.clone() }
    }

    /// The namespaces of the store.
    pub fn namespaces(&self) -> Namespaces {
        self.db.namespaces()
    }

    /// Whether the view's lease exists; true when there is none.
    pub(crate) fn check_lease(&self, rows: &impl Rows) -> Result<bool, Error> {
        let Some(lease) = &self.lease else {
            return Ok(false);
        };
        if rows.has(&key::key(LEASES, &[self.namespace.as_str(), lease]))? {
            Ok(true)
        } else {
            Err(not_found("lease does not exist"))
        }
    }

    /// Adds a resource to the view's lease, if it has one; says whether it has.
    pub(crate) fn hold(&self, tx: &mut Tx<'_>, kind: &str, id: &str) -> Result<bool, Error> {
        let held = self.check_lease(tx)?;
        if let Some(row) = self.resource(kind, id).filter(|_| held) {
            tx.put(row, Vec::new());
        }
        Ok(held)
    }

    /// Takes a resource from the view's lease, if it has one.
    pub(crate) fn release(&self, tx: &mut Tx<'_>, kind: &str, id: &str) {
        if let Some(row) = self.resource(kind, id) {
            tx.delete(row);
        }
    }

    fn resource(&self, kind: &str, id: &str) -> Option<key::Key> {
        let lease = self.lease.as_deref()?;
        let parts = [self.namespace.as_str(), lease, kind, id];
        Some(key::key(RESOURCES, &parts))
    }
}

fn open_database(config: &Config) -> Result<Database, Error> {
    let path = &config.path;
    let fail = |source| failed("open", path, source);
    let database = Database::builder()
        .set_cache_size(config.cache_bytes)
        .create(path)
        .map_err(|e| fail(e.into()))?;
    if let Some(version) = stored_version(&database, path)? {
        if version > SCHEMA_VERSION || version == 0 {
            return Err(Error::FailedPrecondition {
                what: format!(
                    "metadata store {} has schema {version}, this program knows up to {SCHEMA_VERSION}",
                    path.display()
                ),
            });
        }
        if version == SCHEMA_VERSION {
            return Ok(database);
        }
    }
    let from = stored_version(&database, path)?.unwrap_or(SCHEMA_VERSION);
    let migrate = || -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        for step in &MIGRATIONS[from as usize - 1..] {
            step(&transaction)?;
        }
        transaction
            .open_table(TABLE)?
            .insert(SCHEMA, SCHEMA_VERSION.to_be_bytes().as_slice())?;
        transaction.commit()?;
        Ok(())
    };
    migrate().map_err(|source| failed("migrate", path, source))?;
    Ok(database)
}

/// The schema of an existing store; `None` for a new one.
fn stored_version(database: &Database, path: &Path) -> Result<Option<u32>, Error> {
    let read = || -> Result<Option<Vec<u8>>, redb::Error> {
        let table = match database.begin_read()?.open_table(TABLE) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            table => table?,
        };
        Ok(Some(
            table
                .get(SCHEMA)?
                .map_or_else(Vec::new, |bytes| bytes.value().to_vec()),
        ))
    };
    let Some(bytes) = read().map_err(|source| failed("read the schema", path, source))? else {
        return Ok(None);
    };
    let bytes = <[u8; 4]>::try_from(bytes).map_err(|_| Error::Damaged {
        key: "schema".into(),
        what: "a version that is not 4 bytes long",
    })?;
    Ok(Some(u32::from_be_bytes(bytes)))
}
