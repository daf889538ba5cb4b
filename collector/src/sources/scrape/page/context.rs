//! The family that lines of metadata speak of, and what belongs to it.

use super::layout::Layout;
use super::line::{Remark, Said, Scanner, unescape};
use crate::model::Kind;

/// The family that the lines of metadata speak of.
#[derive(Clone, Default)]
pub(super) struct Context {
    name: String,
    pub kind: Option<Kind>,
    pub help: String,
    pub unit: String,
}

impl Context {
    pub(super) fn hear(&mut self, name: &str, said: &Said<'_>, open: bool) {
        if self.name != name {
            *self = Context { name: name.to_owned(), ..Context::default() };
        }
        match said {
            Said::Type(kind) => self.kind = Some(*kind),
            Said::Help(text) => self.help = unescape(text, open).into_owned(),
            Said::Unit(unit) => (*unit).clone_into(&mut self.unit),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn set(&mut self, name: &str, kind: Kind, help: &str, unit: &str) {
        *self = Context { name: name.into(), kind: Some(kind), help: help.into(), unit: unit.into() };
    }

    /// Whether a sample of that name belongs to the family.
    pub(super) fn has(&self, sample: &str) -> bool {
        let suffixes: &[&str] = match self.kind.unwrap_or(Kind::Untyped) {
            Kind::Counter => &["", "_total", "_created"],
            Kind::Histogram => &["", "_bucket", "_sum", "_count", "_created"],
            Kind::GaugeHistogram => &["", "_bucket", "_gsum", "_gcount"],
            Kind::Summary => &["", "_sum", "_count", "_created"],
            Kind::Info => &["", "_info"],
            Kind::Gauge | Kind::Untyped | Kind::StateSet => &[""],
        };
        !self.name.is_empty() && sample.strip_prefix(&*self.name).is_some_and(|rest| suffixes.contains(&rest))
    }
}

/// Recovers what the metadata said last before position `slot` of a layout of text.
pub(super) fn context_before(layout: &Layout, slot: usize, open: bool, context: &mut Context) {
    for at in (0..slot).rev() {
        let start = layout.key_start(at);
        let line = layout.slots[at].line();
        if line - start <= 1 {
            continue;
        }
        if hear_all(&layout.keys[start..line], open, context) {
            return;
        }
    }
}

/// Hears every line of metadata in `comments`; whether there was one.
pub(super) fn hear_all(comments: &[u8], open: bool, context: &mut Context) -> bool {
    let mut scanner = Scanner::new(comments, 0, open);
    let mut heard = false;
    while let Some(found) = memchr::memchr(b'#', &comments[scanner.at..]) {
        scanner.at += found;
        match scanner.remark() {
            Ok(Remark::Metadata(name, said)) => {
                context.hear(&name, &said, open);
                heard = true;
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    heard
}
