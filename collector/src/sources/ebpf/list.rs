//! What `collector ebpf list` prints: each probe, its hooks, whether it runs in some process, what it has cost so far and
//! how much memory its maps take.
//!
//! Kernel interface: bpf(2), the lists of all programs and maps that are loaded; it needs CAP_SYS_ADMIN. A program is one
//! of ours by its name; two collectors on a host are added up, unless only the programs of this process are asked for:
//! those it has descriptors of, in /proc/self/fdinfo.

use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use aya::maps::MapInfo;
use aya::programs::loaded_programs;
use hashbrown::HashMap;

use super::{PROBES, Probe};
use crate::sys::file::read_once;
use crate::sys::text;

/// Bytes of a name that the kernel keeps.
const KERNEL_NAME: usize = 15;

#[derive(Default)]
struct Usage {
    programs: usize,
    runs: u64,
    time: Duration,
    instructions: Vec<(String, u32)>,
    maps: Vec<u32>,
}

/// Whose programs are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Everybody,
    /// Of this process alone.
    Own,
}

/// The table, as text.
pub fn text(whose: Whose) -> String {
    let usage = find_usage(whose);
    let mut out = format!(
        "{:<10} {:<8} {:<8} {:>12} {:>12} {:>10}  {}\n",
        "probe", "default", "loaded", "runs", "ns a run", "map bytes", "hooks"
    );
    let none = Usage::default();
    for probe in PROBES {
        let own = usage.get(probe.name).unwrap_or(&none);
        let each = if own.runs == 0 {
            "-".to_owned()
        } else {
            (own.time.as_nanos() / u128::from(own.runs)).to_string()
        };
        let runs = if own.runs == 0 { "-".to_owned() } else { own.runs.to_string() };
        let hooks: Vec<&str> = hooks(probe).collect();
        let _ = writeln!(
            out,
            "{:<10} {:<8} {:<8} {:>12} {:>12} {:>10}  {}",
            probe.name,
            if probe.default_on { "on" } else { "off" },
            if own.programs > 0 { "yes" } else { "no" },
            runs,
            each,
            own.maps.iter().filter_map(|&id| map_bytes(id)).sum::<u64>(),
            hooks.join(" ")
        );
    }
    out.push_str("\nRuns and their cost are counted while kernel.bpf_stats_enabled is 1 (which itself adds some 50 ns to each).\n");
    out
}

/// The tracepoints of a probe.
pub fn hooks(probe: &Probe) -> impl Iterator<Item = &'static str> {
    let mut seen = Vec::new();
    probe.hooks.iter().copied().flatten().filter_map(move |hook| {
        let new = !seen.contains(&hook.tracepoint);
        seen.push(hook.tracepoint);
        new.then_some(hook.tracepoint)
    })
}

/// How many instructions the verifier has looked at for each program that is loaded, by the probe's and the program's
/// name. Kernels before 5.16 do not say it.
pub fn verified_instructions(whose: Whose) -> Vec<(&'static str, String, u32)> {
    let mut found = Vec::new();
    for (probe, usage) in find_usage(whose) {
        found.extend(usage.instructions.into_iter().map(|(program, count)| (probe, program, count)));
    }
    found.sort();
    found
}

/// The numbers of the programs that this process holds.
fn own_programs() -> Vec<u64> {
    let mut own = Vec::new();
    let mut buffer = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fdinfo").into_iter().flatten().flatten() {
        // A descriptor that is closed meanwhile is nobody's.
        let Ok(info) = read_once(&entry.path(), &mut buffer) else { continue };
        let number = text::lines(info).find_map(|line| line.strip_prefix(b"prog_id:"));
        own.extend(number.and_then(|number| text::parse_u64(text::trim(number))));
    }
    own
}

fn find_usage(whose: Whose) -> HashMap<&'static str, Usage> {
    let mut usage: HashMap<&'static str, Usage> = HashMap::new();
    let own = (whose == Whose::Own).then(own_programs);
    for program in loaded_programs().flatten() {
        if own.as_ref().is_some_and(|own| !own.contains(&u64::from(program.id()))) {
            continue;
        }
        let Some(name) = program.name_as_str() else { continue };
        let cut = |own: &'static str| &own[..own.len().min(KERNEL_NAME)];
        let owner = PROBES.iter().find(|probe| {
            probe.hooks.iter().copied().flatten().any(|hook| cut(hook.typed) == name || cut(hook.raw) == name)
        });
        let Some(probe) = owner else { continue };
        let own = usage.entry(probe.name).or_default();
        own.programs += 1;
        own.instructions.extend(program.verified_instruction_count().map(|count| (name.to_owned(), count)));
        if let Ok(fd) = program.fd()
            && let Some((runs, ns)) = read_fdinfo(fd.as_fd().as_raw_fd(), b"run_cnt:", b"run_time_ns:")
        {
            own.runs += runs;
            own.time += Duration::from_nanos(ns);
        }
        for map in program.map_ids().ok().flatten().unwrap_or_default() {
            if !own.maps.contains(&map) {
                own.maps.push(map);
            }
        }
    }
    usage
}

/// What a map takes in the kernel, as the kernel itself says it.
fn map_bytes(id: u32) -> Option<u64> {
    let fd = MapInfo::from_id(id).ok()?.fd().ok()?;
    read_fdinfo(fd.as_fd().as_raw_fd(), b"memlock:", b"memlock:").map(|(bytes, _)| bytes)
}

fn read_fdinfo(fd: i32, first: &[u8], second: &[u8]) -> Option<(u64, u64)> {
    let mut buffer = Vec::new();
    let info = read_once(format!("/proc/self/fdinfo/{fd}").as_ref(), &mut buffer).ok()?;
    let value = |key: &[u8]| {
        let line = text::lines(info).find_map(|line| line.strip_prefix(key))?;
        text::parse_u64(text::trim(line))
    };
    Some((value(first)?, value(second)?))
}
