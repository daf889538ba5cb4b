//! Pages: from the bytes that a target sent to batches.
//!
//! A page repeats itself: the reader keeps what stood at each position ([`layout`]), and a sample that comes again
//! costs one compare and the reading of its value. Where the page differs, the layouts of other targets of the job
//! are asked first, then the old one is mended ([`draft`]). Nothing is allocated while a page stays as it was, and
//! nothing in here panics on any bytes.

mod aside;
mod classic;
mod context;
mod draft;
mod error;
mod families;
mod labels;
mod layout;
mod line;
mod messages;
mod metric;
mod native;
mod number;
mod proto;
mod reading;
mod report;
mod text;
mod times;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use error::{Fault, PageError, Place};
pub use layout::Layouts;

use self::aside::{Seen, Starts};
use self::labels::Labeler;
use self::layout::{Class, Layout};
use self::reading::{Reading, Step};
use self::report::Report;
use self::times::Times;
use crate::config::PageRules;
use crate::model::{Batch, Of, SeriesList, SeriesTable, Shape, Source};

/// Layouts that are tried one after the other at one position, before a new one is made.
const MAX_TRIES: usize = 8;

/// Equal pages after which the layout before them is let go.
const STEADY: u32 = 16;

/// What a page was written in, by its `Content-Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `text/plain`, version 0.0.4 or 1.0.0.
    Text,
    OpenMetrics,
    Protobuf,
}

/// What a scrape comes to, besides its batches.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Samples on the page.
    pub scraped: usize,
    /// Samples that metric relabelling left.
    pub kept: usize,
    /// Series that the last scrape lacked.
    pub added: usize,
    /// Samples that repeat a series of the same page; the first of each was taken.
    pub duplicates: usize,
    /// Samples that were left out because the target has as many series as it may.
    pub limited: usize,
    /// Samples whose own time is not newer than that of the last sample of their series.
    pub out_of_order: usize,
    /// Samples whose own time lies far ahead.
    pub out_of_bounds: usize,
    /// Exemplars that are older than the last one of their series.
    pub exemplars_out_of_order: usize,
    /// Exemplars that are longer than OpenMetrics allows, or too many.
    pub exemplars_left_out: usize,
    pub duration: Duration,
}

/// Reads the pages of one target.
pub struct PageReader {
    rules: Arc<PageRules>,
    labeler: Labeler,
    class: Arc<Class>,
    source: Arc<Source>,
    layout: Option<Arc<Layout>>,
    /// The shape of the last page that was taken, and the one before it: a page may go to and fro.
    shape: Option<Arc<Shape>>,
    before: Option<(Arc<Layout>, Arc<Shape>)>,
    /// Pages since the last change, up to [`STEADY`].
    steady: u32,
    failed: Option<Arc<Shape>>,
    times: Times,
    exemplars: Seen,
    starts: Starts,
    timeout: Duration,
    /// What the page said that was refused, until it is reported.
    refused: Report,
    /// The slab of that page.
    spare: Option<Batch>,
    scratch: families::Scratch,
}

impl PageReader {
    /// A reader for a target. All that share `layouts` must have the same rules.
    pub fn new(
        rules: Arc<PageRules>,
        target_labels: &[(String, String)],
        name: &str,
        layouts: &Arc<Layouts>,
        table: &Arc<SeriesTable>,
    ) -> Self {
        let labeler = Labeler::new(rules.clone(), target_labels);
        let class = if labeler.is_bare() {
            Class::new(table, labeler.target(), rules.extra_metrics)
        } else {
            layouts.class(table, labeler.target(), rules.extra_metrics)
        };
        let source = Arc::new(Source { name: name.to_owned(), labels: labeler.source_labels() });
        PageReader {
            rules,
            labeler,
            class,
            source,
            layout: None,
            shape: None,
            before: None,
            steady: 0,
            failed: None,
            times: Times::default(),
            exemplars: Seen::default(),
            starts: Starts::default(),
            timeout: Duration::ZERO,
            refused: Report::default(),
            spare: None,
            scratch: families::Scratch::default(),
        }
    }

    /// What `scrape_timeout_seconds` says.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// The next failure is that of an answer beyond `body_size_limit`.
    pub fn body_too_long(&mut self) {
        self.refused = Report { body_bytes: -1, ..Report::default() };
    }

    /// Reads a page and hands out its batch, the report at its end.
    ///
    /// # Errors
    /// Where and why the page was refused; nothing of it is handed out, and [`PageReader::fail`] is due.
    pub fn read(
        &mut self,
        body: &[u8],
        format: Format,
        started: Instant,
        time_ms: i64,
        slab: &mut dyn FnMut() -> Batch,
        out: &mut dyn FnMut(Batch),
    ) -> Result<Outcome, PageError> {
        let batch = self.spare.take().unwrap_or_else(&mut *slab);
        let mut reading = Reading { layout: None, slot: 0, at: 0, batch, scraped: 0, kept: 0 };
        let result = loop {
            reading.batch.clear();
            reading.batch.time_ms = time_ms;
            (reading.slot, reading.at) = (0, 0);
            self.times.begin(time_ms);
            match self.read_page(body, format, &mut reading) {
                Ok(Step::Layout(layout)) => break self.check(layout),
                Ok(Step::Bare) => self.go_bare(),
                Err(error) => break Err(error),
            }
        };
        match result {
            Ok(layout) => Ok(self.deliver(&layout, body.len(), started, reading.batch, out)),
            Err(error) => {
                self.times.roll_back();
                self.refused = Report {
                    scraped: reading.scraped,
                    kept: reading.kept,
                    body_bytes: i64::try_from(body.len()).unwrap_or(i64::MAX),
                    ..Report::default()
                };
                reading.batch.clear();
                self.spare = Some(reading.batch);
                Err(error)
            }
        }
    }

    /// Follows what is known as far as it goes, and drafts the rest.
    fn read_page(&mut self, body: &[u8], format: Format, reading: &mut Reading) -> Result<Step, PageError> {
        let open = match format {
            Format::Text => false,
            Format::OpenMetrics => true,
            Format::Protobuf => return self.read_messages(body, reading),
        };
        let modes = (open, self.rules.honor_timestamps);
        reading.layout = self.layout.clone().or_else(|| self.class.first(body));
        let (mut tries, mut missed) = (0, None);
        while let Some(layout) = reading.layout.clone() {
            let from = (reading.slot, reading.at);
            let followed = text::follow(&layout, body, from, modes, &mut reading.batch, &mut self.times);
            if followed.whole && self.has_room(&layout) {
                self.start_over(reading);
                break;
            }
            if followed.whole {
                (reading.scraped, reading.kept) = (layout.scraped(), layout.kept);
                return Ok(Step::Layout(layout));
            }
            tries = if missed == Some(followed.slot) { tries + 1 } else { 0 };
            missed = Some(followed.slot);
            (reading.slot, reading.at) = (followed.slot, followed.at);
            let next = layout.successor(followed.slot, &body[followed.at..], tries);
            match next.filter(|_| tries < MAX_TRIES) {
                Some(next) => reading.layout = Some(next),
                None => break,
            }
        }
        let from = reading.slot;
        let step = self.draft_text(body, open, reading)?;
        if let Step::Layout(layout) = &step {
            self.enter(reading.layout.as_ref(), from, layout);
        }
        Ok(step)
    }

    /// Shows a new layout to the targets that come from the same one.
    fn enter(&self, old: Option<&Arc<Layout>>, from: usize, layout: &Arc<Layout>) {
        if let Some(old) = old {
            old.add_successor(from, layout);
            layout.add_successor(from, old);
        }
        self.class.remember(layout);
    }

    /// Forgets what was read of a page, but not its layout.
    fn start_over(&mut self, reading: &mut Reading) {
        let time_ms = reading.batch.time_ms;
        reading.batch.clear();
        reading.batch.time_ms = time_ms;
        self.times.roll_back();
        (reading.slot, reading.at) = (0, 0);
    }

    /// Whether series were left out for which there is room now.
    fn has_room(&self, layout: &Layout) -> bool {
        layout.limited > 0 && layout.floats + layout.list.histograms().len() < self.rules.series_limit
    }

    /// Holds a page that was read against the limit of samples.
    fn check(&mut self, layout: Arc<Layout>) -> Result<Arc<Layout>, PageError> {
        let (samples, limit) = (layout.floats + layout.list.histograms().len(), self.rules.sample_limit);
        if limit > 0 && samples > limit {
            self.layout = Some(layout);
            let reason = format!("{samples} samples after metric relabelling, sample_limit is {limit}");
            return Err(PageError { fault: Fault::SampleLimit, place: Place::Page, reason });
        }
        Ok(layout)
    }

    fn go_bare(&mut self) {
        self.labeler.go_bare();
        self.class = Class::new(&self.class.table, self.labeler.target(), self.rules.extra_metrics);
        self.source = Arc::new(Source { name: self.source.name.clone(), labels: Vec::new() });
        (self.layout, self.shape, self.before, self.failed) = (None, None, None, None);
        self.times = Times::default();
        (self.exemplars, self.starts) = (Seen::default(), Starts::default());
    }

    fn deliver(
        &mut self,
        layout: &Arc<Layout>,
        bytes: usize,
        started: Instant,
        mut batch: Batch,
        out: &mut dyn FnMut(Batch),
    ) -> Outcome {
        let added = match &self.shape {
            Some(last) => self.class.added(last.list(), &layout.list),
            None => layout.floats + layout.list.histograms().len(),
        };
        self.add_converted(layout, &mut batch);
        if !batch.exemplars.is_empty() {
            self.exemplars.settle(layout, &mut batch.exemplars);
        }
        let shape = self.adopt(layout, &batch);
        let outcome = Outcome {
            scraped: layout.scraped(),
            kept: layout.kept,
            added,
            duplicates: layout.duplicates,
            limited: layout.limited,
            out_of_order: self.times.refused,
            out_of_bounds: self.times.ahead,
            exemplars_out_of_order: std::mem::take(&mut self.exemplars.out_of_order),
            exemplars_left_out: self.times.aside.left_out,
            duration: started.elapsed(),
        };
        let report = Report {
            up: true,
            scraped: outcome.scraped,
            kept: outcome.kept,
            added,
            body_bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
            ..Report::default()
        };
        self.refused = Report::default();
        batch.shape = Some(shape);
        self.report(report, layout.own_report, outcome.duration, &mut batch);
        out(batch);
        outcome
    }

    /// Adds the native histograms that the page's classic ones become.
    fn add_converted(&mut self, layout: &Layout, batch: &mut Batch) {
        let metrics = &layout.metrics;
        if metrics.classic.is_empty() {
            return;
        }
        let histograms = layout.list.histograms();
        let first = histograms.len() - metrics.classic.len();
        for (classic, &id) in metrics.classic.iter().zip(&histograms[first..]) {
            classic::push(classic, id, batch, &mut self.times);
        }
        batch.exemplars.rename(|of| match of {
            Of::Histogram(at) if at as usize >= histograms.len() => {
                metrics.taker(u32::MAX - at).map(|taker| Of::Histogram((first + taker) as u32))
            }
            known => Some(known),
        });
    }

    /// The shape of a layout, which is from now on the one to be expected.
    fn adopt(&mut self, layout: &Arc<Layout>, batch: &Batch) -> Arc<Shape> {
        let same = self.shape.as_ref().is_some_and(|shape| Arc::ptr_eq(shape.list(), &layout.list));
        let starts = self.starts.settle(layout, batch, &self.times.aside, same);
        let fits = |shape: &Shape| Arc::ptr_eq(shape.list(), &layout.list) && *shape.starts() == *starts;
        let known = self.shape.as_ref().filter(|shape| fits(shape));
        if let Some(shape) = known {
            let shape = shape.clone();
            self.layout = Some(layout.clone());
            self.steady += 1;
            if self.steady == STEADY {
                self.before = None;
            }
            return shape;
        }
        self.steady = 0;
        self.times.keep(&layout.list);
        self.exemplars.keep(layout);
        let back = self.before.take_if(|(_, shape)| fits(shape));
        let shape = match back {
            Some((_, shape)) => shape,
            None => Shape::started(self.source.clone(), layout.list.clone(), starts.into()),
        };
        self.before = self.layout.replace(layout.clone()).zip(self.shape.replace(shape.clone()));
        shape
    }

    fn report(&self, mut report: Report, own: u8, duration: Duration, batch: &mut Batch) {
        report.duration = duration.as_secs_f64();
        report.timeout = self.timeout.as_secs_f64();
        report.sample_limit = self.rules.sample_limit;
        report.write(self.rules.extra_metrics, own, &mut batch.values);
        batch.fill_times();
    }

    /// The scrape failed: `up` is 0, and what the last page had ends.
    pub fn fail(
        &mut self,
        started: Instant,
        time_ms: i64,
        slab: &mut dyn FnMut() -> Batch,
        out: &mut dyn FnMut(Batch),
    ) {
        let mut batch = self.spare.take().unwrap_or_else(&mut *slab);
        batch.clear();
        batch.time_ms = time_ms;
        let (source, list) = (&self.source, &self.class.report);
        let shape = self.failed.get_or_insert_with(|| Shape::of_list(source.clone(), list.clone()));
        batch.shape = Some(shape.clone());
        let report = std::mem::take(&mut self.refused);
        self.report(report, 0, started.elapsed(), &mut batch);
        out(batch);
    }

    /// The target is gone: everything of it ends, the report too.
    pub fn end(&mut self, time_ms: i64, slab: &mut dyn FnMut() -> Batch, out: &mut dyn FnMut(Batch)) {
        let mut batch = self.spare.take().unwrap_or_else(&mut *slab);
        batch.clear();
        batch.time_ms = time_ms;
        let list = SeriesList::new(self.class.table.clone(), Vec::new(), Vec::new());
        batch.shape = Some(Shape::of_list(self.source.clone(), list));
        out(batch);
        (self.layout, self.shape, self.before, self.failed) = (None, None, None, None);
        self.times = Times::default();
        (self.exemplars, self.starts) = (Seen::default(), Starts::default());
    }
}

#[cfg(test)]
mod tests;
