//! Hosts that are scraped by a clock of their own: the same series at every tick, with values that move.

use std::sync::Arc;

use collector::model::{SeriesTable, Shape};
use collector::ring;
use collector_tests::made::{self, Series};

use super::fingerprint;
use crate::page::{self, Page, Part};

/// What has been made so far.
#[derive(Clone, Copy, Default, Debug)]
pub struct Made {
    pub samples: u64,
    /// The sum of their fingerprints.
    pub sum: u64,
}

/// How hosts are made.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub hosts: usize,
    /// Series of one.
    pub series: usize,
    /// Every value is another double at each tick.
    pub noise: bool,
    /// Each collector of a host is a source of its own, as on the host itself; else its page is one, as scraped.
    pub apart: bool,
}

/// Some hosts.
pub struct Hosts {
    hosts: Vec<(Vec<Arc<Shape>>, Page)>,
    pub made: Made,
}

impl Hosts {
    pub fn new(table: &Arc<SeriesTable>, kind: Kind) -> Self {
        let host = |number: usize| {
            let page = page::server().cut(kind.series, 0x2545_f491_4f6c_dd1d ^ number as u64);
            let page = if kind.noise { page.all_noise() } else { page };
            let page = if kind.apart { page } else { page.scraped() };
            let instance = format!("node{number:02}.example.com:9100");
            let labels = made::owned(&[("instance", &instance), ("job", "node")]);
            let shape = |part: &Part| {
                let floats: Vec<Series> = part.series.iter().map(|series| series.0.clone()).collect();
                made::shape(table, &format!("{instance}/{}", part.name), &labels, &floats, &[])
            };
            (page.parts.iter().map(shape).collect(), page)
        };
        Hosts { hosts: (0..kind.hosts).map(host).collect(), made: Made::default() }
    }

    /// Sends what all of them say next.
    pub fn scrape(&mut self, time_ms: i64, ring: &ring::Sender) {
        for (number, (shapes, page)) in self.hosts.iter_mut().enumerate() {
            let time_ms = time_ms + number as i64;
            for (part, shape) in shapes.iter().enumerate() {
                let mut batch = ring.slab();
                batch.shape = Some(shape.clone());
                batch.time_ms = time_ms;
                page.step_part(part, &mut batch.values);
                self.made.samples += batch.values.len() as u64;
                for value in &batch.values {
                    self.made.sum = self.made.sum.wrapping_add(fingerprint(value.to_bits(), time_ms as u64));
                }
                ring.send(batch);
            }
        }
        ring.wake();
    }
}
