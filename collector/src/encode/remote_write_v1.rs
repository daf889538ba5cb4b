//! Remote write 1.0 (`prometheus.WriteRequest`): every series spells its labels out.
//!
//! A series stands for itself, so the bytes of one batch are right wherever in a request they are put.

use super::labels::{legacy_name, wire_labels};
use super::layout::{Frame, Layout, Mark, Ordered, walk};
use super::protobuf::{encode_bytes, encode_double, encode_number, encode_varint, varint_len};
use super::remote_write::Options;
use crate::model::{CUSTOM_BUCKETS, Exemplar, NO_SAMPLE, Of};

/// `WriteRequest.timeseries`, `TimeSeries.histograms`.
pub(super) const FRAME: Frame = Frame { series: 0x0a, histogram: 0x22, starts: false };

pub(super) fn lay_out(options: &Options, batches: Ordered<'_>, layout: &mut Layout) {
    let mut prefix = Vec::new();
    let mut marks = Vec::new();
    // Of several sources, or of what rules have made, it is not known whose a label is.
    let shared = match (&options.rewrite, batches.len()) {
        (None, 1) => batches.get(0).shape().source.labels.as_slice(),
        _ => &[],
    };
    walk(options, batches, |place, _, labels| {
        prefix.clear();
        marks.clear();
        for (name, value) in labels {
            encode_label(name, value, &mut prefix);
            // An own label of that name has become `exported_`.
            if let Some(label) = shared.iter().position(|(shared, _)| legacy_name(shared, false) == *name) {
                let at = (prefix.len() - value.len()) as u32;
                marks.push(Mark { at, label: label as u16, first: 0, length: value.len() as u16 });
            }
        }
        if let Some(start) = layout.push(FRAME, (&prefix, &[]), place, batches) {
            layout.marks.extend(marks.iter().map(|mark| Mark { at: mark.at + start as u32, ..*mark }));
        }
    });
}

fn encode_label(name: &str, value: &str, out: &mut Vec<u8>) {
    let field = |text: &str| 1 + varint_len(text.len() as u64) + text.len();
    out.push(0x0a);
    encode_varint((field(name) + field(value)) as u64, out);
    encode_bytes(0x0a, name.as_bytes(), out);
    encode_bytes(0x12, value.as_bytes(), out);
}

/// Appends the exemplars of all series that are sent, in series of their own as Prometheus does; says how many.
/// Locks the series table.
pub(super) fn encode_exemplars(options: &Options, batches: Ordered<'_>, out: &mut Vec<u8>) -> usize {
    let (mut count, mut message, mut exemplar) = (0, Vec::new(), Vec::new());
    for batch in batches.iter().filter(|batch| !batch.exemplars.is_empty()) {
        let shape = batch.shape();
        let table = shape.table().lock();
        let mut labels = Vec::new();
        let mut all = batch.exemplars.iter().peekable();
        while let Some(first) = all.next() {
            let of = first.of();
            let (id, wanted) = match of {
                Of::Float(at) => {
                    let (id, form) = shape.floats()[at as usize];
                    let wanted = !(form.classic_only() && options.native_histograms);
                    (id, wanted && batch.time(at as usize) != NO_SAMPLE)
                }
                Of::Histogram(at) => {
                    let at = at as usize;
                    let custom = batch.histograms()[at].schema == CUSTOM_BUCKETS;
                    let wanted = options.native_histograms && !custom;
                    (shape.histograms()[at], wanted && batch.histogram_time(at) != NO_SAMPLE)
                }
            };
            let wanted = wanted && wire_labels(table.view(id), &shape.source, options, &mut labels);
            message.clear();
            if wanted {
                labels.iter().for_each(|(name, value)| encode_label(name, value, &mut message));
            }
            let mut next = Some(first);
            while let Some(one) = next {
                if wanted {
                    encode_exemplar(one, &mut exemplar);
                    encode_bytes(0x1a, &exemplar, &mut message);
                    count += 1;
                }
                next = all.next_if(|next| next.of() == of);
            }
            if wanted {
                encode_bytes(FRAME.series, &message, out);
            }
        }
    }
    count
}

fn encode_exemplar(exemplar: Exemplar<'_>, out: &mut Vec<u8>) {
    out.clear();
    exemplar.labels().for_each(|(name, value)| encode_label(name, value, out));
    encode_double(0x11, exemplar.value(), out);
    encode_number(0x18, exemplar.time_ms() as u64, out);
}
