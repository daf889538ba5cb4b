//! Software RAID, from /proc/mdstat (md(4)) and /sys/block/md*/md. Cost a tick: one read or two; for each array two
//! small reads. /sys/block is listed again when /proc/mdstat says something new. Without the kernel module there is
//! nothing to read.

use std::path::Path;

use super::error::Faults;
use super::number_file::read_u64;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::kept_entries::KeptEntries;
use crate::sys::text;

const DEVICE: &[&str] = &["device"];
const STATE: &[&str] = &["device", "state"];

static STATES: Family =
    Family::gauge("node_md_state", "The state of an array: 1 for the one it is in.", STATE);
static DISKS: Family = Family::gauge("node_md_disks", "Disks of an array, by state.", STATE);
static REQUIRED: Family = Family::gauge("node_md_disks_required", "Disks that an array needs.", DEVICE);
static BLOCKS: Family = Family::gauge("node_md_blocks", "Blocks of an array, of 1 KiB each.", DEVICE);
static SYNCED: Family = Family::gauge(
    "node_md_blocks_synced",
    "Blocks that are in sync: of the run under way, or all of them.",
    DEVICE,
);
static RAID_DISKS: Family =
    Family::gauge("node_md_raid_disks", "Disks of an array when it is complete.", DEVICE);
static DEGRADED: Family = Family::gauge("node_md_degraded", "Disks that an array lacks.", DEVICE);

pub(super) static COLLECTOR: Registration = Registration {
    name: "mdadm",
    default_enabled: true,
    flags: &[],
    families: &[&BLOCKS, &SYNCED, &DEGRADED, &DISKS, &REQUIRED, &RAID_DISKS, &STATES],
    new: |setup| {
        Ok(Box::new(Mdadm {
            // The lines of an array may be longer than a page: the end of the file is proved by one more read.
            file: KeptFile::new(setup.paths.proc("mdstat")),
            before: None,
            arrays: KeptEntries::new(&setup.paths.sys("block"), MOST_ARRAYS),
        }))
    },
};

/// Minor numbers go further, but nobody does.
const MOST_ARRAYS: usize = 1024;

struct Mdadm {
    file: KeptFile,
    /// What /proc/mdstat said in the last tick.
    before: Option<Vec<u8>>,
    arrays: KeptEntries<Sysfs>,
}

/// The attributes of an array.
struct Sysfs {
    raid_disks: KeptFile,
    /// Levels without redundancy have none.
    degraded: KeptFile,
}

impl Sysfs {
    fn new(array: &Path) -> Self {
        let file = |name| KeptFile::whole(array.join("md").join(name));
        Sysfs { raid_disks: file("raid_disks"), degraded: file("degraded") }
    }

    /// While an array is reshaped, the number it had follows in brackets.
    fn read_raid_disks(&mut self, buffer: &mut Vec<u8>) -> Result<u64, CollectError> {
        let text = self.raid_disks.read(buffer).map_err(CollectError::absent_is_no_data)?;
        text::words(text)
            .next()
            .and_then(text::parse_u64)
            .ok_or_else(|| CollectError::malformed(self.raid_disks.path(), 1, "expected a whole number"))
    }
}

impl Collector for Mdadm {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        let text = self.file.read(&mut tick.buffer).map_err(CollectError::absent_is_no_data)?;
        put_arrays(self.file.path(), text, out, &mut faults);
        if self.before.as_deref() != Some(text) {
            let before = self.before.get_or_insert_default();
            before.clear();
            before.extend_from_slice(text);
            if let Err(error) = self.arrays.refresh(|name, _| name.starts_with("md"), Sysfs::new)
                && error.source.kind() != std::io::ErrorKind::NotFound
            {
                faults.note(|| error.into());
            }
        }
        for (name, array) in self.arrays.iter_mut() {
            match array.read_raid_disks(&mut tick.buffer) {
                Ok(disks) => out.put(&RAID_DISKS, &[name], disks as f64),
                // Not an array, or one that goes away: its place is in /proc/mdstat.
                Err(error) if error.is_no_data() => continue,
                Err(error) => faults.note(|| error),
            }
            match read_u64(&mut array.degraded, &mut tick.buffer) {
                Ok(disks) => out.put(&DEGRADED, &[name], disks as f64),
                Err(error) if error.is_no_data() => out.put(&DEGRADED, &[name], 0.0),
                Err(error) => faults.note(|| error),
            }
        }
        faults.finish()
    }
}

/// An array of /proc/mdstat.
#[derive(Debug, PartialEq, Eq)]
struct Array<'a> {
    name: &'a str,
    state: &'static str,
    active: u64,
    failed: u64,
    spare: u64,
    required: u64,
    blocks: u64,
    synced: u64,
}

fn put_arrays(path: &Path, text: &[u8], out: &mut Recorder, faults: &mut Faults) {
    let mut rest = text;
    let mut number = 0;
    while !rest.is_empty() {
        number += 1;
        let line = next_line(&mut rest);
        let is_other = |line: &[u8]| {
            line.first().is_none_or(|&b| b == b' ' || b == b'\t')
                || line.starts_with(b"Personalities")
                || line.starts_with(b"unused")
        };
        if line.is_some_and(is_other) {
            continue;
        }
        let Some(array) = line.and_then(|line| parse_array(line, rest)) else {
            let expected = "expected an array: its state and disks, and then a line with its blocks";
            faults.note(|| CollectError::malformed(path, number, expected));
            continue;
        };
        let Array { name, state, .. } = array;
        for known in ["active", "inactive", "recovering", "resync", "check"] {
            out.put(&STATES, &[name, known], f64::from(u8::from(known == state)));
        }
        let disks = [("active", array.active), ("failed", array.failed), ("spare", array.spare)];
        for (state, disks) in disks {
            out.put(&DISKS, &[name, state], disks as f64);
        }
        out.put(&REQUIRED, &[name], array.required as f64);
        out.put(&BLOCKS, &[name], array.blocks as f64);
        out.put(&SYNCED, &[name], array.synced as f64);
    }
}

/// Takes a line off the text; `None` if it lacks its end, and then nothing is left.
fn next_line<'a>(text: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = text.iter().position(|&b| b == b'\n');
    let line = end.map(|end| &text[..end]);
    *text = end.map_or(&[], |end| &text[end + 1..]);
    line
}

/// `md0 : active raid1 sda1[0] sdb1[1](F)`, and what follows it.
fn parse_array<'a>(line: &'a [u8], mut rest: &[u8]) -> Option<Array<'a>> {
    let mut words = text::words(line);
    let name = text::as_str(words.next()?)?;
    let state = words.nth(1)?;
    let status = next_line(&mut rest)?;
    let blocks = text::parse_u64(text::words(status).next()?)?;
    let (active, required) = if contains(line, b"raid0") || contains(line, b"linear") {
        // Only its disks have a number in brackets, and it needs all of them.
        let disks = count(line, b"[");
        (disks, disks)
    } else if state == b"inactive" {
        (0, 0)
    } else {
        parse_disks(status)?
    };
    let mut sync = next_line(&mut rest)?;
    if contains(sync, b"bitmap") {
        sync = next_line(&mut rest)?;
    }
    let running = [(&b"recovery"[..], "recovering"), (b"check", "check"), (b"resync", "resync")];
    let running = running.iter().find(|(word, _)| contains(sync, word));
    let waits = || [&b"PENDING"[..], b"DELAYED", b"REMOTE"].iter().any(|word| contains(sync, word));
    let (state, synced) = match running {
        Some((_, state)) if waits() => (*state, 0),
        Some((_, state)) => (*state, parse_progress(sync)?),
        None if state == b"active" => ("active", blocks),
        None if state == b"inactive" => ("inactive", blocks),
        None => ("", blocks),
    };
    let (failed, spare) = (count(line, b"(F)"), count(line, b"(S)"));
    Some(Array { name, state, active, failed, spare, required, blocks, synced })
}

/// Active and required disks, of `248896 blocks super 1.2 [3/2] [UU_]`.
fn parse_disks(status: &[u8]) -> Option<(u64, u64)> {
    let mut words = text::words(status);
    while let Some(word) = words.next() {
        let Some(numbers) = in_brackets(word) else { continue };
        let mut parts = numbers.splitn(2, |&b| b == b'/').map(text::parse_u64);
        if let (Some(Some(required)), Some(Some(active))) = (parts.next(), parts.next()) {
            let marks = words.clone().next().and_then(in_brackets)?;
            return marks.iter().all(|&b| b == b'U' || b == b'_').then_some((active, required));
        }
    }
    None
}

/// Done blocks, of `[=>...]  recovery =  8.5% (16775552/195310144) finish=17.0min`.
fn parse_progress(sync: &[u8]) -> Option<u64> {
    text::words(sync).find_map(|word| {
        let numbers = word.strip_prefix(b"(")?.strip_suffix(b")")?;
        let mut parts = numbers.splitn(2, |&b| b == b'/').map(text::parse_u64);
        let done = parts.next()??;
        parts.next()??;
        Some(done)
    })
}

fn in_brackets(word: &[u8]) -> Option<&[u8]> {
    word.strip_prefix(b"[")?.strip_suffix(b"]")
}

fn contains(line: &[u8], word: &[u8]) -> bool {
    count(line, word) > 0
}

fn count(line: &[u8], word: &[u8]) -> u64 {
    line.windows(word.len()).filter(|window| *window == word).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Array<'_>> {
        let (line, rest) = text.split_once('\n')?;
        parse_array(line.as_bytes(), rest.as_bytes())
    }

    #[test]
    fn an_array_that_recovers() {
        let text = "md6 : active raid1 sdb2[2](F) sdc[1](S) sda2[0]\n      195310144 blocks [2/1] [U_]\n      \
            [=>...................]  recovery =  8.5% (16775552/195310144) finish=17.0min speed=259783K/sec\n";
        let array = parse(text).unwrap();
        assert_eq!((array.state, array.active, array.required), ("recovering", 1, 2));
        assert_eq!((array.failed, array.spare, array.synced), (1, 1, 16_775_552));
    }

    #[test]
    fn arrays_of_other_kinds() {
        let stripes = parse("md1 : active raid0 sda1[0] sdb1[1]\n  31 blocks 64k chunks\n\n").unwrap();
        assert_eq!((stripes.state, stripes.active, stripes.required, stripes.synced), ("active", 2, 2, 31));
        let idle = parse("md2 : inactive sdb[2](S)\n  7932 blocks super external:imsm\n\n").unwrap();
        assert_eq!((idle.state, idle.active, idle.spare), ("inactive", 0, 1));
        let bitmap = "md7 : active raid6 sdb1[0] sde1[3]\n  78 blocks super 1.2 [4/3] [U_UU]\n  bitmap: 0/30\n\
            resync=DELAYED\n";
        let waiting = parse(bitmap).unwrap();
        assert_eq!((waiting.state, waiting.synced, waiting.blocks), ("resync", 0, 78));
        for torn in
            ["md1 : active raid1 a[0]\n  31 blocks [2/2] [UU]\n", "md1 : active raid1 a[0]\n  31 blocks\n\n"]
        {
            assert_eq!(parse(torn), None, "{torn}");
        }
    }
}
