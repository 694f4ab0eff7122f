//! Equal pulls that run at once are one pull.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::Descriptor;
use tokio::sync::watch;

use crate::Error;
use crate::progress::{ProgressStream, Sender};

pub(crate) type Landed = Result<Descriptor, Arc<Error>>;

/// The pulls that run.
#[derive(Debug, Default, Clone)]
pub(crate) struct Flights(Arc<Mutex<HashMap<String, Arc<Flight>>>>);

/// A pull that runs by itself, for whoever waits for it.
#[derive(Debug)]
struct Flight {
    progress: Sender,
    landed: watch::Receiver<Option<Landed>>,
    /// Counts who waits; each waiter holds a receiver.
    waiters: watch::Sender<()>,
}

/// A place in a flight.
#[derive(Debug)]
pub(crate) struct Seat {
    flight: Arc<Flight>,
    heard: Option<ProgressStream>,
    _waiting: watch::Receiver<()>,
}

impl Flights {
    /// Joins the flight of this key or starts it. Without a key nobody joins.
    pub(crate) fn board<F>(
        &self,
        key: Option<String>,
        abandon_after: Duration,
        start: impl FnOnce(Sender) -> F,
    ) -> Seat
    where
        F: Future<Output = Result<Descriptor, Error>> + Send + 'static,
    {
        let mut flights = self.lock();
        if let Some(flight) = key.as_ref().and_then(|key| flights.get(key)) {
            return Seat::new(flight);
        }
        let progress = Sender::new();
        let (land, landed) = watch::channel(None);
        let flight = Arc::new(Flight {
            progress: progress.clone(),
            landed,
            waiters: watch::Sender::new(()),
        });
        let seat = Seat::new(&flight);
        if let Some(key) = &key {
            flights.insert(key.clone(), flight.clone());
        }
        let (all, work) = (self.clone(), start(progress));
        tokio::spawn(async move {
            let result = tokio::select! {
                result = work => result,
                () = abandoned(&flight, abandon_after) => Err(Error::Canceled { target: "an image nobody waits for".into() }),
            };
            if let Some(key) = &key {
                all.lock().remove(key);
            }
            // Nobody may be left to hear it.
            drop(land.send(Some(result.map_err(Arc::new))));
        });
        seat
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Flight>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    fn new(flight: &Arc<Flight>) -> Self {
        Self {
            _waiting: flight.waiters.subscribe(),
            heard: Some(flight.progress.listen()),
            flight: flight.clone(),
        }
    }

    pub(crate) fn progress(&mut self) -> ProgressStream {
        let heard = self.heard.take();
        heard.unwrap_or_else(|| self.flight.progress.listen())
    }

    /// Waits for the end. Cancel-safe.
    pub(crate) async fn land(&self) -> Landed {
        let mut landed = self.flight.landed.clone();
        let ended = landed.wait_for(Option::is_some).await;
        let result = ended.ok().and_then(|result| result.clone());
        result.unwrap_or_else(|| {
            Err(Arc::new(Error::Canceled {
                target: "an image".into(),
            }))
        })
    }
}

/// Returns when nobody has waited for the given time.
async fn abandoned(flight: &Flight, after: Duration) {
    loop {
        flight.waiters.closed().await;
        tokio::time::sleep(after).await;
        if flight.waiters.receiver_count() == 0 {
            return;
        }
    }
}
