//! Which positions of a text page belong to one metric: so that a `_created` line is known to date its samples, and
//! the parts of a classic histogram can be made one.

use std::ops::Range;

use hashbrown::HashMap;

use super::aside::{Aside, Noted};
use super::context::{Context, hear_all};
use super::layout::{Gives, Slot};
use super::line::Scanner;
use super::number::parse_float;
use crate::model::{Batch, Kind, Of};
use crate::relabel::Labels;

/// Where a value stands when the page was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Value(u32),
    Noted(u32),
}

impl From {
    pub(super) fn value(self, batch: &Batch, aside: &Aside) -> Noted {
        match self {
            From::Noted(at) => aside.noted[at as usize],
            From::Value(at) => {
                let time = batch.times.get(at as usize).copied().filter(|&time| time != batch.time_ms);
                Noted { value: batch.values[at as usize], time }
            }
        }
    }
}

/// A `_created` line, and the series that it dates.
#[derive(Clone, Debug)]
pub(super) struct Created {
    pub from: From,
    /// In [`Metrics::of`].
    pub of: Range<u32>,
}

/// A classic histogram that becomes a native one.
#[derive(Clone, Debug, Default)]
pub(super) struct Classic {
    /// Sorted by bound, each bound once.
    pub buckets: Box<[(f64, From)]>,
    pub sum: Option<From>,
    pub count: Option<From>,
}

/// What was found out of a page's metrics; nothing for most pages.
#[derive(Default)]
pub(super) struct Metrics {
    pub created: Box<[Created]>,
    pub of: Box<[Of]>,
    /// Each gives one of the last histograms of the list.
    pub classic: Box<[Classic]>,
    /// Positions that are parts of those, and no samples of their own.
    pub swallowed: usize,
    /// Histograms that those make, the dropped ones too.
    pub converted: usize,
}

impl Metrics {
    /// Sets the number of the histogram that a `_created` line dates; `None` where there is none.
    pub(super) fn number_histogram(&mut self, created: usize, number: Option<u32>) {
        let of = &mut self.created[created].of;
        match number {
            Some(number) => self.of[of.end as usize - 1] = Of::Histogram(number),
            None => of.end -= 1,
        }
    }

    /// Which histogram takes in the value that was noted at this place.
    pub(super) fn taker(&self, noted: u32) -> Option<usize> {
        let takes = |classic: &Classic| classic.buckets.iter().any(|bucket| bucket.1 == From::Noted(noted));
        self.classic.iter().position(takes)
    }
}

/// One metric: what the lines with the same labels say.
#[derive(Default)]
struct Gathered {
    created: Option<From>,
    of: Vec<Of>,
    buckets: Vec<(f64, From)>,
    sum: Option<From>,
    count: Option<From>,
    /// Labels of the histogram to be, with its name.
    labels: Vec<(String, String)>,
    family: Option<Context>,
}

/// A classic histogram in the making, with the labels that its series is to have.
pub(super) struct Found {
    pub classic: Classic,
    pub labels: Vec<(String, String)>,
    pub family: Context,
    /// Where in `created` its own start stands.
    pub created: Option<usize>,
}

/// What a line is to its metric.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Role {
    Created,
    Bucket(f64),
    Sum,
    Count,
    /// A counter, or a quantile.
    Other,
}

/// What a line of that name is to the metric of its family, if the family counts.
pub(super) fn role(context: &Context, labels: &Labels<'_>) -> Option<Role> {
    let rest = labels.first()?.1.strip_prefix(context.name())?;
    let bound = || {
        let text = labels.iter().find(|label| label.0 == "le")?;
        parse_float(text.1.as_bytes()).filter(|bound| !bound.is_nan())
    };
    match (context.kind?, rest) {
        (Kind::Counter | Kind::Histogram | Kind::Summary, "_created") => Some(Role::Created),
        (Kind::Histogram, "_bucket") => bound().map(Role::Bucket),
        (Kind::Histogram | Kind::Summary, "_sum") => Some(Role::Sum),
        (Kind::Histogram | Kind::Summary, "_count") => Some(Role::Count),
        (Kind::Counter, "" | "_total") | (Kind::Summary, "") => Some(Role::Other),
        _ => None,
    }
}

impl Role {
    /// Whether it is a part of what becomes a native histogram.
    pub(super) fn is_part(self, context: &Context) -> bool {
        context.kind == Some(Kind::Histogram) && matches!(self, Role::Bucket(_) | Role::Sum | Role::Count)
    }
}

/// Goes through a page that was read and gathers what belongs together.
pub(super) fn gather(keys: &[u8], slots: &[Slot], open: bool, convert: bool) -> (Metrics, Vec<Found>) {
    let mut context = Context::default();
    let (mut values, mut noted, mut start) = (0u32, 0u32, 0);
    let mut metrics: Vec<Gathered> = Vec::new();
    let mut index: HashMap<Vec<(String, String)>, usize> = HashMap::new();
    let mut swallowed = 0;
    for slot in slots {
        let heard = hear_all(&keys[start..slot.line()], open, &mut context);
        if heard {
            index.clear();
        }
        start = slot.end as usize;
        let from = match slot.gives() {
            Gives::Float | Gives::Timed => From::Value(values),
            Gives::Noted => From::Noted(noted),
            _ => continue,
        };
        match from {
            From::Value(_) => values += 1,
            From::Noted(_) => noted += 1,
        }
        let counts = matches!(context.kind, Some(Kind::Counter | Kind::Histogram | Kind::Summary));
        let mut labels = Vec::new();
        let mut scanner = Scanner::new(&keys[..start], slot.line(), open);
        if !counts || scanner.series(&mut labels).is_err() {
            continue;
        }
        let Some(role) = role(&context, &labels) else { continue };
        let part = convert && role.is_part(&context);
        swallowed += usize::from(part && matches!(from, From::Noted(_)));
        if role == Role::Created && !open {
            continue;
        }
        labels.remove(0);
        labels.retain(|(name, value)| {
            let apart = match role {
                Role::Bucket(_) => name == "le",
                Role::Other => context.kind == Some(Kind::Summary) && name == "quantile",
                _ => false,
            };
            !apart && !value.is_empty()
        });
        labels.sort_unstable();
        let key: Vec<(String, String)> =
            labels.iter().map(|(n, v)| (n.clone().into_owned(), v.clone().into_owned())).collect();
        let at = *index.entry(key).or_insert_with_key(|key| {
            metrics.push(Gathered { labels: key.clone(), ..Gathered::default() });
            metrics.len() - 1
        });
        metrics[at].take(role, from, part.then_some(&context));
    }
    finish(metrics, swallowed)
}

impl Gathered {
    fn take(&mut self, role: Role, from: From, part_of: Option<&Context>) {
        if role == Role::Created {
            self.created = Some(from);
            return;
        }
        if let From::Value(at) = from {
            self.of.push(Of::Float(at));
        }
        let Some(context) = part_of else { return };
        match role {
            Role::Bucket(bound) => self.buckets.push((bound, from)),
            Role::Sum => self.sum = Some(from),
            Role::Count => self.count = Some(from),
            _ => return,
        }
        self.family.get_or_insert_with(|| context.clone());
    }
}

fn finish(metrics: Vec<Gathered>, swallowed: usize) -> (Metrics, Vec<Found>) {
    let (mut created, mut all, mut found) = (Vec::new(), Vec::new(), Vec::new());
    for mut metric in metrics {
        let first = all.len() as u32;
        let dated = metric.created.map(|from| {
            all.append(&mut metric.of);
            if metric.family.is_some() {
                // The histogram that it becomes takes this place when it has a number.
                all.push(Of::Histogram(u32::MAX));
            }
            created.push(Created { from, of: first..all.len() as u32 });
            created.len() - 1
        });
        if let Some(family) = metric.family {
            metric.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            metric.buckets.dedup_by(|later, first| later.0 == first.0);
            let classic = Classic { buckets: metric.buckets.into(), sum: metric.sum, count: metric.count };
            found.push(Found { classic, labels: metric.labels, family, created: dated });
        }
    }
    let metrics =
        Metrics { created: created.into(), of: all.into(), classic: Box::default(), swallowed, converted: 0 };
    (metrics, found)
}
