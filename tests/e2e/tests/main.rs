//! The programs from outside: real daemons, shims, registries and clients in folders of their own.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests talk to whoever runs them"
)]

mod crash;
mod ctr;
mod daemon;
mod harness;
mod hoist;
mod hostile;
