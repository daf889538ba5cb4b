//! Pages of targets: made ones with realistic lines, and what a reader makes of any.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use collector::config::PageRules;
use collector::model::{Batch, NO_SAMPLE, SeriesTable, Shape};
use collector::sources::scrape::page::{Format, Layouts, Outcome, PageError, PageReader};

use crate::mutate::Random;

/// Rules as they are where nothing is said.
pub fn rules() -> PageRules {
    PageRules { honor_timestamps: true, native_histograms: true, ..PageRules::default() }
}

/// One sample: its labels with those of the target and its name, and what it says.
#[derive(Clone, PartialEq, Debug)]
pub struct Said {
    pub labels: Vec<(String, String)>,
    /// The bits of a float; a histogram in words.
    pub value: Result<u64, String>,
    /// `None` where it is the time of the scrape.
    pub time: Option<i64>,
}

/// A target whose pages are read.
pub struct Target {
    pub table: Arc<SeriesTable>,
    pub reader: PageReader,
    slab: Option<Batch>,
    pub shape: Option<Arc<Shape>>,
    time: i64,
    converts: bool,
    /// Series of the report at the end of the last batch: those that the page has itself are not among them.
    report: usize,
}

/// Series of the report.
const REPORT: usize = 5;

/// The time of the first scrape.
pub const START_MS: i64 = 1_790_000_000_000;

impl Target {
    /// A target alone.
    pub fn new(rules: PageRules) -> Self {
        Self::sharing(rules, "host-1:9100", &Layouts::new(), &Arc::default())
    }

    /// One of those that share layouts.
    pub fn sharing(
        rules: PageRules,
        instance: &str,
        layouts: &Arc<Layouts>,
        table: &Arc<SeriesTable>,
    ) -> Self {
        let labels = [("instance".to_owned(), instance.to_owned()), ("job".to_owned(), "node".to_owned())];
        let converts = rules.convert_classic_histograms;
        let reader = PageReader::new(Arc::new(rules), &labels, "scrape/node", layouts, table);
        let (table, slab) = (table.clone(), Some(Batch::default()));
        Target { table, reader, slab, shape: None, time: START_MS, converts, report: REPORT }
    }

    /// Reads a page into the slab of the one before.
    ///
    /// # Errors
    /// What the reader says.
    pub fn read(&mut self, page: &[u8], format: Format) -> Result<Outcome, PageError> {
        self.time += 1000;
        let (slab, mut given) = (&mut self.slab, None);
        let outcome = self.reader.read(
            page,
            format,
            Instant::now(),
            self.time,
            &mut || slab.take().unwrap_or_default(),
            &mut |batch| given = Some(batch),
        );
        if given.is_some() {
            self.slab = given;
        }
        // What is converted is not among the samples that were kept.
        if let Ok(outcome) = outcome.as_ref()
            && !self.converts
        {
            let batch = self.batch();
            let own = outcome.kept - outcome.duplicates - batch.histograms().len();
            self.report = batch.values.len() - own;
            assert!(self.report <= REPORT, "{} samples that are not on the page", self.report);
        }
        outcome
    }

    /// As when the batch was sent: the target keeps nothing of it.
    pub fn give_slab_back(&mut self) {
        self.slab = None;
    }

    /// The last batch that was given.
    ///
    /// # Panics
    /// Where there was none.
    pub fn batch(&self) -> &Batch {
        self.slab.as_ref().expect("a page was read")
    }

    /// What the last batch says, but for the report at its end and samples that are not to be sent.
    pub fn said(&self) -> Vec<Said> {
        let batch = self.batch();
        let shape = batch.shape();
        let table = shape.table().lock();
        let labels = |id| {
            let view = table.view(id);
            let mut labels = vec![("__name__".to_owned(), view.name().to_owned())];
            labels.extend(view.labels().map(|(n, v)| (n.to_owned(), v.to_owned())));
            labels.extend(shape.source.labels.iter().cloned());
            labels.sort();
            labels
        };
        let own = |time: i64| (time != batch.time_ms).then_some(time);
        let floats = shape.floats().iter().zip(&batch.values).enumerate();
        let report = batch.values.len() - self.report;
        let floats = floats.take(report).map(|(at, (&(id, _), value))| Said {
            labels: labels(id),
            value: Ok(value.to_bits()),
            time: own(batch.time(at)),
        });
        let histograms = shape.histograms().iter().zip(batch.histograms()).enumerate();
        let histograms = histograms.map(|(at, (&id, histogram))| Said {
            labels: labels(id),
            value: Err(format!("{histogram:?}")),
            time: own(batch.histogram_time(at)),
        });
        floats.chain(histograms).filter(|said| said.time != Some(NO_SAMPLE)).collect()
    }
}

/// A page whose values change at every scrape: about 104 bytes a sample with its metadata.
pub struct Made {
    lines: Vec<(String, String)>,
    random: Random,
    born: usize,
}

impl Made {
    pub fn new(series: usize) -> Self {
        let mut made = Made { lines: Vec::new(), random: Random::new(7), born: 0 };
        for _ in 0..series {
            let line = made.line();
            made.lines.push(line);
        }
        made
    }

    /// Comments and the series of a line that was not there before.
    fn line(&mut self) -> (String, String) {
        let n = self.born;
        self.born += 1;
        let family = n / 10;
        let comments = match n % 10 {
            0 => format!(
                "# HELP http_server_requests_{family}_total Requests that the server answered, by code.\n\
                 # TYPE http_server_requests_{family}_total counter\n"
            ),
            _ => String::new(),
        };
        let path = ["/api/v1/query", "/api/v1/write", "/health", "/static"][n % 4];
        let series = format!(
            "http_server_requests_{family}_total{{code=\"20{}\",handler=\"{path}\",method=\"GET\",pod=\"web-{n:05}\"}} ",
            n % 7
        );
        (comments, series)
    }

    /// Replaces that many series, spread over the page, by new ones.
    pub fn replace(&mut self, count: usize) {
        let step = self.lines.len() / count.max(1);
        for at in 0..count {
            let (_, series) = self.line();
            self.lines[at * step].1 = series;
        }
    }

    /// Puts one new series in the middle.
    pub fn insert(&mut self) {
        let (_, series) = self.line();
        let middle = self.lines.len() / 2;
        self.lines.insert(middle, (String::new(), series));
    }

    /// The page of the next scrape.
    pub fn write(&mut self, page: &mut String) {
        page.clear();
        for (comments, series) in &self.lines {
            page.push_str(comments);
            page.push_str(series);
            let value = self.random.number();
            // Counts, seconds with decimals, and doubles of full length.
            let written = match value % 4 {
                0 => write!(page, "{}", value >> 44),
                1 => write!(page, "{}", (value >> 34) as f64 / 1000.0),
                2 => write!(page, "{:e}", (value >> 40) as f64 * 1e3),
                _ => write!(page, "{}", (value >> 11) as f64 / 4503599627370496.0 * 1e6),
            };
            written.expect("a text grows");
            page.push('\n');
        }
    }
}
