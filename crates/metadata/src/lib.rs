//! Names for everything: one transactional store of namespaced records, leases and garbage collection.
