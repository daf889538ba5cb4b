//! What plans must be worth: fewer bytes than the usual matcher finds, and little memory.

use std::sync::Arc;

use super::*;
use crate::encode::layout::Ordered;
use crate::encode::plan::Desk;
use crate::encode::plan_chain::Chain;
use crate::encode::protobuf::encode_varint;
use crate::encode::remote_write::{Options, Protocol};
use crate::encode::snappy::Matcher;
use crate::model::{Batch, Form, Kind, SeriesSpec, SeriesTable, Shape, Source};

/// CPUs and modes, with counters that move, counters that stand still, and zeros.
fn batch(tick: u64) -> Batch {
    let table = Arc::new(SeriesTable::default());
    let (mut floats, mut values) = (Vec::new(), Vec::new());
    for cpu in 0..40u64 {
        for (number, mode) in (0..).zip(["idle", "iowait", "irq", "system", "user"]) {
            let id = table.lock().acquire(&SeriesSpec {
                name: "node_cpu_seconds_total",
                family: "node_cpu_seconds_total",
                kind: Kind::Counter,
                help: "Seconds.",
                unit: "",
                labels: &[("cpu", &cpu.to_string()), ("mode", mode)],
            });
            floats.push((id, Form::Always));
            values.push(
                [(cpu * 1000 + tick * 17) as f64, 0.0, cpu as f64, 0.25, 1e6 / 7.0 + tick as f64][number],
            );
        }
    }
    let labels = vec![("job".to_owned(), "node".to_owned()), ("instance".to_owned(), "host:9100".to_owned())];
    let source = Arc::new(Source { name: "host/cpu".into(), labels });
    let shape = Shape::new(source, table, floats, Vec::new());
    let mut batch = Batch::default();
    (batch.shape, batch.time_ms, batch.values) = (Some(shape), 1_790_000_000_000 + tick as i64, values);
    batch
}

#[test]
fn a_plan_is_smaller_than_what_a_matcher_finds_also_for_later_values() {
    for (protocol, quick) in
        [(Protocol::V1, false), (Protocol::V2, false), (Protocol::V1, true), (Protocol::V2, true)]
    {
        let options = Options { protocol, ..Options::default() };
        let first = batch(0);
        let mut layout = Layout::default();
        let order = [0];
        layout.lay_out(&options, Ordered { batches: &&[&first][..], order: &order });
        let mut plan = match quick {
            false => Search::default().plan(&layout).unwrap(),
            true => Chain::default().plan(&layout).unwrap(),
        };
        let bound = if quick { 50 } else { 35 };
        assert!(plan.memory() < bound * plan.records.len(), "{} bytes", plan.memory());
        for tick in 0..20 {
            let later = batch(tick);
            let batches = Ordered { batches: &&[&later][..], order: &order };
            layout.lay_out(&options, batches);
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            encode_varint(layout.bytes.len() as u64, &mut ours);
            plan.encode(batches, &mut Desk::default(), &mut ours);
            Matcher::default().encode_elements(&layout.bytes, &mut theirs);
            assert!(snap::raw::Decoder::new().decompress_vec(&ours).unwrap() == layout.bytes);
            println!(
                "{protocol:?} {quick} {} against {} plan {} joined",
                ours.len(),
                theirs.len(),
                plan.memory()
            );
            assert!(ours.len() <= theirs.len(), "{} against {}", ours.len(), theirs.len());
        }
    }
}

#[test]
fn comparing_four_at_a_time_stops_where_comparing_one_by_one_would() {
    for length in 0..20 {
        for differs in 0..=length {
            let mut codes: Vec<u16> = (0..length as u16).chain(0..length as u16).collect();
            if differs < length {
                codes[length + differs] = 999;
            }
            assert_eq!(common(&codes, 0, length, length), differs);
            let mut codes: Vec<u16> = (0..length as u16).chain(0..length as u16).collect();
            if differs < length {
                codes[2 * length - 1 - differs] = 999;
            }
            assert_eq!(common_back(&codes, length, 2 * length, length), differs);
        }
    }
}
