//! The tables against the plain definition, computed with whole numbers.

extern crate std;

use std::vec::Vec;

use super::*;
use crate::runqueue::{WAIT, WAIT_TABLES};

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

type Find = fn(u64) -> usize;

const SPECS: [(&Spec, &[u64], Find); 3] = [
    (&WAIT, &WAIT_TABLES.upper, |value| WAIT_TABLES.bucket(value)),
    (&TIME, &TIME_TABLES.upper, |value| TIME_TABLES.bucket(value)),
    (&SIZE, &SIZE_TABLES.upper, |value| SIZE_TABLES.bucket(value)),
];

/// Whether `value` is at most 2^(index/parts) units, by `value^parts * 2^-index <= unit^parts` with `parts = 2^schema`.
fn within(spec: &Spec, value: u64, index: i32) -> bool {
    let (mut left, mut right) = (std::vec![1], std::vec![1]);
    for _ in 0..1 << spec.schema {
        left = multiply(&left, value);
        right = multiply(&right, spec.unit);
    }
    for _ in 0..index.abs() {
        let side = if index < 0 { &mut left } else { &mut right };
        *side = multiply(side, 2);
    }
    at_most(&left, &right)
}

#[test]
fn every_native_bound_is_the_exact_floor() {
    for (spec, ..) in SPECS {
        let (first, last) = spec.native_range();
        for index in first - 1..=last {
            let bound = spec.native_upper(index);
            assert!(within(spec, bound, index) && !within(spec, bound + 1, index), "{index} is not {bound}");
        }
    }
}

#[test]
fn every_classic_bound_is_what_its_label_says() {
    for (spec, ..) in SPECS {
        for (bound, label) in spec.classic {
            let value: f64 = label.parse().unwrap();
            assert_eq!(*bound as f64, (value * spec.unit as f64).round(), "{label}");
        }
    }
}

#[test]
fn a_value_lies_in_the_bucket_whose_bounds_hold_it() {
    for (spec, upper, find) in SPECS {
        let uppers = &upper[..spec.bounds()];
        let around_bounds = uppers.iter().flat_map(|&b| [b.saturating_sub(1), b, b + 1]);
        let spread =
            (0..64).flat_map(|bit| (0..997u64).map(move |i| (1u64 << bit).wrapping_add((i << bit) / 997)));
        for value in (0..70_000).chain(around_bounds).chain(spread).chain([u64::MAX]) {
            assert_eq!(find(value), uppers.partition_point(|&upper| upper < value), "{value}");
        }
    }
}

#[test]
fn buckets_map_to_both_forms_without_error() {
    assert_eq!((WAIT_TABLES.upper[0], TIME_TABLES.upper[0], SIZE_TABLES.upper[0]), (953, 953, 256));
    for (spec, uppers, _) in SPECS {
        let (_, last) = spec.native_range();
        for b in 1..=spec.bounds() {
            let (below, upper) = (uppers[b - 1], uppers[b]);
            let index = spec.native_index(upper);
            assert!(below >= spec.native_upper(index - 1), "bucket {b} begins in native bucket {index}");
            assert!(index > last || upper <= spec.native_upper(index), "bucket {b} ends in it");
            let classic = spec.classic_index(upper);
            assert!(classic == 0 || below >= spec.classic[classic - 1].0);
            assert!(classic == spec.classic.len() || upper <= spec.classic[classic].0);
        }
        let overflow = uppers[spec.bounds()];
        assert_eq!(
            (spec.native_index(overflow), spec.classic_index(overflow)),
            (last + 1, spec.classic.len())
        );
    }
}
