//! Generates gRPC servers and clients for the services of `proto`; the messages stay those of `proto`.

use std::error::Error;
use std::path::{Path, PathBuf};

/// The outermost packages: their messages live in `proto` under the same path.
const PACKAGES: [&str; 6] = [
    "containerd",
    "google.rpc",
    "grpc",
    "io",
    "runtime",
    "runtimeoptions",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("../proto/proto");
    println!("cargo::rerun-if-changed={}", root.display());
    println!("cargo::rerun-if-changed=build.rs");
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();
    let mut set = protox::compile(&files, [root])?;
    // Files without a service would only leave empty modules.
    set.file.retain(|file| !file.service.is_empty());
    let mut builder = tonic_prost_build::configure()
        // The transport is the program's affair; its `connect` would also clash with `Task.Connect`.
        .build_transport(false)
        .include_file("services.rs");
    for package in PACKAGES {
        let path = format!("::proto::{}", package.replace('.', "::"));
        builder = builder.extern_path(format!(".{package}"), path);
    }
    builder.compile_fds(set)?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            files.push(path);
        }
    }
    Ok(())
}
