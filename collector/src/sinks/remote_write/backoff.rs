//! How long to wait before a request is sent again.

use std::time::{Duration, SystemTime};

/// A far side that asks for more patience than this is asked again after it.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// The waits of one request: they double from `min` to `max`, with a tenth of jitter, so that many senders do not knock together.
#[derive(Debug)]
pub(super) struct Backoff {
    max: Duration,
    next: Duration,
    random: u64,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        let nanos =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
        Backoff { max, next: min, random: u64::from(nanos) | 1 }
    }

    /// The wait before the next try.
    pub(super) fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (self.next * 2).min(self.max);
        // xorshift64: quality does not matter, being different does.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let jitter = wait / 10 * u32::try_from(self.random % 100).expect("below 100") / 100;
        wait + jitter
    }
}

/// The value of `Retry-After`: seconds, or an HTTP date (RFC 9110, section 10.2.3).
pub(super) fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(30), ms(5000));
        let mut expected = 30;
        for _ in 0..12 {
            let wait = backoff.wait();
            assert!(wait >= ms(expected) && wait <= ms(expected + expected / 10), "{wait:?} for {expected}");
            expected = (expected * 2).min(5000);
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let parse = |value| parse_retry_after(value, now);
        assert_eq!(parse("120"), Some(Duration::from_secs(120)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:39 GMT"), Some(Duration::from_secs(2)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:30 GMT"), Some(Duration::ZERO));
        assert_eq!(parse("soon"), None);
    }
}
