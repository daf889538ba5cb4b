//! Numbers must come back bit for bit, and small movements must be small.
use super::*;

fn round(values: &[f64]) -> Vec<usize> {
    let (mut writer, mut reader) = (Last::default(), Last::default());
    let mut sizes = Vec::new();
    for &value in values {
        if value.to_bits() == writer.bits {
            sizes.push(0);
            continue;
        }
        let mut out = Vec::new();
        encode_changed(&mut writer, value, &mut out);
        let mut input = Input(&out);
        decode_changed(&mut reader, &mut input).unwrap();
        assert!(input.0.is_empty());
        assert_eq!(reader.bits, value.to_bits(), "{value}");
        sizes.push(out.len());
        for cut in 0..out.len() {
            assert!(decode_changed(&mut Last::default(), &mut Input(&out[..cut])).is_none());
        }
    }
    sizes
}

#[test]
fn every_kind_of_number_comes_back() {
    let nan = f64::from_bits(0x7ff0_0000_0000_0002);
    round(&[
        0.0,
        -0.0,
        1.0,
        nan,
        f64::NAN,
        f64::INFINITY,
        5e-324,
        1e300,
        -1e300,
        0.1,
        0.01,
        9007199254740993.0,
    ]);
    round(&[9007199254740992.0, -9007199254740992.0, 1e18, 0.3, 1.0 / 3.0, 2.0 / 3.0, -12.34, 12.34]);
    let mut bits = 1u64;
    let noise = std::iter::repeat_with(|| {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        f64::from_bits(bits.rotate_left(bits as u32 % 64))
    });
    round(&noise.take(10_000).collect::<Vec<_>>());
}

#[test]
fn counters_and_hundredths_move_in_few_bytes() {
    let counts: Vec<f64> = (0..100).map(|n| 1e12 + f64::from(n) * 31.0).collect();
    assert!(round(&counts)[1..].iter().all(|&size| size == 1));
    let hundredths: Vec<f64> = (0..100).map(|n| (183_451_127i64 + n * 1507) as f64 / 100.0).collect();
    assert!(round(&hundredths)[1..].iter().all(|&size| size == 2));
    let nanoseconds: Vec<f64> = (0..100).map(|n| (1_834_511_270i64 + n * 15_007) as f64 / 1e9).collect();
    assert!(round(&nanoseconds)[1..].iter().all(|&size| size == 3));
}

#[test]
fn groups_say_what_their_values_say_one_by_one() {
    let mut seed = 7u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    // Counters of every scale, small and as large as doubles hold them, some of which stand still, jump or turn odd.
    let scales = [1.0, 100.0, 1000.0, 1e6, 1e9, 10.0];
    let mut whole: Vec<i64> = (0..100).map(|n| (random() as i64) << (n % 24)).collect();
    let (mut state, mut lasts) = (State::default(), vec![Last::default(); whole.len()]);
    state.reset(whole.len(), 0);
    for time_ms in 0..2000 {
        let mut batch = Batch::default();
        batch.time_ms = time_ms;
        for (n, whole) in whole.iter_mut().enumerate() {
            match random() % 64 {
                0 => *whole = -*whole,
                1 => *whole += (random() as i64) << 20,
                2..20 => {}
                _ => *whole += (random() % (1 << (n % 20))) as i64,
            }
            let odd = if random() % 97 == 0 { 0.000_123_4 } else { 0.0 };
            batch.values.push(*whole as f64 / scales[n % 6] + odd);
        }
        let (mut packed, mut expected) = (Vec::new(), Vec::new());
        state.encode(&batch, &mut packed);
        for (last, &value) in lasts.iter_mut().zip(&batch.values) {
            if last.bits != value.to_bits() {
                encode_changed(last, value, &mut expected);
            }
        }
        assert_eq!(packed[packed.len() - expected.len()..], expected);
    }
}

#[test]
fn own_times_and_every_part_of_a_histogram_come_back() {
    use crate::model::{NO_SAMPLE, NativeHistogram, ResetHint, Span};
    let (mut writer, mut reader) = (State::default(), State::default());
    writer.reset(3, 2);
    reader.reset(3, 2);
    for round in 0..6i64 {
        let mut batch = Batch::default();
        batch.time_ms = 1_790_000_000_000 + round * 15_000;
        batch.values.push(1.0);
        let timed = round % 3 == 1;
        if timed {
            batch.push_timed(2.0, batch.time_ms - 70_000);
            batch.push_timed(3.0, NO_SAMPLE);
        } else {
            batch.values.extend([2.0, 3.0]);
        }
        let span = Span { offset: -3, length: 2 };
        let odd = NativeHistogram {
            schema: if round > 3 { -53 } else { 2 },
            sum: -1.5,
            spans: vec![Span { offset: 2, length: 1 }],
            buckets: vec![1.5f64.to_bits() + round as u64],
            negative_spans: vec![span],
            negative_buckets: vec![0.5f64.to_bits(), 7],
            bounds: if round > 3 { vec![0.5, f64::NAN] } else { Vec::new() },
            float: round % 2 == 0,
            reset_hint: ResetHint::Gauge,
            ..NativeHistogram::default()
        };
        batch.push_histogram().clone_from(&odd);
        if timed {
            batch.time_last_histogram(5);
        }
        batch.push_histogram().count = 7;
        batch.fill_times();
        let mut out = Vec::new();
        writer.encode(&batch, &mut out);
        let mut back = Batch::default();
        let mut input = Input(&out);
        reader.decode(&mut input, &mut back).unwrap();
        assert!(input.0.is_empty());
        assert_eq!((&back.values, &back.times, back.time_ms), (&batch.values, &batch.times, batch.time_ms));
        assert_eq!(back.histogram_times, batch.histogram_times);
        assert_eq!(format!("{:?}", back.histograms()), format!("{:?}", batch.histograms()));
        for cut in 0..out.len() {
            let mut again = State::default();
            again.reset(3, 2);
            // A cut record may read as a shorter one, but never panics.
            let _ = again.decode(&mut Input(&out[..cut]), &mut Batch::default());
        }
    }
}

#[test]
fn exemplars_come_back_take_little_and_never_panic_when_cut() {
    use crate::model::Of;
    let made = |count: u32| {
        let mut batch = Batch::default();
        batch.time_ms = 1_790_000_000_000;
        batch.values.extend([1.0, 2.0, 3.0]);
        batch.push_histogram();
        for n in 0..count {
            let of = if n < 3 { Of::Float(n) } else { Of::Histogram(0) };
            batch.exemplars.push(of, 0.25 * f64::from(n), batch.time_ms - 1000, n % 2 == 0);
            batch.exemplars.push_label("span_id", "00f067aa0ba902b7");
            batch.exemplars.push_label("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736");
        }
        batch
    };
    let encode = |batch: &Batch| {
        let (mut state, mut out) = (State::default(), Vec::new());
        state.reset(3, 1);
        state.encode(batch, &mut out);
        out
    };
    let decode = |bytes: &[u8]| {
        let (mut state, mut batch) = (State::default(), Batch::default());
        state.reset(3, 1);
        state.decode(&mut Input(bytes), &mut batch).map(|()| batch)
    };
    let said = |batch: &Batch| -> Vec<String> {
        let words = |one: crate::model::Exemplar<'_>| {
            let labels: Vec<_> = one.labels().collect();
            format!("{:?} {} {} {} {labels:?}", one.of(), one.value(), one.time_ms(), one.has_time())
        };
        batch.exemplars.iter().map(words).collect()
    };
    let (none, four) = (encode(&made(0)), encode(&made(4)));
    assert_eq!(said(&decode(&four).unwrap()), said(&made(4)));
    // Of 48 characters of two labels each: less than twelve bytes more, the names once.
    assert!(four.len() - none.len() <= 4 * (48 + 12) + 15, "{} bytes", four.len() - none.len());
    for cut in 0..four.len() {
        if let Some(batch) = decode(&four[..cut]) {
            assert!(batch.exemplars.is_empty() || cut == four.len());
        }
        for bit in 0..8 {
            let mut bent = four.clone();
            bent[cut] ^= 1 << bit;
            // What a checksum lets through by chance may say anything, but of series that are there.
            for one in decode(&bent).iter().flat_map(|batch| batch.exemplars.iter()) {
                assert!(matches!(one.of(), Of::Float(0..3) | Of::Histogram(0)));
            }
        }
    }
}
