//! How chronyd steers the clock of this host, by its command protocol (chronyc(1) speaks it): over its Unix socket, which
//! takes root, or over UDP on this host. Names as the exporter of chrony has them.
//!
//! Cost a tick: some ten system calls, two more for each source if these are asked for, and the time until chronyd
//! answers: at most a second. Names are not looked up: a source is named by its address. What is not version 6 of the
//! protocol (chrony 2 and later speak that) is refused.

mod client;
mod packet;

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use client::{Address, Socket};
use packet::{Command, Source, Tracking};

use super::{CollectError, Collector, Flag, FlagDefault, Registration, SetupError, Tick};
use crate::model::{Family, Recorder};
use crate::sys::text;

const ADDRESS_FLAG: &str = "collector.chrony.address";
const SOURCES_FLAG: &str = "collector.chrony.sources";

const DEADLINE: Duration = Duration::from_secs(1);
/// Sources above this are counted only.
const MOST_SOURCES: u32 = 64;
/// The reference of a clock that is not steered by others, and the address that stands for it.
const LOCAL_REFERENCE: u32 = 0x7f7f_0101;
const LOCAL_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 127, 1, 1));
const REFERENCE_CLOCK: u16 = 2;
/// The age of the last sample where there was none.
const NO_SAMPLE: u32 = u32::MAX;
/// The poll intervals that NTP knows lie well within.
const POLLS: std::ops::RangeInclusive<i16> = -32..=32;
const SOURCE: &[&str] = &["source_address", "source_name"];

static UP: Family = Family::gauge("chrony_up", "Whether chronyd answers: 1 if so, 0 if not.", &[]);
static INFO: Family = Family::gauge(
    "chrony_tracking_info",
    "What the clock follows: address, name and reference ID in hexadecimal; always 1.",
    &["tracking_address", "tracking_name", "tracking_refid"],
);
static STRATUM: Family =
    Family::gauge("chrony_tracking_stratum", "How many servers away the reference clock is.", &[]);
static LEAP: Family = Family::gauge(
    "chrony_tracking_leap_status",
    "Leap second to come: 0 none, 1 one more, 2 one less, 3 the clock is not synchronised.",
    &[],
);
static REMOTE: Family = Family::gauge(
    "chrony_tracking_remote_reference",
    "Whether the clock follows another one: 1 if so, 0 if it runs free or is its own reference.",
    &[],
);
static REFERENCE_TIME: Family = Family::gauge(
    "chrony_tracking_reference_timestamp_seconds",
    "When the last measurement of the reference was processed, in seconds since 1970; 0 if never.",
    &[],
);
/// In the order of [`Tracking::floats`].
static FLOATS: [Family; 9] = [
    Family::gauge(
        "chrony_tracking_system_time_seconds",
        "How far the system clock is behind the true time as chronyd estimates it, in seconds; negative if ahead.",
        &[],
    ),
    Family::gauge(
        "chrony_tracking_last_offset_seconds",
        "Offset of the clock that the last update of it estimated, in seconds.",
        &[],
    ),
    Family::gauge(
        "chrony_tracking_rms_offset_seconds",
        "Long-term average of the offset, as root mean square, in seconds.",
        &[],
    ),
    Family::gauge(
        "chrony_tracking_frequency_ppms",
        "Rate by which the clock would gain time if it was not corrected, in parts per million; negative if it lost.",
        &[],
    ),
    Family::gauge(
        "chrony_tracking_residual_frequency_ppms",
        "Difference between the rate that the reference shows and the one in use, in parts per million.",
        &[],
    ),
    Family::gauge(
        "chrony_tracking_skew_ppms",
        "Bound of the error of the frequency as estimated, in parts per million.",
        &[],
    ),
    Family::gauge(
        "chrony_tracking_root_delay_seconds",
        "Time to the reference clock and back, over all servers between, in seconds.",
        &[],
    ),
    Family::gauge(
        "chrony_tracking_root_dispersion_seconds",
        "Errors that the servers on the way to the reference clock add up, in seconds.",
        &[],
    ),
    Family::gauge(
        "chrony_tracking_update_interval_seconds",
        "Time between the last two updates of the clock, in seconds.",
        &[],
    ),
];
static SOURCES: Family = Family::gauge(
    "chrony_sources",
    "Time sources that chronyd has: servers, peers and reference clocks.",
    &[],
);
static SOURCE_AGE: Family = Family::gauge(
    "chrony_sources_last_sample_age_seconds",
    "Time since the last good sample of a source, in seconds.",
    SOURCE,
);
static SOURCE_OFFSET: Family = Family::gauge(
    "chrony_sources_last_sample_offset_seconds",
    "How far the clock of this host was ahead of a source at its last sample, in seconds.",
    SOURCE,
);
static SOURCE_ERROR: Family = Family::gauge(
    "chrony_sources_last_sample_error_margin_seconds",
    "Margin of error of the last sample of a source, in seconds.",
    SOURCE,
);
static SOURCE_POLL: Family = Family::gauge(
    "chrony_sources_polling_interval_seconds",
    "Time between polls of a source, in seconds.",
    SOURCE,
);
static SOURCE_REACHED: Family = Family::gauge(
    "chrony_sources_reachability_ratio",
    "Share of the last eight polls of a source that were answered, from 0 to 1.",
    SOURCE,
);
static SOURCE_STATE: Family = Family::gauge(
    "chrony_sources_state_info",
    "State of a source and what kind it is; always 1.",
    &["source_address", "source_name", "source_state", "source_mode"],
);
static SOURCE_STRATUM: Family = Family::gauge(
    "chrony_sources_stratum",
    "How many servers a source is away from its reference clock.",
    SOURCE,
);

/// By number.
const STATES: [&str; 6] = ["sync", "unreach", "falseticker", "jittery", "candidate", "outlier"];
const MODES: [&str; 3] = ["client", "peer", "reference clock"];

pub(super) static COLLECTOR: Registration = Registration {
    name: "chrony",
    default_enabled: false,
    flags: &[
        Flag::new(
            ADDRESS_FLAG,
            FlagDefault::Text("unix:/run/chrony/chronyd.sock,127.0.0.1:323"),
            "Where chronyd takes commands: unix:/path (needs root) or address:port; of several, the first that answers.",
        ),
        Flag::new(SOURCES_FLAG, FlagDefault::Switch(false), "Ask for each time source, too."),
    ],
    families: &[
        &UP,
        &INFO,
        &STRATUM,
        &LEAP,
        &REMOTE,
        &REFERENCE_TIME,
        &FLOATS[0],
        &FLOATS[1],
        &FLOATS[2],
        &FLOATS[3],
        &FLOATS[4],
        &FLOATS[5],
        &FLOATS[6],
        &FLOATS[7],
        &FLOATS[8],
        &SOURCES,
        &SOURCE_AGE,
        &SOURCE_OFFSET,
        &SOURCE_ERROR,
        &SOURCE_POLL,
        &SOURCE_REACHED,
        &SOURCE_STATE,
        &SOURCE_STRATUM,
    ],
    new: |setup| {
        let addresses: Result<Vec<Address>, String> =
            setup.flags.text(ADDRESS_FLAG).split(',').map(Address::parse).collect();
        let addresses =
            addresses.map_err(|why| SetupError::of("chrony")(format!("--{ADDRESS_FLAG}: {why}")))?;
        Ok(Box::new(Chrony {
            addresses,
            wants_sources: setup.flags.switch(SOURCES_FLAG),
            number: random(),
            text: Vec::new(),
        }))
    },
};

struct Chrony {
    addresses: Vec<Address>,
    wants_sources: bool,
    /// Of the last question: the answer repeats it.
    number: u32,
    /// Labels in the making.
    text: Vec<u8>,
}

/// From the seed of the hash maps, which the kernel gave.
fn random() -> u32 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish() as u32
}

impl Collector for Chrony {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let Chrony { addresses, wants_sources, number, text } = self;
        let end = Instant::now() + tick.time_left().min(DEADLINE);
        let mut fault = None;
        for (tried, address) in addresses.iter().enumerate() {
            // So that one which is silent leaves time for the next.
            let left = end.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - tried).unwrap_or(1);
            let mut dialogue = Dialogue { socket: None, number, deadline: Instant::now() + share };
            let result = dialogue.tracking(address, &mut tick.buffer);
            let tracking = match result {
                Ok(tracking) => tracking,
                Err(why) => {
                    fault = Some(CollectError::Other(format!("chronyd at {address}: {why}")));
                    continue;
                }
            };
            dialogue.deadline = end;
            out.put(&UP, &[], 1.0);
            put_tracking(&tracking, text, out);
            return dialogue
                .put_sources(*wants_sources, (&mut tick.buffer, text), out)
                .map_err(|why| CollectError::Other(format!("sources of chronyd at {address}: {why}")));
        }
        out.put(&UP, &[], 0.0);
        fault.map_or(Ok(()), Err)
    }
}

/// Questions and answers with one chronyd.
struct Dialogue<'a> {
    socket: Option<Socket<'a>>,
    number: &'a mut u32,
    deadline: Instant,
}

impl<'a> Dialogue<'a> {
    fn tracking(&mut self, address: &'a Address, packet: &mut Vec<u8>) -> Result<Tracking, String> {
        self.socket = Some(address.connect().map_err(|error| error.to_string())?);
        Ok(self.ask(Command::Tracking, packet)?.tracking())
    }

    fn ask<'b>(&mut self, command: Command, packet: &'b mut Vec<u8>) -> Result<packet::Answer<'b>, String> {
        *self.number = self.number.wrapping_add(1);
        let socket = self.socket.as_ref().ok_or("not connected")?;
        socket.ask(command, *self.number, self.deadline, packet)
    }

    fn put_sources(
        &mut self,
        each: bool,
        (packet, text): (&mut Vec<u8>, &mut Vec<u8>),
        out: &mut Recorder,
    ) -> Result<(), String> {
        let count = self.ask(Command::SourceCount, packet)?.source_count();
        out.put(&SOURCES, &[], f64::from(count));
        if !each {
            return Ok(());
        }
        for index in 0..count.min(MOST_SOURCES) {
            let source = self.ask(Command::Source(index), packet)?.source();
            put_source(&source, text, out);
        }
        Ok(())
    }
}

fn put_tracking(tracking: &Tracking, text: &mut Vec<u8>, out: &mut Recorder) {
    text.clear();
    push_address(tracking.address, text);
    let address_end = text.len();
    match tracking.address {
        packet::Address::None => push_reference(tracking.reference, text),
        address => push_address(address, text),
    }
    let name_end = text.len();
    push(text, format_args!("{:08X}", tracking.reference));
    let label = |from: usize, to: usize| text::as_str(&text[from..to]).unwrap_or_default();
    out.put(&INFO, &[label(0, address_end), label(address_end, name_end), label(name_end, text.len())], 1.0);
    let is_remote = !matches!(tracking.reference, 0 | LOCAL_REFERENCE)
        && tracking.address != packet::Address::Ip(LOCAL_ADDRESS);
    out.put(&REMOTE, &[], f64::from(u8::from(is_remote)));
    out.put(&STRATUM, &[], f64::from(tracking.stratum));
    out.put(&LEAP, &[], f64::from(tracking.leap));
    out.put(&REFERENCE_TIME, &[], tracking.reference_time);
    for (family, value) in FLOATS.iter().zip(tracking.floats) {
        out.put(family, &[], value);
    }
}

fn put_source(source: &Source, text: &mut Vec<u8>, out: &mut Recorder) {
    text.clear();
    push_address(source.address, text);
    let end = text.len();
    match source.address {
        packet::Address::Ip(IpAddr::V4(id)) if source.mode == REFERENCE_CLOCK => {
            push_reference(id.to_bits(), text);
        }
        address => push_address(address, text),
    }
    let name =
        |text: &'static [&str], number: u16| text.get(usize::from(number)).copied().unwrap_or("unknown");
    let (state, mode) = (name(&STATES, source.state), name(&MODES, source.mode));
    let labels =
        [text::as_str(&text[..end]).unwrap_or_default(), text::as_str(&text[end..]).unwrap_or_default()];
    if source.sample_age != NO_SAMPLE {
        out.put(&SOURCE_AGE, &labels, f64::from(source.sample_age));
        out.put(&SOURCE_OFFSET, &labels, source.offset);
        out.put(&SOURCE_ERROR, &labels, source.error);
    }
    if POLLS.contains(&source.poll) {
        out.put(&SOURCE_POLL, &labels, 2f64.powi(source.poll.into()));
    }
    out.put(&SOURCE_REACHED, &labels, f64::from((source.reachability & 0xff).count_ones()) / 8.0);
    out.put(&SOURCE_STATE, &[labels[0], labels[1], state, mode], 1.0);
    out.put(&SOURCE_STRATUM, &labels, f64::from(source.stratum));
}

fn push(text: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    // Into memory: it can't fail.
    let _ = text.write_fmt(arguments);
}

fn push_address(address: packet::Address, text: &mut Vec<u8>) {
    match address {
        packet::Address::None => text.extend_from_slice(b"::"),
        packet::Address::Ip(address) => push(text, format_args!("{address}")),
        // As chronyc shows it.
        packet::Address::Unresolved(number) => push(text, format_args!("ID#{number:010}")),
    }
}

/// Up to four letters, such as the PPS of a reference clock.
fn push_reference(reference: u32, text: &mut Vec<u8>) {
    let letters = reference.to_be_bytes();
    text.extend(letters.iter().filter(|letter| letter.is_ascii_graphic()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_and_addresses_are_readable() {
        let mut text = Vec::new();
        push_reference(0x5050_5300, &mut text);
        text.push(b' ');
        push_reference(0x7f7f_0101, &mut text);
        push_address(packet::Address::Unresolved(7), &mut text);
        push_address(packet::Address::None, &mut text);
        push_address(packet::Address::Ip(LOCAL_ADDRESS), &mut text);
        assert_eq!(text, b"PPS ID#0000000007::127.127.1.1");
    }
}
