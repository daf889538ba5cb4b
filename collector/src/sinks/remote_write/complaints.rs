//! Trouble of an endpoint, in the log now and then.

use std::time::{Duration, Instant};

use crate::config::Endpoint;

/// Between two lines in the log about the same kind of trouble of an endpoint.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// When something was complained about last.
#[derive(Default)]
pub(super) struct Complaints {
    last: Option<Instant>,
    left_out: u64,
}

impl Complaints {
    /// Says it in the log, unless it was said lately.
    pub(super) fn say(&mut self, endpoint: &Endpoint, what: &str, why: &str) {
        let now = Instant::now();
        if self.last.is_some_and(|last| now - last < LOG_EVERY) {
            self.left_out += 1;
            return;
        }
        let left_out = std::mem::take(&mut self.left_out);
        self.last = Some(now);
        let (name, url) = (endpoint.name.as_str(), endpoint.url.as_str());
        log::warn!(remote_name = name, url = url, left_out = left_out, err = why; "{what}");
    }
}
