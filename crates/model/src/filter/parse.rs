//! Scanner and parser: one pass over the characters, with containerd's messages and places.

use super::{FILTER_BYTES_MAX, InvalidFilter, Selector, Test, re2};

/// Parses one filter; the empty text has no selectors and matches everything.
pub(super) fn filter(input: &str) -> Result<Vec<Selector>, InvalidFilter> {
    if input.is_empty() {
        return Ok(Vec::new());
    }
    if input.len() > FILTER_BYTES_MAX {
        return Err(InvalidFilter {
            text: format!("filters: longer than {FILTER_BYTES_MAX} bytes"),
        });
    }
    let mut parser = Parser {
        scanner: Scanner::new(input),
    };
    parser.selectors()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    End,
    Quoted,
    Value,
    Field,
    Separator,
    Operator,
    Illegal,
    /// A character that begins nothing.
    Other,
}

/// A character, the end, or one that may not stand in a filter at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Char(char),
    End,
    Illegal,
}

struct Scanner<'a> {
    input: &'a str,
    /// Start of the character read last.
    start: usize,
    /// End of the character read last.
    end: usize,
    /// After an operator a word is a value, which may hold more characters than a field.
    expects_value: bool,
    /// The first complaint.
    complaint: Option<&'static str>,
}

impl<'a> Scanner<'a> {
    fn new(input: &'a str) -> Self {
        Self {
            input,
            start: 0,
            end: 0,
            expects_value: false,
            complaint: None,
        }
    }

    fn complain(&mut self, text: &'static str) {
        self.complaint.get_or_insert(text);
    }

    fn next(&mut self) -> Step {
        self.start = self.end;
        let Some(c) = self.input[self.end..].chars().next() else {
            return Step::End;
        };
        self.end += c.len_utf8();
        match c {
            char::REPLACEMENT_CHARACTER => {
                self.complain("rune error");
                Step::Illegal
            }
            '\0' => {
                self.complain("unexpected null");
                Step::Illegal
            }
            c => Step::Char(c),
        }
    }

    fn peek(&mut self) -> Step {
        let (start, end) = (self.start, self.end);
        let step = self.next();
        (self.start, self.end) = (start, end);
        step
    }

    /// The next token with its place and text; white space before it is skipped.
    fn scan(&mut self) -> (usize, Token, &'a str) {
        let mut step = self.next();
        while matches!(step, Step::Char(c) if c.is_whitespace()) {
            step = self.next();
        }
        let from = self.start;
        let token = match step {
            Step::End => Token::End,
            Step::Illegal => Token::Illegal,
            Step::Char(quote @ ('/' | '|' | '"')) => {
                if self.quoted(quote) {
                    Token::Quoted
                } else {
                    Token::Illegal
                }
            }
            Step::Char(',' | '.') => {
                self.expects_value = false;
                Token::Separator
            }
            Step::Char('=' | '!' | '~') => {
                self.run(|c| matches!(c, '=' | '!' | '~'));
                self.expects_value = true;
                Token::Operator
            }
            Step::Char(_) if self.expects_value => {
                self.run(is_value);
                self.expects_value = false;
                Token::Value
            }
            Step::Char(c) if is_field(c) => {
                self.run(is_field);
                Token::Field
            }
            Step::Char(_) => Token::Other,
        };
        (from, token, &self.input[from..self.end])
    }

    fn run(&mut self, fits: fn(char) -> bool) {
        while matches!(self.peek(), Step::Char(c) if fits(c)) {
            self.next();
        }
    }

    /// Reads to the closing quote; false when it is missing or an escape is illegal.
    fn quoted(&mut self, quote: char) -> bool {
        let mut legal = true;
        let mut step = self.next();
        loop {
            match step {
                Step::Char('\n') | Step::End | Step::Illegal => {
                    self.complain("quoted literal not terminated");
                    return false;
                }
                Step::Char(c) if c == quote => return legal,
                Step::Char('\\') => {
                    let (after, fine) = self.escape(quote);
                    step = after;
                    legal &= fine;
                }
                Step::Char(_) => step = self.next(),
            }
        }
    }

    /// Reads what follows a backslash; returns the character after it and whether the escape was legal.
    fn escape(&mut self, quote: char) -> (Step, bool) {
        let step = self.next();
        match step {
            Step::Char('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\') => (self.next(), true),
            Step::Char(c) if c == quote => (self.next(), true),
            Step::Char('0'..='7') => self.digits(step, 8, 3),
            Step::Char('x') => {
                let first = self.next();
                self.digits(first, 16, 2)
            }
            Step::Char('u') => {
                let first = self.next();
                self.digits(first, 16, 4)
            }
            Step::Char('U') => {
                let first = self.next();
                self.digits(first, 16, 8)
            }
            _ => {
                self.complain("illegal escape sequence");
                (step, false)
            }
        }
    }

    fn digits(&mut self, first: Step, base: u32, count: usize) -> (Step, bool) {
        let mut step = first;
        for _ in 0..count {
            if !matches!(step, Step::Char(c) if c.is_digit(base)) {
                self.complain("illegal numeric escape sequence");
                return (step, false);
            }
            step = self.next();
        }
        (step, true)
    }
}

fn is_field(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}

fn is_value(c: char) -> bool {
    c != ',' && !c.is_whitespace() && !c.is_control()
}

#[derive(Debug, Clone, Copy)]
enum Operator {
    Equal,
    NotEqual,
    Matches,
}

struct Parser<'a> {
    scanner: Scanner<'a>,
}

impl Parser<'_> {
    fn selectors(&mut self) -> Result<Vec<Selector>, InvalidFilter> {
        let mut all = vec![self.selector()?];
        loop {
            match self.scanner.peek() {
                Step::End => return Ok(all),
                Step::Char(',') => {
                    self.scanner.scan();
                    all.push(self.selector()?);
                }
                Step::Char(c) => {
                    return Err(self.refuse(self.scanner.end, &format!("unexpected input: {c}")));
                }
                Step::Illegal => {
                    return Err(self.refuse(self.scanner.end, "unexpected input: \u{fffd}"));
                }
            }
        }
    }

    fn selector(&mut self) -> Result<Selector, InvalidFilter> {
        let path = self.path()?;
        if matches!(self.scanner.peek(), Step::Char(',') | Step::End) {
            return Ok(Selector {
                path,
                test: Test::Present,
            });
        }
        let test = match self.operator()? {
            Operator::Equal => Test::Equal(self.value(false)?),
            Operator::NotEqual => Test::NotEqual(self.value(false)?),
            Operator::Matches => {
                let value = self.value(true)?;
                Test::Matches(String::from_utf8(value).ok().and_then(|t| re2::compile(&t)))
            }
        };
        Ok(Selector { path, test })
    }

    fn path(&mut self) -> Result<Vec<String>, InvalidFilter> {
        let mut parts = vec![self.part()?];
        while self.scanner.peek() == Step::Char('.') {
            self.scanner.scan();
            parts.push(self.part()?);
        }
        Ok(parts)
    }

    fn part(&mut self) -> Result<String, InvalidFilter> {
        let (at, token, text) = self.scanner.scan();
        match token {
            Token::Field => Ok(text.to_owned()),
            Token::Quoted => {
                let bytes = self.unquote(at, text, false)?;
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Token::Illegal => Err(self.refuse_illegal(at)),
            _ => Err(self.refuse(at, "expected field or quoted")),
        }
    }

    fn operator(&mut self) -> Result<Operator, InvalidFilter> {
        let (at, token, text) = self.scanner.scan();
        match (token, text) {
            (Token::Operator, "==") => Ok(Operator::Equal),
            (Token::Operator, "!=") => Ok(Operator::NotEqual),
            (Token::Operator, "~=") => Ok(Operator::Matches),
            (Token::Operator, other) => {
                Err(self.refuse(at, &format!("unsupported operator {other:?}")))
            }
            (Token::Illegal, _) => Err(self.refuse_illegal(at)),
            _ => Err(self.refuse(at, r#"expected an operator ("=="|"!="|"~=")"#)),
        }
    }

    fn value(&mut self, expression: bool) -> Result<Vec<u8>, InvalidFilter> {
        let (at, token, text) = self.scanner.scan();
        match token {
            Token::Value | Token::Field => Ok(text.as_bytes().to_vec()),
            Token::Quoted => self.unquote(at, text, expression),
            Token::Illegal => Err(self.refuse_illegal(at)),
            _ => Err(self.refuse(at, "expected value or quoted")),
        }
    }

    fn unquote(&self, at: usize, text: &str, expression: bool) -> Result<Vec<u8>, InvalidFilter> {
        if !expression && !text.starts_with('"') {
            return Err(self.refuse(at, "invalid quote encountered"));
        }
        // The scanner accepted the escapes, so both ends are one-byte quotes.
        unescape(&text[1..text.len() - 1])
            .ok_or_else(|| self.refuse(at, "unquoting failed: quote syntax error"))
    }

    fn refuse_illegal(&self, at: usize) -> InvalidFilter {
        self.refuse(at, self.scanner.complaint.unwrap_or_default())
    }

    fn refuse(&self, at: usize, message: &str) -> InvalidFilter {
        let input = self.scanner.input;
        let mut after = input[at..].chars();
        let text = match after.next() {
            Some(here) => format!(
                "filters: parse error: [{} >|{here}|< {}]: {message}",
                &input[..at],
                after.as_str()
            ),
            None => format!("filters: parse error: [{input}]: {message}"),
        };
        InvalidFilter { text }
    }
}

/// Resolves Go's escapes in the inside of a quoted text; `None` for one that stands for no byte or character.
fn unescape(inside: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(inside.len());
    let mut rest = inside;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let kind = rest.chars().next()?;
        let (skip, digits, base) = match kind {
            'x' => (1, 2, 16),
            'u' => (1, 4, 16),
            'U' => (1, 8, 16),
            '0'..='7' => (0, 3, 8),
            _ => (kind.len_utf8(), 0, 0),
        };
        if digits == 0 {
            bytes.push(match kind {
                'a' => 7,
                'b' => 8,
                'f' => 12,
                'n' => b'\n',
                'r' => b'\r',
                't' => b'\t',
                'v' => 11,
                other => u8::try_from(other).ok()?,
            });
        } else {
            let value = u32::from_str_radix(rest.get(skip..skip + digits)?, base).ok()?;
            if matches!(kind, 'u' | 'U') {
                if value > char::MAX as u32 {
                    return None;
                }
                // Go writes a surrogate half as the replacement character.
                let c = char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                bytes.push(u8::try_from(value).ok()?);
            }
        }
        rest = rest.get(skip + digits..)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}
