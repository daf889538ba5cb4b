//! What an answer means: what was written, and what is to be done.

use std::time::Duration;

use super::accord::Dialect;
use crate::encode::Protocol;

/// What a Prometheus answers (with status 500, to every request that holds a native histogram) unless
/// its feature `native-histograms` is on.
const NATIVE_DISABLED: &str = "native histograms are disabled";

/// What is in a request, or what the receiver says it wrote of it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Written {
    pub samples: u64,
    pub histograms: u64,
    pub exemplars: u64,
}

impl Written {
    /// What is left of this without what `other` has.
    pub(super) fn without(self, other: Written) -> Written {
        Written {
            samples: self.samples.saturating_sub(other.samples),
            histograms: self.histograms.saturating_sub(other.histograms),
            exemplars: self.exemplars.saturating_sub(other.exemplars),
        }
    }

    pub(super) fn is_nothing(self) -> bool {
        self == Written::default()
    }
}

/// An answer, or why there is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    /// 0 where no answer came.
    pub status: u16,
    /// For the log, where it is no success.
    pub why: String,
    /// The wait that it asks for.
    pub after: Option<Duration>,
    /// What it says was written, if it says so.
    pub written: Option<Written>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is settled; so much of it is lost for good.
    Accepted { failed: Written },
    /// Never to be sent again as it is; so much of it was not taken.
    Refused { failed: Written },
    /// Worth sending again.
    Retry,
    /// The endpoint does not know this version of the protocol.
    WrongProtocol,
    /// The endpoint takes no native histograms.
    NativeRefused,
}

impl Answer {
    pub(super) fn none(why: String) -> Self {
        Answer { status: 0, why, after: None, written: None }
    }

    /// Remote write 2.0, "Retries & Backoff" and "Required Written Response Headers". What is neither a success nor
    /// the client's fault is no word of a receiver that knows the samples: they are kept.
    ///
    /// `proven` says that the endpoint has shown before that it knows 2.0.
    pub(super) fn judge(&self, dialect: Dialect, sent: Written, proven: bool, retry_429: bool) -> Verdict {
        let is_v2 = dialect.protocol == Protocol::V2;
        if dialect.native && self.status >= 400 && self.why.contains(NATIVE_DISABLED) {
            return Verdict::NativeRefused;
        }
        // 1.0 knows no such headers: what is not said to have failed was written.
        let written = if is_v2 { self.written } else { None };
        match self.status {
            200..300 if is_v2 && written.is_none() => Verdict::WrongProtocol,
            200..300 => Verdict::Accepted { failed: sent.without(written.unwrap_or(sent)) },
            415 if is_v2 => Verdict::WrongProtocol,
            // A receiver of 1.0 may take the message for a broken one of its own.
            400 if is_v2 && written.is_none() && !proven => Verdict::WrongProtocol,
            429 if retry_429 => Verdict::Retry,
            400..500 => Verdict::Refused { failed: sent.without(written.unwrap_or_default()) },
            _ => Verdict::Retry,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: Written = Written { samples: 10, histograms: 2, exemplars: 1 };
    const NONE: Written = Written { samples: 0, histograms: 0, exemplars: 0 };
    const PART: Written = Written { samples: 7, histograms: 2, exemplars: 0 };
    const LEFT: Written = Written { samples: 3, histograms: 0, exemplars: 1 };

    fn judge(protocol: Protocol, status: u16, written: Option<Written>, proven: bool) -> Verdict {
        let dialect = Dialect { protocol, native: true };
        let answer = Answer { status, written, ..Answer::none("why".into()) };
        answer.judge(dialect, SENT, proven, true)
    }

    #[test]
    fn a_receiver_of_1_0_settles_with_2xx_and_refuses_with_4xx() {
        for (status, expected) in [
            (200, Verdict::Accepted { failed: NONE }),
            (204, Verdict::Accepted { failed: NONE }),
            (400, Verdict::Refused { failed: SENT }),
            (415, Verdict::Refused { failed: SENT }),
            (429, Verdict::Retry),
            (500, Verdict::Retry),
            (503, Verdict::Retry),
            (302, Verdict::Retry),
            (999, Verdict::Retry),
            (0, Verdict::Retry),
        ] {
            assert_eq!(judge(Protocol::V1, status, None, false), expected, "{status}");
        }
        assert_eq!(judge(Protocol::V1, 204, Some(PART), false), Verdict::Accepted { failed: NONE });
        let dialect = Dialect { protocol: Protocol::V1, native: false };
        let answer = Answer { status: 429, ..Answer::none(String::new()) };
        assert_eq!(answer.judge(dialect, SENT, false, false), Verdict::Refused { failed: SENT });
    }

    #[test]
    fn a_receiver_of_2_0_says_what_it_wrote() {
        for (status, written, proven, expected) in [
            (204, Some(SENT), false, Verdict::Accepted { failed: NONE }),
            (204, Some(PART), false, Verdict::Accepted { failed: LEFT }),
            (204, None, false, Verdict::WrongProtocol),
            (204, None, true, Verdict::WrongProtocol),
            (415, None, true, Verdict::WrongProtocol),
            (400, None, false, Verdict::WrongProtocol),
            (400, None, true, Verdict::Refused { failed: SENT }),
            (400, Some(PART), false, Verdict::Refused { failed: LEFT }),
            (404, None, false, Verdict::Refused { failed: SENT }),
            (500, Some(PART), false, Verdict::Retry),
        ] {
            assert_eq!(judge(Protocol::V2, status, written, proven), expected, "{status} {written:?}");
        }
    }

    #[test]
    fn native_histograms_are_refused_in_words() {
        let answer = Answer { status: 500, ..Answer::none(format!("x: {NATIVE_DISABLED}\n")) };
        for protocol in [Protocol::V1, Protocol::V2] {
            let judge = |native| answer.judge(Dialect { protocol, native }, SENT, true, true);
            assert_eq!((judge(true), judge(false)), (Verdict::NativeRefused, Verdict::Retry));
        }
    }
}
