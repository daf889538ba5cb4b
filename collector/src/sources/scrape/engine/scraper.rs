//! The life of one target: wait, fetch, read, say how it went; until it is told otherwise.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::fault::Fault;
use super::fetch::{Fetched, Fetcher};
use super::schedule::Schedule;
use super::state::{Entry, Health};
use crate::model::SeriesTable;
use crate::ring;
use crate::self_metrics::{Counters, ScrapeStats};
use crate::sources::scrape::page::{self, Outcome, PageError, PageReader};
use crate::sys::clock;

/// What the scrapers of a thread share.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub ring: ring::Sender,
    pub table: Arc<SeriesTable>,
    pub counters: Arc<Counters>,
}

/// What a scraper is told.
pub(super) enum Order {
    /// Go on as this target, whose labels are the same: nothing ends.
    Become(Arc<Entry>),
    /// The target is gone: its series end.
    End,
}

/// The way to a scraper.
#[derive(Default)]
pub(super) struct Mailbox {
    order: Mutex<Option<Order>>,
    came: Notify,
}

impl Mailbox {
    /// A newer order takes the place of one that was not seen yet.
    pub(super) fn put(&self, order: Order) {
        *self.order.lock().unwrap_or_else(PoisonError::into_inner) = Some(order);
        self.came.notify_one();
    }

    fn take(&self) -> Option<Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

pub(super) struct Scraper {
    entry: Arc<Entry>,
    around: Surroundings,
    fetcher: Result<Fetcher, String>,
    reader: PageReader,
    schedule: Schedule,
}

impl Scraper {
    pub(super) fn new(entry: Arc<Entry>, around: Surroundings) -> Self {
        let target = &entry.target;
        let reader = new_reader(&entry, &around);
        let schedule = Schedule::new(target.interval, target.hash, clock::now_ms());
        Scraper { fetcher: Fetcher::new(&entry), reader, schedule, entry, around }
    }

    /// Scrapes until it is told to end.
    pub(super) async fn run(mut self, mailbox: Arc<Mailbox>) {
        loop {
            let wait = self.schedule.wait(clock::now_ms());
            tokio::select! {
                biased;
                () = mailbox.came.notified() => {}
                () = async {
                    tokio::time::sleep(wait).await;
                    self.scrape().await;
                } => continue,
            }
            match mailbox.take() {
                Some(Order::End) => return self.end(),
                Some(Order::Become(entry)) => self.become_other(entry),
                None => {}
            }
        }
    }

    fn become_other(&mut self, entry: Arc<Entry>) {
        let (old, new) = (&self.entry, &entry);
        if !Arc::ptr_eq(&old.job.layouts, &new.job.layouts) {
            self.reader = new_reader(&entry, &self.around);
        }
        if old.target.interval != new.target.interval || old.target.hash != new.target.hash {
            self.schedule = Schedule::new(new.target.interval, new.target.hash, clock::now_ms());
        }
        self.reader.set_timeout(new.target.timeout);
        *new.lock() = old.status();
        self.fetcher = Fetcher::new(&entry);
        self.entry = entry;
    }

    async fn scrape(&mut self) {
        let (time_ms, missed) = self.schedule.begin(clock::now_ms());
        let stats = &self.around.counters.scrape;
        stats.skipped.add(missed);
        let started = Instant::now();
        let fetched = match &mut self.fetcher {
            Ok(fetcher) => {
                let limit = self.entry.target.timeout;
                let timed = tokio::time::timeout(limit, fetcher.fetch()).await;
                timed.unwrap_or_else(|_| Err(Fault::other(format!("no whole answer within {limit:?}"))))
            }
            Err(error) => Err(Fault::Other(error.clone())),
        };
        let result = self.read(fetched, started, time_ms);
        self.around.ring.wake();
        self.tell(result, time_ms, started.elapsed());
    }

    /// From the page to the ring. What went wrong is in the result, and the target's own series say it too.
    fn read(
        &mut self,
        fetched: Result<Fetched, Fault>,
        started: Instant,
        time_ms: i64,
    ) -> Result<(Outcome, usize), String> {
        let Scraper { reader, around, .. } = self;
        let (ring, stats) = (&around.ring, &around.counters.scrape);
        let mut slab = || ring.slab();
        let mut out = |batch| ring.send(batch);
        let result = match fetched {
            Ok(fetched) => {
                let page = fetched.page();
                let read = reader.read(page, fetched.format, started, time_ms, &mut slab, &mut out);
                read.map(|outcome| (outcome, page.len())).map_err(|error| {
                    count(stats, &error);
                    error.to_string()
                })
            }
            Err(fault) => {
                if let Fault::BodyTooLong(_) = fault {
                    stats.body_size_limit.add(1);
                    reader.body_too_long();
                }
                Err(fault.to_string())
            }
        };
        if result.is_err() {
            reader.fail(started, time_ms, &mut slab, &mut out);
        }
        result
    }

    fn tell(&self, result: Result<(Outcome, usize), String>, time_ms: i64, duration: Duration) {
        let stats = &self.around.counters.scrape;
        stats.scrapes.add(1);
        let mut status = self.entry.lock();
        (status.last_scrape_ms, status.duration) = (time_ms, duration);
        match result {
            Ok((outcome, body_size)) => {
                status.health = Health::Up;
                status.last_error.clear();
                (status.samples, status.body_size) = (outcome.scraped, body_size);
            }
            Err(error) => {
                stats.failed.add(1);
                if status.health != Health::Down || status.last_error != error {
                    let (job, url) =
                        (self.entry.job.config.job_name.as_str(), self.entry.target.url.as_str());
                    log::debug!(scrape_pool = job, target = url, err = error.as_str(); "Scrape failed");
                }
                status.health = Health::Down;
                status.last_error = error;
                (status.samples, status.body_size) = (0, 0);
            }
        }
    }

    fn end(mut self) {
        let ring = &self.around.ring;
        self.reader.end(clock::now_ms(), &mut || ring.slab(), &mut |batch| ring.send(batch));
        ring.wake();
    }
}

fn count(stats: &ScrapeStats, error: &PageError) {
    if error.fault == page::Fault::SampleLimit {
        stats.sample_limit.add(1);
    }
}

fn new_reader(entry: &Entry, around: &Surroundings) -> PageReader {
    let (job, labels) = (&entry.job, &entry.target.labels);
    let instance = labels.iter().find(|(name, _)| name == "instance").map_or("", |(_, value)| value.as_str());
    let name = format!("scrape/{}/{instance}", job.config.job_name);
    let mut reader = PageReader::new(job.config.page.clone(), labels, &name, &job.layouts, &around.table);
    reader.set_timeout(entry.target.timeout);
    reader
}
