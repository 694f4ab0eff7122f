//! Platforms: what an image runs on (OCI image-spec, image-index.md#platform), and which of several fits best.

mod matcher;

pub use matcher::PlatformMatcher;

use std::fmt;

/// Longest specifier that [`Platform::parse`] reads, in bytes.
const SPECIFIER_BYTES_MAX: usize = 255;

/// An operating system and a processor, as an index's entry or an image's config names them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Platform {
    /// The operating system, such as `linux`.
    pub os: String,
    /// The processor architecture, such as `amd64`.
    pub architecture: String,
    /// The variant of the architecture, such as `v7`; empty for none.
    pub variant: String,
    /// The version of the operating system; empty for none.
    pub os_version: String,
    /// Features that the operating system must have.
    pub os_features: Vec<String>,
}

/// The text is no platform specifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid platform {text:?}: {reason}")]
pub struct InvalidPlatform {
    /// The refused text, cut to 200 characters.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

const KNOWN_OS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];

const KNOWN_ARCHITECTURE: &[&str] = &[
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "ppc64",
    "ppc64le",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

impl Platform {
    /// A platform with no variant, version or features.
    pub fn new(os: impl Into<String>, architecture: impl Into<String>) -> Self {
        Self {
            os: os.into(),
            architecture: architecture.into(),
            ..Self::default()
        }
    }

    /// The platform that this program was built for, with image names (`amd64`, not `x86_64`).
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "loongarch64" => "loong64",
            other => other,
        };
        let mut host = Self::new("linux", architecture);
        if architecture == "arm" {
            host.variant = "v7".into();
        }
        host
    }

    /// Reads `os`, `architecture`, `os/architecture` or `os/architecture/variant`.
    ///
    /// The operating system may carry a version and features, `linux(6.1+erofs)`. A missing half is the host's.
    ///
    /// # Errors
    /// The text is longer than 255 bytes, has characters no part may have, or is one unknown word.
    pub fn parse(text: &str) -> Result<Self, InvalidPlatform> {
        let refuse = |reason| InvalidPlatform {
            text: text.chars().take(200).collect(),
            reason,
        };
        if text.len() > SPECIFIER_BYTES_MAX {
            return Err(refuse("longer than 255 bytes"));
        }
        if text.contains('*') {
            return Err(refuse("wildcards are not supported"));
        }
        let parts: Vec<&str> = text.split('/').collect();
        let mut platform = parse_os(parts[0]).map_err(refuse)?;
        if !parts[1..].iter().all(|part| is_word(part, "_.-")) {
            return Err(refuse(
                "a part may hold letters, digits, dot, dash and underscore, and not be empty",
            ));
        }
        match parts[1..] {
            [] => platform
                .complete()
                .ok_or_else(|| refuse("unknown operating system or architecture")),
            [architecture] => {
                platform.set_architecture(architecture, "");
                if platform.architecture == "arm" && platform.variant == "v7" {
                    platform.variant.clear();
                }
                Ok(platform)
            }
            [architecture, variant] => {
                platform.set_architecture(architecture, variant);
                if platform.architecture == "arm64" && platform.variant.is_empty() {
                    platform.variant = "v8".into();
                }
                Ok(platform)
            }
            _ => Err(refuse("more than three parts")),
        }
    }

    /// The same platform with every alias replaced, so that equal platforms compare equal.
    #[must_use]
    pub fn normalize(&self) -> Self {
        let (architecture, variant) = normal_architecture(&self.architecture, &self.variant);
        let mut os_features = self.os_features.clone();
        os_features.sort();
        os_features.dedup();
        Self {
            os: normal_os(&self.os),
            architecture,
            variant,
            os_version: self.os_version.clone(),
            os_features,
        }
    }

    /// `os/architecture[/variant]` without version and features.
    pub fn format(&self) -> String {
        if self.os.is_empty() {
            return "unknown".into();
        }
        [&self.os, &self.architecture, &self.variant]
            .into_iter()
            .filter(|part| !part.is_empty())
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("/")
    }

    fn set_architecture(&mut self, architecture: &str, variant: &str) {
        (self.architecture, self.variant) = normal_architecture(architecture, variant);
    }

    /// Fills in what a single word leaves open; the word stands in `os`.
    fn complete(mut self) -> Option<Self> {
        if KNOWN_OS.contains(&self.os.as_str()) {
            self.architecture = Self::host().architecture;
            return Some(self);
        }
        let word = std::mem::replace(&mut self.os, "linux".into());
        self.set_architecture(&word, "");
        if self.architecture == "arm" && self.variant == "v7" {
            self.variant.clear();
        }
        let plain = self.os_version.is_empty() && self.os_features.is_empty();
        (plain && KNOWN_ARCHITECTURE.contains(&self.architecture.as_str())).then_some(self)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = self.format();
        if self.os_version.is_empty() && self.os_features.is_empty() {
            return formatter.write_str(&plain);
        }
        let rest = plain.strip_prefix(self.os.as_str()).unwrap_or_default();
        write!(formatter, "{}({}", self.os, self.os_version)?;
        for feature in &self.os_features {
            write!(formatter, "+{feature}")?;
        }
        write!(formatter, "){rest}")
    }
}

fn is_word(text: &str, extra: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|char| char.is_ascii_alphanumeric() || extra.contains(char))
}

fn parse_os(text: &str) -> Result<Platform, &'static str> {
    let (os, options) = match text.split_once('(') {
        None => (text, ""),
        Some((os, rest)) => (
            os,
            rest.strip_suffix(')')
                .ok_or("the bracket after the operating system is not closed")?,
        ),
    };
    if !is_word(os, "_-") {
        return Err("the operating system may hold letters, digits, dash and underscore");
    }
    if !options.is_empty() && !is_word(options, "_.-%+") {
        return Err("the options of the operating system hold a character they may not");
    }
    let mut words = options.split('+');
    let os_version = words.next().unwrap_or_default().to_owned();
    let os_features: Vec<String> = words.map(str::to_owned).collect();
    if os_features.iter().any(String::is_empty) {
        return Err("a feature of the operating system is empty");
    }
    Ok(Platform {
        os: normal_os(os),
        os_version,
        os_features,
        ..Platform::default()
    })
}

fn normal_os(os: &str) -> String {
    match os.to_lowercase().as_str() {
        "" => "linux".into(),
        "macos" => "darwin".into(),
        other => other.into(),
    }
}

fn normal_architecture(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = (architecture.to_lowercase(), variant.to_lowercase());
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        (architecture, variant) => (architecture, variant),
    };
    (architecture.into(), variant.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifiers_are_read_and_shown() {
        let host = Platform::host().architecture;
        let linux = format!("linux/{host}");
        for (text, shown) in [
            ("linux", linux.as_str()),
            ("amd64", "linux/amd64"),
            ("x86_64", "linux/amd64"),
            ("aarch64", "linux/arm64"),
            ("armhf", "linux/arm"),
            ("armel", "linux/arm/v6"),
            ("linux/arm", "linux/arm"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("linux/arm/8", "linux/arm/v8"),
            ("linux/arm64", "linux/arm64"),
            ("linux/arm64/8", "linux/arm64/v8"),
            ("linux/arm64/v9", "linux/arm64/v9"),
            ("Linux/AMD64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("macOS/x86-64", "darwin/amd64"),
            ("windows(10.0.17763)/amd64", "windows(10.0.17763)/amd64"),
            ("linux(+erofs)/amd64", "linux(+erofs)/amd64"),
            ("linux(6.1+a+b)/arm64", "linux(6.1+a+b)/arm64"),
            ("any/strange", "any/strange"),
        ] {
            assert_eq!(Platform::parse(text).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn bad_specifiers_are_refused() {
        let long = "a".repeat(256);
        for text in [
            "",
            "*",
            "linux/*",
            "a/b/c/d",
            "linux/",
            "/amd64/",
            "linux//v7",
            "nonsense",
            "linux(",
            "linux(+)/amd64",
            "linux(a b)/amd64",
            "li nux/amd64",
            "linux/am\nd64",
            &long,
        ] {
            assert!(Platform::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn normal_forms() {
        for (os, architecture, variant, normal) in [
            ("", "x86_64", "v1", "linux/amd64"),
            ("LINUX", "i386", "v9", "linux/386"),
            ("linux", "aarch64", "v8.0", "linux/arm64"),
            ("linux", "arm64", "9", "linux/arm64/v9"),
            ("linux", "arm", "", "linux/arm/v7"),
            ("linux", "armel", "", "linux/arm/v6"),
            ("macos", "arm64", "8", "darwin/arm64"),
        ] {
            let mut platform = Platform::new(os, architecture);
            platform.variant = variant.into();
            assert_eq!(platform.normalize().format(), normal);
        }
    }
}
