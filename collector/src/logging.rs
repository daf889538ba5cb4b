//! The log on standard error, as Go's `slog` writes it for node_exporter: logfmt or JSON, one line an event.

use std::fmt::Write as _;
use std::io::Write as _;

use log::kv::{Key, Value, VisitSource};
use log::{Level, LevelFilter, Metadata, Record};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Logfmt,
    Json,
}

/// Crates that say at info and debug level what only their authors want to know.
const QUIET: &[&str] = &["aya", "h2", "hyper", "mio", "rustls", "tokio", "want"];

struct Logger {
    format: LogFormat,
}

/// Sends what is logged from now on to standard error. Only the first call counts.
pub fn install(format: LogFormat, level: LevelFilter) {
    static LOGGER: std::sync::OnceLock<Logger> = std::sync::OnceLock::new();
    let logger = LOGGER.get_or_init(|| Logger { format });
    if log::set_logger(logger).is_ok() {
        log::set_max_level(level);
    }
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let quiet = || QUIET.iter().any(|name| metadata.target().starts_with(name));
        metadata.level() <= log::max_level() && (metadata.level() <= Level::Warn || !quiet())
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut line = Line { text: String::with_capacity(160), format: self.format };
        line.event(record);
        line.text.push('\n');
        // A log that can't be written has nowhere to complain.
        let _ = std::io::stderr().lock().write_all(line.text.as_bytes());
    }

    fn flush(&self) {}
}

struct Line {
    text: String,
    format: LogFormat,
}

impl Line {
    fn event(&mut self, record: &Record<'_>) {
        if self.format == LogFormat::Json {
            self.text.push('{');
        }
        self.pair("time", &timestamp(std::time::SystemTime::now()));
        self.pair("level", record.level().as_str());
        let file = record.file().and_then(|path| path.rsplit('/').next()).unwrap_or("unknown");
        self.pair("source", &format!("{file}:{}", record.line().unwrap_or(0)));
        self.pair("msg", &record.args().to_string());
        // Writing to a string can't fail.
        let _ = record.key_values().visit(self);
        if self.format == LogFormat::Json {
            self.text.push('}');
        }
    }

    fn pair(&mut self, key: &str, value: &str) {
        let first = self.text.is_empty() || self.text == "{";
        match self.format {
            LogFormat::Logfmt => {
                self.text.push_str(if first { "" } else { " " });
                self.text.push_str(key);
                self.text.push('=');
                if needs_quotes(value) {
                    push_quoted(value, &mut self.text);
                } else {
                    self.text.push_str(value);
                }
            }
            LogFormat::Json => {
                self.text.push_str(if first { "" } else { "," });
                push_quoted(key, &mut self.text);
                self.text.push(':');
                push_quoted(value, &mut self.text);
            }
        }
    }
}

impl<'kvs> VisitSource<'kvs> for Line {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        self.pair(key.as_str(), &value.to_string());
        Ok(())
    }
}

fn needs_quotes(value: &str) -> bool {
    value.is_empty() || value.chars().any(|c| c <= ' ' || c == '"' || c == '=' || c.is_control())
}

fn push_quoted(value: &str, out: &mut String) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The same of milliseconds since 1970.
pub fn timestamp_ms(time_ms: i64) -> String {
    let since = std::time::Duration::from_millis(u64::try_from(time_ms).unwrap_or(0));
    timestamp(std::time::UNIX_EPOCH + since)
}

/// `2026-01-02T03:04:05.678Z`.
fn timestamp(time: std::time::SystemTime) -> String {
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// The Gregorian date of a number of days since 1970-01-01, counted in eras of 400 years that begin in March.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: LogFormat, message: &str) -> String {
        let mut line = Line { text: String::new(), format };
        let kvs = [("err", "a \"b\"")];
        line.event(
            &Record::builder()
                .args(format_args!("{message}"))
                .level(Level::Error)
                .file(Some("collector/src/x.rs"))
                .line(Some(7))
                .key_values(&kvs)
                .build(),
        );
        line.text
    }

    #[test]
    fn both_formats_quote_what_must_be_quoted() {
        let text = line(LogFormat::Logfmt, "plain words");
        assert!(
            text.ends_with("level=ERROR source=x.rs:7 msg=\"plain words\" err=\"a \\\"b\\\"\""),
            "{text}"
        );
        let text = line(LogFormat::Json, "two\nlines");
        assert!(text.starts_with("{\"time\":\"2"), "{text}");
        assert!(text.ends_with("\"msg\":\"two\\nlines\",\"err\":\"a \\\"b\\\"\"}"), "{text}");
    }

    #[test]
    fn dates_are_right_at_the_edges() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (19_782, (2024, 2, 29)),
            (20_513, (2026, 3, 1)),
        ] {
            assert_eq!(civil_date(days), date);
        }
    }
}
