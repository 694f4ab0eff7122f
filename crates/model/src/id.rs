//! Identifiers that become folder names, cgroup names and socket names.

use std::fmt;
use std::str::FromStr;

/// Longest identifier, in bytes (containerd `pkg/identifiers`).
const ID_BYTES_MAX: usize = 76;

/// The text is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "identifier {text:?} must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$ and have 1 to {ID_BYTES_MAX} characters: invalid argument"
)]
pub struct InvalidId {
    /// The refused text, cut to 200 characters.
    pub text: String,
}

fn check(text: &str) -> Result<(), InvalidId> {
    let mut separated = true;
    let ok = !text.is_empty()
        && text.len() <= ID_BYTES_MAX
        && text.bytes().all(|byte| {
            let alphanumeric = byte.is_ascii_alphanumeric();
            let fits = alphanumeric || (!separated && matches!(byte, b'.' | b'_' | b'-'));
            separated = !alphanumeric;
            fits
        })
        && !separated;
    if ok {
        Ok(())
    } else {
        Err(InvalidId {
            text: text.chars().take(200).collect(),
        })
    }
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks the text and takes it.
            pub fn new(text: impl Into<Box<str>>) -> Result<Self, InvalidId> {
                let text = text.into();
                check(&text)?;
                Ok(Self(text))
            }

            /// The text of the identifier.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

identifier!(
    /// A namespace: the tenant to which records belong.
    Namespace
);
identifier!(
    /// A container, and the task of the same name.
    ContainerId
);
identifier!(
    /// An additional process in a container.
    ExecId
);
identifier!(
    /// A sandbox (pod).
    SandboxId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_follow_the_upstream_expression() {
        for good in ["a", "A0", "a.b", "a-b_c.d", &"x".repeat(76)] {
            assert!(Namespace::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a/b",
            "../a",
            "a b",
            "ä",
            "a\0",
            &"x".repeat(77),
        ] {
            assert!(Namespace::new(bad).is_err(), "{bad}");
        }
    }
}
