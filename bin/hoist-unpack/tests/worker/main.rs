//! Layers through the real worker program: what arrives, and that nothing else does.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "helpers of tests; tables of cases are long"
)]

mod apply;
mod archive;
mod bounds;
mod breakouts;
mod overlay;
mod stage;
