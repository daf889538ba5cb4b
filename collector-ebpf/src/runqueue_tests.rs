//! Slots of tasks.

extern crate std;

use std::collections::HashSet;

use super::*;

#[test]
fn pids_share_a_slot_only_with_another_tag() {
    for bits in [MIN_TASK_BITS, 15, MAX_TASK_BITS] {
        let mut seen = HashSet::new();
        for pid in 1..1u32 << 18 {
            assert!(seen.insert((task_slot(pid, bits), task_tag(pid))), "pid {pid}");
        }
    }
}

#[test]
fn how_a_task_left_is_never_unknown() {
    for cpu in [0, 1, 8191] {
        for sleep in 0..3 {
            let word = left(cpu, sleep);
            assert!(word != 0 && word & TAG_MASK == 0);
            assert_eq!(left_parts(word | task_tag(1 << 21)), (u64::from(cpu), sleep));
        }
    }
}
