//! Order within a lane, whatever is asked and settled when.

use std::sync::Arc;

use super::*;
use crate::model::Batch;

fn batch(samples: usize) -> Arc<Batch> {
    let mut batch = Batch::default();
    batch.values.resize(samples, 1.0);
    Arc::new(batch)
}

fn filled(lanes: &[usize]) -> Lanes {
    let mut all = Lanes::new(&[0; LANES]);
    for (number, &lane) in (0u64..).zip(lanes) {
        all.push(lane, Numbered { sequence: number * 10, batch: batch(10) }, None);
    }
    all
}

fn take(lanes: &mut Lanes, most: usize, max_samples: usize) -> (LaneSet, Vec<u64>) {
    let mut out = Vec::new();
    let taken = lanes.take(most, max_samples, false, &mut out);
    (taken, out.iter().map(|numbered| numbered.sequence).collect())
}

#[test]
fn one_request_takes_from_all_lanes_in_the_order_of_the_log() {
    let mut lanes = filled(&[3, 63, 3, 0]);
    let (taken, numbers) = take(&mut lanes, LANES, 100);
    assert_eq!(numbers, [0, 10, 20, 30]);
    assert_eq!((taken.iter().count(), lanes.samples(), lanes.ready(), lanes.batches()), (3, 0, 0, 0));
    assert_eq!(take(&mut lanes, LANES, 100), (LaneSet::default(), vec![]));
    assert_eq!(lanes.places(40)[3], 0);
    assert_eq!(lanes.places(40)[63], 10);
    assert_eq!(lanes.places(40)[7], 40, "nothing of this lane is open");
    lanes.settle(taken);
    assert_eq!(lanes.places(40), [40; LANES]);
}

#[test]
fn a_lane_is_in_one_request_at_a_time() {
    let mut lanes = filled(&[1, 1, 2, 1, 2, 3]);
    let (first, numbers) = take(&mut lanes, 1, 20);
    assert_eq!(numbers, [0, 10], "two of lane 1");
    assert_eq!(lanes.ready(), 30, "not the third of lane 1");
    let (second, numbers) = take(&mut lanes, 1, 100);
    assert_eq!(numbers, [20, 40]);
    lanes.push(2, Numbered { sequence: 60, batch: batch(10) }, None);
    assert_eq!((lanes.ready(), lanes.samples()), (10, 30));
    lanes.settle(second);
    assert_eq!((lanes.places(70)[2], lanes.places(70)[1], lanes.places(70)[3]), (60, 0, 50));
    let (third, numbers) = take(&mut lanes, 5, 100);
    assert_eq!(numbers, [50, 60], "lanes 3 and 2");
    lanes.settle(first);
    assert_eq!(take(&mut lanes, 5, 5).1, [30], "one that is too large goes alone");
    lanes.settle(third);
}

#[test]
fn a_request_reaches_over_as_many_lanes_as_fill_it() {
    let all: Vec<usize> = (0..LANES).collect();
    let mut lanes = filled(&all);
    for (max_samples, expected) in
        [(640, 64), (10_000, 64), (639, 64), (630, 32), (320, 32), (100, 8), (10, 1), (1, 1)]
    {
        assert_eq!(lanes.lanes_for(max_samples), expected, "{max_samples} of 640");
    }
    let (taken, numbers) = take(&mut lanes, 8, 80);
    assert_eq!((taken.iter().count(), numbers.len()), (8, 8));
    assert_eq!(lanes.lanes_for(80), 8, "the others hold as much each");
    assert_eq!(filled(&[1, 20, 40]).lanes_for(10), 16, "a third of all lanes, for one of the three in use");
}

#[test]
fn requests_of_whole_rounds_are_of_few_lengths() {
    for (round, waiting, expected) in
        [(100, 5000, 20), (100, 1900, 20), (100, 1890, 16), (100, 650, 4), (100, 0, 1), (3000, 9000, 1)]
    {
        assert_eq!(whole_rounds(round, waiting, 2000), expected, "{round} {waiting}");
    }
}

#[test]
fn what_a_lane_had_settled_before_the_start_stays_settled() {
    let mut settled = [10; LANES];
    settled[9] = 70;
    let mut lanes = Lanes::new(&settled);
    assert_eq!((lanes.settled(9), lanes.places(10)[9], lanes.places(10)[8]), (70, 70, 10));
    lanes.push(9, Numbered { sequence: 80, batch: batch(10) }, None);
    assert_eq!(lanes.places(90)[9], 80);
}

#[test]
fn a_source_keeps_its_lane_for_ever() {
    // Files on disks hold places by these numbers.
    assert_eq!((lane_of("host/cpu"), lane_of("self"), lane_of("")), (LANE_OF_CPU, LANE_OF_SELF, 0));
    let used: LaneSet = (0..1000).fold(LaneSet::default(), |mut set, n| {
        set.insert(lane_of(&format!("job/{n}")));
        set
    });
    assert_eq!(used.iter().count(), LANES);
}

const LANE_OF_CPU: usize = 31;
const LANE_OF_SELF: usize = 35;
