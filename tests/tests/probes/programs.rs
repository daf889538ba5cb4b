//! A table of all programs: their instructions and the stack they use, as the objects have them, and how many instructions
//! the verifier of one kernel looks at for each. It is checked in, so that a change of either is seen.
//!
//! `UPDATE_PROGRAMS=1` writes it anew.

use std::collections::BTreeMap;
use std::path::Path;

use collector::sources::ebpf::{Attachment, EbpfOptions, PROBES, list};
use collector_tests::probe::{Probe, alone, traces_functions};

/// The kernel whose verifier's counts are in the table.
const KERNEL: &str = "6.18.";
const TABLE: &str = include_str!("programs.txt");
const HEAD: &str = "# program, instructions, bytes of stack\n";
const VERIFIED: &str = "# program, instructions that the verifier of Linux 6.18 looks at\n";

fn number(bytes: &[u8], at: usize, size: usize) -> usize {
    let mut word = [0; 8];
    word[..size].copy_from_slice(&bytes[at..at + size]);
    usize::from_le_bytes(word)
}

fn name(bytes: &[u8], at: usize) -> String {
    let text = bytes[at..].split(|&byte| byte == 0).next().unwrap();
    String::from_utf8(text.to_vec()).unwrap()
}

/// Offset and size of each section of an ELF file, with what it is linked to, and its type.
fn sections(object: &[u8]) -> Vec<[usize; 4]> {
    let (start, count) = (number(object, 0x28, 8), number(object, 0x3c, 2));
    let section = |index: usize| {
        let at = start + index * 64;
        [
            number(object, at + 0x18, 8),
            number(object, at + 0x20, 8),
            number(object, at + 0x28, 4),
            number(object, at + 4, 4),
        ]
    };
    (0..count).map(section).collect()
}

/// Name, place and length of each program of an object.
fn functions(object: &[u8]) -> Vec<(String, usize, usize)> {
    const SYMBOLS: usize = 2;
    const FUNCTION: u8 = 2;
    let sections = sections(object);
    let [start, size, strings, _] = *sections.iter().find(|section| section[3] == SYMBOLS).unwrap();
    let mut found = Vec::new();
    for at in (start..start + size).step_by(24) {
        if object[at + 4] & 0xf != FUNCTION {
            continue;
        }
        let [code, ..] = sections[number(object, at + 6, 2)];
        let name = name(object, sections[strings][0] + number(object, at, 4));
        // What the compiler adds of its own is no program.
        if !name.starts_with("_R") && !matches!(name.as_str(), "memcpy" | "memmove" | "memset" | "panic") {
            found.push((name, code + number(object, at + 8, 8), number(object, at + 16, 8)));
        }
    }
    found
}

/// Where each program of an object begins.
pub(crate) fn places(object: &[u8]) -> Vec<(String, usize)> {
    functions(object).into_iter().map(|(name, place, _)| (name, place)).collect()
}

/// Name, instructions and stack of each program of an object.
fn programs(object: &[u8]) -> Vec<(String, usize, i64)> {
    let one = |(name, place, length)| {
        let code: &[u8] = &object[place..place + length];
        (name, length / 8, stack(code))
    };
    functions(object).into_iter().map(one).collect()
}

/// The lowest place below the frame pointer that a program names.
fn stack(code: &[u8]) -> i64 {
    const FRAME: u8 = 10;
    let mut lowest = 0;
    let mut copied = [false; 16];
    for instruction in code.chunks(8) {
        let (operation, to, from) = (instruction[0], instruction[1] & 0xf, instruction[1] >> 4);
        let offset = i64::from(i16::from_le_bytes([instruction[2], instruction[3]]));
        let immediate = i64::from(i32::from_le_bytes(instruction[4..8].try_into().unwrap()));
        match operation & 7 {
            // Loads from, and stores to, the stack.
            1 if from == FRAME => lowest = lowest.min(offset),
            2 | 3 if to == FRAME => lowest = lowest.min(offset),
            _ => {}
        }
        // A pointer to the stack is a copy of the frame pointer, and a number added to it.
        if operation == 0x07 && copied[usize::from(to)] {
            lowest = lowest.min(immediate);
        }
        copied[usize::from(to)] = operation == 0xbf && from == FRAME;
    }
    -lowest
}

fn from_objects() -> BTreeMap<String, (usize, i64)> {
    let mut all = BTreeMap::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../collector-ebpf/prebuilt");
    for probe in PROBES {
        let object = std::fs::read(folder.join(format!("{}.o", probe.name))).unwrap();
        for (name, instructions, stack) in programs(&object) {
            all.insert(format!("{} {name}", probe.name), (instructions, stack));
        }
    }
    all
}

fn from_kernel(test: &str) -> Option<BTreeMap<String, u32>> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    if !release.starts_with(KERNEL) {
        // No machine has every kernel: what the objects have was compared.
        eprintln!("{test}: the verifier's counts are of Linux {KERNEL}x and were not compared");
        return None;
    }
    let mut all = BTreeMap::new();
    for attachment in [Attachment::Typed, Attachment::Raw] {
        // A kernel that is locked down lets nobody trace functions.
        let wanted = PROBES.iter().filter(|probe| !traces_functions(probe));
        let probes = wanted.map(|probe| probe.name.to_owned()).collect();
        let options = EbpfOptions { probes, attachment, ..EbpfOptions::default() };
        let _probe = Probe::start_or_skip(test, &options)?;
        for (probe, program, count) in list::verified_instructions(list::Whose::Own) {
            all.insert(format!("{probe} {program}"), count);
        }
    }
    Some(all)
}

/// Linux 5.10 dies of a plain load at a bad address in a program that calls another function: it does not find where to go on.
#[test]
fn no_program_calls_another() {
    const WIDE: u8 = 0x18;
    const CALL: u8 = 0x85;
    const OTHER: u8 = 1;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../collector-ebpf/prebuilt");
    // The messages of `runqueue` do; while they are off, which is a constant, the kernel takes that out.
    for probe in PROBES.iter().filter(|probe| probe.name != "runqueue") {
        let object = std::fs::read(folder.join(format!("{}.o", probe.name))).unwrap();
        for (name, place, length) in functions(&object) {
            let mut instructions = object[place..place + length].chunks(8);
            while let Some(instruction) = instructions.next() {
                assert!(instruction[0] != CALL || instruction[1] >> 4 != OTHER, "{name}");
                if instruction[0] == WIDE {
                    instructions.next();
                }
            }
        }
    }
}

#[test]
fn the_table_of_programs_is_that_of_the_objects() {
    let test = "the_table_of_programs_is_that_of_the_objects";
    let _alone = alone();
    let mut text = String::from(HEAD);
    for (program, (instructions, stack)) in from_objects() {
        assert!(stack <= 512, "{program}");
        text.push_str(&format!("{program} {instructions} {stack}\n"));
    }
    let known = TABLE.find(VERIFIED).unwrap_or(TABLE.len());
    let update = std::env::var_os("UPDATE_PROGRAMS").is_some();
    if !update {
        assert_eq!(text, TABLE[..known], "UPDATE_PROGRAMS=1 writes the table anew");
    }
    let Some(verified) = from_kernel(test) else { return };
    text.push_str(VERIFIED);
    for (program, count) in &verified {
        text.push_str(&format!("{program} {count}\n"));
    }
    if update {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probes/programs.txt");
        return std::fs::write(path, text).unwrap();
    }
    // How many cgroups there are, and other numbers that user space sets, may move a count a little.
    for line in TABLE[known..].lines().skip(1) {
        let (program, count) = line.rsplit_once(' ').unwrap();
        let (now, then) = (f64::from(verified[program]), count.parse::<f64>().unwrap());
        assert!(
            (now - then).abs() <= 0.1 * then,
            "{program}: the verifier looks at {now} instructions, not {then}"
        );
    }
}
