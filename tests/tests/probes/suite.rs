//! The suite as a whole: each probe alone and all at once, in both kinds of programs; what one costs the others.

use collector::sources::ebpf::{Attachment, EbpfOptions, PROBES, list};
use collector_tests::probe::{Probe, alone, is_locked_out};

fn every_name() -> Vec<String> {
    PROBES.iter().map(|probe| probe.name.to_owned()).collect()
}

#[test]
fn every_probe_runs_in_both_kinds_of_programs() {
    let test = "every_probe_runs_in_both_kinds_of_programs";
    let _alone = alone();
    for attachment in [Attachment::Typed, Attachment::Raw] {
        for row in PROBES {
            let name = row.name.to_owned();
            let options = EbpfOptions { probes: vec![name.clone()], attachment, ..EbpfOptions::default() };
            if is_locked_out(row) {
                eprintln!("{test}: the kernel is locked down, and the probe {name} says so");
                continue;
            }
            let Some(mut probe) = Probe::start_or_skip(test, &options) else { return };
            probe.tick();
            assert_eq!(probe.value("collector_ebpf_probe_up", &[("probe", &name)]), 1.0);
            println!("RUNS {name} {attachment:?}");
        }
    }
}

#[test]
fn a_damaged_object_costs_its_probe_alone() {
    let test = "a_damaged_object_costs_its_probe_alone";
    let _alone = alone();
    let object = include_bytes!("../../../collector-ebpf/prebuilt/drops.o").to_vec();
    let options = EbpfOptions { probes: every_name(), object: Some(object), ..EbpfOptions::default() };
    let mut probe = Probe::start(&options);
    if probe.failure().is_some_and(|(reason, _)| reason == "not_permitted") {
        return collector_tests::skip::skip(test, "not permitted");
    }
    probe.tick();
    // It fits one of them; the others say that it does not, each for itself.
    assert_eq!(probe.value("collector_ebpf_probe_up", &[("probe", "drops")]), 1.0);
    assert_eq!(probe.value("collector_ebpf_probe_up", &[]), 1.0);
    assert_eq!(probe.reader.failures().count(), PROBES.len() - 1);
    assert!(probe.reader.failures().all(|(_, reason, _)| matches!(reason, "bad_object" | "rejected")));
}

#[test]
fn the_memory_of_all_maps_is_bounded() {
    let test = "the_memory_of_all_maps_is_bounded";
    let _alone = alone();
    let wanted = PROBES.iter().filter(|probe| probe.default_on && !is_locked_out(probe));
    let probes = wanted.map(|probe| probe.name.to_owned());
    let options = EbpfOptions { probes: probes.collect(), ..EbpfOptions::default() };
    let Some(mut probe) = Probe::start_or_skip(test, &options) else { return };
    probe.tick();
    let text = list::text(list::Whose::Own);
    println!("{text}");
    let bytes = text
        .lines()
        .skip(1)
        .take(PROBES.len())
        .map(|line| line.split_whitespace().nth(5).unwrap().parse::<u64>().unwrap());
    let sum = bytes.sum::<u64>();
    assert!(sum > 0 && sum <= 16 << 20, "{sum} bytes");
}

#[test]
fn series_say_since_when_they_count() {
    let test = "series_say_since_when_they_count";
    let _alone = alone();
    let Some(mut probe) = Probe::named_or_skip(test, "runqueue") else { return };
    probe.tick();
    let guard = probe.table.lock();
    let mut seen = 0;
    for batch in &probe.batches {
        for (place, (id, _)) in batch.shape().floats().iter().enumerate() {
            let (name, start) = (guard.view(*id).name(), batch.shape().float_start(place));
            let expected = match name {
                // One whose name comes back begins anew; a gauge has no beginning.
                name if name.starts_with("collector_cgroup_")
                    || name.ends_with("_info")
                    || name.ends_with("_up") =>
                {
                    0
                }
                _ => {
                    seen += 1;
                    start.max(1_600_000_000_000)
                }
            };
            assert_eq!(start, expected, "{name}");
        }
        for place in 0..batch.shape().histograms().len() {
            assert!(batch.shape().histogram_start(place) > 1_600_000_000_000);
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen} series count since the start");
}
