//! Pages that change, come back, and are shared.
use super::*;

fn page(series: &[u32]) -> String {
    let mut page = "# HELP m M.\n# TYPE m gauge\n".to_owned();
    for n in series {
        page += &format!("m{{n=\"{n}\"}} {n}.5\n");
    }
    page
}

fn expected(series: &[u32]) -> Vec<String> {
    series.iter().map(|n| sample("m", &format!("n=\"{n}\""), &format!("{n}.5"))).collect()
}

#[test]
fn an_equal_page_keeps_its_shape() {
    let mut target = Target::new(rules());
    let all: Vec<u32> = (0..50).collect();
    target.read(&page(&all));
    assert_eq!(target.report("scrape_series_added"), 50.0);
    let first = target.last.clone().unwrap().id();
    target.read(&page(&all));
    assert_eq!(target.last.clone().unwrap().id(), first);
    for (name, value) in [
        ("up", 1.0),
        ("scrape_samples_scraped", 50.0),
        ("scrape_samples_post_metric_relabeling", 50.0),
        ("scrape_series_added", 0.0),
    ] {
        assert_eq!(target.report(name), value, "{name}");
    }
}

#[test]
fn insertions_removals_moves_and_returns_are_followed() {
    let mut target = Target::new(rules());
    let mut series: Vec<u32> = (0..40).collect();
    let mut changes: Vec<(Vec<u32>, usize)> = vec![(series.clone(), 40)];
    series.insert(20, 100);
    changes.push((series.clone(), 1));
    series.drain(5..25);
    changes.push((series.clone(), 0));
    series.reverse();
    changes.push((series.clone(), 0));
    series.rotate_left(7);
    series.insert(0, 200);
    series.push(300);
    changes.push((series.clone(), 2));
    changes.push((Vec::new(), 0));
    changes.push((vec![7, 8], 2));
    changes.push(((0..40).collect(), 38));
    for (series, added) in changes {
        for (round, added) in [(0, added), (1, 0)] {
            let outcome = target.try_read(page(&series).as_bytes(), Format::Text).unwrap();
            assert_eq!(target.said(), expected(&series), "round {round}");
            assert_eq!((outcome.added, outcome.scraped, outcome.kept), (added, series.len(), series.len()));
        }
    }
}

#[test]
fn a_page_that_goes_to_and_fro_comes_back_to_its_shapes() {
    let mut target = Target::new(rules());
    let (a, b): (Vec<u32>, Vec<u32>) = ((0..20).collect(), (0..20).filter(|n| n % 5 != 0).collect());
    let mut ids = Vec::new();
    for _ in 0..3 {
        for series in [&a, &b] {
            assert_eq!(target.read(&page(series)), expected(series));
            ids.push(target.last.as_ref().unwrap().id());
        }
    }
    assert_eq!(ids[..2], ids[2..4]);
    assert_eq!(ids[..2], ids[4..]);
}

#[test]
fn targets_with_equal_pages_share_their_lists_and_change_alike() {
    let (layouts, table) = (Layouts::new(), Arc::default());
    let instances: Vec<String> = (0..20).map(|n| format!("host-{n}:1")).collect();
    let mut targets: Vec<Target> = instances
        .iter()
        .map(|instance| Target::with(rules(), &[("instance", instance), ("job", "x")], &layouts, &table))
        .collect();
    for series in [
        (0..30).collect::<Vec<u32>>(),
        (0..30).filter(|n| n % 7 != 3).chain([99]).collect(),
        (0..5).collect(),
    ] {
        let mut lists = Vec::new();
        for target in &mut targets {
            target.read(&page(&series));
            lists.push(target.last.as_ref().unwrap().list().id());
        }
        lists.dedup();
        assert_eq!(lists.len(), 1, "one list for all");
    }
    assert_eq!(table.len(), 26 + 1 + 1 + 5, "the layout before is still known");
    for target in &mut targets {
        (0..=STEADY).for_each(|_| _ = target.read(&page(&[1, 2])));
    }
    assert_eq!(table.len(), 2 + 5, "what went is forgotten");
    // One page of its own costs the others nothing.
    targets[3].read(&page(&[1, 77, 2]));
    targets[4].read(&page(&[1, 2]));
    assert_ne!(targets[3].last.as_ref().unwrap().list().id(), targets[4].last.as_ref().unwrap().list().id());
    drop(targets);
    assert_eq!(table.len(), 0, "all memory returns");
}

#[test]
fn repeated_series_count_once_and_the_first_wins() {
    let mut target = Target::new(rules());
    for _ in 0..2 {
        let outcome =
            target.try_read(b"a{x=\"1\",y=\"2\"} 1\nb 2\na{y=\"2\",x=\"1\"} 3\nb 4\n", Format::Text).unwrap();
        assert_eq!(target.said(), [sample("a", "x=\"1\",y=\"2\"", "1"), sample("b", "", "2")]);
        assert_eq!((outcome.scraped, outcome.kept, outcome.duplicates), (4, 4, 2));
    }
    assert_eq!(
        target.read("b 5\na{y=\"2\",x=\"1\"} 3\n"),
        [sample("b", "", "5"), sample("a", "x=\"1\",y=\"2\"", "3")]
    );
}

#[test]
fn own_times_are_sent_once_and_in_order() {
    let mut target = Target::new(rules());
    let t = START;
    let page = |a: &[i64]| a.iter().map(|n| format!("a {n} {}\n", t + n)).collect::<String>() + "b 7\n";
    let at = |n: i64| sample("a", "", &format!("{n} @{}", t + n));
    let none = |n: i64| sample("a", "", &format!("{n} none"));
    let b = sample("b", "", "7");
    assert_eq!(target.read(&page(&[1, 2, 2, 1])), [at(1), at(2), none(2), none(1), b.clone()]);
    assert_eq!(target.read(&page(&[2, 3, 4, 5])), [none(2), at(3), at(4), at(5), b.clone()]);
    assert_eq!(target.read("b 7\n"), std::slice::from_ref(&b));
    assert_eq!(target.read(&page(&[700_000])), [none(700_000), b.clone()], "too far ahead");
    assert!(target.last.as_ref().unwrap().floats()[0].1.timed());
    target.read(&page(&[8]));
    target.error(&format!("{}x\n", page(&[9])), Format::Text);
    assert_eq!(target.read(&page(&[9])), [at(9), b.clone()], "a refused page has said nothing");
    assert_eq!(target.read("a 1\nb 7\n"), [sample("a", "", "1"), b.clone()], "without a time again");
    assert!(!target.last.as_ref().unwrap().floats()[0].1.timed());
    let mut target = Target::new(PageRules { honor_timestamps: false, ..rules() });
    assert_eq!(target.read(&page(&[1])), [sample("a", "", "1"), b.clone()]);
    assert_eq!(target.read("a 1\nb 7\n"), [sample("a", "", "1"), b]);
    let mut target = Target::new(PageRules { track_timestamps_staleness: true, ..rules() });
    target.read(&page(&[1]));
    assert!(!target.last.as_ref().unwrap().floats()[0].1.timed(), "ends with a marker");
}

#[test]
fn a_failure_reports_what_the_page_said_and_an_end_ends_all() {
    let mut target = Target::new(PageRules { sample_limit: 2, ..rules() });
    assert_eq!(
        target.error(&page(&[1, 2, 3]), Format::Text),
        "3 samples after metric relabelling, sample_limit is 2"
    );
    let mut said = Vec::new();
    target.reader.fail(Instant::now(), 5, &mut Batch::default, &mut |batch| {
        said = [0, 2, 3, 4].map(|at| batch.values[at]).to_vec();
        assert_eq!((batch.values.len(), batch.time_ms), (5, 5));
    });
    assert_eq!(said, [0.0, 3.0, 3.0, 0.0]);
    target.read(&page(&[1, 2]));
    target.reader.end(6, &mut Batch::default, &mut |batch| {
        assert_eq!((batch.samples(), batch.shape().list().is_empty()), (0, true));
    });
    let table = target.table.clone();
    drop(target);
    assert_eq!(table.len(), 0);
}

#[test]
fn series_beyond_the_limit_are_left_out_until_there_is_room() {
    let mut target = Target::new(PageRules { series_limit: 3, ..rules() });
    let mut read = |series: &[u32]| {
        let outcome = target.try_read(page(series).as_bytes(), Format::Text).unwrap();
        (target.said().len(), outcome.limited)
    };
    assert_eq!(read(&[1, 2, 3, 4, 5]), (3, 2));
    assert_eq!(read(&[1, 2, 3, 4, 5]), (3, 2));
    assert_eq!(read(&[9, 1, 2, 3, 4]), (3, 2), "known ones stay");
    assert_eq!(read(&[9, 1, 4]), (1, 2));
    assert_eq!(read(&[9, 1, 4]), (3, 0));
}

#[test]
fn what_goes_ends_with_one_marker() {
    let mut target = Target::new(rules());
    let (mut staleness, mut marker) = (crate::aggregate::Staleness::default(), Batch::default());
    let table = target.table.clone();
    let mut observe = |batch: &Batch| {
        if !staleness.observe(batch, &mut marker) {
            return Vec::new();
        }
        let shape = marker.shape();
        let guard = shape.table().lock();
        let name =
            |id| guard.view(id).labels().next().map_or(guard.view(id).name().to_owned(), |l| l.1.to_owned());
        shape.floats().iter().map(|&(id, _)| name(id)).collect::<Vec<_>>()
    };
    target.read(&page(&[1, 2, 3]));
    assert_eq!(observe(target.body_of_last.as_ref().unwrap()), [""; 0]);
    target.read(&page(&[3, 1]));
    assert_eq!(observe(target.body_of_last.as_ref().unwrap()), ["2"]);
    for expected in [&["3", "1"][..], &[]] {
        target
            .reader
            .fail(Instant::now(), 1, &mut Batch::default, &mut |batch| assert_eq!(observe(&batch), expected));
    }
    target.read(&page(&[3, 1]));
    assert_eq!(observe(target.body_of_last.as_ref().unwrap()), [""; 0]);
    let mut ended = 0;
    target.reader.end(2, &mut Batch::default, &mut |batch| ended = observe(&batch).len());
    assert_eq!(ended, 2 + 5, "the report too");
    drop(target);
    assert_eq!(staleness.sources(), 0);
    (staleness, marker) = Default::default();
    assert_eq!((table.len(), staleness.sources(), marker.samples()), (0, 0, 0), "all memory returns");
}
