//! The tables against the plain definition, computed with whole numbers.

extern crate std;

use std::collections::HashSet;
use std::vec::Vec;

use super::*;

/// Little-endian digits of 32 bits.
fn multiply(a: &[u32], by: u64) -> Vec<u32> {
    let mut product = Vec::new();
    let mut carry = 0u128;
    for &digit in a {
        carry += u128::from(digit) * u128::from(by);
        product.push(carry as u32);
        carry >>= 32;
    }
    while carry > 0 {
        product.push(carry as u32);
        carry >>= 32;
    }
    product
}

fn at_most(a: &[u32], b: &[u32]) -> bool {
    let width = a.len().max(b.len());
    let digit = |n: &[u32], i| n.get(i).copied().unwrap_or(0);
    (0..width).rev().find(|&i| digit(a, i) != digit(b, i)).is_none_or(|i| digit(a, i) < digit(b, i))
}

/// Whether `ns` nanoseconds are at most 2^(index/8) seconds: ns^8 * 2^-index <= 10^72.
fn within(ns: u64, index: i32) -> bool {
    let (mut left, mut right) = (std::vec![1], std::vec![1]);
    for _ in 0..8 {
        left = multiply(&left, ns);
        right = multiply(&right, 1_000_000_000);
    }
    for _ in 0..index.abs() {
        let side = if index < 0 { &mut left } else { &mut right };
        *side = multiply(side, 2);
    }
    at_most(&left, &right)
}

#[test]
fn every_native_bound_is_the_exact_floor() {
    for index in NATIVE_FIRST - 1..=NATIVE_LAST {
        let bound = native_upper_ns(index);
        assert!(within(bound, index) && !within(bound + 1, index), "2^({index}/8) s is not {bound} ns");
    }
}

#[test]
fn every_classic_bound_is_what_its_label_says() {
    for (ns, label) in CLASSIC {
        let seconds: f64 = label.parse().unwrap();
        assert_eq!(ns as f64, (seconds * 1e9).round(), "{label}");
    }
}

#[test]
fn a_wait_lies_in_the_bucket_whose_bounds_hold_it() {
    let plain = |wait: u64| UPPER_NS[..BOUNDS].partition_point(|&upper| upper < wait);
    let around_bounds = UPPER_NS[..BOUNDS].iter().flat_map(|&b| [b - 1, b, b + 1]);
    let spread =
        (0..64).flat_map(|bit| (0..997u64).map(move |i| (1u64 << bit).wrapping_add((i << bit) / 997)));
    for wait in (0..70_000).chain(around_bounds).chain(spread).chain([u64::MAX]) {
        assert_eq!(bucket(wait), plain(wait), "{wait} ns");
    }
}

#[test]
fn buckets_map_to_both_forms_without_error() {
    assert_eq!(UPPER_NS[0], 953);
    assert_eq!(native_index(0), None);
    for b in 1..=BOUNDS {
        let index = native_index(b).unwrap();
        assert!(UPPER_NS[b - 1] >= native_upper_ns(index - 1), "bucket {b} begins in native bucket {index}");
        assert!(index > NATIVE_LAST || UPPER_NS[b] <= native_upper_ns(index), "bucket {b} ends in it");
        let classic = classic_index(b);
        assert!(classic == 0 || UPPER_NS[b - 1] >= CLASSIC[classic - 1].0);
        assert!(classic == CLASSIC.len() || UPPER_NS[b] <= CLASSIC[classic].0);
    }
    assert_eq!(native_index(BOUNDS), Some(NATIVE_LAST + 1));
    assert_eq!(classic_index(BOUNDS), CLASSIC.len());
}

#[test]
fn pids_share_a_slot_only_with_another_tag() {
    for bits in [15, MAX_TASK_BITS] {
        let mut seen = HashSet::new();
        for pid in 1..1u32 << 18 {
            assert!(seen.insert((task_slot(pid, bits), task_tag(pid, bits))), "pid {pid}");
        }
    }
}
