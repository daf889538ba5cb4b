//! What every room knows: metric families, interned series, shapes and sample batches.
//!
//! A source sends the same series in the same order, tick after tick. That ordered list is its [`Shape`]; a
//! [`Batch`] is a shape, one time, and one value for each position. Nothing in here does I/O.

mod batch;
mod exemplar;
mod family;
mod histogram;
mod recorder;
mod series;
mod shape;
mod slabs;
mod symbols;

pub use batch::{Batch, NO_SAMPLE, Numbered};
pub use exemplar::{Exemplar, Exemplars, MAX_EXEMPLAR_CHARACTERS, MAX_EXEMPLARS, Of};
pub use family::{Family, Kind};
pub use histogram::{
    CUSTOM_BUCKETS, HistogramSnapshot, MAX_BUCKETS, NativeHistogram, ResetHint, Span, indexed,
};
pub use recorder::{Dynamic, Recorder};
pub use series::{SeriesId, SeriesSpec, SeriesTable, SeriesView, TableGuard};
pub use shape::{Form, SeriesList, Shape, Source};
pub use slabs::Slabs;
pub use symbols::{Symbol, Symbols};

/// The NaN by which Prometheus marks a series that has ended (remote write 1.0 specification, "Stale Markers").
pub const STALE_NAN: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// The NaN that stands for every NaN that a source says, so that none of them is taken for a stale marker.
pub const NORMAL_NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0001);
