//! A task from its container record.
