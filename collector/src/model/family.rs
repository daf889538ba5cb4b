//! Metric families: the rows of the collectors' tables, from which the reference of metrics is generated.

/// The type of a metric family. The numbers are those of `Metadata.MetricType` in remote write 2.0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    Untyped = 0,
    Counter = 1,
    Gauge = 2,
    Histogram = 3,
    GaugeHistogram = 4,
    Summary = 5,
    Info = 6,
    StateSet = 7,
}

impl Kind {
    /// The word after the name in a `# TYPE` line of the text format 0.0.4.
    pub const fn text(self) -> &'static str {
        match self {
            Kind::Untyped | Kind::StateSet => "untyped",
            Kind::Counter => "counter",
            Kind::Gauge | Kind::Info => "gauge",
            Kind::Histogram | Kind::GaugeHistogram => "histogram",
            Kind::Summary => "summary",
        }
    }

    /// The kind of that number, [`Kind::Untyped`] for one that is not known.
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Kind::Counter,
            2 => Kind::Gauge,
            3 => Kind::Histogram,
            4 => Kind::GaugeHistogram,
            5 => Kind::Summary,
            6 => Kind::Info,
            7 => Kind::StateSet,
            _ => Kind::Untyped,
        }
    }
}

/// One metric family whose name is known when the collector is compiled.
///
/// `labels` are the label names, in the order in which the collector gives their values.
#[derive(Debug)]
pub struct Family {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
}

impl Family {
    pub const fn new(
        kind: Kind,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Self {
        Family { name, help, kind, labels }
    }

    pub const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self::new(Kind::Counter, name, help, labels)
    }

    pub const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self::new(Kind::Gauge, name, help, labels)
    }

    pub const fn untyped(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self::new(Kind::Untyped, name, help, labels)
    }

    pub const fn summary(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self::new(Kind::Summary, name, help, labels)
    }

    pub const fn histogram(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self::new(Kind::Histogram, name, help, labels)
    }
}
