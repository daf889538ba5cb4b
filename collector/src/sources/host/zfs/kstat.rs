//! The files of ZFS: named values (`name type data`), the I/O of a pool, the state of a pool. Each function ends
//! with the number of the first line that is not as it should be, after it gave the lines that are.

use super::STATE;
use crate::model::{Dynamic, Kind, Recorder};
use crate::sys::text;

/// Types of named values, include/sys/kstat.h.
const INT64: &[u8] = b"3";
const UINT64: &[u8] = b"4";

/// States of a pool, in the order in which they are given.
const STATES: [&str; 7] = ["online", "degraded", "faulted", "offline", "removed", "unavail", "suspended"];

/// A line `name type data`; the data may hold spaces.
struct Named<'a> {
    name: &'a [u8],
    kind: &'a [u8],
    data: &'a [u8],
}

/// Calls `each` with the lines after the one that names the columns. `each` answers `None` for a wrong one.
fn for_each<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    mut each: impl FnMut(&Named<'a>) -> Option<()>,
) -> Result<(), usize> {
    let mut lines = lines.enumerate();
    let is_header = |line: &[u8]| text::words(line).eq([&b"name"[..], b"type", b"data"]);
    lines.find(|(_, line)| is_header(line)).ok_or(1usize)?;
    let mut result = Ok(());
    for (number, line) in lines {
        let mut words = text::words(line);
        let named = words.next().zip(words.next()).map(|(name, kind)| Named {
            name,
            kind,
            data: text::trim(words.rest()),
        });
        if named.and_then(|named| each(&named)).is_none() {
            result = result.and(Err(number + 1));
        }
    }
    result
}

/// `zil_commit_count   4   10` of the file of a subsystem.
pub(super) fn put_subsystem(
    subsystem: &str,
    file: &str,
    text: &[u8],
    scratch: &mut Vec<u8>,
    out: &mut Recorder,
) -> Result<(), usize> {
    for_each(text::ended_lines(text), |named| {
        let value = match named.kind {
            INT64 => text::parse_i64(named.data)? as f64,
            UINT64 => text::parse_u64(named.data)? as f64,
            _ => return Some(()),
        };
        let name = metric_name(named.name, scratch)?;
        let sample = Dynamic {
            name: &["node_zfs_", subsystem, "_", name],
            suffix: "",
            help: &["Field ", name, " of /proc/spl/kstat/zfs/", file, "."],
            kind: Kind::Untyped,
            labels: &[],
        };
        out.put_dynamic(&sample, value);
        Some(())
    })
}

/// As the above, after `dataset_name   7   pool/dataset`.
pub(super) fn put_dataset(
    pool: &str,
    text: &[u8],
    scratch: &mut Vec<u8>,
    out: &mut Recorder,
) -> Result<(), usize> {
    let mut dataset = None;
    // node_exporter takes a last line without its end, and so must whoever stands in for it.
    for_each(text::lines(text), |named| {
        if named.name == b"dataset_name" {
            dataset = Some(text::as_str(named.data).filter(|name| !name.is_empty())?);
            return Some(());
        }
        if named.kind != UINT64 {
            return Some(());
        }
        let (dataset, value) = (dataset?, text::parse_u64(named.data)?);
        let name = metric_name(named.name, scratch)?;
        let labels = [("zpool", pool), ("dataset", dataset)];
        put_of_pool(&["node_zfs_zpool_dataset_", name], "a dataset", &labels, value, out);
        Some(())
    })
}

/// A line of names that begins with `nread`, and then a line of as many numbers.
pub(super) fn put_io(pool: &str, text: &[u8], out: &mut Recorder) -> Result<(), usize> {
    let mut lines = text::ended_lines(text).enumerate();
    let is_header = |line: &[u8]| text::words(line).next() == Some(b"nread");
    let (number, names) = lines.find(|(_, line)| is_header(line)).ok_or(1usize)?;
    let wrong = number + 2;
    let (_, numbers) = lines.next().ok_or(wrong)?;
    if text::words(names).count() != text::words(numbers).count() {
        return Err(wrong);
    }
    for (name, value) in text::words(names).zip(text::words(numbers)) {
        let name = text::as_str(name).filter(|name| text::is_name(name)).ok_or(number + 1)?;
        let value = text::parse_u64(value).ok_or(wrong)?;
        put_of_pool(&["node_zfs_zpool_", name], "a pool", &[("zpool", pool)], value, out);
    }
    Ok(())
}

fn put_of_pool(name: &[&str; 2], owner: &str, labels: &[(&str, &str)], value: u64, out: &mut Recorder) {
    let help = ["Field ", name[1], " of ", owner, "."];
    let sample = Dynamic { name, suffix: "", help: &help, kind: Kind::Untyped, labels };
    out.put_dynamic(&sample, value as f64);
}

/// A word such as `ONLINE`.
pub(super) fn put_state(pool: &str, text: &[u8], out: &mut Recorder) -> Result<(), usize> {
    let state = text::ended_lines(text).next().filter(|line| !line.is_empty()).ok_or(1usize)?;
    for known in STATES {
        let is_in = state.eq_ignore_ascii_case(known.as_bytes());
        out.put(&STATE, &[pool, known], f64::from(u8::from(is_in)));
    }
    Ok(())
}

/// The part after the last dot, with `_` for `-`.
fn metric_name<'s>(name: &[u8], scratch: &'s mut Vec<u8>) -> Option<&'s str> {
    let last = name.rsplit(|&b| b == b'.').next()?;
    scratch.clear();
    scratch.extend(last.iter().map(|&b| if b == b'-' { b'_' } else { b }));
    text::as_str(scratch).filter(|name| text::is_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_metrics_have_them() {
        let mut scratch = Vec::new();
        for (name, metric) in [("hits", "hits"), ("a.b-c", "b_c"), ("level_0", "level_0")] {
            assert_eq!(metric_name(name.as_bytes(), &mut scratch), Some(metric));
        }
        for wrong in [&b"a b"[..], b"", b"a.", b"\xff"] {
            assert_eq!(metric_name(wrong, &mut scratch), None);
        }
    }

    #[test]
    fn named_values_may_hold_spaces() {
        let text = b"23 1 0x01 7 2160 2 3\nname   type data\ndataset_name  7    a b  c\nn 4 7\n";
        let mut found = Vec::new();
        let result = for_each(text::lines(text), |named| {
            found.push((named.name.to_vec(), named.data.to_vec()));
            Some(())
        });
        assert_eq!(result, Ok(()));
        assert_eq!(found[0], (b"dataset_name".to_vec(), b"a b  c".to_vec()));
        let check = |text| for_each(text::ended_lines(text), |_| Some(()));
        assert_eq!(check(b"name type data\nx\n"), Err(2));
        assert_eq!(check(b"name type data\nx 4 12"), Err(2), "torn");
        assert_eq!(check(b"nothing\n"), Err(1));
    }
}
