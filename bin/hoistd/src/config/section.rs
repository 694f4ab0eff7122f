//! A TOML table read key by key: an ill-typed value is an error with its line, an unread key a warning.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Deepest nesting of a configuration file.
const DEPTH_MAX: usize = 16;
/// Largest configuration file in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 4 << 20;

/// Why a configuration file is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("read configuration file {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("parse configuration file {path}: {message}")]
    Syntax {
        /// The file.
        path: String,
        /// The parser's message with line and column.
        message: String,
    },
    /// A key has a value of the wrong type or out of its range.
    #[error("{path}:{line}: {key} must be {expected}, found {found}")]
    Type {
        /// The file.
        path: String,
        /// The line of the value, from 1.
        line: usize,
        /// The key with its tables.
        key: String,
        /// What the key takes.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// The settings contradict each other or this host.
    #[error("{0}")]
    Invalid(String),
}

/// The text of a file, for line numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) path: &'a str,
    pub(super) text: &'a str,
}

impl Text<'_> {
    fn line(&self, offset: usize) -> usize {
        self.text.as_bytes()[..offset.min(self.text.len())]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1
    }
}

/// One table whose keys are taken out as they are read.
#[derive(Debug)]
pub(super) struct Section<'a> {
    text: Text<'a>,
    name: String,
    keys: BTreeMap<String, (usize, Spanned<DeValue<'a>>)>,
    depth: usize,
}

impl<'a> Section<'a> {
    /// Parses a whole file.
    pub(super) fn parse(text: Text<'a>) -> Result<Self, ConfigError> {
        let table = DeTable::parse(text.text).map_err(|error| ConfigError::Syntax {
            path: text.path.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        })?;
        Ok(Self::of(text, String::new(), table.into_inner(), 0))
    }

    fn of(text: Text<'a>, name: String, table: DeTable<'a>, depth: usize) -> Self {
        let keys = table
            .into_iter()
            .map(|(key, value)| {
                let line = text.line(key.span().start);
                (key.into_inner().into_owned(), (line, value))
            })
            .collect();
        Self {
            text,
            name,
            keys,
            depth,
        }
    }

    fn full_name(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    fn wrong(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) -> ConfigError {
        ConfigError::Type {
            path: self.text.path.to_owned(),
            line: self.text.line(value.span().start),
            key: self.full_name(key),
            expected: expected.to_owned(),
            found: match value.get_ref() {
                DeValue::String(text) => format!("the string {text:?}"),
                DeValue::Integer(number) => format!("the number {number}"),
                other => format!("a value of type {}", other.type_str()),
            },
        }
    }

    fn take<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&DeValue<'a>) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some((_, value)) = self.keys.remove(key) else {
            return Ok(None);
        };
        match read(value.get_ref()) {
            Some(read) => Ok(Some(read)),
            None => Err(self.wrong(key, &value, expected)),
        }
    }

    /// Takes a string.
    pub(super) fn string(&mut self, key: &str) -> Result<Option<String>, ConfigError> {
        self.take(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    /// Takes a string, reading an empty one as absent, as containerd's own files write it.
    pub(super) fn nonempty(&mut self, key: &str) -> Result<Option<String>, ConfigError> {
        Ok(self.string(key)?.filter(|text| !text.is_empty()))
    }

    /// Takes a boolean.
    pub(super) fn boolean(&mut self, key: &str) -> Result<Option<bool>, ConfigError> {
        self.take(key, "true or false", DeValue::as_bool)
    }

    /// Takes an integer of the range.
    pub(super) fn integer(
        &mut self,
        key: &str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<Option<i64>, ConfigError> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.take(key, &expected, |value| {
            let number = value.as_integer()?;
            let parsed = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
            range.contains(&parsed).then_some(parsed)
        })
    }

    /// Takes a number from 0 to 1.
    pub(super) fn fraction(&mut self, key: &str) -> Result<Option<f64>, ConfigError> {
        self.take(key, "a number from 0.0 to 1.0", |value| {
            let number = match value {
                DeValue::Float(float) => float.as_str().parse::<f64>().ok()?,
                DeValue::Integer(integer) => integer.as_str().parse::<f64>().ok()?,
                _ => return None,
            };
            (0.0..=1.0).contains(&number).then_some(number)
        })
    }

    /// Takes a Go duration such as `1m30s`.
    pub(super) fn duration(
        &mut self,
        key: &str,
    ) -> Result<Option<std::time::Duration>, ConfigError> {
        self.take(key, "a duration such as \"1m30s\"", |value| {
            parse_duration(value.as_str()?)
        })
    }

    /// Takes a list of strings.
    pub(super) fn strings(&mut self, key: &str) -> Result<Option<Vec<String>>, ConfigError> {
        self.take(key, "a list of strings", |value| {
            value
                .as_array()?
                .iter()
                .map(|item| item.get_ref().as_str().map(str::to_owned))
                .collect()
        })
    }

    /// Takes a table; an absent one is empty.
    pub(super) fn table(&mut self, key: &str) -> Result<Self, ConfigError> {
        let name = self.full_name(key);
        let Some((_, value)) = self.keys.remove(key) else {
            return Ok(Self {
                text: self.text,
                name,
                keys: BTreeMap::new(),
                depth: self.depth + 1,
            });
        };
        if self.depth >= DEPTH_MAX || !value.get_ref().is_table() {
            return Err(self.wrong(key, &value, "a table"));
        }
        match value.into_inner() {
            DeValue::Table(table) => Ok(Self::of(self.text, name, table, self.depth + 1)),
            _ => unreachable!("checked to be a table"),
        }
    }

    /// The keys not yet taken.
    pub(super) fn names(&self) -> Vec<String> {
        self.keys.keys().cloned().collect()
    }

    /// Ends the section: each key that nobody took becomes a warning with its line.
    pub(super) fn finish(self, warnings: &mut Vec<String>) {
        for (key, (line, _)) in &self.keys {
            warnings.push(format!(
                "{}:{line}: unknown key {} is ignored",
                self.text.path,
                self.full_name(key)
            ));
        }
    }

    /// Ends a section whose keys are known but not built: each becomes a warning that says so.
    pub(super) fn finish_unbuilt(self, warnings: &mut Vec<String>) {
        for (key, (line, _)) in &self.keys {
            let name = self.full_name(key);
            warnings.push(format!(
                "{}:{line}: {name} is not supported by this version and has no effect",
                self.text.path
            ));
        }
    }
}

/// Reads a duration in Go's form: decimal numbers, each with a unit (`h`, `m`, `s`, `ms`, `us`, `ns`).
pub(super) fn parse_duration(text: &str) -> Option<std::time::Duration> {
    if text == "0" {
        return Some(std::time::Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0_f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_len = rest
            .find(|letter: char| letter.is_ascii_digit() || letter == '.')
            .unwrap_or(rest.len());
        seconds += number
            * match &rest[..unit_len] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[unit_len..];
    }
    std::time::Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, expected) in [
            ("0s", Some(Duration::ZERO)),
            ("100ms", Some(Duration::from_millis(100))),
            ("1m30s", Some(Duration::from_secs(90))),
            ("1.5h", Some(Duration::from_secs(5400))),
            ("", None),
            ("5", None),
            ("5 s", None),
            ("s", None),
        ] {
            assert_eq!(parse_duration(text), expected, "{text:?}");
        }
    }
}
