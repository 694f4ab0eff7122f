//! The laws of the repository, as code: `cargo xtask tidy`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command talks to the terminal"
)]

mod imports;
mod sources;
mod weight;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let verb = std::env::args().nth(1);
    let broken = match verb.as_deref() {
        Some("tidy") => tidy(),
        _ => {
            eprintln!(
                "usage: cargo xtask tidy\n\nChecks the import table, file sizes, module docs and program weights."
            );
            return ExitCode::from(2);
        }
    };
    for law in &broken {
        eprintln!("tidy: {law}");
    }
    if broken.is_empty() {
        println!("tidy: every law holds");
        ExitCode::SUCCESS
    } else {
        eprintln!("tidy: {} broken", broken.len());
        ExitCode::FAILURE
    }
}

fn tidy() -> Vec<String> {
    let root = root();
    let metadata = metadata(&root);
    let mut broken = imports::check(&metadata, &root);
    broken.extend(sources::check(&root));
    broken.extend(weight::check(&root));
    broken
}

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest
        .parent()
        .expect("xtask lies in the workspace")
        .to_owned()
}

fn metadata(root: &Path) -> serde_json::Value {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version=1", "--no-deps", "--locked"])
        .current_dir(root)
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}
