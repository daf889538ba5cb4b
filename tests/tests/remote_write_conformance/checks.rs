//! What a recording must show: one function for each duty. Each gives what is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use collector_tests::recording::{Exchange, Recording, Series, Version, Wire};

pub use crate::more::{
    bare_counters_arrive, custom_buckets_arrive, custom_buckets_stay_away, exemplars_arrive,
    float_histograms_arrive, help_and_unit_are_said, histograms_rise, integer_histograms_arrive,
    metadata_says_what_families_are, samples_and_histograms_are_apart, starts_are_said,
};

pub type Check = fn(&Recording, Version) -> Result<(), String>;
pub type Verdict = Result<(), String>;

const STALE: u64 = 0x7ff0_0000_0000_0002;

pub fn ensure(is_so: bool, why: impl FnOnce() -> String) -> Verdict {
    if is_so { Ok(()) } else { Err(why()) }
}

fn each(recording: &Recording, check: impl Fn(&Exchange) -> Verdict) -> Verdict {
    ensure(!recording.is_empty(), || "nothing was sent".into())?;
    recording
        .iter()
        .enumerate()
        .try_for_each(|(at, exchange)| check(exchange).map_err(|why| format!("request {at}: {why}")))
}

fn each_wire(recording: &Recording, check: impl Fn(&Wire) -> Verdict) -> Verdict {
    each(recording, |exchange| check(&exchange.wire()?))
}

/// The points of every series in the order in which they were accepted.
pub fn accepted(recording: &Recording) -> Result<BTreeMap<String, Vec<(i64, u64)>>, String> {
    let mut all: BTreeMap<String, Vec<(i64, u64)>> = BTreeMap::new();
    for exchange in recording.iter().filter(|exchange| exchange.is_accepted()) {
        for series in exchange.wire()?.series {
            all.entry(series.key()).or_default().extend(series.samples);
        }
    }
    Ok(all)
}

fn points_of(recording: &Recording, name: &str) -> Result<Vec<(i64, u64)>, String> {
    let name = format!("__name__={name:?},");
    let all = accepted(recording)?;
    let found = all.into_iter().find(|(key, _)| key.contains(&name));
    found.map(|(_, points)| points).ok_or(format!("{name} did not arrive"))
}

pub fn posts(recording: &Recording, _: Version) -> Verdict {
    each(recording, |exchange| {
        ensure(exchange.first_line == "POST /api/v1/write HTTP/1.1", || exchange.first_line.clone())
    })
}

pub fn has_headers(recording: &Recording, version: Version) -> Verdict {
    let expected = match version {
        Version::One => [("content-type", "application/x-protobuf"), ("version", "0.1.0")],
        Version::Two => [
            ("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
            ("version", "2.0.0"),
        ],
    };
    each(recording, |exchange| {
        for (name, value) in expected {
            let name = if name == "version" { "x-prometheus-remote-write-version" } else { name };
            ensure(exchange.header(name) == value, || format!("{name}: {}", exchange.header(name)))?;
        }
        ensure(exchange.header("content-encoding") == "snappy", || "not said to be snappy".into())?;
        ensure(exchange.header("user-agent").starts_with("collector/"), || "no user agent".into())
    })
}

pub fn is_a_snappy_block(recording: &Recording, _: Version) -> Verdict {
    each(recording, |exchange| {
        // The framed format would begin with this chunk.
        ensure(!exchange.body.starts_with(b"\xff\x06\x00\x00sNaPpY"), || "framed".into())?;
        exchange.wire().map(drop)
    })
}

pub fn labels_are_sorted_and_unique(recording: &Recording, _: Version) -> Verdict {
    each_wire(recording, |wire| {
        wire.series.iter().try_for_each(|series| {
            let sorted = series.labels.windows(2).all(|pair| pair[0].0 < pair[1].0);
            ensure(sorted, || series.key())
        })
    })
}

pub fn labels_are_not_empty(recording: &Recording, _: Version) -> Verdict {
    each_wire(recording, |wire| {
        wire.series.iter().try_for_each(|series| {
            let empty = series.labels.iter().any(|(name, value)| name.is_empty() || value.is_empty());
            ensure(!empty && !series.name().is_empty(), || series.key())
        })
    })
}

pub fn names_are_of_the_legacy_charset(recording: &Recording, _: Version) -> Verdict {
    let is_name = |name: &str, colon: bool| {
        let first = !name.starts_with(|c: char| c.is_ascii_digit());
        first && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || colon && c == ':')
    };
    each_wire(recording, |wire| {
        wire.series.iter().try_for_each(|series| {
            let labels = series.labels.iter().all(|(name, _)| is_name(name, false));
            ensure(labels && is_name(series.name(), true), || series.key())
        })
    })
}

pub fn an_entry_has_one_sample(recording: &Recording, _: Version) -> Verdict {
    each_wire(recording, |wire| {
        wire.series.iter().try_for_each(|series| {
            ensure(series.samples.len() + series.histograms.len() == 1, || {
                format!(
                    "{}: {} samples, {} histograms",
                    series.key(),
                    series.samples.len(),
                    series.histograms.len()
                )
            })
        })
    })
}

pub fn symbols_are_unique_and_begin_empty(recording: &Recording, _: Version) -> Verdict {
    each_wire(recording, |wire| {
        ensure(wire.symbols.first().is_some_and(String::is_empty), || "the first is not empty".into())?;
        let unique: BTreeSet<&String> = wire.symbols.iter().collect();
        ensure(unique.len() == wire.symbols.len(), || "one stands there twice".into())
    })
}

pub fn references_are_even(recording: &Recording, _: Version) -> Verdict {
    each_wire(recording, |wire| {
        let odd = wire.series.iter().find(|series| series.references % 2 == 1);
        ensure(odd.is_none(), || odd.map(Series::key).unwrap_or_default())
    })
}

pub fn types_are_said(recording: &Recording, _: Version) -> Verdict {
    each_wire(recording, |wire| {
        wire.series.iter().try_for_each(|series| {
            let expected = match series.name() {
                "requests_total" => Some(1),
                "temperature" | "up" => Some(2),
                "latency_seconds_bucket" => Some(3),
                _ => None,
            };
            ensure(series.kind.is_some() && (expected.is_none() || series.kind == expected), || {
                format!("{}: type {:?}", series.key(), series.kind)
            })
        })
    })
}

pub fn metadata_is_sent(recording: &Recording, _: Version) -> Verdict {
    let mut families = BTreeSet::new();
    for exchange in recording {
        let wire = exchange.wire()?;
        ensure(wire.metadata.is_empty() || wire.series.is_empty(), || "beside samples".into())?;
        families.extend(wire.metadata.into_iter().map(|metadata| metadata.family));
    }
    let all = ["requests_total", "temperature", "latency_seconds"];
    let lacks = all.iter().find(|name| !families.contains(**name));
    ensure(lacks.is_none(), || format!("none of {lacks:?}"))
}

pub fn times_rise(recording: &Recording, _: Version) -> Verdict {
    for (series, points) in accepted(recording)? {
        let falls = points.windows(2).find(|pair| pair[1].0 <= pair[0].0);
        ensure(falls.is_none(), || format!("{series}: {falls:?}"))?;
    }
    Ok(())
}

pub fn own_times_arrive(recording: &Recording, _: Version) -> Verdict {
    let times: Vec<i64> = points_of(recording, "with_own_time")?.iter().map(|point| point.0).collect();
    ensure(times == [1_700_000_000_123], || format!("{times:?}"))
}

pub fn several_times_of_a_series_arrive(recording: &Recording, _: Version) -> Verdict {
    let points = points_of(recording, "with_two_times")?;
    let expected = [(1_700_000_000_001, 1.0f64.to_bits()), (1_700_000_000_002, 2.0f64.to_bits())];
    ensure(points == expected, || format!("{points:?}"))
}

/// 1.0 knows no such names: they are escaped, and stay what they are in 2.0.
pub fn names_of_any_character_arrive(recording: &Recording, version: Version) -> Verdict {
    let (name, label) = match version {
        Version::One => ("U__http_2e_requests", "U__service_2e_name=\"shop\""),
        Version::Two => ("http.requests", "service.name=\"shop\""),
    };
    let all = accepted(recording)?;
    let found = all.iter().find(|(key, _)| key.contains(&format!("__name__={name:?},")));
    ensure(found.is_some_and(|(key, points)| key.contains(label) && points.len() >= 5), || {
        format!("{name}: {found:?}")
    })
}

pub fn repeated_labels_fail_the_scrape(recording: &Recording, _: Version) -> Verdict {
    let all = accepted(recording)?;
    let of_the_bent = |key: &str| key.contains("job=\"bent\"");
    let up = all.iter().find(|(key, _)| key.contains("__name__=\"up\",") && of_the_bent(key));
    let down = up.is_some_and(|(_, points)| points.iter().all(|point| point.1 == 0));
    ensure(down, || format!("up: {up:?}"))?;
    let other = all.keys().find(|key| {
        of_the_bent(key) && !key.contains("__name__=\"up\",") && !key.contains("__name__=\"scrape_")
    });
    ensure(other.is_none(), || format!("{other:?} was taken"))
}

pub fn what_ends_is_marked(recording: &Recording, _: Version) -> Verdict {
    let points = points_of(recording, "vanishes")?;
    let marks = points.iter().filter(|point| point.1 == STALE).count();
    ensure(points.len() >= 2 && marks == 1 && points[points.len() - 1].1 == STALE, || format!("{points:?}"))
}

pub fn what_fails_is_marked(recording: &Recording, _: Version) -> Verdict {
    let points = points_of(recording, "of_the_one_that_fails")?;
    ensure(points.len() >= 2 && points[points.len() - 1].1 == STALE, || format!("{points:?}"))
}

pub fn nothing_else_is_marked(recording: &Recording, _: Version) -> Verdict {
    for (series, points) in accepted(recording)? {
        let may_end = ["vanishes", "of_the_one_that_fails", "scrape_", "node_", "collector_"];
        let is_marked = points.iter().any(|point| point.1 == STALE);
        let is_ended = may_end.iter().any(|name| series.contains(&format!("__name__=\"{name}")));
        ensure(!is_marked || is_ended, || format!("{series}: {points:?}"))?;
    }
    Ok(())
}

pub fn scrapes_bring_their_own_series(recording: &Recording, _: Version) -> Verdict {
    let all = accepted(recording)?;
    for name in ["up", "scrape_duration_seconds", "scrape_samples_scraped"] {
        let key = format!("__name__={name:?},");
        let found = all.iter().find(|(series, _)| series.contains(&key) && series.contains("job=\"whole\""));
        ensure(found.is_some_and(|(_, points)| points.len() >= 2), || format!("{name} is missing"))?;
    }
    let up =
        all.iter().find(|(series, _)| series.contains("__name__=\"up\",") && series.contains("\"fails\""));
    let last = up.and_then(|(_, points)| points.last());
    ensure(last.is_some_and(|point| point.1 == 0), || format!("up of the one that fails: {last:?}"))
}

pub fn labels_of_the_target_win(recording: &Recording, _: Version) -> Verdict {
    let all = accepted(recording)?;
    let found = all.keys().find(|key| key.contains("\"with_a_job\""));
    ensure(
        found.is_some_and(|key| key.contains("exported_job=\"own\"") && key.contains(",job=\"whole\"")),
        || format!("{found:?}"),
    )
}

pub fn external_labels_are_there(recording: &Recording, _: Version) -> Verdict {
    each_wire(recording, |wire| {
        let lacks = wire.series.iter().find(|series| series.label("cluster") != "test");
        ensure(lacks.is_none(), || lacks.map(Series::key).unwrap_or_default())
    })
}

/// Requests that are the same, in groups.
fn repeats(recording: &Recording) -> BTreeMap<&[u8], Vec<&Exchange>> {
    let mut groups: BTreeMap<&[u8], Vec<&Exchange>> = BTreeMap::new();
    for exchange in recording {
        groups.entry(&exchange.body).or_default().push(exchange);
    }
    groups
}

pub fn a_fault_is_answered_by_the_same_request(recording: &Recording, _: Version) -> Verdict {
    let failed = recording.iter().filter(|exchange| exchange.status >= 500 || exchange.status == 429);
    ensure(failed.clone().count() > 0, || "there was no fault".into())?;
    let groups = repeats(recording);
    for exchange in failed {
        let last = groups[exchange.body.as_slice()].last();
        ensure(last.is_some_and(|last| last.is_accepted()), || {
            format!("the request at {:?} was given up", exchange.came)
        })?;
    }
    Ok(())
}

pub fn waits_grow_within_their_bounds(recording: &Recording, _: Version) -> Verdict {
    let group = repeats(recording).into_values().max_by_key(Vec::len).unwrap_or_default();
    ensure(group.len() >= 4, || format!("only {} attempts", group.len()))?;
    let waits: Vec<Duration> =
        group.windows(2).map(|pair| pair[1].came.saturating_sub(pair[0].answered)).collect();
    let mut least = Duration::from_millis(30);
    for wait in &waits {
        // Late is what a busy machine may be; early is what nobody may be.
        ensure(*wait >= least.mul_f64(0.95), || format!("{waits:?}"))?;
        least = (least * 2).min(Duration::from_secs(5));
    }
    ensure(waits.iter().all(|wait| *wait < Duration::from_secs(8)), || format!("{waits:?}"))
}

pub fn what_is_refused_is_not_sent_again(recording: &Recording, _: Version) -> Verdict {
    let refused: Vec<&Exchange> = recording.iter().filter(|e| (400..500).contains(&e.status)).collect();
    ensure(!refused.is_empty(), || "nothing was refused".into())?;
    let mut seen = BTreeSet::new();
    for exchange in recording {
        for series in exchange.wire()?.series {
            for (time, _) in series.samples {
                let is_new = seen.insert((series.labels.clone(), time));
                ensure(is_new, || format!("{:?} at {time} again", series.labels))?;
            }
        }
    }
    let last = refused.iter().map(|exchange| exchange.came).max();
    let goes_on = recording.iter().any(|exchange| exchange.is_accepted() && Some(exchange.came) > last);
    ensure(goes_on, || "nothing came afterwards".into())
}

pub fn patience_is_kept(recording: &Recording, _: Version) -> Verdict {
    let at = recording.iter().position(|exchange| exchange.status == 429).ok_or("no 429")?;
    let next = recording.get(at + 1).ok_or("nothing came afterwards")?;
    let wait = next.came.saturating_sub(recording[at].answered);
    ensure(wait >= Duration::from_millis(1950), || format!("{wait:?}"))
}

pub fn falls_back_to_one(recording: &Recording, _: Version) -> Verdict {
    let first = recording.first().ok_or("nothing was sent")?;
    ensure(first.is_two(), || "the first was not in 2.0".into())?;
    let next = recording.get(1).ok_or("nothing came afterwards")?;
    ensure(!next.is_two() && next.header("content-type") == "application/x-protobuf", || {
        format!("the second was in {}", next.header("x-prometheus-remote-write-version"))
    })?;
    let keys = |exchange: &Exchange| -> Result<BTreeSet<(String, i64)>, String> {
        let wire = exchange.wire()?;
        // A name that 1.0 does not know is another one there.
        let series = wire.series.iter().filter(|series| !series.name().contains("http"));
        let points = series.flat_map(|series| {
            series.samples.iter().map(|sample| (series.key(), sample.0)).collect::<Vec<_>>()
        });
        Ok(points.collect())
    };
    let (wanted, got) = (keys(first)?, keys(next)?);
    ensure(wanted.is_subset(&got) && !wanted.is_empty(), || "samples were lost on the way".into())
}

pub fn remembers_the_fallback(recording: &Recording, _: Version) -> Verdict {
    ensure(recording.len() >= 4, || format!("{} requests", recording.len()))?;
    let again = recording.iter().skip(1).filter(|exchange| exchange.is_two()).count();
    ensure(again == 0, || format!("{again} more in 2.0"))
}

pub fn is_asked_for_two_again(recording: &Recording, _: Version) -> Verdict {
    let refused = recording.iter().find(|exchange| exchange.status == 415).ok_or("2.0 was not refused")?;
    let again = recording.iter().position(|exchange| exchange.is_two() && exchange.is_accepted());
    let again = again.ok_or("2.0 was not tried again")?;
    let wait = recording[again].came.saturating_sub(refused.answered);
    ensure(wait >= Duration::from_secs(29), || format!("after {wait:?}"))?;
    let later = recording[again..].iter().filter(|exchange| !exchange.is_two()).count();
    ensure(recording.len() > again + 1 && later == 0, || format!("{later} in 1.0 afterwards"))
}

fn at_once(requests: &[&Exchange]) -> usize {
    let beside = |one: &&Exchange| {
        requests.iter().filter(|other| other.came <= one.came && one.came < other.answered).count()
    };
    requests.iter().map(beside).max().unwrap_or(0)
}

pub fn requests_go_in_parallel(recording: &Recording, _: Version) -> Verdict {
    let most = at_once(&recording.iter().collect::<Vec<_>>());
    ensure(most >= 3, || format!("{most} at once"))
}

pub fn a_large_target_goes_in_parallel(recording: &Recording, _: Version) -> Verdict {
    let mut of_it = Vec::new();
    for exchange in recording {
        if exchange.wire()?.series.iter().any(|series| series.name() == "wide") {
            of_it.push(exchange);
        }
    }
    let most = at_once(&of_it);
    ensure(most >= 3, || format!("{most} of {} at once", of_it.len()))
}

pub fn a_series_is_in_one_request_at_a_time(recording: &Recording, _: Version) -> Verdict {
    let mut busy: BTreeMap<String, Duration> = BTreeMap::new();
    for exchange in recording {
        for key in exchange.wire()?.series.iter().map(Series::key).collect::<BTreeSet<_>>() {
            let until = busy.insert(key.clone(), exchange.answered).unwrap_or_default();
            ensure(exchange.came >= until, || format!("{key} at {:?} before {until:?}", exchange.came))?;
        }
    }
    Ok(())
}

pub fn requests_are_of_the_size_that_was_asked(recording: &Recording, _: Version) -> Verdict {
    each_wire(recording, |wire| ensure(wire.series.len() <= 100, || format!("{} series", wire.series.len())))
}

pub fn nothing_is_lost(recording: &Recording, _: Version) -> Verdict {
    let points = points_of(recording, "counts_up")?;
    let mut values: Vec<u64> = points.iter().map(|point| f64::from_bits(point.1) as u64).collect();
    values.dedup();
    ensure(values.len() >= 5, || format!("{values:?}"))?;
    let whole = values.windows(2).all(|pair| pair[1] == pair[0] + 1);
    ensure(whole, || format!("{values:?}"))
}
