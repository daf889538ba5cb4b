//! Where one endpoint stands in the order of all samples, and where its next batches come from: from memory
//! while it keeps up, from the batch log when it lags.

use std::sync::Arc;

use tokio::sync::watch;

use crate::aggregate::{Fetched, Tail};
use crate::batch_log::Backlog;
use crate::model::Numbered;
use crate::self_metrics::{DropReason, EndpointStats};

/// The place of one endpoint.
pub struct Feed {
    tail: Arc<Tail>,
    newest: watch::Receiver<u64>,
    backlog: Option<Backlog>,
    /// Everything before it is settled.
    position: u64,
    /// The end of what was fetched last.
    fetched: u64,
}

impl Feed {
    /// A feed that begins at `position`. `backlog` is absent where nothing is stored.
    pub fn new(tail: Arc<Tail>, backlog: Option<Backlog>, position: u64) -> Self {
        let mut newest = tail.subscribe();
        newest.mark_changed();
        Feed { tail, newest, backlog, position, fetched: position }
    }

    /// Appends the next batches to `out`: within `max_samples`, but at least one if there is any. What can be
    /// found nowhere any more is counted as dropped.
    pub fn fetch(&mut self, max_samples: usize, out: &mut Vec<Numbered>, stats: &EndpointStats) {
        self.newest.borrow_and_update();
        self.fetched = self.position;
        while let Fetched::BeginsAt(begins_at) = self.tail.fetch(self.fetched, max_samples, out) {
            let from = self.fetched;
            let found = self.backlog.as_mut().map(|log| log.fetch(from, begins_at, max_samples, out));
            let reason = match found {
                Some(true) => break,
                Some(false) => DropReason::LogFull,
                None => DropReason::MemoryFull,
            };
            stats.dropped(reason).add(begins_at - self.fetched);
            self.fetched = begins_at;
        }
        for numbered in out.iter() {
            // A gap within what the log gave is what it had lost.
            stats.dropped(DropReason::LogFull).add(numbered.sequence.saturating_sub(self.fetched));
            self.fetched = numbered.end();
        }
    }

    /// Waits until there may be something new.
    pub async fn wait(&mut self) {
        // The tail lives as long as this feed.
        let _ = self.newest.changed().await;
    }

    /// What was fetched last is settled: it will not be asked for again, also not after a restart.
    pub fn acknowledge(&mut self, stats: &EndpointStats) {
        self.position = self.fetched;
        if let Some(backlog) = &mut self.backlog {
            backlog.acknowledge(self.position);
        }
        stats.acknowledged.set(self.position);
    }
}
