//! The one writer: a thread that commits many mutations with one sync.
//!
//! A mutation reads what is committed or was written earlier in its batch, and stages its writes; they are applied
//! only when it succeeds, so a refusal leaves no trace and does not abort the batch. Callers hear of a result, and
//! subscribers of its events, after the batch is durable, in the order of the batch.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use events::{Any, Exchange};
use model::{Clock, Namespace, Timestamp};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use crate::error::Error;
use crate::gc::Pulse;
use crate::key::{Key, NAMESPACES, key};

/// The one table; [`crate::key`] draws its keys.
pub(crate) const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("hoist");
/// Most mutations that wait for the owner; beyond it callers wait for a place.
const QUEUE_MAX: usize = 1024;
/// Most mutations in one transaction: bounds what one failed sync refuses.
const BATCH_MAX: usize = 256;

/// What to do with each row of a scan.
pub(crate) type Flow = ControlFlow<()>;
/// Takes the key and value of a row.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<Flow, Error> + 'a;
/// Go on with the next row.
pub(crate) const NEXT: Result<Flow, Error> = Ok(ControlFlow::Continue(()));
/// End the scan.
pub(crate) const STOP: Result<Flow, Error> = Ok(ControlFlow::Break(()));

/// Reading rows, from a snapshot or inside the owner's transaction.
pub(crate) trait Rows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// Visits the rows from the key `from` on that begin with `prefix`, in order of their keys.
    fn each_from(&self, from: &[u8], prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), Error>;

    /// Visits the rows whose key begins with `prefix`, in order of their keys.
    fn each(&self, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), Error> {
        self.each_from(prefix, prefix, visit)
    }

    fn has(&self, key: &[u8]) -> Result<bool, Error> {
        Ok(self.get(key)?.is_some())
    }

    fn any(&self, prefix: &[u8]) -> Result<bool, Error> {
        let mut found = false;
        self.each(prefix, &mut |_, _| {
            found = true;
            STOP
        })?;
        Ok(found)
    }

    fn keys(&self, prefix: &[u8]) -> Result<Vec<Key>, Error> {
        let mut keys = Vec::new();
        self.each(prefix, &mut |key, _| {
            keys.push(key.to_vec());
            NEXT
        })?;
        Ok(keys)
    }
}

fn each_row(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    path: &Path,
    from: &[u8],
    prefix: &[u8],
    visit: &mut Visit<'_>,
) -> Result<(), Error> {
    let fail = |source| failed("read", path, source);
    for row in table.range(from..).map_err(|e| fail(e.into()))? {
        let (key, value) = row.map_err(|e| fail(e.into()))?;
        if !key.value().starts_with(prefix) || visit(key.value(), value.value())?.is_break() {
            break;
        }
    }
    Ok(())
}

/// A view of everything that was committed at one moment; blocks nobody and is not blocked.
#[derive(Debug)]
pub(crate) struct Snapshot {
    table: redb::ReadOnlyTable<&'static [u8], &'static [u8]>,
    path: PathBuf,
}

impl Snapshot {
    pub(crate) fn begin(database: &Database, path: &Path) -> Result<Self, Error> {
        let fail = |source| failed("begin to read", path, source);
        let transaction = database.begin_read().map_err(|e| fail(e.into()))?;
        Ok(Self {
            table: transaction.open_table(TABLE).map_err(|e| fail(e.into()))?,
            path: path.to_owned(),
        })
    }
}

impl Rows for Snapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let row = self.table.get(key);
        let row = row.map_err(|e| failed("read", &self.path, e.into()))?;
        Ok(row.map(|value| value.value().to_vec()))
    }

    fn each_from(&self, from: &[u8], prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), Error> {
        each_row(&self.table, &self.path, from, prefix, visit)
    }
}

enum Write {
    Put(Key, Vec<u8>),
    Delete(Key),
}

struct Event {
    namespace: Namespace,
    topic: &'static str,
    event: Any,
}

/// The owner's transaction as one mutation sees it.
pub(crate) struct Tx<'a> {
    table: redb::Table<'a, &'static [u8], &'static [u8]>,
    state: &'a mut State,
    staged: Vec<Write>,
    staged_events: Vec<Event>,
    staged_dirty: u32,
    staged_quiet: bool,
    /// Of all mutations that succeeded in this batch.
    done: Done,
    writes: usize,
}

impl Rows for Tx<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let row = self.table.get(key);
        let row = row.map_err(|e| failed("read", &self.state.path, e.into()))?;
        Ok(row.map(|value| value.value().to_vec()))
    }

    fn each_from(&self, from: &[u8], prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), Error> {
        each_row(&self.table, &self.state.path, from, prefix, visit)
    }
}

impl Tx<'_> {
    /// The present moment.
    pub(crate) fn now(&self) -> Timestamp {
        self.state.clock.now()
    }

    /// Stages a write.
    pub(crate) fn put(&mut self, key: Key, value: Vec<u8>) {
        self.staged.push(Write::Put(key, value));
    }

    /// Stages a removal.
    pub(crate) fn delete(&mut self, key: Key) {
        self.staged.push(Write::Delete(key));
    }

    /// Stages an event, sent when the batch is durable.
    pub(crate) fn publish(&mut self, namespace: &Namespace, topic: &'static str, event: Any) {
        self.staged_events.push(Event {
            namespace: namespace.clone(),
            topic,
            event,
        });
    }

    /// Says that a reference went away, so that something may be garbage now.
    pub(crate) fn mark_dirty(&mut self) {
        self.staged_dirty += 1;
    }

    /// Creates the namespace's row if it is not there: nobody needs to create a namespace before using it.
    pub(crate) fn ensure_namespace(&mut self, namespace: &Namespace) -> Result<(), Error> {
        let key = key(NAMESPACES, &[namespace.as_str()]);
        if !self.has(&key)? {
            self.put(key, crate::namespaces::encode(&model::Labels::new()));
        }
        Ok(())
    }

    /// A number of 64 bits, or 0.
    pub(crate) fn counter(&self, key: &[u8]) -> Result<u64, Error> {
        counter(self, key)
    }

    /// Keys that were written since collection began, if it runs.
    pub(crate) fn take_touched(&mut self) -> Vec<Key> {
        match &mut self.state.touched {
            Some(touched) => touched.keys.drain().collect(),
            None => Vec::new(),
        }
    }

    /// Begins to remember written keys for a collection, until its `watch` is gone.
    pub(crate) fn watch(&mut self, watch: Weak<()>) {
        self.state.touched = Some(Touched {
            watch,
            keys: HashSet::new(),
        });
        self.quiet();
    }

    /// Says that this mutation is the collector's own and calls for no collection.
    pub(crate) fn quiet(&mut self) {
        self.staged_quiet = true;
    }

    fn apply(&mut self) -> Result<(), redb::Error> {
        let quiet = std::mem::take(&mut self.staged_quiet);
        if self.staged.is_empty() && self.staged_events.is_empty() {
            return Ok(());
        }
        if let Some(touched) = &self.state.touched
            && touched.watch.strong_count() == 0
        {
            self.state.touched = None;
        }
        for write in self.staged.drain(..) {
            self.writes += 1;
            match write {
                Write::Put(key, value) => {
                    self.table.insert(key.as_slice(), value.as_slice())?;
                    if let Some(touched) = &mut self.state.touched {
                        touched.keys.insert(key);
                    }
                }
                Write::Delete(key) => {
                    self.table.remove(key.as_slice())?;
                }
            }
        }
        self.done.events.append(&mut self.staged_events);
        self.done.dirty += std::mem::take(&mut self.staged_dirty);
        self.done.mutations += u32::from(!quiet);
        Ok(())
    }

    fn discard(&mut self) {
        self.staged.clear();
        self.staged_events.clear();
        self.staged_dirty = 0;
        self.staged_quiet = false;
    }
}

/// Reads a number of 64 bits, or 0.
pub(crate) fn counter(rows: &impl Rows, key: &[u8]) -> Result<u64, Error> {
    match rows.get(key)? {
        None => Ok(0),
        Some(bytes) => match <[u8; 8]>::try_from(bytes) {
            Ok(bytes) => Ok(u64::from_be_bytes(bytes)),
            Err(_) => Err(Error::Damaged {
                key: String::from_utf8_lossy(key).into_owned(),
                what: "a counter that is not 8 bytes long",
            }),
        },
    }
}

/// One mutation with its way back to the caller.
trait Job: Send {
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), redb::Error>;
    fn finish(self: Box<Self>, failure: Option<Error>);
}

struct Mutation<F, T> {
    work: Option<F>,
    result: Option<Result<T, Error>>,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<F, T> Job for Mutation<F, T>
where
    F: FnOnce(&mut Tx<'_>) -> Result<T, Error> + Send,
    T: Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), redb::Error> {
        let Some(work) = self.work.take() else {
            return Ok(());
        };
        let result = work(tx);
        match &result {
            Ok(_) => tx.apply()?,
            Err(_) => tx.discard(),
        }
        self.result = Some(result);
        Ok(())
    }

    fn finish(self: Box<Self>, failure: Option<Error>) {
        let result = match (failure, self.result) {
            (_, Some(Err(refusal))) => Err(refusal),
            (Some(failure), _) => Err(failure),
            (None, Some(result)) => result,
            (None, None) => Err(Error::Closed),
        };
        // A caller that went away does not undo what it asked for.
        drop(self.reply.send(result));
    }
}

struct State {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    exchange: Arc<Exchange>,
    pulse: Arc<Pulse>,
    touched: Option<Touched>,
}

/// Keys written while a collection runs.
struct Touched {
    watch: Weak<()>,
    keys: HashSet<Key>,
}

/// The way to the owner thread; the thread ends when the last handle is gone.
#[derive(Clone)]
pub(crate) struct Owner {
    queue: mpsc::Sender<Box<dyn Job>>,
}

impl std::fmt::Debug for Owner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Owner").finish_non_exhaustive()
    }
}

impl Owner {
    /// Starts the thread that alone writes to `database`.
    pub(crate) fn start(
        database: Arc<Database>,
        path: &Path,
        clock: Arc<dyn Clock>,
        exchange: Arc<Exchange>,
        pulse: Arc<Pulse>,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let state = State {
            path: path.to_owned(),
            clock,
            exchange,
            pulse,
            touched: None,
        };
        let thread = std::thread::Builder::new()
            .name("metadata".into())
            .spawn(move || run(&database, receiver, state))?;
        Ok((Self { queue: sender }, thread))
    }

    /// Runs a mutation and waits until it is durable.
    ///
    /// Not undone when the caller goes away after it was queued.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, result) = oneshot::channel();
        let job = Box::new(Mutation {
            work: Some(work),
            result: None,
            reply,
        });
        self.queue.send(job).await.map_err(|_| Error::Closed)?;
        result.await.map_err(|_| Error::Closed)?
    }
}

fn run(database: &Database, mut queue: mpsc::Receiver<Box<dyn Job>>, mut state: State) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while let Some(first) = queue.blocking_recv() {
        batch.push(first);
        while batch.len() < BATCH_MAX {
            match queue.try_recv() {
                Ok(job) => batch.push(job),
                Err(_) => break,
            }
        }
        let failure = match commit(database, &mut state, &mut batch) {
            Ok(done) => {
                announce(&state, done);
                None
            }
            Err(source) => Some(Arc::new(source)),
        };
        for job in batch.drain(..) {
            let failure = failure.as_ref().map(|source| Error::Database {
                act: "commit",
                path: state.path.clone(),
                source: Arc::clone(source),
            });
            job.finish(failure);
        }
    }
}

#[derive(Default)]
struct Done {
    events: Vec<Event>,
    dirty: u32,
    mutations: u32,
}

fn commit(
    database: &Database,
    state: &mut State,
    batch: &mut [Box<dyn Job>],
) -> Result<Done, redb::Error> {
    let transaction = database.begin_write()?;
    let (done, writes) = run_batch(&transaction, state, batch)?;
    if writes == 0 {
        transaction.abort()?;
    } else {
        transaction.commit()?;
    }
    Ok(done)
}

/// Runs every mutation; answers how many rows were written.
fn run_batch(
    transaction: &redb::WriteTransaction,
    state: &mut State,
    batch: &mut [Box<dyn Job>],
) -> Result<(Done, usize), redb::Error> {
    let mut tx = Tx {
        table: transaction.open_table(TABLE)?,
        state,
        staged: Vec::new(),
        staged_events: Vec::new(),
        staged_dirty: 0,
        staged_quiet: false,
        done: Done::default(),
        writes: 0,
    };
    for job in batch {
        job.run(&mut tx)?;
    }
    Ok((tx.done, tx.writes))
}

fn announce(state: &State, done: Done) {
    for event in done.events {
        if let Err(error) = state
            .exchange
            .publish(&event.namespace, event.topic, event.event)
        {
            tracing::error!(topic = event.topic, %error, "event of the store refused");
        }
    }
    if done.mutations > 0 {
        state.pulse.beat(done.mutations, done.dirty);
    }
}

pub(crate) fn failed(act: &'static str, path: &Path, source: redb::Error) -> Error {
    Error::Database {
        act,
        path: path.to_owned(),
        source: Arc::new(source),
    }
}
