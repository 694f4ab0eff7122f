//! The exchange and its subscriptions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use model::filter::Filters;
use model::{Clock, ExecId, Namespace};
use prost_types::Any;
use tokio::sync::mpsc;

use crate::{Delivered, Envelope, Error, QUEUE_EVENTS_MAX, SUBSCRIPTIONS_MAX};

/// Hands every event to every subscription that asked for it.
#[derive(Debug)]
pub struct Exchange {
    clock: Arc<dyn Clock>,
    subscribers: Mutex<Vec<Subscriber>>,
}

#[derive(Debug)]
struct Subscriber {
    filters: Filters,
    queue: mpsc::Sender<Delivered>,
    overflowed: Arc<AtomicBool>,
}

/// The receiving end of one subscription; dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    queue: mpsc::Receiver<Delivered>,
    overflowed: Arc<AtomicBool>,
}

impl Exchange {
    /// An exchange without subscribers.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            subscribers: Mutex::new(Vec::new()),
        }
    }

    /// Sends an event that happened now.
    ///
    /// Fails when the topic does not start with `/` or one of its components is no identifier.
    pub fn publish(&self, namespace: &Namespace, topic: &str, event: Any) -> Result<(), Error> {
        self.forward(Envelope {
            timestamp: self.clock.now(),
            namespace: namespace.clone(),
            topic: topic.to_owned(),
            event,
        })
    }

    /// Sends an event on behalf of somebody who stamped it before.
    ///
    /// Fails as [`Exchange::publish`] does.
    pub fn forward(&self, envelope: Envelope) -> Result<(), Error> {
        check_topic(&envelope.topic)?;
        let envelope = Arc::new(envelope);
        let mut subscribers = self
            .subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|subscriber| subscriber.deliver(&envelope));
        Ok(())
    }

    /// Begins a subscription to the events that match one of `filters`; all events when there is none.
    ///
    /// Fails when a filter does not parse or there are [`SUBSCRIPTIONS_MAX`] subscriptions.
    pub fn subscribe<S: AsRef<str>>(&self, filters: &[S]) -> Result<Subscription, Error> {
        let filters = Filters::parse(filters).map_err(|source| Error::Filter { source })?;
        let (sender, receiver) = mpsc::channel(QUEUE_EVENTS_MAX);
        let overflowed = Arc::new(AtomicBool::new(false));
        let mut subscribers = self
            .subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|subscriber| !subscriber.queue.is_closed());
        if subscribers.len() >= SUBSCRIPTIONS_MAX {
            return Err(Error::TooManySubscriptions);
        }
        subscribers.push(Subscriber {
            filters,
            queue: sender,
            overflowed: Arc::clone(&overflowed),
        });
        Ok(Subscription {
            queue: receiver,
            overflowed,
        })
    }
}

impl Subscriber {
    /// Queues the event if it matches; false when the subscription is over.
    fn deliver(&self, envelope: &Delivered) -> bool {
        if self.queue.is_closed() {
            return false;
        }
        if !self.filters.matches(envelope.as_ref()) {
            return true;
        }
        match self.queue.try_send(Arc::clone(envelope)) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.overflowed.store(true, Ordering::Release);
                false
            }
        }
    }
}

impl Subscription {
    /// The next event; after an overflow what is queued, then [`Error::Overflow`], then `None`.
    ///
    /// Safe to cancel.
    pub async fn recv(&mut self) -> Option<Result<Delivered, Error>> {
        std::future::poll_fn(|context| self.poll_recv(context)).await
    }

    /// As [`Subscription::recv`], for streams.
    pub fn poll_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Delivered, Error>>> {
        self.queue.poll_recv(context).map(|event| match event {
            Some(event) => Some(Ok(event)),
            None if self.overflowed.swap(false, Ordering::AcqRel) => Some(Err(Error::Overflow)),
            None => None,
        })
    }

    /// An event that is queued already, if there is one.
    pub fn try_recv(&mut self) -> Option<Delivered> {
        self.queue.try_recv().ok()
    }
}

fn check_topic(topic: &str) -> Result<(), Error> {
    let refuse = |reason: &str| Error::Topic {
        topic: topic.chars().take(200).collect(),
        reason: reason.to_owned(),
    };
    if topic.is_empty() {
        return Err(refuse("must not be empty"));
    }
    let Some(path) = topic.strip_prefix('/') else {
        return Err(refuse("must start with '/'"));
    };
    if path.is_empty() {
        return Err(refuse("must have at least one component"));
    }
    for component in path.split('/') {
        // Any of the identifier types checks the one rule of identifiers.
        if ExecId::new(component).is_err() {
            return Err(refuse(&format!(
                "failed validation on component {component:?}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
