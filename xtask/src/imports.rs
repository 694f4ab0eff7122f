//! Who may import whom: the table of the house, held against the manifests.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

const VOCABULARY: &[&str] = &["model", "proto", "spec", "sys", "ttrpc", "jobs", "api"];
const STORES: &[&str] = &["content", "snapshots", "diff", "events", "metadata"];
const IMAGES: &[&str] = &["registry", "images", "transfer"];
const EXECUTION: &[&str] = &["oci", "oci-runtime", "shim-protocol", "shims", "tasks"];

/// Library and what it may import; a new entry is its own, argued commit.
const TABLE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("proto", &[]),
    ("spec", &[]),
    ("sys", &["model"]),
    ("ttrpc", &["model", "proto"]),
    ("jobs", &["model"]),
    ("api", &["model", "proto"]),
    ("content", &["model", "sys"]),
    ("snapshots", &["model", "sys"]),
    ("diff", &["model", "sys"]),
    ("events", &["model", "proto"]),
    (
        "metadata",
        &["model", "content", "snapshots", "events", "proto", "sys"],
    ),
    ("registry", &["model"]),
    ("images", &["model", "spec", "content"]),
    (
        "transfer",
        &[
            "model",
            "sys",
            "content",
            "snapshots",
            "diff",
            "metadata",
            "registry",
            "images",
            "jobs",
            "spec",
        ],
    ),
    ("oci", &["model", "images", "spec"]),
    ("oci-runtime", &["model", "sys", "spec"]),
    ("shim-protocol", &["model", "proto", "ttrpc"]),
    (
        "shims",
        &[
            "model",
            "sys",
            "api",
            "events",
            "shim-protocol",
            "jobs",
            "proto",
            "ttrpc",
            "spec",
        ],
    ),
    (
        "tasks",
        &[
            "model",
            "content",
            "snapshots",
            "diff",
            "metadata",
            "oci",
            "shims",
            "jobs",
            "proto",
            "api",
        ],
    ),
    (
        "client",
        &[
            "model",
            "api",
            "content",
            "snapshots",
            "diff",
            "images",
            "oci",
            "proto",
            "spec",
        ],
    ),
    (
        "hoist-shim",
        &[
            "model",
            "proto",
            "spec",
            "sys",
            "ttrpc",
            "oci-runtime",
            "shim-protocol",
        ],
    ),
    ("hoist-runtime", &["model", "spec", "sys", "oci-runtime"]),
    ("hoist-unpack", &["model", "sys", "diff"]),
    ("hoist-hello", &[]),
    (
        "hoist",
        &[
            "model",
            "sys",
            "api",
            "client",
            "oci",
            "registry",
            "diff",
            "shim-protocol",
            "proto",
            "spec",
        ],
    ),
    (
        "bench",
        &["api", "client", "model", "proto", "sys", "spec", "oci"],
    ),
    ("xtask", &[]),
];

fn allowed(name: &str) -> Option<Vec<&'static str>> {
    if let Some((_, allowed)) = TABLE.iter().find(|(library, _)| *library == name) {
        return Some(allowed.to_vec());
    }
    let below: Vec<_> = [VOCABULARY, STORES, IMAGES, EXECUTION].concat();
    match name {
        "services" => Some(below),
        "hoistd" => Some([below, vec!["services"]].concat()),
        // The end-to-end tests see the programs from outside, and may use any library to look at results.
        "e2e" => Some([below, vec!["client"]].concat()),
        _ => None,
    }
}

/// Checks every member's imports against the table, and that imports go up the manifest only.
pub(crate) fn check(metadata: &Value, root: &Path) -> Vec<String> {
    let mut broken = Vec::new();
    let packages = metadata["packages"]
        .as_array()
        .expect("cargo lists packages");
    let names: BTreeSet<&str> = packages
        .iter()
        .filter_map(|package| package["name"].as_str())
        .collect();
    let order = manifest_order(root);
    for package in packages {
        let name = package["name"].as_str().expect("a package has a name");
        let Some(allowed) = allowed(name) else {
            broken.push(format!(
                "{name} has no row in the import table (xtask/src/imports.rs)"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let target = dependency["name"]
                .as_str()
                .expect("a dependency has a name");
            // Tests may use what they need; programs are built without them.
            if !names.contains(target) || dependency["kind"] == "dev" {
                continue;
            }
            if !allowed.contains(&target) {
                broken.push(format!(
                    "{name} imports {target}, which the import table forbids"
                ));
            }
            if position(&order, target) >= position(&order, name) {
                broken.push(format!(
                    "{name} imports {target}, which stands below it in the manifest"
                ));
            }
        }
    }
    broken
}

fn position(order: &[String], name: &str) -> usize {
    order
        .iter()
        .position(|member| member == name)
        .unwrap_or(usize::MAX)
}

fn manifest_order(root: &Path) -> Vec<String> {
    let manifest =
        std::fs::read_to_string(root.join("Cargo.toml")).expect("the workspace has a manifest");
    let members = manifest
        .split("members = [")
        .nth(1)
        .and_then(|rest| rest.split(']').next())
        .unwrap_or_default();
    members
        .split('"')
        .skip(1)
        .step_by(2)
        .map(|path| path.rsplit('/').next().unwrap_or(path).to_owned())
        .collect()
}
