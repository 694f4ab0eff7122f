//! `WWW-Authenticate`: how a server wants to be asked (RFC 9110, 11.6.1; distribution, token authentication).

/// Most bytes of one header that are read.
const HEADER_BYTES_MAX: usize = 8 << 10;
/// Most parameters of one challenge.
const PARAMETERS_MAX: usize = 32;

/// One way to authenticate that a server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// The scheme in lower case, such as `bearer`.
    pub(crate) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The value of a parameter; names are compared without case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Reads one header's challenges; what can't be read ends the list.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut rest = if header.len() > HEADER_BYTES_MAX {
        ""
    } else {
        header
    };
    let mut found: Vec<Challenge> = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            return found;
        }
        let spaced = after.trim_start_matches([' ', '\t']);
        let Some(value) = spaced.strip_prefix('=') else {
            found.push(Challenge {
                scheme: word.to_ascii_lowercase(),
                parameters: Vec::new(),
            });
            rest = after;
            continue;
        };
        let Some((value, after)) = parameter(value.trim_start_matches([' ', '\t'])) else {
            return found;
        };
        let Some(challenge) = found.last_mut() else {
            return found;
        };
        if challenge.parameters.len() == PARAMETERS_MAX {
            return found;
        }
        challenge
            .parameters
            .push((word.to_ascii_lowercase(), value));
        rest = after;
    }
}

fn token(text: &str) -> (&str, &str) {
    let is_token = |char: char| char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char);
    text.split_at(text.find(|char| !is_token(char)).unwrap_or(text.len()))
}

fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let both = parse(
            r#"Bearer realm="https://auth.example.com/token?a=b,c",service="r",scope="repository:a:pull,push", Basic realm=plain"#,
        );
        assert_eq!(both.len(), 2);
        assert_eq!(both[0].scheme, "bearer");
        assert_eq!(
            both[0].get("realm"),
            Some("https://auth.example.com/token?a=b,c")
        );
        assert_eq!(both[0].get("scope"), Some("repository:a:pull,push"));
        assert_eq!(both[1].scheme, "basic");
        assert_eq!(both[1].get("realm"), Some("plain"));
        assert_eq!(
            parse(r#"BASIC Realm = "a \"b\"""#)[0].get("realm"),
            Some("a \"b\"")
        );
        assert_eq!(parse("Negotiate")[0].scheme, "negotiate");
    }

    #[test]
    fn nonsense_yields_little_and_ends() {
        for text in [
            "",
            ",,,",
            "=",
            "\"",
            "a=b",
            "Bearer realm=\"open",
            "Bearer realm=\"x\\",
            "é",
        ] {
            assert!(
                parse(text).iter().all(|each| each.get("realm").is_none()),
                "{text}"
            );
        }
        assert!(parse(&"x ".repeat(HEADER_BYTES_MAX)).is_empty());
    }
}
