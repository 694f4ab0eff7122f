//! The filter language of containerd's list and subscribe calls.
//!
//! ```text
//! filter   := selector ("," selector)*            every selector must match
//! selector := path [("==" | "!=" | "~=") value]   without operator: the field is present
//! path     := part ("." part)*
//! part     := [A-Za-z0-9_]+ | quoted
//! quoted   := Go string in double quotes; for "~=" also /…/ and |…|
//! ```
//! A list of filters matches when one of its filters does; the empty list and the empty filter match everything.
//! Regular expressions are RE2's and unanchored. As upstream, one that does not compile matches nothing.

mod parse;
mod re2;

use std::borrow::Cow;
use std::collections::BTreeMap;

use regex::Regex;

use crate::{ErrorKind, Kinded};

/// Most filters in one list.
pub const FILTERS_MAX: usize = 1024;
/// Most bytes of one filter.
pub const FILTER_BYTES_MAX: usize = 64 << 10;

/// The text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}: invalid argument")]
pub struct InvalidFilter {
    /// What is wrong and where, in containerd's words.
    pub text: String,
}

impl Kinded for InvalidFilter {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

/// An object whose fields a filter can ask for.
pub trait Fields {
    /// The text of the field at `path`; `None` when it is absent.
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>>;
}

/// The value in `map` under the parts of a path joined by dots, as label keys contain dots themselves.
pub fn map_field<'a>(path: &[&str], map: &'a BTreeMap<String, String>) -> Option<Cow<'a, str>> {
    if map.is_empty() {
        return None;
    }
    let value = match path {
        [key] => map.get(*key),
        _ => map.get(&path.join(".")),
    };
    value.map(|text| Cow::Borrowed(text.as_str()))
}

/// A text as a field that counts as absent when it is empty.
pub fn text_field(text: &str) -> Option<Cow<'_, str>> {
    (!text.is_empty()).then_some(Cow::Borrowed(text))
}

/// A parsed list of filters.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    /// One list of selectors a filter; an empty outer list matches everything, so does an empty inner one.
    any: Vec<Vec<Selector>>,
}

#[derive(Debug, Clone)]
struct Selector {
    path: Vec<String>,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Present,
    /// Bytes, because `\xff` in a quoted value need not be UTF-8.
    Equal(Vec<u8>),
    NotEqual(Vec<u8>),
    /// `None`: the expression did not compile and matches nothing.
    Matches(Option<Regex>),
}

impl Filters {
    /// Parses each text; the error names the place in the first bad one.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, InvalidFilter> {
        if texts.len() > FILTERS_MAX {
            return Err(InvalidFilter {
                text: format!("filters: more than {FILTERS_MAX} items"),
            });
        }
        let any = texts
            .iter()
            .map(|text| parse::filter(text.as_ref()))
            .collect::<Result<_, _>>()?;
        Ok(Self { any })
    }

    /// Whether every object matches.
    pub fn is_all(&self) -> bool {
        self.any.is_empty() || self.any.iter().any(Vec::is_empty)
    }

    /// Whether `object` matches one of the filters.
    pub fn matches(&self, object: &impl Fields) -> bool {
        self.is_all()
            || self
                .any
                .iter()
                .any(|all| all.iter().all(|selector| selector.matches(object)))
    }

    /// Whether a selector asks for a field below `name`, so that callers compute costly fields only when needed.
    pub fn asks_for(&self, name: &str) -> bool {
        self.any
            .iter()
            .flatten()
            .any(|selector| selector.path.first().is_some_and(|first| first == name))
    }
}

impl Selector {
    fn matches(&self, object: &impl Fields) -> bool {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let value = object.field(&path);
        // Absent reads as the empty text for `!=` and `~=`, as upstream.
        let text = value.as_deref().unwrap_or_default();
        match &self.test {
            Test::Present => value.is_some(),
            Test::Equal(wanted) => value.is_some() && text.as_bytes() == wanted.as_slice(),
            Test::NotEqual(unwanted) => text.as_bytes() != unwanted.as_slice(),
            Test::Matches(expression) => expression
                .as_ref()
                .is_some_and(|expression| expression.is_match(text)),
        }
    }
}

#[cfg(test)]
mod tests;
