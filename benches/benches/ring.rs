//! The hand-over of batches: slabs that go round through the ring, against a new allocation a batch through a
//! bounded channel. A batch has a thousand samples, as a scrape target does.

use std::hint::black_box;
use std::time::Duration;

use collector::ring::ring;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const SAMPLES: usize = 1000;

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hand_over");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    group.bench_function("ring_slab_and_back", |bencher| {
        let (sender, receiver) = ring(64);
        bencher.iter(|| {
            let mut slab = sender.slab();
            slab.values.resize(SAMPLES, 1.0);
            sender.send(slab);
            let batch = receiver.try_recv().expect("it was just sent");
            black_box(&batch);
            receiver.give_back(batch);
        });
    });
    group.bench_function("channel_and_new_vec", |bencher| {
        let (sender, receiver) = crossbeam::channel::bounded(64);
        bencher.iter(|| {
            sender.send(vec![1.0f64; SAMPLES]).expect("there is a receiver");
            black_box(receiver.recv().expect("it was just sent"));
        });
    });
    group.bench_function("ring_between_two_threads", |bencher| {
        bencher.iter_custom(|rounds| {
            let (sender, receiver) = ring(64);
            let start = std::time::Instant::now();
            let producer = std::thread::spawn(move || {
                let mut sent = 0;
                while sent < rounds {
                    if sender.waiting() < 60 {
                        let mut slab = sender.slab();
                        slab.values.resize(SAMPLES, 1.0);
                        sender.send(slab);
                        sent += 1;
                        if sent % 16 == 0 {
                            sender.wake();
                        }
                    }
                }
                sender.wake();
                sender
            });
            let mut taken = 0;
            while taken < rounds {
                match receiver.try_recv() {
                    Some(batch) => {
                        taken += 1;
                        receiver.give_back(batch);
                    }
                    None => receiver.wait(Duration::from_millis(1)),
                }
            }
            let elapsed = start.elapsed();
            assert_eq!(producer.join().expect("the producer ends").dropped(), (0, 0));
            elapsed
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = bench
}
criterion_main!(benches);
