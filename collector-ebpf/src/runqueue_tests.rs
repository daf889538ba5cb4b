//! Slots of tasks.

extern crate std;

use std::collections::HashSet;

use super::*;

#[test]
fn pids_share_a_slot_only_with_another_tag() {
    for bits in [15, MAX_TASK_BITS] {
        let mut seen = HashSet::new();
        for pid in 1..1u32 << 18 {
            assert!(seen.insert((task_slot(pid, bits), task_tag(pid, bits))), "pid {pid}");
        }
    }
}
