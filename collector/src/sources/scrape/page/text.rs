//! The text formats: 0.0.4 and OpenMetrics 1.0.
//!
//! Cost of a position that is known: one compare of its key and the reading of its value, 10 to 20 ns.

use super::PageReader;
use super::aside::Noted;
use super::context::{Context, context_before, hear_all};
use super::draft::{Draft, Found, Payload};
use super::error::{Flaw, PageError, Place};
use super::layout::{Gives, Layout};
use super::line::{RawExemplar, Remark, Scanner};
use super::number::parse_value;
use super::reading::{Reading, Step};
use super::times::Times;
use crate::model::{Batch, Of};

/// How far a layout was followed.
pub(super) struct Followed {
    pub slot: usize,
    pub at: usize,
    /// The page is at its end, and so is the layout.
    pub whole: bool,
}

/// Takes in the positions of `body` from `slot` on, as long as they are those of the layout.
pub(super) fn follow(
    layout: &Layout,
    body: &[u8],
    (mut slot, mut at): (usize, usize),
    (open, honor): (bool, bool),
    batch: &mut Batch,
    times: &mut Times,
) -> Followed {
    let mut key_at = layout.key_start(slot);
    let mut rest = &body[at..];
    while let Some(entry) = layout.slots.get(slot) {
        let end = entry.end as usize;
        let Some(behind) = rest.strip_prefix(&layout.keys[key_at..end]) else { break };
        let Some((value, length)) = parse_value(behind) else { break };
        let gives = entry.gives();
        if behind.get(length) == Some(&b'\n') {
            match gives {
                Gives::Float => batch.values.push(value),
                Gives::Dropped | Gives::Duplicate | Gives::Limited => {}
                Gives::Noted => times.aside.noted.push(Noted { value, time: None }),
                _ => break,
            }
            rest = &behind[length..];
        } else {
            let mut scanner = Scanner::new(behind, length, open);
            let Ok(time) = scanner.suffix() else { break };
            match (gives, time.filter(|_| honor)) {
                (Gives::Float, None) => batch.values.push(value),
                (Gives::Timed, Some(time)) => {
                    let id = layout.list.floats()[batch.values.len()].0;
                    batch.push_timed(value, times.stamp(id, time));
                }
                (Gives::Noted, time) => times.aside.noted.push(Noted { value, time }),
                (Gives::Dropped | Gives::Limited, _) | (Gives::Duplicate, None) => {}
                _ => break,
            }
            if let Some(exemplar) = scanner.exemplar.take() {
                take_exemplar(&exemplar, given(gives, batch, times), batch, times);
            }
            rest = &behind[scanner.at..];
        }
        key_at = end;
        slot += 1;
    }
    at = body.len() - rest.len();
    let whole = slot == layout.slots.len() && layout.keys[key_at..] == *rest;
    Followed { slot, at, whole }
}

impl PageReader {
    /// Reads what no layout knows, from position `equal` of the old one on.
    pub(super) fn draft_text(
        &mut self,
        body: &[u8],
        open: bool,
        reading: &mut Reading,
    ) -> Result<Step, PageError> {
        let old = reading.layout.clone();
        let class = self.class.clone();
        let mut draft = Draft::new(old.as_deref(), reading.slot, &class, &self.rules, &self.labeler);
        if let Some(old) = &old {
            context_before(old, reading.slot, open, &mut draft.context);
        }
        let mut at = reading.at;
        let honor = self.rules.honor_timestamps;
        let result = loop {
            match draft_position(&mut draft, body, &mut at, (open, honor), reading, &mut self.times) {
                Ok(Position::Sample) => {}
                Ok(Position::Bare) => return Ok(Step::Bare),
                Ok(Position::End) => break Ok(()),
                Err((flaw, place)) => break Err(flaw.in_text(body, place)),
            }
        };
        (reading.scraped, reading.kept) = draft.counts();
        result?;
        match draft.gather(open) {
            Ok(true) => Ok(Step::Layout(draft.finish())),
            Ok(false) => Ok(Step::Bare),
            Err(flaw) => Err(flaw.at(Place::Page)),
        }
    }
}

enum Position {
    Sample,
    Bare,
    End,
}

/// One position: comments, a series, its value. A flaw comes with its place.
fn draft_position(
    draft: &mut Draft<'_>,
    body: &[u8],
    at: &mut usize,
    (open, honor): (bool, bool),
    reading: &mut Reading,
    times: &mut Times,
) -> Result<Position, (Flaw, usize)> {
    let start = *at;
    let expected = draft.expected(&body[start..]);
    let mut scanner = Scanner::new(body, start, open);
    let (line, behind) =
        if let Some((key, line)) = expected.filter(|(key, _)| starts_value(body, start + key.len())) {
            hear_all(&key[..line], open, &mut draft.context);
            (start + line, start + key.len())
        } else {
            match pass_comments(&mut scanner, &mut draft.context, start == 0)? {
                Some(line) => (line, line),
                None => {
                    draft.keys.extend_from_slice(&body[start..]);
                    *at = body.len();
                    return Ok(Position::End);
                }
            }
        };
    let mut labels = Vec::new();
    if behind == line {
        scanner.at = line;
        scanner.series(&mut labels).map_err(|flaw| (flaw, scanner.at))?;
    } else {
        scanner.at = behind;
    }
    let text = &body[line..scanner.at];
    let known = if behind > line { draft.take_expected() } else { draft.find(text) };
    let found = match known.filter(|&found| found != Found::Noted && !draft.may_convert()) {
        Some(found) => found,
        None => {
            if labels.is_empty() {
                let mut again = Scanner::new(body, line, open);
                again.series(&mut labels).map_err(|flaw| (flaw, again.at))?;
            }
            draft.decide(&labels, known, open).map_err(|flaw| (flaw, line))?
        }
    };
    if found == Found::Bare {
        return Ok(Position::Bare);
    }
    let value_at = scanner.at;
    draft.keys.extend_from_slice(&body[start..value_at]);
    let (value, length) = parse_value(&body[value_at..]).ok_or_else(|| {
        let token = body[value_at..].split(|byte| matches!(byte, b' ' | b'\t' | b'\n')).next();
        let token = super::error::excerpt(token.unwrap_or_default());
        (Flaw::syntax(format!("{token} is no number")), value_at)
    })?;
    scanner.at += length;
    let time = scanner.suffix().map_err(|flaw| (flaw, value_at))?.filter(|_| honor);
    let key_line = draft.keys.len() - (value_at - line);
    let payload = Payload::Float { value, time };
    let given =
        draft.put(key_line, found, payload, &mut reading.batch, times).map_err(|flaw| (flaw, line))?;
    if let Some(exemplar) = scanner.exemplar.take() {
        let given = given.or_else(|| (found == Found::Noted).then(|| noted(times)));
        take_exemplar(&exemplar, given, &mut reading.batch, times);
    }
    *at = scanner.at;
    Ok(Position::Sample)
}

/// What the position gave that was read last.
fn given(gives: Gives, batch: &Batch, times: &Times) -> Option<Of> {
    match gives {
        Gives::Float | Gives::Timed => Some(Of::Float(batch.values.len() as u32 - 1)),
        Gives::Noted => Some(noted(times)),
        _ => None,
    }
}

/// Stands for the value that was noted last, until it is known which histogram that is a part of.
fn noted(times: &Times) -> Of {
    Of::Histogram(u32::MAX - times.aside.noted.len() as u32 + 1)
}

fn take_exemplar(exemplar: &RawExemplar<'_>, of: Option<Of>, batch: &mut Batch, times: &mut Times) {
    let Some(of) = of else { return };
    let sample_ms = match of {
        Of::Float(at) => batch.time(at as usize),
        Of::Histogram(_) => batch.time_ms,
    };
    times.aside.exemplar(of, exemplar, sample_ms, batch);
}

/// Whether a value may begin here: else what was taken for a key is only the start of one.
fn starts_value(body: &[u8], at: usize) -> bool {
    body.get(at).is_some_and(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'{'))
}

/// Passes over what is no sample; where the next one begins, or `None` at the end of the page.
fn pass_comments(
    scanner: &mut Scanner<'_>,
    context: &mut Context,
    first: bool,
) -> Result<Option<usize>, (Flaw, usize)> {
    let end = scanner.bytes.len();
    if !first {
        // What is left of the line of the value before.
        scanner.blanks();
        scanner.at += usize::from(scanner.at < end);
    }
    loop {
        let line = scanner.at;
        if line >= end {
            let ended = !scanner.open;
            return if ended {
                Ok(None)
            } else {
                Err((Flaw::syntax("the page does not end with # EOF"), end))
            };
        }
        scanner.blanks();
        match scanner.bytes.get(scanner.at) {
            None => {}
            Some(b'\n') if !scanner.open => scanner.at += 1,
            Some(b'#') => match scanner.remark().map_err(|flaw| (flaw, line))? {
                Remark::Metadata(name, said) => context.hear(&name, &said, scanner.open),
                Remark::End if scanner.at < end => {
                    return Err((Flaw::syntax("something follows # EOF"), scanner.at));
                }
                Remark::End => return Ok(None),
                Remark::Nothing => {}
            },
            Some(_) => return Ok(Some(scanner.at)),
        }
    }
}
