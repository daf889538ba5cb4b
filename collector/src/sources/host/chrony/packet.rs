//! Packets of chronyd's command protocol, version 6 (chrony's candm.h): all numbers in network order, and doubles in
//! a format of their own. A question is as long as its answer, so that nobody is flooded by answers to forged ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const VERSION: u8 = 6;
const REQUEST: u8 = 1;
const REPLY: u8 = 2;

const QUESTION_HEADER: usize = 20;
const ANSWER_HEADER: usize = 28;
/// The longest answer that is asked for, and so the longest packet.
pub(super) const PACKET_BYTES: usize = ANSWER_HEADER + Command::Tracking.answer_bytes();

const COMMAND_AT: usize = 4;
const REPLY_AT: usize = 6;
const STATUS_AT: usize = 8;
/// Where an answer repeats the number of its question.
const ANSWER_NUMBER_AT: usize = 16;

/// Families of addresses (addressing.h).
const INET4: u16 = 1;
const INET6: u16 = 2;
/// A source whose name has not been resolved: a number stands for its address.
const UNRESOLVED: u16 = 3;
/// The upper half of a time in seconds that has no upper half.
const NO_HIGH_SECONDS: u32 = 0x7fff_ffff;

const EXPONENT_BITS: u32 = 7;
const COEFFICIENT_BITS: u32 = 25;

/// What may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    SourceCount,
    /// The source with that number, from 0 on.
    Source(u32),
    Tracking,
}

impl Command {
    const fn code(self) -> u16 {
        match self {
            Command::SourceCount => 14,
            Command::Source(_) => 15,
            Command::Tracking => 33,
        }
    }

    const fn reply_code(self) -> u16 {
        match self {
            Command::SourceCount => 2,
            Command::Source(_) => 3,
            Command::Tracking => 5,
        }
    }

    /// Bytes of the answer after its header.
    const fn answer_bytes(self) -> usize {
        match self {
            Command::SourceCount => 4,
            Command::Source(_) => 48,
            Command::Tracking => 76,
        }
    }
}

/// Appends the question with that number.
pub(super) fn encode_question(command: Command, number: u32, packet: &mut Vec<u8>) {
    let start = packet.len();
    packet.extend_from_slice(&[VERSION, REQUEST, 0, 0]);
    packet.extend_from_slice(&command.code().to_be_bytes());
    // The first attempt.
    packet.extend_from_slice(&[0; 2]);
    packet.extend_from_slice(&number.to_be_bytes());
    packet.resize(start + QUESTION_HEADER, 0);
    if let Command::Source(index) = command {
        packet.extend_from_slice(&index.to_be_bytes());
    }
    packet.resize(start + ANSWER_HEADER + command.answer_bytes(), 0);
}

/// What a packet is to the question that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply<'a> {
    Answer(Answer<'a>),
    /// The answer to another question, one that came late for instance.
    Foreign,
    /// chronyd won't answer: the status that it gives.
    Refused(u16),
    Malformed(&'static str),
}

pub(super) fn parse_reply(packet: &[u8], command: Command, number: u32) -> Reply<'_> {
    let Some((header, data)) = packet.split_at_checked(ANSWER_HEADER) else {
        return Reply::Malformed("shorter than a header");
    };
    let header = Answer(header);
    if header.0[..2] != [VERSION, REPLY] {
        return Reply::Malformed("no reply of version 6");
    }
    if header.u32(ANSWER_NUMBER_AT) != number || header.u16(COMMAND_AT) != command.code() {
        return Reply::Foreign;
    }
    let status = header.u16(STATUS_AT);
    if status != 0 {
        return Reply::Refused(status);
    }
    if header.u16(REPLY_AT) != command.reply_code() {
        return Reply::Malformed("a reply of another kind");
    }
    match data.get(..command.answer_bytes()) {
        Some(data) => Reply::Answer(Answer(data)),
        None => Reply::Malformed("shorter than its kind"),
    }
}

/// The bytes of an answer, as long as its kind is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer<'a>(&'a [u8]);

impl Answer<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.bytes(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.bytes(at))
    }

    fn float(&self, at: usize) -> f64 {
        parse_float(self.u32(at))
    }

    fn address(&self, at: usize) -> Address {
        match self.u16(at + 16) {
            INET4 => Address::Ip(Ipv4Addr::from(self.bytes::<4>(at)).into()),
            INET6 => Address::Ip(Ipv6Addr::from(self.bytes::<16>(at)).into()),
            UNRESOLVED => Address::Unresolved(self.u32(at)),
            _ => Address::None,
        }
    }

    /// Seconds since 1970.
    fn time(&self, at: usize) -> f64 {
        let high = match self.u32(at) {
            NO_HIGH_SECONDS => 0,
            high => high,
        };
        let seconds = u64::from(high) << 32 | u64::from(self.u32(at + 4));
        seconds.cast_signed() as f64 + f64::from(self.u32(at + 8).min(999_999_999)) / 1e9
    }

    pub(super) fn source_count(&self) -> u32 {
        self.u32(0)
    }

    pub(super) fn tracking(&self) -> Tracking {
        Tracking {
            reference: self.u32(0),
            address: self.address(4),
            stratum: self.u16(24),
            leap: self.u16(26),
            reference_time: self.time(28),
            floats: std::array::from_fn(|number| self.float(40 + 4 * number)),
        }
    }

    pub(super) fn source(&self) -> Source {
        Source {
            address: self.address(0),
            poll: self.u16(20).cast_signed(),
            stratum: self.u16(22),
            state: self.u16(24),
            mode: self.u16(26),
            reachability: self.u16(30),
            sample_age: self.u32(32),
            offset: self.float(40),
            error: self.float(44),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Address {
    None,
    Ip(IpAddr),
    Unresolved(u32),
}

/// How the clock of this host is steered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tracking {
    pub(super) reference: u32,
    pub(super) address: Address,
    pub(super) stratum: u16,
    pub(super) leap: u16,
    pub(super) reference_time: f64,
    /// Correction, last offset, RMS offset, frequency, residual frequency, skew, root delay, root dispersion, update
    /// interval.
    pub(super) floats: [f64; 9],
}

/// A server, peer or reference clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Source {
    pub(super) address: Address,
    /// As a power of two, in seconds.
    pub(super) poll: i16,
    pub(super) stratum: u16,
    pub(super) state: u16,
    pub(super) mode: u16,
    /// The last eight polls, a bit each.
    pub(super) reachability: u16,
    pub(super) sample_age: u32,
    pub(super) offset: f64,
    pub(super) error: f64,
}

/// Seven bits of exponent and 25 of coefficient, both signed: coefficient * 2^(exponent - 25).
fn parse_float(bits: u32) -> f64 {
    let exponent = bits.cast_signed() >> COEFFICIENT_BITS;
    let coefficient = (bits << EXPONENT_BITS).cast_signed() >> EXPONENT_BITS;
    f64::from(coefficient) * 2f64.powi(exponent - COEFFICIENT_BITS.cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(command: Command, number: u32, data: &[u8]) -> Vec<u8> {
        let mut packet = vec![VERSION, REPLY, 0, 0];
        packet.extend_from_slice(&command.code().to_be_bytes());
        packet.extend_from_slice(&command.reply_code().to_be_bytes());
        packet.resize(ANSWER_NUMBER_AT, 0);
        packet.extend_from_slice(&number.to_be_bytes());
        packet.resize(ANSWER_HEADER, 0);
        packet.extend_from_slice(data);
        packet
    }

    #[test]
    fn doubles_of_32_bits() {
        for (bits, value) in [
            (0, 0.0),
            (0x0280_0000, 0.5),
            (0x0480_0000, 1.0),
            (0x0580_0000, -1.0),
            (0xf080_0000, 2f64.powi(-10)),
            (0x7eff_ffff, 16_777_215.0 * 2f64.powi(38)),
            (0x8000_0001, 2f64.powi(-89)),
        ] {
            assert_eq!(parse_float(bits), value, "{bits:#x}");
        }
    }

    #[test]
    fn a_question_is_as_long_as_its_answer() {
        let mut packet = Vec::new();
        encode_question(Command::Source(3), 0x0102_0304, &mut packet);
        assert_eq!(packet.len(), 76);
        assert_eq!(packet[..12], [6, 1, 0, 0, 0, 15, 0, 0, 1, 2, 3, 4]);
        assert_eq!(packet[12..24], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
        assert!(packet[24..].iter().all(|&byte| byte == 0));
        encode_question(Command::Tracking, 1, &mut packet);
        assert_eq!(packet.len(), 76 + PACKET_BYTES);
        assert_eq!(packet[76..88], [6, 1, 0, 0, 0, 33, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn only_the_answer_to_the_question_is_taken() {
        let command = Command::SourceCount;
        let good = reply(command, 7, &[0, 0, 0, 4]);
        let Reply::Answer(answer) = parse_reply(&good, command, 7) else { panic!("it is an answer") };
        assert_eq!(answer.source_count(), 4);
        assert_eq!(parse_reply(&good, command, 8), Reply::Foreign);
        assert_eq!(parse_reply(&good, Command::Tracking, 7), Reply::Foreign);
        let changed = |at: usize, byte: u8| {
            let mut packet = good.clone();
            packet[at] = byte;
            packet
        };
        assert_eq!(parse_reply(&changed(STATUS_AT + 1, 2), command, 7), Reply::Refused(2));
        for packet in [&changed(0, 5), &changed(1, REQUEST), &changed(REPLY_AT + 1, 5), &good[..31], b""] {
            assert!(matches!(parse_reply(packet, command, 7), Reply::Malformed(_)), "{packet:?}");
        }
    }

    #[test]
    fn any_bytes_are_an_answer_of_numbers() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            let mut random = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            };
            let length = usize::from(random() % 120);
            let data: Vec<u8> = std::iter::repeat_with(random).take(length).collect();
            for command in [Command::Tracking, Command::Source(0), Command::SourceCount] {
                let packet = reply(command, 1, &data);
                let parsed = parse_reply(&packet, command, 1);
                assert_eq!(
                    matches!(parsed, Reply::Answer(_)),
                    data.len() >= command.answer_bytes(),
                    "{} bytes for {command:?}",
                    data.len()
                );
                if let Reply::Answer(answer) = parsed {
                    assert!(answer.tracking().floats.iter().all(|value| value.is_finite()));
                    assert!(answer.source().offset.is_finite());
                }
            }
        }
    }

    #[test]
    fn addresses_and_times() {
        let mut data = [0; 76];
        data[4..8].copy_from_slice(&[192, 0, 2, 1]);
        data[21] = 1;
        data[28..32].copy_from_slice(&NO_HIGH_SECONDS.to_be_bytes());
        data[32..36].copy_from_slice(&1_700_000_000u32.to_be_bytes());
        data[36..40].copy_from_slice(&500_000_000u32.to_be_bytes());
        let tracking = Answer(&data).tracking();
        assert_eq!(tracking.address, Address::Ip(Ipv4Addr::new(192, 0, 2, 1).into()));
        assert_eq!(tracking.reference_time, 1_700_000_000.5);
        data[28..32].fill(0);
        data[21] = 2;
        let tracking = Answer(&data).tracking();
        assert_eq!(tracking.reference_time, 1_700_000_000.5);
        assert!(matches!(tracking.address, Address::Ip(IpAddr::V6(_))));
        for (family, address) in [(0, Address::None), (3, Address::Unresolved(0xc000_0201))] {
            data[21] = family;
            assert_eq!(Answer(&data).tracking().address, address);
        }
    }
}
