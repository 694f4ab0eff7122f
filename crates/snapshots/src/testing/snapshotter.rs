//! What every snapshotter has to do.
