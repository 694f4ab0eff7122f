//! The wire messages of the containerd, shim and CRI interfaces, from our own `.proto` text.
