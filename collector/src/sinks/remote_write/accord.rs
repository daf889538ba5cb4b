//! What an endpoint has shown that it takes, less than what the configuration asks for: remote write 1.0 instead of
//! 2.0, classic histograms instead of native ones. It is asked again later, in ever longer intervals.

use std::time::{Duration, Instant};

use crate::encode::Protocol;

/// How long after a fallback the endpoint is first asked again for what it did not take.
pub(super) const PROBE_FIRST: Duration = Duration::from_secs(30);
/// The wait doubles up to this.
const PROBE_MOST: Duration = Duration::from_secs(6 * 3600);

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
    fn is_due(&mut self, now: Instant) -> bool {
        let due = !self.probing && now >= self.probe_at;
        self.probing |= due;
        due
    }
}

fn fall(slot: &mut Option<Fallen>, was_probe: bool, now: Instant) {
    let wait = match slot {
        None => PROBE_FIRST,
        Some(fallen) if was_probe => (fallen.wait * 2).min(PROBE_MOST),
        // A request that was under way when another one fell back.
        Some(_) => return,
    };
    *slot = Some(Fallen { probe_at: now + wait, wait, probing: false });
}

/// What is known of one endpoint. It outlives a reload.
#[derive(Debug)]
pub struct Accord {
    wanted: Protocol,
    /// What the configuration says of native histograms; if nothing, they go where 2.0 is spoken.
    wanted_native: Option<bool>,
    protocol: Option<Fallen>,
    native: Option<Fallen>,
    /// It has said what it wrote of a request in 2.0.
    proven: bool,
}

impl Accord {
    pub(super) fn new(protocol: Protocol, native: Option<bool>) -> Self {
        Accord { wanted: protocol, wanted_native: native, protocol: None, native: None, proven: false }
    }

    /// The same knowledge for an endpoint of which something else is wanted now.
    pub(super) fn want(&mut self, protocol: Protocol, native: Option<bool>) {
        (self.wanted, self.wanted_native) = (protocol, native);
        self.unused(Probe { protocol: true, native: true });
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
        if dialect.protocol == Protocol::V2 {
            self.protocol = None;
            self.proven |= wrote;
        }
        if dialect.native && histograms {
            self.native = None;
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
        fall(&mut self.protocol, probe.protocol, now);
        self.proven = false;
    }

    /// Native histograms were refused as such.
    pub(super) fn native_refused(&mut self, probe: Probe, now: Instant) {
        fall(&mut self.native, probe.native, now);
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
}
