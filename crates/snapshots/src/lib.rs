//! File systems by key: prepare, commit, view.
