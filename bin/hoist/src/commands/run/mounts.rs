//! `-v` and `--mount`, and sizes with a unit.

use std::path::Path;

use anyhow::{Context as _, bail};
use spec::runtime::Mount;

fn mount(
    kind: &str,
    source: &str,
    destination: &str,
    options: Vec<String>,
) -> anyhow::Result<Mount> {
    if !destination.starts_with('/') {
        bail!("mount destination {destination:?} must be an absolute path");
    }
    Ok(Mount {
        destination: destination.to_owned(),
        kind: Some(kind.to_owned()),
        source: Some(source.to_owned()),
        options,
        ..Default::default()
    })
}

fn bind(source: &str, destination: &str, options: &[&str]) -> anyhow::Result<Mount> {
    if !Path::new(source).is_absolute() {
        bail!("{source:?} must be an absolute path of this host: named volumes are not there yet");
    }
    if !Path::new(source).exists() {
        bail!("{source:?} is not on this host: make it first");
    }
    let mut all = vec!["rbind".to_owned()];
    let write = if options.contains(&"ro") { "ro" } else { "rw" };
    all.push(write.to_owned());
    for option in options
        .iter()
        .filter(|option| !matches!(**option, "ro" | "rw" | ""))
    {
        match *option {
            "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared" => {
                all.push((*option).to_owned());
            }
            other => {
                bail!("mount option {other:?} is not known: ro, rw or a propagation such as rslave")
            }
        }
    }
    if !all.iter().any(|option| {
        option.ends_with("private") || option.ends_with("slave") || option.ends_with("shared")
    }) {
        all.push("rprivate".to_owned());
    }
    mount("bind", source, destination, all)
}

/// Reads the mounts of a command line.
pub(crate) fn parse(volumes: &[String], mounts: &[String]) -> anyhow::Result<Vec<Mount>> {
    let mut parsed = Vec::new();
    for volume in volumes {
        let parts: Vec<&str> = volume.splitn(3, ':').collect();
        let made = match parts.as_slice() {
            [source, destination] => bind(source, destination, &[]),
            [source, destination, options] => {
                bind(source, destination, &options.split(',').collect::<Vec<_>>())
            }
            _ => bail!("--volume {volume:?} must be HOST:CONTAINER[:OPTIONS]"),
        };
        parsed.push(made.with_context(|| format!("--volume {volume:?}"))?);
    }
    for text in mounts {
        parsed.push(long(text).with_context(|| format!("--mount {text:?}"))?);
    }
    Ok(parsed)
}

fn long(text: &str) -> anyhow::Result<Mount> {
    let (mut kind, mut source, mut destination) = ("bind", "", "");
    let mut options: Vec<&str> = Vec::new();
    let mut tmpfs = vec!["nosuid".to_owned(), "nodev".to_owned()];
    for pair in text.split(',') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "type" => kind = value,
            "source" | "src" => source = value,
            "target" | "destination" | "dst" => destination = value,
            "readonly" | "ro" if value != "false" => options.push("ro"),
            "readonly" | "ro" => {}
            "bind-propagation" => options.push(value),
            "options" => options.extend(value.split(':')),
            "tmpfs-size" => tmpfs.push(format!("size={}", bytes(value)?)),
            "tmpfs-mode" => tmpfs.push(format!("mode={value}")),
            other => bail!(
                "{other:?} is not known: type, source, target, readonly, bind-propagation, tmpfs-size, tmpfs-mode"
            ),
        }
    }
    match kind {
        "bind" => bind(source, destination, &options),
        "tmpfs" => mount("tmpfs", "tmpfs", destination, tmpfs),
        other => bail!("type {other:?} is not known: bind or tmpfs"),
    }
}

/// Reads bytes with an optional unit: `512m`, `1g`.
pub(crate) fn bytes(text: &str) -> anyhow::Result<i64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        unit => bail!("{text:?}: unit {unit:?} is not known: b, k, m, g or t"),
    };
    let number: f64 = digits
        .parse()
        .with_context(|| format!("{text:?} is no size"))?;
    let size = number
        * f64::from(1_u32 << (shift % 40))
        * if shift == 40 {
            1_099_511_627_776.0
        } else {
            1.0
        };
    anyhow::ensure!((1.0..9e18).contains(&size), "{text:?} is out of range");
    Ok(size as i64)
}

/// What makes names resolve on the host's network.
pub(crate) fn host_network() -> Vec<Mount> {
    let present = ["/etc/hosts", "/etc/resolv.conf"]
        .into_iter()
        .filter(|path| Path::new(path).exists());
    present
        .filter_map(|path| bind(path, path, &["ro"]).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_and_sizes_are_read_and_wrong_ones_refused() {
        let made = parse(
            &["/tmp:/x:ro".into()],
            &["type=tmpfs,target=/t,tmpfs-size=1m".into()],
        )
        .unwrap();
        assert_eq!(made[0].options, ["rbind", "ro", "rprivate"]);
        assert_eq!(made[1].options, ["nosuid", "nodev", "size=1048576"]);
        for wrong in [
            "x",
            "relative:/x",
            "/nonexistent-folder:/x",
            "/tmp:x",
            "/tmp:/x:odd",
        ] {
            assert!(parse(&[wrong.into()], &[]).is_err(), "{wrong}");
        }
        for (text, size) in [
            ("512", 512),
            ("1k", 1024),
            ("1.5m", 1_572_864),
            ("2g", 2_147_483_648),
            ("1T", 1 << 40),
        ] {
            assert_eq!(bytes(text).unwrap(), size, "{text}");
        }
        assert!(bytes("x").is_err() && bytes("1q").is_err() && bytes("0").is_err());
    }
}
