//! Metrics that other programs leave in files `*.prom`, in the text format 0.0.4.
//! Cost a tick: one `stat` for each folder and file; what was not changed is not read again.
//!
//! A file that is not as it should be, or that has time stamps, loses itself and nothing else.

mod glob;
mod parse;
mod shelf;

use shelf::{Entry, Shelf};

use super::{CollectError, Collector, Flag, FlagDefault, Registration, Tick};
use crate::model::{Dynamic, Family, Kind, Recorder};

const DIRECTORY_FLAG: &str = "collector.textfile.directory";
/// Labels of one sample; a file with more is refused.
const MAX_LABELS: usize = 64;

static ERROR: Family = Family::gauge(
    "node_textfile_scrape_error",
    "Whether some folder or file could not be read: 1 if so, 0 if not.",
    &[],
);
static MODIFIED: Family = Family::gauge(
    "node_textfile_mtime_seconds",
    "When a file that could be read was changed last, in seconds since 1970.",
    &["file"],
);
static ANY: Family = Family::untyped("*", "What the files hold.", &[]);

pub(super) static COLLECTOR: Registration = Registration {
    name: "textfile",
    default_enabled: true,
    flags: &[Flag::new(
        DIRECTORY_FLAG,
        FlagDefault::List(&[]),
        "Folder to read *.prom files from, or a pattern of folders. May be given more than once.",
    )],
    families: &[&ERROR, &MODIFIED, &ANY],
    new: |setup| {
        let patterns = setup.flags.list(DIRECTORY_FLAG).into_iter().filter(|pattern| !pattern.is_empty());
        Ok(Box::new(Textfile { shelf: Shelf::new(patterns.map(str::to_owned).collect()) }))
    },
};

struct Textfile {
    shelf: Shelf,
}

impl Collector for Textfile {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        self.shelf.refresh(&mut tick.buffer);
        for family in self.shelf.families() {
            for sample in &family.samples {
                let mut labels = [("", ""); MAX_LABELS];
                for (slot, (name, value)) in labels.iter_mut().zip(&sample.labels) {
                    *slot = (name.as_str(), value.as_str());
                }
                let sample_of_family = Dynamic {
                    name: &[&family.name],
                    suffix: sample.suffix,
                    help: &[&family.help],
                    kind: family.kind,
                    labels: &labels[..sample.labels.len()],
                };
                out.put_dynamic(&sample_of_family, sample.value);
            }
        }
        for Entry { label, stamp, .. } in self.shelf.good_files() {
            out.put(&MODIFIED, &[label], stamp.modified_seconds() as f64);
        }
        out.put(&ERROR, &[], f64::from(u8::from(self.shelf.has_trouble())));
        Ok(())
    }
}

/// A family as it is given, whole: every sample has every label of the family.
#[derive(Clone, Debug, PartialEq)]
struct Given {
    name: String,
    help: String,
    kind: Kind,
    samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    /// `_bucket`, `_sum` or `_count` in histograms and summaries.
    suffix: &'static str,
    labels: Vec<(String, String)>,
    value: f64,
}
