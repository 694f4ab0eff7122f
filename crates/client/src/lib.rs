//! The smart client.
