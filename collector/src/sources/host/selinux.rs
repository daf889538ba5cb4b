//! SELinux: whether it is on, in which mode, and its cache of decisions (AVC), from /sys/fs/selinux and
//! /etc/selinux/config. Cost a tick: six reads; one failed open where there is no SELinux.

use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

static ENABLED: Family =
    Family::gauge("node_selinux_enabled", "Whether SELinux is on: 1 if so, 0 if not.", &[]);
static CONFIG_MODE: Family = Family::gauge(
    "node_selinux_config_mode",
    "Mode in which SELinux is configured to start: 1 enforcing, 0 permissive, -1 off.",
    &[],
);
static CURRENT_MODE: Family =
    Family::gauge("node_selinux_current_mode", "Mode of SELinux now: 1 enforcing, 0 permissive.", &[]);
/// In the order of the columns of cache_stats.
static CACHE: [Family; 6] = [
    Family::counter("node_selinux_avc_lookups_total", "Lookups in the cache of decisions.", &[]),
    Family::counter("node_selinux_avc_hits_total", "Lookups that found a decision.", &[]),
    Family::counter("node_selinux_avc_misses_total", "Lookups that found none.", &[]),
    Family::counter("node_selinux_avc_allocations_total", "Decisions put into the cache.", &[]),
    Family::counter("node_selinux_avc_reclaims_total", "Decisions taken out to make room.", &[]),
    Family::counter("node_selinux_avc_frees_total", "Decisions whose memory was freed.", &[]),
];
static ENTRIES: Family = Family::gauge("node_selinux_avc_hash_entries", "Decisions in the cache.", &[]);
static BUCKETS: Family =
    Family::gauge("node_selinux_avc_hash_buckets_available", "Buckets of the cache.", &[]);
static BUCKETS_USED: Family =
    Family::gauge("node_selinux_avc_hash_buckets_used", "Buckets of the cache that hold decisions.", &[]);
static CHAIN: Family =
    Family::gauge("node_selinux_avc_hash_longest_chain", "Decisions in the fullest bucket.", &[]);
static THRESHOLD: Family =
    Family::gauge("node_selinux_avc_threshold", "Decisions above which the cache makes room.", &[]);

pub(super) static COLLECTOR: Registration = Registration {
    name: "selinux",
    default_enabled: true,
    flags: &[],
    families: &[
        &ENABLED,
        &CONFIG_MODE,
        &CURRENT_MODE,
        &CACHE[0],
        &CACHE[1],
        &CACHE[2],
        &CACHE[3],
        &CACHE[4],
        &CACHE[5],
        &ENTRIES,
        &BUCKETS,
        &BUCKETS_USED,
        &CHAIN,
        &THRESHOLD,
    ],
    new: |setup| {
        let file = |name: &str| KeptFile::whole(setup.paths.sys("fs/selinux").join(name));
        Ok(Box::new(Selinux {
            enforce: file("enforce"),
            config: KeptFile::new(setup.paths.root("/etc/selinux/config")),
            cache: KeptFile::records(setup.paths.sys("fs/selinux/avc/cache_stats"), LONGEST_LINE),
            hash: file("avc/hash_stats"),
            threshold: file("avc/cache_threshold"),
        }))
    },
};

/// Six numbers of ten digits.
const LONGEST_LINE: usize = 128;

struct Selinux {
    enforce: KeptFile,
    config: KeptFile,
    cache: KeptFile,
    hash: KeptFile,
    threshold: KeptFile,
}

impl Collector for Selinux {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mode = match self.enforce.read(&mut tick.buffer) {
            Ok(text) => number(text, &self.enforce)?,
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => {
                out.put(&ENABLED, &[], 0.0);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        out.put(&ENABLED, &[], 1.0);
        let config = self.config.read(&mut tick.buffer).unwrap_or_default();
        out.put(&CONFIG_MODE, &[], f64::from(parse_config(config)));
        out.put(&CURRENT_MODE, &[], mode);
        let mut faults = Faults::default();
        let sums = parse_cache(self.cache.read(&mut tick.buffer)?);
        match sums {
            Ok(sums) => {
                CACHE.iter().zip(sums).for_each(|(family, sum)| out.put(family, &[], sum as f64));
            }
            Err(line) => {
                let expected = "expected six numbers";
                faults.note(|| CollectError::malformed(self.cache.path(), line, expected));
            }
        }
        match parse_hash(self.hash.read(&mut tick.buffer)?) {
            Some(numbers) => {
                for (family, number) in [&ENTRIES, &BUCKETS_USED, &BUCKETS, &CHAIN].into_iter().zip(numbers) {
                    out.put(family, &[], number as f64);
                }
            }
            None => {
                let expected = "expected entries, buckets used, and longest chain";
                faults.note(|| CollectError::malformed(self.hash.path(), 1, expected));
            }
        }
        let threshold = self.threshold.read(&mut tick.buffer)?;
        out.put(&THRESHOLD, &[], number(threshold, &self.threshold)?);
        faults.finish()
    }
}

fn number(text: &[u8], file: &KeptFile) -> Result<f64, CollectError> {
    let number = text::parse_u64(text::trim(text));
    number
        .map(|number| number as f64)
        .ok_or_else(|| CollectError::malformed(file.path(), 1, "expected a whole number"))
}

/// What `SELINUX=` says; off where it says nothing.
fn parse_config(text: &[u8]) -> i8 {
    let value = text::lines(text).find_map(|line| text::trim(line).strip_prefix(b"SELINUX="));
    match value.map(text::trim) {
        Some(b"enforcing") => 1,
        Some(b"permissive") => 0,
        _ => -1,
    }
}

/// The sums over all CPUs: a line of names, then one for each CPU. Error: the number of a line.
fn parse_cache(text: &[u8]) -> Result<[u64; 6], usize> {
    let mut sums = [0u64; 6];
    for (number, line) in text::ended_lines(text).enumerate().skip(1) {
        let mut words = text::words(line);
        for sum in &mut sums {
            let word = words.next().and_then(text::parse_u64).ok_or(number + 1)?;
            *sum = sum.wrapping_add(word);
        }
    }
    Ok(sums)
}

/// Entries, buckets used, buckets, and the longest chain.
fn parse_hash(text: &[u8]) -> Option<[u64; 4]> {
    let value = |name| text::lines(text).find_map(|line| text::value_of(line, name));
    let mut buckets = value("buckets used")?.split(|&byte| byte == b'/').map(text::parse_u64);
    Some([
        text::parse_u64(value("entries")?)?,
        buckets.next()??,
        buckets.next()??,
        text::parse_u64(value("longest chain")?)?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_and_configuration() {
        assert_eq!(parse_cache(b"lookups hits misses\n1 2 3 4 5 6\n10 0 0 0 0 1\n"), Ok([11, 2, 3, 4, 5, 7]));
        assert_eq!(parse_cache(b"lookups\n1 2 3 4 5\n"), Err(2));
        let hash = b"entries: 503\nbuckets used: 301/512\nlongest chain: 8\n";
        assert_eq!(parse_hash(hash), Some([503, 301, 512, 8]));
        assert_eq!(parse_hash(b"entries: 503\nbuckets used: 301\nlongest chain: 8\n"), None);
        assert_eq!(parse_config(b"# SELINUX=enforcing\n SELINUX=permissive \n"), 0);
        assert_eq!(parse_config(b"SELINUXTYPE=targeted\n"), -1);
    }
}
