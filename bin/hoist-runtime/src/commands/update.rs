//! `update`.

use std::io::Read;
use std::path::Path;

use oci_runtime::spec::{BlockIo, Cpu, Memory, Pids, Resources};

use super::{Context, Failure};
use crate::arguments::Flags;

/// Bytes of a resources document that are read at most.
const DOCUMENT_BYTES_MAX: u64 = 1 << 20;

/// Changes limits.
pub(super) fn update(context: &Context<'_>) -> Result<u8, Failure> {
    let flags = &context.parsed.flags;
    let resources = match flags.value(&["resources", "r"]) {
        Some(path) => read(path)?,
        None => named(flags)?,
    };
    context.container()?.update(&resources)?;
    Ok(0)
}

fn read(path: &str) -> Result<Resources, Failure> {
    let mut text = Vec::new();
    let failed = |error| Failure::file("read", Path::new(path), error);
    let file: Box<dyn Read> = if path == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(failed)?)
    };
    file.take(DOCUMENT_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(failed)?;
    Resources::from_slice(&text)
        .map_err(|error| Failure::Usage(format!("read {path}: {}", model::chain(&error))))
}

fn number<T: std::str::FromStr>(flags: &Flags, name: &str) -> Result<Option<T>, Failure> {
    flags
        .value(&[name])
        .map(|text| {
            text.parse()
                .map_err(|_| Failure::Usage(format!("invalid value for {name}: {text:?}")))
        })
        .transpose()
}

/// Bytes, perhaps with a unit: `512m`.
fn bytes(flags: &Flags, name: &str) -> Result<Option<i64>, Failure> {
    let Some(text) = flags.value(&[name]) else {
        return Ok(None);
    };
    let lower = text.to_ascii_lowercase();
    let plain = lower.trim_end_matches('b').trim_end_matches('i');
    let (digits, factor) = match plain.chars().last() {
        Some('k') => (&plain[..plain.len() - 1], 1 << 10),
        Some('m') => (&plain[..plain.len() - 1], 1 << 20),
        Some('g') => (&plain[..plain.len() - 1], 1 << 30),
        Some('t') => (&plain[..plain.len() - 1], 1 << 40),
        _ => (plain, 1),
    };
    digits
        .parse::<i64>()
        .ok()
        .map(|value| {
            if value < 0 {
                Some(-1)
            } else {
                value.checked_mul(factor)
            }
        })
        .ok_or_else(|| Failure::Usage(format!("invalid value for {name}: {text:?}")))
}

fn named(flags: &Flags) -> Result<Resources, Failure> {
    let text = |name: &str| flags.value(&[name]).map(str::to_owned);
    Ok(Resources {
        memory: Some(Memory {
            limit: bytes(flags, "memory")?,
            reservation: bytes(flags, "memory-reservation")?,
            swap: bytes(flags, "memory-swap")?,
            ..Memory::default()
        }),
        cpu: Some(Cpu {
            shares: number(flags, "cpu-share")?,
            quota: number(flags, "cpu-quota")?,
            burst: number(flags, "cpu-burst")?,
            period: number(flags, "cpu-period")?,
            realtime_runtime: number(flags, "cpu-rt-runtime")?,
            realtime_period: number(flags, "cpu-rt-period")?,
            cpus: text("cpuset-cpus"),
            mems: text("cpuset-mems"),
            idle: number(flags, "cpu-idle")?,
        }),
        pids: Some(Pids {
            limit: number(flags, "pids-limit")?,
        }),
        block_io: Some(BlockIo {
            weight: number(flags, "blkio-weight")?,
            ..BlockIo::default()
        }),
        ..Resources::default()
    })
}
