//! Layers through the real worker program: what arrives, and that nothing else does.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::print_stderr,
    reason = "helpers of tests; tables of cases are long; skipped tests say so"
)]

mod apply;
mod archive;
mod bounds;
mod breakouts;
mod overlay;
mod sandbox;
mod stage;
