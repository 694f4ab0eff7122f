//! Linux made safe: the only crate of the workspace that may contain `unsafe` outside the fork path of `oci-runtime`.
