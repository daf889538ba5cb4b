//! What an endpoint has shown that it takes, less than what the configuration asks for: remote write 1.0 instead of
//! 2.0, classic histograms instead of native ones. It is asked again later, in ever longer intervals.
//!
//! It outlives a reload, and a restart in a file beside the endpoint's places: six numbers and a checksum, 52 bytes. One
//! that is absent, damaged, of another form or of another URL says nothing: then the endpoint is asked for all.

use std::time::{Duration, Instant};

use crate::encode::Protocol;
use crate::sys::clock;

/// How long after a fallback the endpoint is first asked again for what it did not take.
pub(super) const PROBE_FIRST: Duration = Duration::from_secs(30);
/// The wait doubles up to this.
const PROBE_MOST: Duration = Duration::from_secs(6 * 3600);

/// The form of the file.
const FORM: u64 = 1;
const NUMBERS: usize = 6;
const KEPT: usize = NUMBERS * 8 + 4;

/// This moment by both clocks: that of waits, and the one that goes on over a restart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    at: Instant,
    unix_ms: u64,
}

impl Now {
    pub(super) fn read() -> Self {
        Now { at: Instant::now(), unix_ms: u64::try_from(clock::now_ms()).unwrap_or(0) }
    }
}

/// In which form a request is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Dialect {
    pub protocol: Protocol,
    /// Whether histograms go in their native form.
    pub native: bool,
}

/// What a request asks of the endpoint that others were refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Probe {
    pub protocol: bool,
    pub native: bool,
}

impl Probe {
    pub(super) fn is_one(self) -> bool {
        self.protocol || self.native
    }
}

/// One thing that the endpoint did not take.
#[derive(Clone, Copy, Debug)]
struct Fallen {
    probe_at: Instant,
    wait: Duration,
    probing: bool,
}

impl Fallen {
    /// When it is asked for again and how long was waited for that, in milliseconds; nothing where it has not fallen.
    fn numbers(fallen: Option<Self>, now: Now) -> [u64; 2] {
        fallen.map_or([0; 2], |fallen| {
            let left = fallen.probe_at.saturating_duration_since(now.at);
            let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            [now.unix_ms.saturating_add(ms(left)), ms(fallen.wait)]
        })
    }

    /// The same again. A clock that was set back does not make the wait longer than it was.
    fn of_numbers([at_ms, wait_ms]: [u64; 2], now: Now) -> Option<Self> {
        let wait = Duration::from_millis(wait_ms).clamp(PROBE_FIRST, PROBE_MOST);
        let left = Duration::from_millis(at_ms.saturating_sub(now.unix_ms)).min(wait);
        (wait_ms > 0).then(|| Fallen { probe_at: now.at + left, wait, probing: false })
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let due = !self.probing && now >= self.probe_at;
        self.probing |= due;
        due
    }
}

/// Falls back, or waits longer. `false` where that is known already.
fn fall(slot: &mut Option<Fallen>, was_probe: bool, now: Instant) -> bool {
    let wait = match slot {
        None => PROBE_FIRST,
        Some(fallen) if was_probe => (fallen.wait * 2).min(PROBE_MOST),
        // A request that was under way when another one fell back.
        Some(_) => return false,
    };
    *slot = Some(Fallen { probe_at: now + wait, wait, probing: false });
    true
}

/// What tells URLs apart.
fn number_of(url: &str) -> u64 {
    crc32fast::hash(url.as_bytes()).into()
}

fn parse_numbers(bytes: &[u8]) -> Option<[u64; NUMBERS]> {
    let (numbers, checksum) = bytes.split_at_checked(NUMBERS * 8)?;
    let number = |at: usize| u64::from_le_bytes(numbers[at * 8..at * 8 + 8].try_into().expect("eight bytes"));
    (crc32fast::hash(numbers).to_le_bytes() == checksum).then(|| std::array::from_fn(number))
}

/// What is known of one endpoint. It outlives a reload and a restart.
#[derive(Debug)]
pub struct Accord {
    wanted: Protocol,
    /// What the configuration says of native histograms; if nothing, they go where 2.0 is spoken.
    wanted_native: Option<bool>,
    protocol: Option<Fallen>,
    native: Option<Fallen>,
    /// It has said what it wrote of a request in 2.0.
    proven: bool,
    /// Something was learnt in this life, or recalled.
    is_known: bool,
    /// What is on the disk is no longer so.
    has_news: bool,
}

impl Accord {
    pub(super) fn new(protocol: Protocol, native: Option<bool>) -> Self {
        Accord {
            wanted: protocol,
            wanted_native: native,
            protocol: None,
            native: None,
            proven: false,
            is_known: false,
            has_news: false,
        }
    }

    /// The same knowledge for an endpoint of which something else is wanted now.
    pub(super) fn want(&mut self, protocol: Protocol, native: Option<bool>) {
        (self.wanted, self.wanted_native) = (protocol, native);
        self.unused(Probe { protocol: true, native: true });
    }

    /// Goes on with what a life before has left on the disk for the endpoint of that URL, unless this one knows better.
    pub(super) fn recall(&mut self, kept: Option<&[u8]>, url: &str, now: Now) {
        if self.is_known {
            self.has_news = kept.is_some() || self.protocol.is_some() || self.native.is_some();
            return;
        }
        self.is_known = true;
        if let Some([FORM, of, rest @ ..]) = kept.and_then(parse_numbers)
            && of == number_of(url)
        {
            self.protocol = Fallen::of_numbers([rest[0], rest[1]], now);
            self.native = Fallen::of_numbers([rest[2], rest[3]], now);
        }
    }

    /// What is to be left on the disk, where that is news.
    pub(super) fn news(&mut self, url: &str, now: Now) -> Option<[u8; KEPT]> {
        if !std::mem::take(&mut self.has_news) {
            return None;
        }
        let [protocol, native] = [self.protocol, self.native].map(|fallen| Fallen::numbers(fallen, now));
        let numbers = [FORM, number_of(url), protocol[0], protocol[1], native[0], native[1]];
        let mut bytes = [0; KEPT];
        let (places, checksum) = bytes.split_at_mut(NUMBERS * 8);
        for (place, number) in places.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        checksum.copy_from_slice(&crc32fast::hash(places).to_le_bytes());
        Some(bytes)
    }

    /// How the next request is written, and whether it asks for what was refused before.
    pub(super) fn next(&mut self, now: Instant) -> (Dialect, Probe) {
        let mut probe = Probe::default();
        if self.wanted == Protocol::V2 {
            probe.protocol = self.protocol.as_mut().is_some_and(|fallen| fallen.is_due(now));
        }
        let protocol = if probe.protocol { Protocol::V2 } else { self.current().protocol };
        let wants_native = self.wants_native(protocol);
        if wants_native && !probe.protocol {
            probe.native = self.native.as_mut().is_some_and(|fallen| fallen.is_due(now));
        }
        let native = wants_native && (self.native.is_none() || probe.native);
        (Dialect { protocol, native }, probe)
    }

    /// How requests are written that ask for nothing new.
    pub(super) fn current(&self) -> Dialect {
        let protocol = if self.protocol.is_some() { Protocol::V1 } else { self.wanted };
        Dialect { protocol, native: self.wants_native(protocol) && self.native.is_none() }
    }

    fn wants_native(&self, protocol: Protocol) -> bool {
        self.wanted_native.unwrap_or(protocol == Protocol::V2)
    }

    /// A request was taken. `wrote` says that the answer told what was written, `histograms` that it held native ones.
    pub(super) fn accepted(&mut self, dialect: Dialect, probe: Probe, wrote: bool, histograms: bool) {
        self.is_known = true;
        if dialect.protocol == Protocol::V2 {
            self.has_news |= self.protocol.take().is_some();
            self.proven |= wrote;
        }
        if dialect.native && histograms {
            self.has_news |= self.native.take().is_some();
        }
        // One that held none showed nothing: the next one asks.
        self.unused(probe);
    }

    /// What was to be a probe was not sent, or showed nothing.
    pub(super) fn unused(&mut self, probe: Probe) {
        for (asked, fallen) in [(probe.protocol, &mut self.protocol), (probe.native, &mut self.native)] {
            fallen.iter_mut().for_each(|fallen| fallen.probing &= !asked);
        }
    }

    /// Whether it is known to speak 2.0.
    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    /// A request in 2.0 was not understood.
    pub(super) fn wrong_protocol(&mut self, probe: Probe, now: Instant) {
        self.has_news |= fall(&mut self.protocol, probe.protocol, now);
        self.proven = false;
    }

    /// Native histograms were refused as such.
    pub(super) fn native_refused(&mut self, probe: Probe, now: Instant) {
        self.has_news |= fall(&mut self.native, probe.native, now);
    }

    /// A request that asked for more was not settled by it, for whatever reason: it goes on without.
    pub(super) fn probe_failed(&mut self, probe: Probe, now: Instant) {
        if probe.protocol {
            self.wrong_protocol(probe, now);
        }
        if probe.native {
            self.native_refused(probe, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: Dialect = Dialect { protocol: Protocol::V2, native: true };
    const V1: Dialect = Dialect { protocol: Protocol::V1, native: false };

    #[test]
    fn what_does_not_know_2_0_gets_1_0_and_is_asked_again_in_longer_and_longer_intervals() {
        let mut now = Instant::now();
        let mut accord = Accord::new(Protocol::V2, None);
        assert_eq!(accord.next(now), (V2, Probe::default()));
        accord.wrong_protocol(Probe::default(), now);
        accord.wrong_protocol(Probe::default(), now);
        let mut wait = PROBE_FIRST;
        for _ in 0..12 {
            assert_eq!(accord.next(now + wait - Duration::from_millis(1)), (V1, Probe::default()));
            now += wait;
            let (dialect, probe) = accord.next(now);
            assert_eq!((dialect, probe), (V2, Probe { protocol: true, native: false }));
            assert_eq!(accord.next(now), (V1, Probe::default()), "one probe at a time");
            accord.probe_failed(probe, now);
            wait = (wait * 2).min(PROBE_MOST);
        }
        assert_eq!(wait, PROBE_MOST);
        let (_, probe) = accord.next(now + wait);
        accord.unused(probe);
        let (dialect, probe) = accord.next(now + wait);
        assert!(probe.protocol, "the one before was not sent");
        accord.accepted(dialect, probe, true, false);
        assert!(accord.is_proven());
        assert_eq!(accord.next(now + wait), (V2, Probe::default()));
    }

    #[test]
    fn native_histograms_are_asked_for_again_by_a_request_that_holds_some() {
        let now = Instant::now();
        let mut accord = Accord::new(Protocol::V2, None);
        accord.native_refused(Probe::default(), now);
        let classic = Dialect { native: false, ..V2 };
        assert_eq!(accord.next(now), (classic, Probe::default()));
        let later = now + PROBE_FIRST;
        let (dialect, probe) = accord.next(later);
        assert_eq!((dialect, probe.native), (V2, true));
        accord.accepted(dialect, probe, true, false);
        let (dialect, probe) = accord.next(later);
        assert_eq!((dialect, probe.native), (V2, true), "the first held none");
        accord.accepted(dialect, probe, true, true);
        assert_eq!(accord.next(later), (V2, Probe::default()));
    }

    #[test]
    fn what_is_wanted_otherwise_is_not_probed_for() {
        let now = Instant::now();
        let mut accord = Accord::new(Protocol::V2, None);
        accord.wrong_protocol(Probe::default(), now);
        accord.want(Protocol::V1, None);
        assert_eq!(accord.next(now + PROBE_MOST), (V1, Probe::default()));
        accord.want(Protocol::V2, Some(false));
        let probe = Probe { protocol: true, native: false };
        assert_eq!(accord.next(now + PROBE_MOST), (Dialect { native: false, ..V2 }, probe));
    }

    #[test]
    fn a_restart_goes_on_with_what_was_known_and_asks_again_when_it_would_have() {
        let start = Now::read();
        let later = |ms: u64| Now { at: start.at + Duration::from_millis(ms), unix_ms: start.unix_ms + ms };
        let mut accord = Accord::new(Protocol::V2, None);
        accord.recall(None, "u", start);
        assert_eq!(accord.news("u", start), None);
        accord.wrong_protocol(Probe::default(), start.at);
        let (_, probe) = accord.next(start.at + PROBE_FIRST);
        accord.probe_failed(probe, later(30_000).at);
        let kept = accord.news("u", later(40_000)).unwrap();
        assert_eq!(accord.news("u", later(40_000)), None, "it is no news any more");

        let recalled = |bytes: &[u8], url: &str, now: Now| {
            let mut accord = Accord::new(Protocol::V2, None);
            accord.recall(Some(bytes), url, now);
            accord
        };
        let mut again = recalled(&kept, "u", later(50_000));
        assert_eq!(again.next(later(89_000).at), (V1, Probe::default()));
        let (dialect, probe) = again.next(later(90_000).at);
        assert_eq!((dialect, probe.protocol), (V2, true), "a minute after the probe that failed");
        again.probe_failed(probe, later(90_000).at);
        assert_eq!(again.next(later(209_000).at).0, V1, "the wait has doubled over the restart");
        let back = Now { at: start.at, unix_ms: start.unix_ms / 2 };
        assert!(recalled(&kept, "u", back).next(later(60_000).at).1.protocol, "of a clock that was set back");
        for at in 0..KEPT {
            let mut damaged = kept;
            damaged[at] ^= 4;
            assert_eq!(recalled(&damaged, "u", start).current(), V2, "byte {at}");
            assert_eq!(recalled(&kept[..at], "u", start).current(), V2, "{at} bytes");
        }
        assert_eq!(recalled(&kept, "another", start).current(), V2);
        let mut knows = Accord::new(Protocol::V2, None);
        knows.accepted(V2, Probe::default(), true, true);
        knows.recall(Some(&kept), "u", start);
        assert_eq!(knows.current(), V2, "this life knows better");
        let kept = knows.news("u", start).expect("and says so");
        assert_eq!(recalled(&kept, "u", start).current(), V2);
    }

    #[test]
    fn what_is_known_of_native_histograms_outlives_a_restart() {
        let now = Now::read();
        let mut accord = Accord::new(Protocol::V2, None);
        accord.native_refused(Probe::default(), now.at);
        let kept = accord.news("u", now).unwrap();
        let mut again = Accord::new(Protocol::V2, None);
        again.recall(Some(&kept), "u", now);
        assert_eq!(again.current(), Dialect { native: false, ..V2 });
        assert_eq!(again.next(now.at + PROBE_FIRST).0, V2);
        again.accepted(V2, Probe { protocol: false, native: true }, true, true);
        let kept = again.news("u", now).unwrap();
        let mut last = Accord::new(Protocol::V2, None);
        last.recall(Some(&kept), "u", now);
        assert_eq!(last.current(), V2);
    }
}
