//! Debian's `ctr` (1.6) on our socket: an unmodified client of another project sees what it expects.

mod images;
mod run;
mod stores;
mod tasks;
