//! The program of the built-in image: greets and shows what a container sees.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::fs;

fn main() {
    println!("Hello from a container.\n");
    println!("  process   {}", std::process::id());
    println!("  hostname  {}", first_line("/proc/sys/kernel/hostname"));
    println!("  kernel    {}", first_line("/proc/sys/kernel/osrelease"));
    println!("  files     {}", names("/").join(" "));
    println!("  networks  {}", names("/sys/class/net").join(" "));
    for key in ["Uid", "CapEff", "NoNewPrivs", "Seccomp"] {
        println!("  {:<9} {}", key.to_lowercase(), status(key));
    }
    for argument in std::env::args().skip(1) {
        println!("  argument  {argument}");
    }
}

fn first_line(path: &str) -> String {
    match fs::read_to_string(path) {
        Ok(text) => text.lines().next().unwrap_or_default().to_owned(),
        Err(error) => format!("({path}: {error})"),
    }
}

fn names(folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return vec![format!("({folder} is not there)")];
    };
    let mut names: Vec<_> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn status(key: &str) -> String {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    value
        .unwrap_or("(unknown)")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
