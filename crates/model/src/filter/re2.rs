//! RE2 expressions for the `regex` crate: where the two languages read one text differently, it is rewritten.
//!
//! RE2's `\d \s \w \b` are ASCII, `[` and `&&` `--` `~~` have no meaning inside a class, and `\Q…\E` quotes.

use regex::{Regex, RegexBuilder};

/// Most bytes of a compiled expression: a client's text must not cost the daemon its memory.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting of groups.
const NEST_MAX: u32 = 100;

/// Compiles an RE2 expression; `None` when it is none or passes a limit.
pub(super) fn compile(text: &str) -> Option<Regex> {
    RegexBuilder::new(&translate(text))
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .nest_limit(NEST_MAX)
        .build()
        .ok()
}

fn translate(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '\\' => escape(after, in_class, &mut out),
            '[' if in_class => class_bracket(after, &mut out),
            '[' => {
                in_class = true;
                out.push('[');
                class_start(after, &mut out)
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
                after
            }
            '-' if in_class && out.ends_with('-') && !out.ends_with("\\-") => {
                out.push_str("\\-");
                after
            }
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
                after
            }
            _ => {
                out.push(c);
                after
            }
        };
    }
    out
}

/// A closing bracket right after the opening one (or its `^`) is a member of the class.
fn class_start<'a>(rest: &'a str, out: &mut String) -> &'a str {
    let mut rest = rest;
    if let Some(after) = rest.strip_prefix('^') {
        out.push('^');
        rest = after;
    }
    if let Some(after) = rest.strip_prefix(']') {
        out.push_str("\\]");
        rest = after;
    }
    rest
}

fn class_bracket<'a>(after: &'a str, out: &mut String) -> &'a str {
    if after.starts_with(':')
        && let Some(end) = after.find(":]")
    {
        out.push('[');
        out.push_str(&after[..end + 2]);
        return &after[end + 2..];
    }
    out.push_str("\\[");
    after
}

fn escape<'a>(after: &'a str, in_class: bool, out: &mut String) -> &'a str {
    let Some(c) = after.chars().next() else {
        out.push('\\');
        return after;
    };
    let rest = &after[c.len_utf8()..];
    match c {
        'Q' if !in_class => {
            let end = rest.find("\\E");
            out.push_str(&regex::escape(&rest[..end.unwrap_or(rest.len())]));
            return end.map_or("", |end| &rest[end + 2..]);
        }
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        's' => out.push_str("[\\t\\n\\x0C\\r ]"),
        'S' => out.push_str("[^\\t\\n\\x0C\\r ]"),
        'b' if !in_class => out.push_str("(?-u:\\b)"),
        _ => {
            out.push('\\');
            out.push(c);
        }
    }
    rest
}
