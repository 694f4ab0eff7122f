//! The table of running operations: kind, target, stage, since when, and what each waits for.
