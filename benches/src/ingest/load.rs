//! What is asked of a peer.

use std::time::Duration;

/// Targets, and how often they are scraped.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub name: &'static str,
    pub targets: usize,
    pub series: usize,
    pub interval: Duration,
    /// Whether 8 % of the series are replaced at every fourth scrape.
    pub churn: bool,
    /// More than a peer can be expected to carry: gaps are the rule, and what counts is how much comes through.
    pub overload: bool,
}

const fn load(name: &'static str, targets: usize, interval_ms: u64) -> Load {
    Load {
        name,
        targets,
        series: 1000,
        interval: Duration::from_millis(interval_ms),
        churn: false,
        overload: false,
    }
}

/// Those that a run without arguments takes come first.
pub const LOADS: &[Load] = &[
    load("40k", 200, 5000),
    load("300k", 300, 1000),
    Load { churn: true, ..load("40k-churn", 200, 5000) },
    Load { churn: true, ..load("300k-churn", 300, 1000) },
    Load { overload: true, ..load("1m", 1000, 1000) },
    Load { overload: true, ..load("2m", 2000, 1000) },
    load("small", 5, 5000),
    // How the cost grows, with targets and with series.
    load("t1", 1, 2000),
    load("t10", 10, 2000),
    load("t100", 100, 2000),
    load("t1000", 1000, 2000),
    Load { series: 100, ..load("s100", 10, 2000) },
    Load { series: 1000, ..load("s1k", 10, 2000) },
    Load { series: 10_000, ..load("s10k", 10, 2000) },
    Load { series: 100_000, ..load("s100k", 10, 2000) },
    // One that shares nothing with others.
    Load { series: 1000, ..load("lone1k", 1, 2000) },
    Load { series: 100_000, ..load("lone100k", 1, 2000) },
];

/// How many of [`LOADS`] a run without arguments takes.
pub const DEFAULT_LOADS: usize = 2;

impl Load {
    /// Samples a second that are there to be scraped.
    pub fn rate(&self) -> f64 {
        (self.targets * self.series) as f64 / self.interval.as_secs_f64()
    }

    /// Every target has an address of its own on loopback, and all of them one port.
    pub fn address(target: usize) -> std::net::Ipv4Addr {
        let (high, low) = (target / 250, target % 250);
        std::net::Ipv4Addr::new(127, 1, u8::try_from(high).expect("few targets"), low as u8 + 1)
    }

    /// The target behind an address.
    pub fn target(address: std::net::Ipv4Addr) -> usize {
        let [_, _, high, low] = address.octets();
        usize::from(high) * 250 + usize::from(low) - 1
    }
}
