//! Publish, subscribe and filter events, in order.
//!
//! One [`Exchange`] serves the daemon. An event goes to the queue of every subscription whose filters match, under
//! one lock, so all subscribers see the same order. A subscription sees every event from the moment
//! [`Exchange::subscribe`] returns. Queues are bounded: a subscriber that falls [`QUEUE_EVENTS_MAX`] events behind
//! gets what is queued and then [`Error::Overflow`]; a publisher never waits.

mod exchange;
mod fields;

use std::sync::Arc;

use model::{ErrorKind, Kinded, Namespace, Timestamp};

pub use exchange::{Exchange, Subscription};
pub use prost_types::Any;

/// Most events that wait for one subscriber.
pub const QUEUE_EVENTS_MAX: usize = 4096;
/// Most subscriptions at a time.
pub const SUBSCRIPTIONS_MAX: usize = 4096;

/// An event with where and when it happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// When the first publisher saw it.
    pub timestamp: Timestamp,
    /// The namespace of its object.
    pub namespace: Namespace,
    /// The topic, such as `/tasks/exit`.
    pub topic: String,
    /// The message; its type is the bare full name, as in `containerd.events.TaskExit`.
    pub event: Any,
}

/// A failure of the exchange.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The topic is none.
    #[error("envelope topic {topic:?}: {reason}: invalid argument")]
    Topic {
        /// The refused topic, cut to 200 characters.
        topic: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A filter of a subscription does not parse.
    #[error("failed parsing subscription filters: {source}")]
    Filter {
        /// What is wrong and where.
        source: model::filter::InvalidFilter,
    },
    /// The subscriber fell too far behind and was cut off.
    #[error(
        "subscriber fell more than {QUEUE_EVENTS_MAX} events behind: events were lost, subscribe again: resource exhausted"
    )]
    Overflow,
    /// There are too many subscriptions.
    #[error("more than {SUBSCRIPTIONS_MAX} subscriptions: resource exhausted")]
    TooManySubscriptions,
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Topic { .. } | Self::Filter { .. } => ErrorKind::InvalidArgument,
            Self::Overflow | Self::TooManySubscriptions => ErrorKind::ResourceExhausted,
        }
    }
}

/// What a subscriber receives: one allocation shared by all.
pub type Delivered = Arc<Envelope>;
