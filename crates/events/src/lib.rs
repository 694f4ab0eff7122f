//! Publish, subscribe and filter events, in order.
