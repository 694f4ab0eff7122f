//! What daemon and shim agree on: bundle, bootstrap, address, exit record, log format.
