//! Connection tracking, from /proc/sys/net/netfilter and /proc/net/stat/nf_conntrack (one line a CPU).
//! Cost a tick: three small reads. Without the kernel module there is nothing to read.

use super::number_file::read_u64;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

static ENTRIES: Family = Family::gauge("node_nf_conntrack_entries", "Connections that are tracked now.", &[]);
static LIMIT: Family =
    Family::gauge("node_nf_conntrack_entries_limit", "Connections that may be tracked at one time.", &[]);

/// A column of the statistics, by its name in the first line, and the family of its sum over all CPUs.
macro_rules! columns {
    ($($column:literal, $name:literal, $help:literal;)*) => {
        static COLUMNS: &[(&str, Family)] = &[$(($column, Family::gauge($name, $help, &[]))),*];
    };
}

columns! {
    "found", "node_nf_conntrack_stat_found", "Lookups that found an entry.";
    "invalid", "node_nf_conntrack_stat_invalid", "Packets that could not be tracked.";
    "ignore", "node_nf_conntrack_stat_ignore", "Packets of connections that were tracked already.";
    "insert", "node_nf_conntrack_stat_insert", "Entries put into the table.";
    "insert_failed", "node_nf_conntrack_stat_insert_failed", "Entries not put into the table: it had them.";
    "drop", "node_nf_conntrack_stat_drop", "Packets dropped because no entry could be made.";
    "early_drop", "node_nf_conntrack_stat_early_drop", "Entries dropped to make room for new ones.";
    "search_restart", "node_nf_conntrack_stat_search_restart", "Lookups begun anew: the table was resized.";
}

pub(super) static COLLECTOR: Registration = Registration {
    name: "conntrack",
    default_enabled: true,
    flags: &[],
    families: &[
        &ENTRIES,
        &LIMIT,
        &COLUMNS[0].1,
        &COLUMNS[1].1,
        &COLUMNS[2].1,
        &COLUMNS[3].1,
        &COLUMNS[4].1,
        &COLUMNS[5].1,
        &COLUMNS[6].1,
        &COLUMNS[7].1,
    ],
    new: |setup| {
        let sysctl = |name: &str| KeptFile::whole(setup.paths.proc("sys/net/netfilter").join(name));
        Ok(Box::new(Conntrack {
            count: sysctl("nf_conntrack_count"),
            limit: sysctl("nf_conntrack_max"),
            stat: KeptFile::records(setup.paths.proc("net/stat/nf_conntrack"), LONGEST_LINE),
        }))
    },
};

/// 17 columns of at most 16 digits.
const LONGEST_LINE: usize = 512;

struct Conntrack {
    count: KeptFile,
    limit: KeptFile,
    stat: KeptFile,
}

impl Collector for Conntrack {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        for (file, family) in [(&mut self.count, &ENTRIES), (&mut self.limit, &LIMIT)] {
            out.put(family, &[], read_u64(file, &mut tick.buffer)? as f64);
        }
        let text = self.stat.read(&mut tick.buffer).map_err(CollectError::absent_is_no_data)?;
        let sums = parse_stat(text).map_err(|line| {
            CollectError::malformed(
                self.stat.path(),
                line,
                "expected as many hexadecimal numbers as there are columns",
            )
        })?;
        for ((_, family), sum) in COLUMNS.iter().zip(sums) {
            if let Some(sum) = sum {
                out.put(family, &[], sum as f64);
            }
        }
        Ok(())
    }
}

/// Columns of the file that are looked at; no kernel prints as many.
const MOST_COLUMNS: usize = 32;

/// The sums of [`COLUMNS`] over all CPUs, `None` for a column that this kernel has not. Error: a line number.
fn parse_stat(text: &[u8]) -> Result<[Option<u64>; 8], usize> {
    let mut sums = [None; 8];
    let mut lines = text::ended_lines(text);
    let header = lines.next().ok_or(1usize)?;
    // Which of our columns each column of the file is.
    let mut ours = [None; MOST_COLUMNS];
    let mut columns = 0;
    for (slot, name) in ours.iter_mut().zip(text::words(header)) {
        *slot = COLUMNS.iter().position(|(column, _)| column.as_bytes() == name);
        columns += 1;
    }
    for (number, line) in lines.enumerate() {
        let mut words = text::words(line);
        for slot in &ours[..columns] {
            let word = words.next().ok_or(number + 2)?;
            if let Some(at) = *slot {
                let value = text::parse_hex(word).ok_or(number + 2)?;
                sums[at] = Some(sums[at].unwrap_or(0u64).wrapping_add(value));
            }
        }
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name_and_added_up() {
        let text = b"entries  clashres found new invalid\n0000000a 0 00000001 0 000000ff\n0000000a 0 2 0 1\n";
        let sums = parse_stat(text).unwrap();
        assert_eq!(sums[..3], [Some(3), Some(256), None]);
        assert_eq!(parse_stat(b"found new\n1 2\n3\n"), Err(3));
        assert_eq!(parse_stat(b"found new\nx 2\n"), Err(2));
        assert_eq!(parse_stat(b""), Err(1));
    }
}
