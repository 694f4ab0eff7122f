//! What the small programs may not carry, read from the dependency tree of each built alone.

use std::path::Path;
use std::process::Command;

/// Programs of which many run, or which run as root beside untrusted data.
const SMALL: &[&str] = &["hoist-shim", "hoist-runtime", "hoist-unpack"];
/// Libraries too heavy, or too exposed, for them.
const HEAVY: &[&str] = &[
    "tonic",
    "tokio",
    "hyper",
    "h2",
    "reqwest",
    "rustls",
    "aws-lc-rs",
    "redb",
    "clap",
];

pub(crate) fn check(root: &Path) -> Vec<String> {
    let mut broken = Vec::new();
    for program in SMALL {
        let output = Command::new("cargo")
            .args([
                "tree",
                "--locked",
                "--edges=normal",
                "--prefix=none",
                "--format={lib}",
                "--package",
                program,
            ])
            .current_dir(root)
            .output()
            .expect("cargo runs");
        if !output.status.success() {
            broken.push(format!(
                "cargo tree of {program}: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
            continue;
        }
        let text = String::from_utf8_lossy(&output.stdout);
        for heavy in HEAVY {
            let library = heavy.replace('-', "_");
            if text.lines().any(|line| line.trim() == library) {
                broken.push(format!("{program} carries {heavy}, which it may not"));
            }
        }
    }
    broken
}
