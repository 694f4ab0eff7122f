//! Laws of single files: size, module documentation, and no mark of unfinished work.

use std::path::{Path, PathBuf};

/// Longest file of product code, in lines.
const LINES_MAX: usize = 500;
/// What may not stand in product code.
const MARKS: &[&str] = &["todo!(", "unimplemented!(", "FIXME", "XXX:"];

pub(crate) fn check(root: &Path) -> Vec<String> {
    let mut broken = Vec::new();
    for folder in ["crates", "bin", "tests", "xtask", "bench"] {
        for path in rust_files(&root.join(folder)) {
            let text = std::fs::read_to_string(&path).expect("a source file is readable UTF-8");
            let shown = path.strip_prefix(root).unwrap_or(&path).display();
            let lines = product_lines(&text);
            let test = path.components().any(|part| part.as_os_str() == "tests");
            if lines > LINES_MAX && !test {
                broken.push(format!(
                    "{shown} has {lines} lines of product code, the law is {LINES_MAX}"
                ));
            }
            if !text.trim_start().starts_with("//!") {
                broken.push(format!("{shown} has no module documentation"));
            }
            if path.file_name().is_some_and(|name| name == "mod.rs") {
                broken.push(format!("{shown}: name the file after its module"));
            }
            if path.file_name().is_some_and(|name| name == "sources.rs") {
                continue;
            }
            for mark in MARKS {
                if text.contains(mark) {
                    broken.push(format!("{shown} holds {mark}"));
                }
            }
        }
    }
    broken
}

/// Lines before the file's test module.
fn product_lines(text: &str) -> usize {
    text.lines()
        .position(|line| line == "#[cfg(test)]")
        .unwrap_or_else(|| text.lines().count())
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else {
        return files;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
