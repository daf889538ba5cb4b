//! The events that can be counted, by the names that the flags have for them.

use crate::model::Family;
use crate::sys::perf::Event;

const TYPE_HARDWARE: u32 = 0;
const TYPE_SOFTWARE: u32 = 1;
pub(super) const TYPE_TRACEPOINT: u32 = 2;
const TYPE_CACHE: u32 = 3;

/// Kinds of events; only those of one kind are counted in one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Hardware,
    Software,
    Cache,
    Tracepoint,
}

pub(super) struct Profiler {
    /// As in `--collector.perf.hardware-profilers` and the like.
    pub(super) flag: &'static str,
    /// Those of a kind with the same number are counted together.
    pub(super) pair: u8,
    pub(super) event: Event,
    pub(super) family: Family,
}

macro_rules! profilers {
    ($table:ident, $kind:ident, $($pair:literal $flag:literal $config:expr, $family:literal, $help:literal;)*) => {
        pub(super) static $table: &[Profiler] = &[$(Profiler {
            flag: $flag,
            pair: $pair,
            event: Event { kind: $kind, config: $config },
            family: Family::counter(concat!("node_perf_", $family, "_total"), $help, &["cpu"]),
        }),*];
    };
}

// The numbers are those of linux/perf_event.h, PERF_COUNT_HW_*.
profilers! {
    HARDWARE, TYPE_HARDWARE,
    0 "CpuCycles" 0, "cpucycles", "Cycles of the CPU at the frequency that it ran at.";
    0 "CpuInstr" 1, "instructions", "Instructions that the CPU completed.";
    1 "CacheRef" 2, "cache_refs", "Accesses to the last cache.";
    1 "CacheMisses" 3, "cache_misses", "Accesses to the last cache that went on to memory.";
    2 "BranchInstr" 4, "branch_instructions", "Branches that the CPU completed.";
    2 "BranchMisses" 5, "branch_misses", "Branches that the CPU foresaw wrongly.";
    3 "StalledCyclesBackend" 8, "stalled_cycles_backend", "Cycles in which nothing could be completed.";
    3 "StalledCyclesFrontend" 7, "stalled_cycles_frontend", "Cycles in which nothing could be begun.";
    4 "RefCpuCycles" 9, "ref_cpucycles", "Cycles of the CPU, counted at a fixed frequency.";
}

// PERF_COUNT_SW_*. The kernel counts them itself, in one group.
profilers! {
    SOFTWARE, TYPE_SOFTWARE,
    0 "PageFault" 2, "page_faults", "Page faults.";
    0 "ContextSwitch" 3, "context_switches", "Times that the CPU went from one task to another.";
    0 "CpuMigration" 4, "cpu_migrations", "Tasks that came from another CPU.";
    0 "MinorFault" 5, "minor_faults", "Page faults that needed nothing from a disk.";
    0 "MajorFault" 6, "major_faults", "Page faults that needed something from a disk.";
}

const L1_DATA: u64 = 0;
const L1_INSTRUCTIONS: u64 = 1;
const LAST_LEVEL: u64 = 2;
const TLB_DATA: u64 = 3;
const TLB_INSTRUCTIONS: u64 = 4;
const BRANCH_UNIT: u64 = 5;
const READ_HIT: u64 = 0;
const READ_MISS: u64 = 1 << 16;
const WRITE_HIT: u64 = 1 << 8;
const WRITE_MISS: u64 = 1 << 8 | 1 << 16;

// PERF_COUNT_HW_CACHE_*: what the kernel calls an access is a hit to node_exporter.
profilers! {
    CACHE, TYPE_CACHE,
    0 "L1DataReadHit" L1_DATA | READ_HIT, "cache_l1d_read_hits", "Reads of the first cache of data.";
    0 "L1DataReadMiss" L1_DATA | READ_MISS, "cache_l1d_read_misses",
        "Reads that the first cache of data had nothing for.";
    1 "L1DataWriteHit" L1_DATA | WRITE_HIT, "cache_l1d_write_hits", "Writes to the first cache of data.";
    1 "L1InstrReadMiss" L1_INSTRUCTIONS | READ_MISS, "cache_l1_instr_read_misses",
        "Reads that the first cache of instructions had nothing for.";
    2 "LLReadHit" LAST_LEVEL | READ_HIT, "cache_ll_read_hits", "Reads of the last cache.";
    2 "LLReadMiss" LAST_LEVEL | READ_MISS, "cache_ll_read_misses", "Reads that the last cache had nothing for.";
    3 "LLWriteHit" LAST_LEVEL | WRITE_HIT, "cache_ll_write_hits", "Writes to the last cache.";
    3 "LLWriteMiss" LAST_LEVEL | WRITE_MISS, "cache_ll_write_misses",
        "Writes that the last cache had nothing for.";
    4 "InstrTLBReadHit" TLB_INSTRUCTIONS | READ_HIT, "cache_tlb_instr_read_hits",
        "Addresses of instructions looked up.";
    4 "InstrTLBReadMiss" TLB_INSTRUCTIONS | READ_MISS, "cache_tlb_instr_read_misses",
        "Addresses of instructions for which the page tables were walked.";
    5 "DataTLBReadHit" TLB_DATA | READ_HIT, "cache_tlb_data_read_hits", "Addresses looked up to read data.";
    5 "DataTLBReadMiss" TLB_DATA | READ_MISS, "cache_tlb_data_read_misses",
        "Addresses to read data for which the page tables were walked.";
    6 "DataTLBWriteHit" TLB_DATA | WRITE_HIT, "cache_tlb_data_write_hits", "Addresses looked up to write data.";
    6 "DataTLBWriteMiss" TLB_DATA | WRITE_MISS, "cache_tlb_data_write_misses",
        "Addresses to write data for which the page tables were walked.";
    7 "BPUReadHit" BRANCH_UNIT | READ_HIT, "cache_bpu_read_hits", "Branches foreseen.";
    7 "BPUReadMiss" BRANCH_UNIT | READ_MISS, "cache_bpu_read_misses", "Branches that could not be foreseen.";
}

const ALL: usize = HARDWARE.len() + SOFTWARE.len() + CACHE.len();

/// The families of all profilers, and one more.
pub(super) const fn with_profilers(other: &'static Family) -> [&'static Family; ALL + 1] {
    let mut families = [other; ALL + 1];
    let tables = [HARDWARE, SOFTWARE, CACHE];
    let (mut table, mut place) = (0, 0);
    while table < tables.len() {
        let mut n = 0;
        while n < tables[table].len() {
            families[place] = &tables[table][n].family;
            n += 1;
            place += 1;
        }
        table += 1;
    }
    families
}
