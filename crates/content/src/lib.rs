//! Blobs by digest: ingest, commit, read.
