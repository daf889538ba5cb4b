//! The processes of this host by control group, from /proc/PID/stat and /proc/PID/cgroup: the groups that use the most
//! CPU time, and the rest in one row. A group has the name of the last folder of its path (`nginx.service`); with
//! cgroup v1, of its path under systemd, else in the cpuacct hierarchy.
//!
//! Cost a tick: three system calls a process, and three more for one that is new or whose group is looked at again (every
//! 64th tick). No memory while the processes stay. What a process does between the last tick and its end is not counted.
//!
//! The counter of the rest grows by what groups use while they are not shown, so that it never falls. Groups of the same
//! name, such as the `init.scope` of two users, are one row.

mod groups;

use groups::{Group, Groups};

use super::pids::{Pids, Process, STAT_BYTES};
use super::{CollectError, Collector, Flag, FlagDefault, Registration, SetupError, Tick};
use crate::model::{Family, Recorder};
use crate::sys::{identity, text};

const COUNT_FLAG: &str = "collector.process_groups.count";
const MOST_COUNT: i64 = 1000;
const CGROUP_BYTES: usize = 8192;
/// USER_HZ, which is 100 on every architecture that has Prometheus exporters.
const TICKS_PER_SECOND: f64 = 100.0;
/// The row of the rest.
const OTHER: &str = "other";

static GROUPS: Family =
    Family::gauge("node_process_groups", "Control groups that have processes, shown or not.", &[]);
static PROCESSES: Family =
    Family::gauge("node_process_group_processes", "Processes of a control group.", &["group"]);
static THREADS: Family =
    Family::gauge("node_process_group_threads", "Threads of the processes of a control group.", &["group"]);
static CPU: Family = Family::counter(
    "node_process_group_cpu_seconds_total",
    "CPU time of the processes of a control group, in seconds; of all others in the row `other`.",
    &["group"],
);
static RESIDENT: Family = Family::gauge(
    "node_process_group_resident_memory_bytes",
    "Memory of the processes of a control group in bytes; what processes share counts for each.",
    &["group"],
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "process_groups",
    default_enabled: false,
    flags: &[Flag::new(
        COUNT_FLAG,
        FlagDefault::Int(20),
        "Groups that are shown, those with the most CPU time.",
    )],
    families: &[&GROUPS, &PROCESSES, &THREADS, &CPU, &RESIDENT],
    new: |setup| {
        let count = setup.flags.int(COUNT_FLAG).map_err(SetupError::of("process_groups"))?;
        let count = usize::try_from(count).ok().filter(|_| (1..=MOST_COUNT).contains(&count));
        let wrong =
            || SetupError::of("process_groups")(format!("--{COUNT_FLAG}: expected 1 to {MOST_COUNT}"));
        Ok(Box::new(ProcessGroups {
            pids: Pids::new(&setup.paths.procfs),
            page_size: identity::page_size(),
            groups: Groups::new(count.ok_or_else(wrong)?),
            stat: Box::new([0; STAT_BYTES]),
            cgroup: Box::new([0; CGROUP_BYTES]),
        }))
    },
};

struct ProcessGroups {
    pids: Pids,
    page_size: u64,
    groups: Groups,
    stat: Box<[u8; STAT_BYTES]>,
    cgroup: Box<[u8; CGROUP_BYTES]>,
}

impl Collector for ProcessGroups {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let ProcessGroups { pids, page_size, groups, stat, cgroup } = self;
        groups.begin();
        pids.each(&mut tick.buffer, |process| {
            let Some(line) = process.read(b"/stat", &mut stat[..])? else { return Ok(()) };
            let expected = "expected `number (name) state` and numbers";
            let stat = parse_stat(line).ok_or_else(|| process.malformed(b"/stat", expected))?;
            let Some(pid) = text::parse_u64(process.pid) else { return Ok(()) };
            if groups.wants_name(pid, &stat) {
                groups.name(pid, &stat, read_name(process, &mut cgroup[..])?);
            }
            groups.count(pid, &stat);
            Ok(())
        })?;
        groups.finish();
        out.put(&GROUPS, &[], groups.inhabited() as f64);
        let mut put = |name: &str, group: &Group| {
            out.put(&PROCESSES, &[name], group.processes as f64);
            out.put(&THREADS, &[name], group.threads as f64);
            out.put(&CPU, &[name], group.cpu as f64 / TICKS_PER_SECOND);
            out.put(&RESIDENT, &[name], group.pages.saturating_mul(*page_size) as f64);
        };
        groups.shown().for_each(|group| put(&group.name, group));
        put(OTHER, groups.rest());
        Ok(())
    }
}

/// The name of its group, "" where it has none that can be shown: the kernel may lack control groups.
fn read_name<'b>(process: &Process<'_>, room: &'b mut [u8]) -> Result<&'b str, CollectError> {
    let text = process.read(b"/cgroup", room)?.unwrap_or_default();
    Ok(parse_cgroup(text).filter(|name| *name != OTHER).unwrap_or_default())
}

/// What is needed of a line `1 (systemd) S 0 1 ...`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stat {
    threads: u64,
    /// In user mode and in the kernel, in ticks.
    cpu: u64,
    /// When it was started: tells it from another process that has its number later.
    start: u64,
    pages: u64,
}

fn parse_stat(line: &[u8]) -> Option<Stat> {
    // The name may hold brackets and spaces: it ends with the last bracket.
    let name_end = line.iter().rposition(|&b| b == b')')?;
    let mut words = text::words(&line[name_end + 1..]);
    let mut after = |words_between: usize| text::parse_u64(words.nth(words_between)?);
    // Words 14, 15, 20, 22 and 24 of the line, of which the state is the third.
    let (user, system, threads) = (after(11)?, after(0)?, after(4)?);
    let (start, pages) = (after(1)?, after(1)?);
    // The word after it proves that the last number is whole.
    words.next()?;
    Some(Stat { threads, cpu: user.saturating_add(system), start, pages })
}

/// The last folder of the path: that of systemd's hierarchy, else of cpuacct's, else of cgroup v2, the first of them in
/// which the process is not at the root; `/` if there is none. `None` where the file makes no sense.
fn parse_cgroup(text: &[u8]) -> Option<&str> {
    let mut best: [Option<&str>; 3] = [None; 3];
    for line in text::ended_lines(text).filter(|line| !line.is_empty()) {
        let mut fields = line.splitn(3, |&byte| byte == b':');
        text::parse_u64(fields.next()?)?;
        let controllers = fields.next()?;
        let path = text::as_str(fields.next()?)?;
        let rank = match controllers {
            b"name=systemd" => 0,
            b"" => 2,
            list if list.split(|&byte| byte == b',').any(|controller| controller == b"cpuacct") => 1,
            _ => continue,
        };
        best[rank] = Some(path.strip_suffix(" (deleted)").unwrap_or(path));
    }
    let named = best.iter().flatten().find(|path| **path != "/").or(best.iter().flatten().next())?;
    named.rsplit('/').find(|name| !name.is_empty()).or(Some("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_in_numbers() {
        let line = b"7 (a) S 9 (b)) D 1 7 7 0 -1 4194560 1 2 3 4 50 60 7 8 20 0 12 0 2600 4096 33 18446744073709551615";
        assert_eq!(parse_stat(line), Some(Stat { threads: 12, cpu: 110, start: 2600, pages: 33 }));
        let torn = b"7 (a) S 1 7 7 0 -1 4194560 1 2 3 4 50 60 7 8 20 0 12 0 2600 4096 3";
        assert_eq!(parse_stat(torn), None);
    }

    #[test]
    fn a_group_has_the_name_of_its_last_folder() {
        for (text, name) in [
            ("0::/system.slice/nginx.service\n", Some("nginx.service")),
            ("0::/system.slice/old.service (deleted)\n", Some("old.service")),
            ("0::/\n", Some("/")),
            ("4:memory:/x\n3:cpu,cpuacct:/a/b\n1:name=systemd:/c/d.scope\n0::/e\n", Some("d.scope")),
            ("3:cpu,cpuacct:/a/b\n1:name=systemd:/\n0::/e\n", Some("b")),
            ("3:cpuset:/a\n0::/e\n", Some("e")),
            ("0::/with:colon\n", Some("with:colon")),
            ("0::/torn", None),
            ("3:cpuset:/a\n", None),
            ("x\n", None),
            ("", None),
        ] {
            assert_eq!(parse_cgroup(text.as_bytes()), name, "{text:?}");
        }
    }
}
