//! Packets handed from the network drivers to the stack, from /proc/net/softnet_stat: a line a CPU, hexadecimal.
//! Cost a tick: one read.

use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Kind, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

const CPU: &[&str] = &["cpu"];

/// A column of the file and its family. Older kernels print fewer columns: the absent ones count as 0.
static COLUMNS: &[(usize, Family)] = &[
    (0, Family::new(Kind::Counter, "node_softnet_processed_total", "Packets that this CPU took in.", CPU)),
    (
        1,
        Family::new(
            Kind::Counter,
            "node_softnet_dropped_total",
            "Packets dropped: the backlog was full.",
            CPU,
        ),
    ),
    (
        2,
        Family::new(
            Kind::Counter,
            "node_softnet_times_squeezed_total",
            "Rounds that ended with packets left, because budget or time was used up.",
            CPU,
        ),
    ),
    (
        8,
        Family::new(
            Kind::Counter,
            "node_softnet_cpu_collision_total",
            "Collisions of CPUs over the lock of a device while they sent.",
            CPU,
        ),
    ),
    (
        9,
        Family::new(
            Kind::Counter,
            "node_softnet_received_rps_total",
            "Times that another CPU woke this one to take in packets.",
            CPU,
        ),
    ),
    (
        10,
        Family::new(
            Kind::Counter,
            "node_softnet_flow_limit_count_total",
            "Packets dropped by the flow limit.",
            CPU,
        ),
    ),
    (11, Family::new(Kind::Gauge, "node_softnet_backlog_len", "Packets that wait in the backlog.", CPU)),
];
/// Since Linux 5.10 this column holds the number of the CPU.
const CPU_COLUMN: usize = 12;
const FEWEST: usize = 9;
const MOST: usize = 16;
/// 15 columns of 8 digits.
const LONGEST_LINE: usize = 256;

pub(super) static COLLECTOR: Registration = Registration {
    name: "softnet",
    default_enabled: true,
    flags: &[],
    families: &[
        &COLUMNS[0].1,
        &COLUMNS[1].1,
        &COLUMNS[2].1,
        &COLUMNS[3].1,
        &COLUMNS[4].1,
        &COLUMNS[5].1,
        &COLUMNS[6].1,
    ],
    new: |setup| {
        Ok(Box::new(Softnet { file: KeptFile::records(setup.paths.proc("net/softnet_stat"), LONGEST_LINE) }))
    },
};

struct Softnet {
    file: KeptFile,
}

impl Collector for Softnet {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let text = self.file.read(&mut tick.buffer)?;
        let mut faults = Faults::default();
        for (row, line) in text::lines(text).enumerate() {
            let Some((numbers, count)) = parse_line(line) else {
                let expected = "expected nine hexadecimal numbers or more";
                faults.note(|| CollectError::malformed(self.file.path(), row + 1, expected));
                continue;
            };
            let number = if count > CPU_COLUMN { u64::from(numbers[CPU_COLUMN]) } else { row as u64 };
            let cpu = text::Decimal::new(number);
            for (column, family) in COLUMNS {
                out.put(family, &[cpu.as_str()], f64::from(numbers[*column]));
            }
        }
        faults.finish()
    }
}

/// The numbers of a line, and how many there are.
fn parse_line(line: &[u8]) -> Option<([u32; MOST], usize)> {
    let mut numbers = [0; MOST];
    let mut count = 0;
    for (slot, word) in numbers.iter_mut().zip(text::words(line)) {
        *slot = u32::try_from(text::parse_hex(word)?).ok()?;
        count += 1;
    }
    (count >= FEWEST).then_some((numbers, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_columns_or_more() {
        let (numbers, count) = parse_line(b"000dfb82 00000029 0000000a 0 0 0 0 0 00000001").unwrap();
        assert_eq!((numbers[0], numbers[1], numbers[8], numbers[11], count), (916_354, 41, 1, 0, 9));
        assert!(parse_line(b"000dfb82 00000029").is_none());
        assert!(parse_line(b"1ffffffff 0 0 0 0 0 0 0 0").is_none(), "more than 32 bits");
    }
}
