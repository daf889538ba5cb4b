//! Packets of NTP (RFC 5905 7.3), and what follows from their time stamps.

use std::time::Duration;

pub(super) const PACKET_BYTES: usize = 48;

const MODE_CLIENT: u8 = 3;
const MODE_SERVER: u8 = 4;
const NOT_SYNCHRONISED: u8 = 3;
const MAX_STRATUM: u8 = 16;
/// MAXDISP.
const MAX_DISPERSION: f64 = 16.0;
/// 2^MAXPOLL.
const MAX_AGE: f64 = 131_072.0;

/// Seconds from 1900 to 1970.
const UNIX_EPOCH: u64 = 2_208_988_800;
const FRACTION: f64 = 4_294_967_296.0;

/// Where the time stamps are.
const REFERENCE_AT: usize = 16;
const ORIGIN_AT: usize = 24;
const RECEIVED_AT: usize = 32;
const SENT_AT: usize = 40;

/// When we sent the question and got the answer, since 1970.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) sent: Duration,
    pub(super) received: Duration,
}

/// What the server says; times in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) leap: u8,
    pub(super) stratum: u8,
    /// When it answered, since 1970.
    pub(super) time: f64,
    /// When its clock was set last, since 1970; 0 for never.
    pub(super) reference_time: f64,
    pub(super) rtt: f64,
    pub(super) offset: f64,
    pub(super) root_delay: f64,
    pub(super) root_dispersion: f64,
    /// How far the clocks differ at least: by the time that an answer came before its question.
    pub(super) least_error: f64,
}

impl Answer {
    pub(super) fn announces_leap(&self) -> bool {
        matches!(self.leap, 1 | 2)
    }

    /// Whether a client may set its clock by it.
    pub(super) fn is_valid(&self) -> bool {
        let age = self.time - self.reference_time;
        (1..MAX_STRATUM).contains(&self.stratum)
            && self.leap != NOT_SYNCHRONISED
            && (0.0..=MAX_AGE).contains(&age)
            && self.root_delay / 2.0 + self.root_dispersion <= MAX_DISPERSION
    }

    pub(super) fn root_distance(&self) -> f64 {
        (self.rtt + self.root_delay) / 2.0 + self.root_dispersion
    }
}

/// A question of a client. `nonce` stands for the time of sending, which is nobody's business.
pub(super) fn encode_question(version: u8, nonce: [u8; 8]) -> [u8; PACKET_BYTES] {
    let mut packet = [0; PACKET_BYTES];
    packet[0] = NOT_SYNCHRONISED << 6 | version << 3 | MODE_CLIENT;
    packet[SENT_AT..].copy_from_slice(&nonce);
    packet
}

/// Error: why it is no answer to the question with that nonce.
pub(super) fn parse_answer(
    packet: &[u8; PACKET_BYTES],
    nonce: [u8; 8],
    times: Times,
) -> Result<Answer, &'static str> {
    let stamp = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| packet[at + byte]));
    let short = |at: usize| {
        let number = u32::from_be_bytes(std::array::from_fn(|byte| packet[at + byte]));
        f64::from(number) / 65_536.0
    };
    let (received, sent) = (stamp(RECEIVED_AT), stamp(SENT_AT));
    if packet[0] & 7 != MODE_SERVER {
        return Err("not from a server");
    }
    if sent == 0 {
        return Err("without a time");
    }
    if packet[ORIGIN_AT..RECEIVED_AT] != nonce {
        return Err("to another question");
    }
    if received > sent {
        return Err("its clock ran backwards");
    }
    let (origin, arrival) = (to_ntp(times.sent), to_ntp(times.received));
    let there = difference(received, origin);
    let back = difference(sent, arrival);
    let round_trip = difference(arrival, origin) - difference(sent, received);
    Ok(Answer {
        leap: packet[0] >> 6,
        stratum: packet[1],
        time: to_unix(sent),
        reference_time: match stamp(REFERENCE_AT) {
            0 => 0.0,
            reference => to_unix(reference).max(0.0),
        },
        rtt: round_trip.max(0.0),
        offset: f64::midpoint(there, back),
        root_delay: short(4),
        root_dispersion: short(8),
        least_error: (-there).max(back).max(0.0),
    })
}

/// Seconds since 1900 and their fraction, which wrap in 2036.
fn to_ntp(since_1970: Duration) -> u64 {
    let seconds = since_1970.as_secs().wrapping_add(UNIX_EPOCH) << 32;
    seconds | ((u64::from(since_1970.subsec_nanos()) << 32) / 1_000_000_000)
}

/// Time stamps that would be before 1970 are of the era from 2036 on.
fn to_unix(stamp: u64) -> f64 {
    let seconds = stamp >> 32;
    let seconds = if seconds < UNIX_EPOCH { seconds + (1 << 32) } else { seconds };
    (seconds - UNIX_EPOCH) as f64 + (stamp & 0xffff_ffff) as f64 / FRACTION
}

/// In seconds, right also across the end of an era.
fn difference(a: u64, b: u64) -> f64 {
    a.wrapping_sub(b).cast_signed() as f64 / FRACTION
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: [u8; 8] = *b"question";

    /// An answer of a server that is `ahead` of us, after 10 ms on the way and 2 ms of work.
    fn answer(ahead: f64) -> ([u8; PACKET_BYTES], Times) {
        let sent = Duration::from_secs(1_700_000_000);
        let times = Times { sent, received: sent + Duration::from_millis(22) };
        let there =
            |seconds: f64| to_ntp(Duration::from_secs_f64(1_700_000_000.0 + ahead + seconds)).to_be_bytes();
        let mut packet = [0; PACKET_BYTES];
        packet[..4].copy_from_slice(&[4 << 3 | MODE_SERVER, 2, 6, 0xe8]);
        packet[4..8].copy_from_slice(&32_768u32.to_be_bytes());
        packet[8..12].copy_from_slice(&65_536u32.to_be_bytes());
        packet[REFERENCE_AT..ORIGIN_AT].copy_from_slice(&there(-64.0));
        packet[ORIGIN_AT..RECEIVED_AT].copy_from_slice(&NONCE);
        packet[RECEIVED_AT..SENT_AT].copy_from_slice(&there(0.01));
        packet[SENT_AT..].copy_from_slice(&there(0.012));
        (packet, times)
    }

    #[test]
    fn times_of_an_answer() {
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
        let (packet, times) = answer(0.5);
        let of = parse_answer(&packet, NONCE, times).unwrap();
        assert!(near(of.rtt, 0.02) && near(of.offset, 0.5), "{of:?}");
        assert!(near(of.least_error, 0.49), "it came before it was sent");
        assert!(near(of.reference_time, 1_699_999_936.5) && near(of.time, 1_700_000_000.512));
        assert_eq!((of.root_delay, of.root_dispersion, of.leap, of.stratum), (0.5, 1.0, 0, 2));
        assert!(near(of.root_distance(), 1.26));
        let (packet, times) = answer(-0.5);
        let of = parse_answer(&packet, NONCE, times).unwrap();
        assert!(near(of.offset, -0.5) && near(of.least_error, 0.49), "{of:?}");
        let (packet, times) = answer(0.0);
        assert!(near(parse_answer(&packet, NONCE, times).unwrap().least_error, 0.0));
    }

    #[test]
    fn what_is_no_answer() {
        let (packet, times) = answer(0.0);
        let why = |change: &dyn Fn(&mut [u8; PACKET_BYTES])| {
            let mut packet = packet;
            change(&mut packet);
            parse_answer(&packet, NONCE, times).unwrap_err()
        };
        assert_eq!(why(&|packet| packet[0] = 4 << 3 | MODE_CLIENT), "not from a server");
        assert_eq!(why(&|packet| packet[SENT_AT..].fill(0)), "without a time");
        assert_eq!(why(&|packet| packet[ORIGIN_AT] ^= 1), "to another question");
        assert_eq!(why(&|packet| packet[RECEIVED_AT] = 0xff), "its clock ran backwards");
    }

    #[test]
    fn eras_go_on_in_2036() {
        let in_2040 = Duration::from_secs(2_208_988_801);
        assert_eq!(to_unix(to_ntp(in_2040)), 2_208_988_801.0);
        let before = to_ntp(Duration::from_secs((1 << 32) - UNIX_EPOCH - 1));
        let after = to_ntp(Duration::from_secs((1 << 32) - UNIX_EPOCH + 1));
        assert_eq!(difference(after, before), 2.0);
        assert_eq!(encode_question(4, NONCE)[0], 0b1110_0011);
    }
}
