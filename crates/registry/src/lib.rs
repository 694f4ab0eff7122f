//! The OCI distribution protocol: resolve and fetch, with authentication.
