//! The encoders of one endpoint, one for each form in which requests are written.

use std::sync::Arc;

use bytes::Bytes;

use super::accord::Dialect;
use super::answer::Written;
use super::sender::Sender;
use crate::encode::{Encoded, Encoder, Options, Rewrite};
use crate::model::Numbered;
use crate::relabel::{self, Rule};

/// Encoders that are kept: the one in use, and one for what is probed.
const MAX_ENCODERS: usize = 2;
/// Bodies that are kept to be written to again.
const MAX_BUFFERS: usize = 4;

/// Encoders and their buffers.
#[derive(Default)]
pub(super) struct Encoders {
    kept: Vec<(Dialect, Encoder)>,
    buffers: Vec<Vec<u8>>,
}

impl Encoders {
    /// The request of these batches in `dialect`, what is in it, and how many samples it has no form for. `current` is
    /// the dialect of other requests, `help` says that it tells what families are: such a request is rare, and not worth
    /// an encoder that is kept.
    pub(super) fn encode(
        &mut self,
        (dialect, current): (Dialect, Dialect),
        help: bool,
        sender: &Sender,
        batches: &[Numbered],
    ) -> (Bytes, Written, u64) {
        let mut buffer = self.buffers.pop().unwrap_or_default();
        buffer.clear();
        if help {
            let encoded = new_encoder(sender, dialect, true).encode(batches, &mut buffer);
            return (Bytes::from(buffer), contents(&encoded), encoded.left_out as u64);
        }
        let known = self.kept.iter().position(|(known, _)| *known == dialect);
        let at = known.unwrap_or_else(|| {
            if self.kept.len() >= MAX_ENCODERS {
                self.kept.retain(|(known, _)| *known == current);
            }
            self.kept.push((dialect, new_encoder(sender, dialect, false)));
            self.kept.len() - 1
        });
        let encoded = self.kept[at].1.encode(batches, &mut buffer);
        (Bytes::from(buffer), contents(&encoded), encoded.left_out as u64)
    }

    /// Takes back a body that nobody else holds any more.
    pub(super) fn give_back(&mut self, body: Bytes) {
        if self.buffers.len() < MAX_BUFFERS
            && !body.is_empty()
            && let Ok(body) = body.try_into_mut()
        {
            self.buffers.push(body.into());
        }
    }
}

/// What a request holds, as the receiver counts it.
fn contents(encoded: &Encoded) -> Written {
    let [samples, histograms, exemplars] =
        [encoded.samples, encoded.histograms, encoded.exemplars].map(|count| count as u64);
    Written { samples, histograms, exemplars }
}

fn new_encoder(sender: &Sender, dialect: Dialect, help: bool) -> Encoder {
    let rules = &sender.endpoint.relabel;
    Encoder::new(Options {
        protocol: dialect.protocol,
        external_labels: sender.external_labels.clone(),
        native_histograms: dialect.native,
        exemplars: sender.endpoint.exemplars,
        help,
        rewrite: (!rules.is_empty()).then(|| rewrite(rules.clone())),
    })
}

/// `write_relabel_configs`, run when a series is planned.
fn rewrite(rules: Arc<[Rule]>) -> Box<Rewrite> {
    Box::new(move |labels| relabel::apply(&rules, labels).is_ok())
}
