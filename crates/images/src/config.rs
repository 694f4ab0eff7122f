//! Configurations of images (OCI image-spec, config.md).

use model::{Digest, LABEL_BYTES_MAX, Platform};
use spec::image::ImageConfiguration;

use crate::document::cut;
use crate::{DOCUMENT_BYTES_MAX, Error, LAYERS_MAX, strict};

/// Most bytes of an image's whole environment.
const ENV_BYTES_MAX: usize = 1 << 20;
/// Most bytes of all labels of an image.
const LABELS_BYTES_MAX: usize = 64 << 10;
/// Most bytes of all arguments.
const ARGUMENTS_BYTES_MAX: usize = 1 << 20;
/// Variables that end up in other files, line by line.
const LINE_VARIABLES: &[&str] = &[
    "HOME", "USER", "LOGNAME", "SHELL", "HOSTNAME", "TERM", "PATH",
];

const KNOWN: &[&str] = &[
    "architecture",
    "os",
    "variant",
    "config",
    "rootfs",
    "os.version",
    "os.features",
];

/// A configuration that was read and whose digests are valid.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What the image runs on, normalised.
    pub platform: Platform,
    /// Digests of the uncompressed layers, the base first.
    pub diff_ids: Vec<Digest>,
    /// Whether the layers are what makes the file system (`rootfs.type`).
    pub layered: bool,
    /// The whole document. Its texts are the image's: see [`Config::check_runnable`].
    pub document: ImageConfiguration,
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// The bytes exceed a limit, have an invalid digest, or could be read in two ways.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        const WHAT: &str = "image configuration";
        let too_many = |count: usize, unit, limit| Error::TooMany {
            what: WHAT,
            count: count as u64,
            unit,
            limit,
        };
        if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
            return Err(too_many(bytes.len(), "bytes", DOCUMENT_BYTES_MAX));
        }
        strict::check(WHAT, bytes, KNOWN, 1)?;
        let document = ImageConfiguration::from_slice(bytes)
            .map_err(|source| Error::Spec { what: WHAT, source })?;
        let listed = &document.rootfs.diff_ids;
        if listed.len() > LAYERS_MAX {
            return Err(too_many(listed.len(), "diff ids", LAYERS_MAX as u64));
        }
        let diff_ids = listed
            .iter()
            .map(|text| text.parse())
            .collect::<Result<Vec<Digest>, _>>();
        let diff_ids = diff_ids.map_err(|error| Error::Invalid {
            what: WHAT,
            reason: error.to_string(),
        })?;
        let platform = Platform {
            os: document.os.clone(),
            architecture: document.architecture.clone(),
            variant: document.variant.clone().unwrap_or_default(),
            os_version: document.os_version.clone().unwrap_or_default(),
            os_features: document.os_features.clone(),
        };
        Ok(Self {
            platform: platform.normalize(),
            diff_ids,
            layered: matches!(document.rootfs.kind.as_str(), "" | "layers"),
            document,
        })
    }

    /// Checks the texts that a container is made of, before it is made.
    ///
    /// # Errors
    /// A text holds a NUL, a line break where one line is meant, a user number that no system has, or too much.
    pub fn check_runnable(&self) -> Result<(), Error> {
        let Some(config) = &self.document.config else {
            return Ok(());
        };
        let refuse = |reason: String| Error::Invalid {
            what: "image configuration",
            reason,
        };
        check_total("environment", &config.env, ENV_BYTES_MAX).map_err(refuse)?;
        for entry in &config.env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            let lines = name.contains(['\n', '\r'])
                || LINE_VARIABLES.contains(&name) && value.contains(['\n', '\r']);
            if name.is_empty() || lines {
                return Err(refuse(format!(
                    "the variable {:?} is empty or holds a line break",
                    cut(name)
                )));
            }
        }
        let arguments: Vec<String> = config
            .entrypoint
            .iter()
            .chain(&config.cmd)
            .cloned()
            .collect();
        check_total("arguments", &arguments, ARGUMENTS_BYTES_MAX).map_err(refuse)?;
        for (name, text) in [
            ("user", &config.user),
            ("working folder", &config.working_dir),
            ("stop signal", &config.stop_signal),
        ] {
            let text = text.as_deref().unwrap_or_default();
            if text.len() > 4096 || text.contains(['\0', '\n', '\r']) {
                return Err(refuse(format!(
                    "the {name} {:?} is no single line of at most 4096 bytes",
                    cut(text)
                )));
            }
        }
        check_user(config.user.as_deref().unwrap_or_default()).map_err(refuse)?;
        let mut labels = 0;
        for (key, value) in &config.labels {
            labels += key.len() + value.len();
            if key.len() + value.len() > LABEL_BYTES_MAX
                || labels > LABELS_BYTES_MAX
                || key.contains('\0')
            {
                return Err(refuse(format!(
                    "the label {:?} is too long, or all are",
                    cut(key)
                )));
            }
        }
        Ok(())
    }
}

fn check_total(what: &str, texts: &[String], limit: usize) -> Result<(), String> {
    let total: usize = texts.iter().map(|text| text.len() + 1).sum();
    if total > limit {
        return Err(format!("the {what} has {total} bytes, more than {limit}"));
    }
    match texts.iter().find(|text| text.contains('\0')) {
        Some(text) => Err(format!("the {what} entry {:?} holds a NUL", cut(text))),
        None => Ok(()),
    }
}

/// A part made of digits is a number and never a name; it must be one that a user can have.
fn check_user(user: &str) -> Result<(), String> {
    for part in user.splitn(2, ':').filter(|part| !part.is_empty()) {
        let digits = part.trim_start_matches(['-', '+']);
        let numeric = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let in_range = part
            .parse::<u32>()
            .is_ok_and(|id| id <= i32::MAX.unsigned_abs());
        if numeric && (!in_range || part.starts_with('+')) {
            return Err(format!("the user {:?} is out of range", cut(user)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(config: &serde_json::Value) -> Config {
        let text = json!({"architecture": "x86_64", "os": "linux", "config": config}).to_string();
        Config::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn configurations_are_read() {
        let sha = format!("sha256:{}", "a".repeat(64));
        let text = json!({"architecture": "aarch64", "os": "Linux", "variant": "v8",
            "rootfs": {"type": "layers", "diff_ids": [sha]}, "history": null, "docker_version": "1"});
        let config = Config::parse(text.to_string().as_bytes()).unwrap();
        assert_eq!(config.platform.format(), "linux/arm64");
        assert_eq!((config.diff_ids.len(), config.layered), (1, true));
        for bad in [
            r#"{"rootfs":{"diff_ids":["sha256:x"]}}"#.to_owned(),
            r#"{"RootFS":{}}"#.into(),
            r#"{"rootfs":{},"rootfs":{}}"#.into(),
            r#"{"config":{"Env":[],"env":[]}}"#.into(),
            json!({"rootfs": {"diff_ids": vec![sha; LAYERS_MAX + 1]}}).to_string(),
            " ".repeat(5 << 20),
        ] {
            assert!(Config::parse(bad.as_bytes()).is_err(), "{}", cut(&bad));
        }
    }

    #[test]
    fn what_no_container_may_have_is_refused() {
        for good in [
            json!({}),
            json!({"User": "0", "Env": ["A=b\nc", "PATH=/bin", "NOVALUE"]}),
            json!({"User": "2147483647:1000"}),
            json!({"User": "name:group", "Labels": {"a": "b"}}),
        ] {
            read(&good).check_runnable().unwrap();
        }
        for bad in [
            json!({"User": "2147483648"}),
            json!({"User": "4294967296"}),
            json!({"User": "1:4294967296"}),
            json!({"User": "18446744073709551616"}),
            json!({"User": "-1"}),
            json!({"User": "+0"}),
            json!({"User": "a\nb"}),
            json!({"Env": ["A=\0"]}),
            json!({"Env": ["A\nB=c"]}),
            json!({"Env": ["=c"]}),
            json!({"Env": ["HOME=/x\nroot2::0:0::/:/bin/sh"]}),
            json!({"Env": [format!("A={}", "b".repeat(ENV_BYTES_MAX))]}),
            json!({"Cmd": ["a\0"]}),
            json!({"WorkingDir": "/a\0"}),
            json!({"StopSignal": "9\n"}),
            json!({"Labels": {"a": "b".repeat(LABEL_BYTES_MAX)}}),
        ] {
            assert!(
                read(&bad).check_runnable().is_err(),
                "{}",
                cut(&bad.to_string())
            );
        }
    }
}
