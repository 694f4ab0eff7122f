//! Figures against peers on any containerd-compatible socket.

fn main() {}
