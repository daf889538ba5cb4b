//! What the aggregator makes of pages whose series go, of failures and of ends.
use super::layouts::page;
use super::*;

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
