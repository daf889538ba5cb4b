//! From Go's regular expressions (RE2) to those of the crate `regex`, which read some characters otherwise.
//!
//! Written out so that both mean the same: `\d \w \s \b` (ASCII in Go, Unicode here; Go's `\s` lacks the vertical
//! tab), `\Q...\E`, octal escapes, `{` that begins no repeat, and inside brackets `[`, `&&`, `--`, `~~`, which
//! are operators here and characters there.
//! Refused, though Go would take them: `\B` (here it can't be had for ASCII words alone), group names that begin
//! with a digit. Refused as Go does: `\C`, back references, look-around, flags other than `imsU`, a repeat of a
//! repeat, more than 1000 repeats.
//! What remains: of a group inside a repeat that can match nothing (`(a*)*`), the last round may differ.

use std::fmt::Write as _;

const MAX_REPEAT: u32 = 1000;
const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];
const DIGIT: &str = "0-9";
const SPACE: &str = r"\t\n\x0C\r\x20";
const WORD: &str = "0-9A-Za-z_";

struct Translation<'s> {
    rest: &'s str,
    out: String,
    /// The last thing written was a repeat.
    repeated: bool,
}

pub(super) fn translate(source: &str) -> Result<String, String> {
    let mut translation =
        Translation { rest: source, out: String::with_capacity(source.len() + 16), repeated: false };
    while let Some(c) = translation.take() {
        translation.one(c)?;
    }
    Ok(translation.out)
}

fn literal(c: char, out: &mut String) {
    if c.is_ascii_alphanumeric() || !c.is_ascii() {
        out.push(c);
    } else {
        let _ = write!(out, "\\x{{{:X}}}", u32::from(c));
    }
}

impl Translation<'_> {
    fn take(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn take_if(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(after) => {
                self.rest = after;
                true
            }
            None => false,
        }
    }

    fn one(&mut self, c: char) -> Result<(), String> {
        let was_repeated = std::mem::take(&mut self.repeated);
        match c {
            '*' | '+' | '?' => {
                self.out.push(c);
                self.finish_repeat(was_repeated)?;
            }
            '{' => match self.repeat()? {
                Some(text) => {
                    self.out.push_str(&text);
                    self.finish_repeat(was_repeated)?;
                }
                None => literal('{', &mut self.out),
            },
            '(' => self.group()?,
            ')' | '|' | '^' | '$' | '.' => self.out.push(c),
            '[' => self.class()?,
            '\\' => self.escape()?,
            _ => literal(c, &mut self.out),
        }
        Ok(())
    }

    fn finish_repeat(&mut self, was_repeated: bool) -> Result<(), String> {
        if was_repeated {
            return Err("a repeat of a repeat; put the inner one in (?:...)".to_owned());
        }
        if self.take_if("?") {
            self.out.push('?');
        }
        self.repeated = true;
        Ok(())
    }

    /// `{n}`, `{n,}`, `{n,m}`; anything else is a brace.
    fn repeat(&mut self) -> Result<Option<String>, String> {
        let Some((inner, after)) = self.rest.split_once('}') else { return Ok(None) };
        let number = |text: &str| {
            let valid = !text.is_empty()
                && text.bytes().all(|c| c.is_ascii_digit())
                && (text == "0" || !text.starts_with('0'));
            valid.then(|| text.parse::<u32>().unwrap_or(u32::MAX))
        };
        let bounds = match inner.split_once(',') {
            None => number(inner).map(|n| (n, Some(n))),
            Some((low, "")) => number(low).map(|low| (low, None)),
            Some((low, high)) => number(low).zip(number(high)).map(|(low, high)| (low, Some(high))),
        };
        let Some((low, high)) = bounds else { return Ok(None) };
        if low > MAX_REPEAT || high.is_some_and(|high| high > MAX_REPEAT || high < low) {
            return Err(format!("{{{inner}}} is no repeat of at most {MAX_REPEAT}"));
        }
        self.rest = after;
        Ok(Some(format!("{{{inner}}}")))
    }

    fn group(&mut self) -> Result<(), String> {
        if !self.rest.starts_with('?') {
            self.out.push('(');
            return Ok(());
        }
        let named = self.rest.strip_prefix("?P<").or_else(|| self.rest.strip_prefix("?<"));
        if let Some(after) = named.filter(|after| !after.starts_with(['=', '!'])) {
            let name = after.split_once('>').map(|(name, _)| name).unwrap_or_default();
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(is_word) || name.starts_with(|c: char| c.is_ascii_digit())
            {
                return Err(
                    "a group's name is made of letters, digits and _, and begins with no digit".to_owned()
                );
            }
            let _ = write!(self.out, "(?P<{name}>");
            self.rest = &after[name.len() + 1..];
            return Ok(());
        }
        let end = self.rest.find([':', ')']).ok_or("missing )")?;
        let flags = &self.rest[1..end];
        if !flags.chars().all(|c| "imsU-".contains(c)) {
            return Err(format!("(?{flags} is none of (?:, (?P<name> and the flags i, m, s, U"));
        }
        let _ = write!(self.out, "({}", &self.rest[..=end]);
        self.rest = &self.rest[end + 1..];
        Ok(())
    }

    fn escape(&mut self) -> Result<(), String> {
        let Some(c) = self.take() else { return Err("a backslash at the end".to_owned()) };
        match c {
            'd' | 's' | 'w' => {
                let _ = write!(self.out, "[{}]", perl(c));
            }
            'D' | 'S' | 'W' => {
                let _ = write!(self.out, "[^{}]", perl(c.to_ascii_lowercase()));
            }
            'b' => self.out.push_str(r"(?-u:\b)"),
            'B' => return Err(r"\B is not supported here".to_owned()),
            'A' | 'z' => {
                self.out.push('\\');
                self.out.push(c);
            }
            'p' | 'P' => self.property(c)?,
            'Q' => {
                let (text, after) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
                text.chars().for_each(|c| literal(c, &mut self.out));
                self.rest = after;
            }
            'E' => {}
            _ => {
                let c = self.character(c)?;
                literal(c, &mut self.out);
            }
        }
        Ok(())
    }

    /// `\pN`, `\p{Name}`, `\p{^Name}`.
    fn property(&mut self, kind: char) -> Result<(), String> {
        let name = if self.take_if("{") {
            let (name, after) = self.rest.split_once('}').ok_or("missing } after \\p{")?;
            self.rest = after;
            name.to_owned()
        } else {
            self.take().ok_or("a name is missing after \\p")?.to_string()
        };
        let (name, inverted) = name.strip_prefix('^').map_or((name.as_str(), false), |name| (name, true));
        let kind = if (kind == 'P') == inverted { 'p' } else { 'P' };
        let _ = write!(self.out, "\\{kind}{{{name}}}");
        Ok(())
    }

    /// The character that an escape beginning with `c` stands for.
    fn character(&mut self, c: char) -> Result<char, String> {
        let unknown = || format!("invalid escape sequence \\{c}");
        let named = match c {
            'a' => '\x07',
            'f' => '\x0c',
            't' => '\t',
            'n' => '\n',
            'r' => '\r',
            'v' => '\x0b',
            'x' => return self.hexadecimal(),
            '0'..='7' => return self.octal(c),
            _ if c.is_ascii() && !c.is_ascii_alphanumeric() => c,
            _ => return Err(unknown()),
        };
        Ok(named)
    }

    fn octal(&mut self, first: char) -> Result<char, String> {
        let next_is_octal = self.rest.starts_with(|c: char| ('0'..='7').contains(&c));
        if first != '0' && !next_is_octal {
            return Err(format!("\\{first}: there are no back references"));
        }
        let mut code = first.to_digit(8).unwrap_or(0);
        for _ in 0..2 {
            let Some(digit) = self.rest.chars().next().and_then(|c| c.to_digit(8)) else { break };
            code = code * 8 + digit;
            self.take();
        }
        char::from_u32(code).ok_or_else(|| "an octal escape that is no character".to_owned())
    }

    fn hexadecimal(&mut self) -> Result<char, String> {
        let wrong = || "\\x needs two hexadecimal digits, or some in braces".to_owned();
        let digits = if self.take_if("{") {
            let (digits, after) = self.rest.split_once('}').ok_or_else(wrong)?;
            self.rest = after;
            digits
        } else {
            let digits = self.rest.get(..2).ok_or_else(wrong)?;
            self.rest = &self.rest[2..];
            digits
        };
        let valid = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_hexdigit());
        let code = valid.then(|| u32::from_str_radix(digits, 16).ok()).flatten();
        code.and_then(char::from_u32).ok_or_else(wrong)
    }

    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.take_if("^") {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let Some(c) = self.take() else { return Err("missing closing ]".to_owned()) };
            if c == ']' && !first {
                break;
            }
            first = false;
            if c == '[' && self.posix()? {
                continue;
            }
            if c == '\\' && self.class_escape()? {
                continue;
            }
            let low = if c == '\\' { self.class_character()? } else { c };
            literal(low, &mut self.out);
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") && self.rest.len() > 1 {
                self.take();
                let high = match self.take() {
                    Some('\\') => self.class_character()?,
                    Some(c) => c,
                    None => return Err("missing closing ]".to_owned()),
                };
                if high < low {
                    return Err(format!("invalid character class range {low}-{high}"));
                }
                self.out.push('-');
                literal(high, &mut self.out);
            }
        }
        self.out.push(']');
        Ok(())
    }

    fn class_character(&mut self) -> Result<char, String> {
        let c = self.take().ok_or("missing closing ]")?;
        self.character(c)
    }

    /// `[:name:]` after its first bracket; `false` where it is none.
    fn posix(&mut self) -> Result<bool, String> {
        let Some((name, after)) = self.rest.strip_prefix(':').and_then(|rest| rest.split_once(":]")) else {
            return Ok(false);
        };
        if !POSIX.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(format!("invalid character class range [:{name}:]"));
        }
        let _ = write!(self.out, "[:{name}:]");
        self.rest = after;
        Ok(true)
    }

    /// A class within brackets; `false` where the escape is a character.
    fn class_escape(&mut self) -> Result<bool, String> {
        let Some(c) = self.rest.chars().next() else { return Ok(false) };
        match c {
            'd' | 's' | 'w' => self.out.push_str(perl(c)),
            'D' | 'S' | 'W' => {
                let _ = write!(self.out, "[^{}]", perl(c.to_ascii_lowercase()));
            }
            'p' | 'P' => {
                self.take();
                self.property(c)?;
                return Ok(true);
            }
            _ => return Ok(false),
        }
        self.take();
        Ok(true)
    }
}

fn perl(class: char) -> &'static str {
    match class {
        'd' => DIGIT,
        's' => SPACE,
        _ => WORD,
    }
}
