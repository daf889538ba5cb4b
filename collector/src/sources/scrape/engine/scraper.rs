//! The life of one target: wait, fetch, read, say how it went; until it is told otherwise.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};

use super::fault::Fault;
use super::fetch::{Fetched, Fetcher};
use super::schedule::Schedule;
use super::state::{Entry, Health};
use crate::config::PROM_SCRAPER_JOB;
use crate::model::SeriesTable;
use crate::ring;
use crate::self_metrics::{Counters, Room, ScrapeStats, Window};
use crate::sources::scrape::page::{self, Outcome, PageError, PageReader};
use crate::sys::clock;

/// What the scrapers of a thread share.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub ring: ring::Sender,
    pub table: Arc<SeriesTable>,
    pub counters: Arc<Counters>,
    /// Has a permit for each scrape that may be under way.
    pub under_way: Arc<Semaphore>,
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
    /// When the last scrape began, and where the time since then is observed.
    last: Option<Instant>,
    interval: Option<Arc<Window>>,
}

impl Scraper {
    pub(super) fn new(entry: Arc<Entry>, around: Surroundings) -> Self {
        let target = &entry.target;
        let reader = new_reader(&entry, &around);
        let schedule = Schedule::new(target.interval, target.hash, clock::now_ms());
        let interval = around.counters.scrape.interval(target.interval);
        Scraper { fetcher: Fetcher::new(&entry), reader, schedule, last: None, interval, entry, around }
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
            self.interval = self.around.counters.scrape.interval(new.target.interval);
            self.last = None;
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
        if let (Some(last), Some(window)) = (self.last.replace(started), &self.interval) {
            window.observe(started - last);
        }
        let fetched = match &mut self.fetcher {
            Ok(fetcher) => {
                let limit = self.entry.target.timeout;
                let under_way = &self.around.under_way;
                let fetch = async {
                    let permit = match under_way.try_acquire() {
                        Ok(permit) => Ok(permit),
                        Err(_) => {
                            stats.waited.add(1);
                            under_way.acquire().await
                        }
                    };
                    let fetched = fetcher.fetch().await;
                    drop(permit);
                    fetched
                };
                let timed = tokio::time::timeout(limit, fetch).await;
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
                if status.health == Health::Down {
                    self.say_recovered();
                }
                status.health = Health::Up;
                status.last_error.clear();
                (status.samples, status.body_size) = (outcome.scraped, body_size);
                for (cell, count) in [
                    (&stats.duplicates, outcome.duplicates),
                    (&stats.out_of_order, outcome.out_of_order),
                    (&stats.out_of_bounds, outcome.out_of_bounds),
                    (&stats.series_limited, outcome.limited),
                    (&stats.exemplars_out_of_order, outcome.exemplars_out_of_order),
                    (&stats.exemplars_left_out, outcome.exemplars_left_out),
                ] {
                    if count > 0 {
                        cell.add(count as u64);
                    }
                }
            }
            Err(error) => {
                stats.failed.add(1);
                if self.entry.job.config.job_name == PROM_SCRAPER_JOB {
                    let labels = &self.entry.target.labels;
                    let source = labels.iter().find(|(name, _)| name == "source_id");
                    stats.failed_source(source.map_or("", |(_, source)| source));
                }
                if status.health != Health::Down || status.last_error != error {
                    self.say_failed(status.health != Health::Down, &error);
                }
                status.health = Health::Down;
                status.last_error = error;
                (status.samples, status.body_size) = (0, 0);
            }
        }
    }

    /// Once for each target that goes down; another fault while it is down only where that is asked for.
    fn say_failed(&self, is_new: bool, error: &str) {
        let (job, url) = self.names();
        if is_new && self.may_say() {
            log::warn!(scrape_pool = job, target = url, err = error; "Scrape failed; the target is down");
        } else {
            log::debug!(scrape_pool = job, target = url, err = error; "Scrape failed");
        }
    }

    fn say_recovered(&self) {
        let (job, url) = self.names();
        if self.may_say() {
            log::info!(scrape_pool = job, target = url; "The target is up again");
        }
    }

    fn names(&self) -> (&str, &str) {
        (self.entry.job.config.job_name.as_str(), self.entry.target.url.as_str())
    }

    /// Whether there is room in the log: where thousands go down at once, one line says so.
    fn may_say(&self) -> bool {
        match self.around.counters.scrape.lines.take(clock::now_ms() / 60_000) {
            Room::Some => true,
            Room::Last => {
                log::warn!("more targets go down or come back; /targets and `up` tell which");
                false
            }
            Room::None => false,
        }
    }

    fn end(mut self) {
        let ring = &self.around.ring;
        self.reader.end(clock::now_ms(), &mut || ring.slab(), &mut |batch| ring.send(batch));
        ring.wake();
    }
}

fn count(stats: &ScrapeStats, error: &PageError) {
    match error.fault {
        page::Fault::SampleLimit => stats.sample_limit.add(1),
        page::Fault::LabelLimit => stats.label_limit.add(1),
        page::Fault::BucketLimit => stats.bucket_limit.add(1),
        page::Fault::Syntax | page::Fault::Size => {}
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
