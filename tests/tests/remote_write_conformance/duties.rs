//! The table of duties: what each asks for, of which versions, in which run it is looked at, and recordings that
//! break it.

use std::time::Duration;

use crate::checks::{self as check, Check};
use collector_tests::proto::v2;
use collector_tests::recording::{Exchange, Exemplar, Metadata, Recording, Series, Version, Wire};

/// A run of the collector against a receiver of a certain kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Run {
    /// A receiver that takes everything.
    Plain,
    /// 503 four times, then everything.
    Faults,
    /// 400 once, then everything.
    Refuses,
    /// 429 once with two seconds of Retry-After, then everything.
    Throttles,
    /// Takes 400 ms for an answer, in small requests.
    Slow,
    /// Takes 400 ms for most answers and 1400 for some, and is sent what a large target says, which changes.
    Large,
    /// Does not know 2.0, in three manners.
    OldBy415,
    OldBy400,
    OldBySilence,
    /// Does not know 2.0 at first.
    LearnsTwo,
    /// Answers nonsense of many kinds, then takes everything.
    Nonsense,
    /// Takes everything, and more than floats is scraped and asked for.
    More,
}

type Break = fn(&mut Recording);

/// One duty of a sender.
pub struct Duty {
    pub name: &'static str,
    pub run: Run,
    pub of: &'static [Version],
    pub check: Check,
    /// Makes of a good recording one of a sender that breaks the duty.
    pub breaks: &'static [Break],
}

const BOTH: &[Version] = &[Version::One, Version::Two];
const ONE: &[Version] = &[Version::One];
const TWO: &[Version] = &[Version::Two];

fn change(recording: &mut Recording, at: usize, change: impl FnOnce(&mut Wire)) {
    let mut wire = recording[at].wire().unwrap();
    change(&mut wire);
    recording[at].replace(&wire);
}

fn change_all(recording: &mut Recording, mut change: impl FnMut(&mut Series)) {
    for exchange in recording.iter_mut() {
        let mut wire = exchange.wire().unwrap();
        wire.series.iter_mut().for_each(&mut change);
        exchange.replace(&wire);
    }
}

fn change_exemplars(recording: &mut Recording, mut change: impl FnMut(&mut Exemplar)) {
    change_all(recording, |series| series.exemplars.iter_mut().for_each(&mut change));
}

fn change_histograms(recording: &mut Recording, name: &str, mut change: impl FnMut(&mut v2::Histogram)) {
    change_all(recording, |series| {
        if series.name() == name {
            series.histograms.iter_mut().for_each(&mut change);
        }
    });
}

fn change_metadata(recording: &mut Recording, mut change: impl FnMut(&mut Metadata)) {
    for exchange in recording.iter_mut() {
        let mut wire = exchange.wire().unwrap();
        wire.metadata.iter_mut().for_each(&mut change);
        exchange.replace(&wire);
    }
}

fn set_header(recording: &mut Recording, name: &str, value: &str) {
    recording[0].headers.insert(name.into(), value.into());
}

/// The series in which points of `name` are left, the last ones first.
fn points<'a>(wire: &'a mut Wire, name: &'a str) -> impl Iterator<Item = &'a mut Series> {
    wire.series.iter_mut().filter(move |series| series.name() == name)
}

fn last_with(recording: &Recording, name: &str) -> usize {
    let has = |exchange: &Exchange| exchange.wire().unwrap().series.iter().any(|s| s.name() == name);
    recording.iter().rposition(has).expect("the series is there")
}

fn first_failed(recording: &Recording) -> usize {
    recording.iter().position(|exchange| exchange.status >= 400).expect("something failed")
}

macro_rules! duty {
    ($run:ident $of:ident $check:ident [$($break:expr),* $(,)?]) => {
        Duty { name: stringify!($check), run: Run::$run, of: $of, check: check::$check, breaks: &[$($break),*] }
    };
}

pub static DUTIES: &[Duty] = &[
    duty!(Plain BOTH posts [|r| r[0].first_line = "GET /api/v1/write HTTP/1.1".into()]),
    duty!(Plain BOTH has_headers [
        |r| set_header(r, "content-type", "text/plain"),
        |r| set_header(r, "x-prometheus-remote-write-version", "1.0.0"),
        |r| set_header(r, "content-encoding", "gzip"),
        |r| { r[0].headers.remove("user-agent"); },
    ]),
    duty!(Plain BOTH is_a_snappy_block [
        |r| r[0].body = b"\xff\x06\x00\x00sNaPpY".to_vec(),
        |r| { r[0].body.pop(); },
    ]),
    duty!(Plain BOTH labels_are_sorted_and_unique [
        |r| change(r, 0, |wire| wire.series[0].labels.reverse()),
        |r| change(r, 0, |wire| { let label = wire.series[0].labels[0].clone(); wire.series[0].labels.insert(0, label); wire.series[0].references += 2; }),
    ]),
    duty!(Plain BOTH labels_are_not_empty [
        |r| change(r, 0, |wire| wire.series[0].labels[1].1.clear()),
        |r| change(r, 0, |wire| { wire.series[0].labels.retain(|label| label.0 != "__name__"); }),
    ]),
    duty!(Plain ONE names_are_of_the_legacy_charset [
        |r| change(r, 0, |wire| wire.series[0].labels[0].1 = "a.b".into()),
        |r| change(r, 0, |wire| wire.series[0].labels[1].0 = "b:c".into()),
    ]),
    duty!(Plain BOTH an_entry_has_one_sample [
        |r| change(r, 0, |wire| wire.series[0].samples.push((1, 1))),
        |r| change(r, 0, |wire| wire.series[0].histograms.push(Default::default())),
        |r| change(r, 0, |wire| wire.series[0].samples.clear()),
    ]),
    duty!(Plain TWO symbols_are_unique_and_begin_empty [
        |r| change(r, 0, |wire| wire.symbols.swap(0, 1)),
        |r| change(r, 0, |wire| { let symbol = wire.symbols[1].clone(); wire.symbols.push(symbol); }),
    ]),
    duty!(Plain TWO references_are_even [|r| change(r, 0, |wire| wire.series[0].references -= 1)]),
    duty!(Plain TWO types_are_said [
        |r| change(r, 0, |wire| wire.series[0].kind = None),
        |r| change_all(r, |series| series.kind = Some(0)),
    ]),
    duty!(Plain ONE metadata_is_sent [|r| r.retain(|e| e.wire().unwrap().metadata.is_empty())]),
    duty!(Plain BOTH times_rise [
        |r| { let again = r[0].clone(); r.push(again); },
        |r| r.reverse(),
    ]),
    duty!(Plain BOTH own_times_arrive [
        |r| change_all(r, |series| if series.name() == "with_own_time" { series.samples[0].0 += 1 }),
    ]),
    duty!(Plain BOTH several_times_of_a_series_arrive [
        |r| change_all(r, |series| if series.name() == "with_two_times" && series.samples[0].1 == 2.0f64.to_bits() { series.samples[0].0 -= 1 }),
        |r| { let at = last_with(r, "with_two_times"); change(r, at, |wire| { let at = wire.series.iter().position(|s| s.name() == "with_two_times").unwrap(); wire.series.remove(at); }); },
        |r| { let at = last_with(r, "with_two_times"); change(r, at, |wire| { let at = wire.series.iter().position(|s| s.name() == "with_two_times").unwrap(); wire.series.swap(at, at + 1); }); },
    ]),
    duty!(Plain BOTH names_of_any_character_arrive [
        |r| change_all(r, |series| series.labels.iter_mut().for_each(|label| if label.1.contains("http") { label.1 = "http_requests".into() })),
        |r| change_all(r, |series| series.labels.retain(|label| label.1 != "shop")),
    ]),
    duty!(Plain BOTH repeated_labels_fail_the_scrape [
        |r| change_all(r, |series| if series.label("job") == "bent" && series.name() == "up" { series.samples[0].1 = 1.0f64.to_bits() }),
        |r| change_all(r, |series| if series.label("job") == "bent" { series.labels.iter_mut().for_each(|label| if label.1.starts_with("scrape_") { label.1 = "before".into() }) }),
    ]),
    duty!(Plain BOTH what_ends_is_marked [
        |r| { let at = last_with(r, "vanishes"); r.remove(at); },
        |r| change_all(r, |series| if series.name() == "vanishes" { series.samples[0].1 |= 1 << 10 }),
    ]),
    duty!(Plain BOTH what_fails_is_marked [
        |r| { let at = last_with(r, "of_the_one_that_fails"); r.remove(at); },
    ]),
    duty!(Plain BOTH nothing_else_is_marked [
        |r| change_all(r, |series| if series.name() == "temperature" { series.samples[0].1 = 0x7ff0_0000_0000_0002 }),
    ]),
    duty!(Plain BOTH scrapes_bring_their_own_series [
        |r| change_all(r, |series| if series.name() == "up" { series.labels.iter_mut().for_each(|l| if l.0 == "__name__" { l.1 = "down".into() }) }),
        |r| change_all(r, |series| if series.name() == "up" { series.samples[0].1 = 1.0f64.to_bits() }),
    ]),
    duty!(Plain BOTH labels_of_the_target_win [
        |r| change_all(r, |series| if series.name() == "with_a_job" { series.labels.retain(|l| l.0 != "exported_job"); series.references = series.labels.len() * 2 }),
    ]),
    duty!(Plain BOTH external_labels_are_there [
        |r| change(r, 0, |wire| { wire.series[0].labels.retain(|l| l.0 != "cluster"); }),
    ]),
    duty!(Plain BOTH nothing_is_lost [
        |r| { let at = last_with(r, "counts_up"); change(r, at, |wire| points(wire, "counts_up").for_each(|s| s.samples[0].1 = 1e6f64.to_bits())); },
    ]),
    duty!(Faults BOTH a_fault_is_answered_by_the_same_request [
        |r| { let body = r[0].body.clone(); r.retain(|e| e.body != body || !e.is_accepted()); },
        |r| r.retain(|e| e.status < 500),
    ]),
    duty!(Faults BOTH waits_grow_within_their_bounds [
        |r| { let at = first_failed(r); let answered = r[at].answered; r[at + 1].came = answered + Duration::from_millis(1); },
        |r| { let late = Duration::from_secs(60); r[2..].iter_mut().for_each(|e| { e.came += late; e.answered += late; }); },
    ]),
    duty!(Faults BOTH times_rise [|r| r.reverse()]),
    duty!(Faults BOTH nothing_is_lost [|r| { let body = r[0].body.clone(); r.retain(|e| e.body != body); let at = last_with(r, "counts_up"); change(r, at, |wire| points(wire, "counts_up").for_each(|s| s.samples[0].1 = 1e6f64.to_bits())); }]),
    duty!(Refuses BOTH what_is_refused_is_not_sent_again [
        |r| { let at = first_failed(r); let mut again = r[at].clone(); again.status = 204; r.insert(at + 1, again); },
        |r| { let at = first_failed(r); r.truncate(at + 1); },
    ]),
    duty!(Throttles BOTH patience_is_kept [|r| { let at = first_failed(r); r[at + 1].came = r[at].answered; }]),
    duty!(Throttles BOTH a_fault_is_answered_by_the_same_request [
        |r| { let body = r[first_failed(r)].body.clone(); r.retain(|e| e.body != body || !e.is_accepted()); },
    ]),
    duty!(Throttles BOTH nothing_is_lost [|r| r.truncate(2)]),
    duty!(Slow BOTH requests_go_in_parallel [
        |r| { let mut now = Duration::ZERO; for e in r.iter_mut() { e.came = now; now += Duration::from_millis(1); e.answered = now; } },
    ]),
    duty!(Slow BOTH a_series_is_in_one_request_at_a_time [
        |r| { let mut again = r[1].clone(); again.came = (r[1].came + r[1].answered) / 2; r.insert(2, again); },
    ]),
    duty!(Slow BOTH times_rise [|r| r.reverse()]),
    duty!(Slow BOTH requests_are_of_the_size_that_was_asked [
        |r| change(r, 0, |wire| { let series = wire.series[0].clone(); wire.series.resize(101, series); }),
    ]),
    duty!(Slow BOTH nothing_is_lost [|r| { let at = r.len() / 2; let at = last_with(&r[..at].to_vec(), "counts_up"); r.remove(at); }]),
    duty!(Large BOTH a_large_target_goes_in_parallel [
        |r| { let mut now = Duration::ZERO; for e in r.iter_mut() { e.came = now; now += Duration::from_millis(1); e.answered = now; } },
    ]),
    duty!(Large BOTH a_series_is_in_one_request_at_a_time [
        |r| { let at = r.len() / 2; let at = last_with(&r[..at].to_vec(), "wide"); let mut again = r[at].clone(); again.came = (again.came + again.answered) / 2; r.insert(at + 1, again); },
    ]),
    duty!(Large BOTH times_rise [|r| r.reverse()]),
    duty!(OldBy415 TWO falls_back_to_one [
        |r| { r.remove(0); },
        |r| { let again = r[0].clone(); r.insert(1, again); },
        |r| { r.remove(1); },
    ]),
    duty!(OldBy415 TWO remembers_the_fallback [|r| { let again = r[0].clone(); r.push(again); }]),
    duty!(OldBy415 TWO nothing_is_lost [|r| { r.truncate(2); }]),
    duty!(OldBy400 TWO falls_back_to_one [|r| { let again = r[0].clone(); r.insert(1, again); }]),
    duty!(OldBy400 TWO remembers_the_fallback [|r| { let again = r[0].clone(); r.push(again); }]),
    duty!(OldBy400 TWO nothing_is_lost [|r| { r.truncate(2); }]),
    duty!(OldBySilence TWO falls_back_to_one [|r| { let again = r[0].clone(); r.insert(1, again); }]),
    duty!(OldBySilence TWO remembers_the_fallback [|r| { let again = r[0].clone(); r.push(again); }]),
    duty!(OldBySilence TWO times_rise [|r| r.reverse()]),
    duty!(OldBySilence TWO nothing_is_lost [|r| { r.truncate(2); }]),
    duty!(LearnsTwo TWO is_asked_for_two_again [
        |r| r.retain(|e| !e.is_two() || !e.is_accepted()),
        |r| { let late = r.iter().rposition(Exchange::is_two).unwrap(); let one = r[late].clone(); r.insert(1, one); },
        |r| { let one = r[1].clone(); r.push(one); },
    ]),
    duty!(LearnsTwo TWO times_rise [|r| r.reverse()]),
    duty!(LearnsTwo TWO nothing_is_lost [|r| r.truncate(2)]),
    duty!(Nonsense BOTH nothing_is_lost [|r| { r.truncate(6); }]),
    duty!(Nonsense BOTH times_rise [|r| r.reverse()]),
    duty!(More BOTH exemplars_arrive [
        |r| change_all(r, |series| series.exemplars.clear()),
        |r| change_exemplars(r, |one| one.bits ^= 1),
        |r| change_exemplars(r, |one| one.time_ms += 1),
        |r| change_exemplars(r, |one| one.time_ms = 0),
        |r| change_exemplars(r, |one| one.labels[0].1.push('x')),
        |r| change_all(r, |series| if !series.exemplars.is_empty() { series.labels.retain(|label| label.0 != "path"); series.references = series.labels.len() * 2 }),
        |r| change_all(r, |series| if !series.exemplars.is_empty() { let again = series.exemplars[0].clone(); series.exemplars.push(again) }),
    ]),
    duty!(More TWO starts_are_said [
        |r| change_all(r, |series| series.start = 0),
        |r| change_all(r, |series| if series.start != 0 { series.start += 1 }),
        |r| change_all(r, |series| if series.start != 0 { series.start /= 1000 }),
        |r| change_all(r, |series| series.start = series.start.max(1)),
    ]),
    duty!(More BOTH integer_histograms_arrive [
        |r| change_histograms(r, "whole", |one| one.schema += 1),
        |r| change_histograms(r, "whole", |one| one.positive_deltas[1] += 1),
        |r| change_histograms(r, "whole", |one| one.positive_spans[1].offset -= 1),
        |r| change_histograms(r, "whole", |one| one.sum = 0.0),
        |r| change_histograms(r, "whole", |one| one.zero_threshold = 0.0),
        |r| change_histograms(r, "whole", |one| one.timestamp = 0),
        |r| change_all(r, |series| if series.name() == "whole" { series.histograms.clear() }),
    ]),
    duty!(More BOTH float_histograms_arrive [
        |r| change_histograms(r, "fractions", |one| one.count = Some(v2::histogram::Count::CountInt(6))),
        |r| change_histograms(r, "fractions", |one| one.positive_counts[0] += 0.5),
        |r| change_histograms(r, "fractions", |one| one.positive_deltas = vec![1, 1]),
        |r| change_all(r, |series| if series.name() == "fractions" { series.histograms.clear() }),
    ]),
    duty!(More BOTH bare_counters_arrive [
        |r| change_all(r, |series| if series.name() == "bare" { series.labels.iter_mut().for_each(|label| if label.1 == "bare" { label.1 = "bare_total".into() }) }),
        |r| change_all(r, |series| if series.name() == "bare" { series.samples.clear(); }),
    ]),
    duty!(More ONE metadata_says_what_families_are [
        |r| r.retain(|e| e.wire().unwrap().metadata.is_empty()),
        |r| change_metadata(r, |one| one.help.clear()),
        |r| change_metadata(r, |one| one.unit.clear()),
        |r| change_metadata(r, |one| one.kind = 1),
    ]),
    duty!(More TWO help_and_unit_are_said [
        |r| change_all(r, |series| series.help.clear()),
        |r| change_all(r, |series| series.unit.clear()),
        |r| change_all(r, |series| if !series.help.is_empty() { series.help.push('x') }),
        |r| change_all(r, |series| series.kind = series.kind.map(|_| 1)),
    ]),
    duty!(More TWO custom_buckets_arrive [
        |r| change_histograms(r, "latency", |one| one.custom_values.clear()),
        |r| change_histograms(r, "latency", |one| one.schema = 0),
        |r| change_histograms(r, "latency", |one| one.positive_deltas[0] += 1),
        |r| change_all(r, |series| if series.name() == "latency" { series.histograms.clear() }),
    ]),
    duty!(More ONE custom_buckets_stay_away [
        |r| change_all(r, |series| if series.name() == "whole" { series.histograms[0].schema = -53 }),
        |r| change_all(r, |series| if series.name() == "whole" { series.histograms[0].custom_values.push(1.0) }),
    ]),
    duty!(More BOTH samples_and_histograms_are_apart [
        |r| change_all(r, |series| if series.name() == "whole" { series.samples.push((1, 1)) }),
        |r| change_all(r, |series| { series.samples.clear(); series.exemplars.clear() }),
    ]),
    duty!(More TWO references_are_even [|r| change(r, 0, |wire| wire.series[0].references -= 1)]),
    duty!(More TWO symbols_are_unique_and_begin_empty [
        |r| change(r, 0, |wire| { let symbol = wire.symbols[1].clone(); wire.symbols.push(symbol); }),
    ]),
    duty!(More BOTH histograms_rise [|r| r.reverse()]),
];
