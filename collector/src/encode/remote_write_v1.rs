//! Remote write 1.0 (`prometheus.WriteRequest`): every series spells its labels out.
//!
//! A series stands for itself, so the bytes of one batch are right wherever in a request they are put.

use super::layout::{Frame, Layout, Mark, Ordered, walk};
use super::protobuf::{encode_bytes, encode_varint, varint_len};
use super::remote_write::Options;

/// `WriteRequest.timeseries`, `TimeSeries.histograms`.
pub(super) const FRAME: Frame = Frame { series: 0x0a, histogram: 0x22 };

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
            let field = |text: &str| 1 + varint_len(text.len() as u64) + text.len();
            prefix.push(0x0a);
            encode_varint((field(name) + field(value)) as u64, &mut prefix);
            encode_bytes(0x0a, name.as_bytes(), &mut prefix);
            encode_bytes(0x12, value.as_bytes(), &mut prefix);
            // An own label of that name has become `exported_`.
            if let Some(label) = shared.iter().position(|(shared, _)| shared == name) {
                let at = (prefix.len() - value.len()) as u32;
                marks.push(Mark { at, label: label as u16, first: 0, length: value.len() as u16 });
            }
        }
        if let Some(start) = layout.push(FRAME, (&prefix, &[]), place, batches) {
            layout.marks.extend(marks.iter().map(|mark| Mark { at: mark.at + start as u32, ..*mark }));
        }
    });
}
