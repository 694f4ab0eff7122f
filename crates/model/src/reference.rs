//! Names of images in registries: `host/repository[:tag][@digest]` (distribution, `reference` grammar).

use std::fmt;

use crate::Digest;

/// Longest repository in bytes, without its host.
pub const REPOSITORY_BYTES_MAX: usize = 255;

/// Longest tag in bytes.
pub const TAG_BYTES_MAX: usize = 128;

/// Longest host with its port in bytes: a DNS name and a port.
pub const HOST_BYTES_MAX: usize = 261;

/// Longest reference in bytes: no longer text is even looked at.
pub const REFERENCE_BYTES_MAX: usize = 1024;

/// A full name of something in a registry; its parts were checked and can be put into a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// The text names nothing in a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid reference {text:?}: {reason}")]
pub struct InvalidReference {
    /// The refused text, cut to 200 characters.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Reference {
    /// Reads a full name: the first part is always the host.
    ///
    /// # Errors
    /// A part is missing, too long, or holds a character that it may not.
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        read(text).map_err(|reason| InvalidReference {
            text: text.chars().take(200).collect(),
            reason,
        })
    }

    /// The registry's host, with its port if it has one.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository inside the registry, such as `library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was named.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was named.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `host/repository` without tag and digest.
    pub fn locator(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// What to ask the registry for: the digest if there is one, else the tag.
    pub fn object(&self) -> Option<&str> {
        self.digest().map(Digest::as_str).or(self.tag())
    }

    /// The same name with `digest`, and without a tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(formatter, "@{digest}")?;
        }
        Ok(())
    }
}

/// Reads a name as people type it: `alpine` is `docker.io/library/alpine:latest`.
///
/// # Errors
/// As [`Reference::parse`], and for 64 hexadecimal digits, which would be the id of an image.
pub fn familiar(text: &str) -> Result<Reference, InvalidReference> {
    let refuse = |reason| InvalidReference {
        text: text.chars().take(200).collect(),
        reason,
    };
    if text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    {
        return Err(refuse(
            "64 hexadecimal digits are the id of an image, not its name",
        ));
    }
    let (host, rest) = match text.split_once('/') {
        Some((first, rest)) if is_host(first) => (first, rest),
        _ => ("docker.io", text),
    };
    let host = if host == "index.docker.io" {
        "docker.io"
    } else {
        host
    };
    let library = if host == "docker.io" && !rest.contains('/') {
        "library/"
    } else {
        ""
    };
    let mut reference = read(&format!("{host}/{library}{rest}")).map_err(refuse)?;
    if reference.tag.is_none() && reference.digest.is_none() {
        reference.tag = Some("latest".into());
    }
    Ok(reference)
}

fn is_host(first: &str) -> bool {
    first.contains(['.', ':'])
        || first == "localhost"
        || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn read(text: &str) -> Result<Reference, &'static str> {
    if text.len() > REFERENCE_BYTES_MAX {
        return Err("longer than 1024 bytes");
    }
    let (name, digest) = match text.split_once('@') {
        None => (text, None),
        Some((name, digest)) => (
            name,
            Some(
                digest
                    .parse()
                    .map_err(|_| "the part after @ is no digest")?,
            ),
        ),
    };
    let (host, path) = name
        .split_once('/')
        .ok_or("a host, a slash and a repository are needed")?;
    let (repository, tag) = match path.rsplit_once(':') {
        None => (path, None),
        Some((repository, tag)) => (repository, Some(tag)),
    };
    check_host(host)?;
    if repository.len() > REPOSITORY_BYTES_MAX {
        return Err("the repository is longer than 255 bytes");
    }
    if !repository.split('/').all(is_component) {
        return Err(
            "the repository must be lower-case letters and digits, joined by slashes, and inside a part by one dot, one or two underscores, or dashes",
        );
    }
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    Ok(Reference {
        host: host.into(),
        repository: repository.into(),
        tag: tag.map(str::to_owned),
        digest,
    })
}

fn check_host(host: &str) -> Result<(), &'static str> {
    if host.len() > HOST_BYTES_MAX {
        return Err("the host is longer than 261 bytes");
    }
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let plain = address
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit() || byte == b':');
            if address.is_empty() || !plain {
                return Err("the host is no IPv6 address");
            }
            (
                "",
                rest.strip_prefix(':').or((!rest.is_empty()).then_some("x")),
            )
        }
        None => match host.split_once(':') {
            None => (host, None),
            Some((name, port)) => (name, Some(port)),
        },
    };
    if !host.starts_with('[') && !name.split('.').all(is_domain_component) {
        return Err("the host must be letters, digits and dashes, joined by dots");
    }
    match port {
        Some(port)
            if !port.bytes().all(|byte| byte.is_ascii_digit()) || port.parse::<u16>().is_err() =>
        {
            Err("the port is no number up to 65535")
        }
        _ => Ok(()),
    }
}

fn is_domain_component(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with('-')
        && !part.ends_with('-')
        && part
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Runs of `[a-z0-9]` with one separator between each two: `.`, `_`, `__` or any number of `-`.
fn is_component(part: &str) -> bool {
    let alphanumeric = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'z');
    let bytes = part.as_bytes();
    let ends = bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
    ends && bytes
        .split(alphanumeric)
        .all(|gap| matches!(gap, b"" | b"." | b"_" | b"__") || gap.iter().all(|byte| *byte == b'-'))
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let valid = tag.bytes().next().is_some_and(word)
        && tag
            .bytes()
            .all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
        && tag.len() <= TAG_BYTES_MAX;
    valid.then_some(()).ok_or(
        "the tag must be at most 128 letters, digits, dots, dashes and underscores, and not start with a dot or dash",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha() -> String {
        format!("sha256:{}", "0123456789abcdef".repeat(4))
    }

    #[test]
    fn full_names_fall_into_their_parts() {
        let sha = sha();
        for (text, host, repository, tag, digest) in [
            (
                "docker.io/library/alpine:3".to_owned(),
                "docker.io",
                "library/alpine",
                Some("3"),
                false,
            ),
            (
                "localhost:5000/a".into(),
                "localhost:5000",
                "a",
                None,
                false,
            ),
            (
                "[::1]:5000/a/b:x".into(),
                "[::1]:5000",
                "a/b",
                Some("x"),
                false,
            ),
            ("[fe80::1]/a".into(), "[fe80::1]", "a", None, false),
            (
                format!("ghcr.io/a_b/c__d/e---f/g.h@{sha}"),
                "ghcr.io",
                "a_b/c__d/e---f/g.h",
                None,
                true,
            ),
            (
                format!("Example.COM:443/a:T_ag-1.0@{sha}"),
                "Example.COM:443",
                "a",
                Some("T_ag-1.0"),
                true,
            ),
            (
                format!("h/a:{}", "t".repeat(128)),
                "h",
                "a",
                Some(&*"t".repeat(128)),
                false,
            ),
        ] {
            let reference = Reference::parse(&text).unwrap();
            assert_eq!(reference.host(), host, "{text}");
            assert_eq!(reference.repository(), repository, "{text}");
            assert_eq!(reference.tag(), tag, "{text}");
            assert_eq!(reference.digest().is_some(), digest, "{text}");
            assert_eq!(reference.to_string(), text);
        }
    }

    #[test]
    fn bad_names_are_refused() {
        let mut bad: Vec<String> = [
            "",
            "alpine",
            "/alpine",
            "docker.io/",
            "docker.io/Alpine",
            "docker.io/a//b",
            "docker.io/a/",
            "docker.io/-a",
            "docker.io/a-",
            "docker.io/a..b",
            "docker.io/a___b",
            "docker.io/a._b",
            "docker.io/a:",
            "docker.io/a:-x",
            "docker.io/a:b:c",
            "docker.io/a:b/c",
            "docker.io/a@",
            "docker.io/a@sha256:12",
            "docker.io/a@sha256:../../x",
            "-a/b",
            "a-/b",
            "a..b/c",
            "a b/c",
            "user:pw@host/a",
            "https://host/a",
            "host:99999/a",
            "host:x/a",
            "host:/a",
            "[::1/a",
            "[::1]x/a",
            "[]/a",
            "[zz]/a",
            "host/a?x=1",
            "host/a#f",
            "host/../a",
            "host/a\n",
            "host/ä",
        ]
        .map(str::to_owned)
        .into();
        bad.push(format!("h/{}", "a".repeat(256)));
        bad.push(format!("h/a:{}", "t".repeat(129)));
        bad.push(format!("{}/a", "h".repeat(262)));
        bad.push("h".repeat(1025));
        for text in bad {
            assert!(Reference::parse(&text).is_err(), "{text}");
        }
        assert!(Reference::parse(&format!("h/{}", "a".repeat(255))).is_ok());
    }

    #[test]
    fn familiar_names_grow_to_full_ones() {
        let sha = sha();
        for (typed, full) in [
            ("alpine", "docker.io/library/alpine:latest".to_owned()),
            ("alpine:3.20", "docker.io/library/alpine:3.20".into()),
            ("user/app", "docker.io/user/app:latest".into()),
            ("docker.io/alpine", "docker.io/library/alpine:latest".into()),
            (
                "index.docker.io/user/app",
                "docker.io/user/app:latest".into(),
            ),
            ("localhost/app", "localhost/app:latest".into()),
            ("localhost:5000/app", "localhost:5000/app:latest".into()),
            ("quay.io/a/b:c", "quay.io/a/b:c".into()),
            ("Host/app", "Host/app:latest".into()),
            (
                &format!("alpine@{sha}"),
                format!("docker.io/library/alpine@{sha}"),
            ),
            (
                &format!("alpine:3@{sha}"),
                format!("docker.io/library/alpine:3@{sha}"),
            ),
        ] {
            assert_eq!(familiar(typed).unwrap().to_string(), full);
        }
        for bad in [
            "",
            "Alpine",
            &"a".repeat(64),
            "a:b:c",
            "a@b",
            "docker.io/",
            "a/../b",
        ] {
            assert!(familiar(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn digest_wins_over_tag() {
        let sha = sha();
        let both = Reference::parse(&format!("h/a:t@{sha}")).unwrap();
        assert_eq!(both.object(), Some(sha.as_str()));
        let tagged = Reference::parse("h/a:t").unwrap();
        assert_eq!(tagged.object(), Some("t"));
        let digested = tagged.with_digest(sha.parse().unwrap());
        assert_eq!(digested.to_string(), format!("h/a@{sha}"));
        assert_eq!(Reference::parse("h/a").unwrap().object(), None);
    }
}
