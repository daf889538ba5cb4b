//! Packets that IPsec dropped, from /proc/net/xfrm_stat (Documentation/networking/xfrm_proc.rst): a name and a
//! number a line. Cost a tick: one read. Kernels built without CONFIG_XFRM_STATISTICS lack the file.

use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick, tables};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

macro_rules! counters {
    ($($line:literal => $name:literal, $help:literal;)*) => {
        /// A line of the file, by its name, and its family.
        static COUNTERS: [(&str, Family); 28] =
            [$(($line, Family::counter(concat!("node_xfrm_", $name, "_packets_total"), $help, &[]))),*];
    };
}

counters! {
    "XfrmInError" => "in_error", "Packets dropped on their way in for a reason that no other counter names.";
    "XfrmInBufferError" => "in_buffer_error", "Packets dropped on their way in because there was no buffer.";
    "XfrmInHdrError" => "in_hdr_error", "Packets dropped on their way in because a header was wrong.";
    "XfrmInNoStates" => "in_no_states", "Packets dropped on their way in because no state was found: wrong SPI, address or protocol.";
    "XfrmInStateProtoError" => "in_state_proto_error", "Packets dropped on their way in because the transformation failed, as with a wrong key.";
    "XfrmInStateModeError" => "in_state_mode_error", "Packets dropped on their way in because the mode of the transformation failed.";
    "XfrmInStateSeqError" => "in_state_seq_error", "Packets dropped on their way in because their sequence number was outside of the window.";
    "XfrmInStateExpired" => "in_state_expired", "Packets dropped on their way in because the state had expired.";
    "XfrmInStateMismatch" => "in_state_mismatch", "Packets dropped on their way in because the state had other options, as with UDP encapsulation.";
    "XfrmInStateInvalid" => "in_state_invalid", "Packets dropped on their way in because the state was not valid.";
    "XfrmInTmplMismatch" => "in_tmpl_mismatch", "Packets dropped on their way in because no template fits the states.";
    "XfrmInNoPols" => "in_no_pols", "Packets dropped on their way in because no policy was found for the states.";
    "XfrmInPolBlock" => "in_pol_block", "Packets dropped on their way in because a policy says so.";
    "XfrmInPolError" => "in_pol_error", "Packets dropped on their way in because a policy was in error.";
    "XfrmOutError" => "out_error", "Packets dropped on their way out for a reason that no other counter names.";
    "XfrmOutBundleGenError" => "out_bundle_gen_error", "Packets dropped on their way out because no bundle could be made.";
    "XfrmOutBundleCheckError" => "out_bundle_check_error", "Packets dropped on their way out because the check of the bundle failed.";
    "XfrmOutNoStates" => "out_no_states", "Packets dropped on their way out because no state was found.";
    "XfrmOutStateProtoError" => "out_state_proto_error", "Packets dropped on their way out because the protocol of the transformation failed.";
    "XfrmOutStateModeError" => "out_state_mode_error", "Packets dropped on their way out because the mode of the transformation failed.";
    "XfrmOutStateSeqError" => "out_state_seq_error", "Packets dropped on their way out because the sequence numbers were used up.";
    "XfrmOutStateExpired" => "out_state_expired", "Packets dropped on their way out because the state had expired.";
    "XfrmOutPolBlock" => "out_pol_block", "Packets dropped on their way out because a policy says so.";
    "XfrmOutPolDead" => "out_pol_dead", "Packets dropped on their way out because the policy was dead.";
    "XfrmOutPolError" => "out_pol_error", "Packets dropped on their way out because a policy was in error.";
    "XfrmFwdHdrError" => "fwd_hdr_error", "Packets dropped while forwarded because a header was wrong.";
    "XfrmOutStateInvalid" => "out_state_invalid", "Packets dropped on their way out because the state was not valid.";
    "XfrmAcquireError" => "acquire_error", "Packets dropped because their state was still being asked for.";
}

static FAMILIES: [&Family; 28] = tables::families(&COUNTERS);

pub(super) static COLLECTOR: Registration = Registration {
    name: "xfrm",
    default_enabled: false,
    flags: &[],
    families: &FAMILIES,
    new: |setup| Ok(Box::new(Xfrm { file: KeptFile::whole(setup.paths.proc("net/xfrm_stat")) })),
};

struct Xfrm {
    file: KeptFile,
}

impl Collector for Xfrm {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let text = self.file.read(&mut tick.buffer)?;
        let mut faults = Faults::default();
        // node_exporter takes a last line without its end, and so must whoever stands in for it.
        for (number, line) in text::lines(text).enumerate() {
            let Some((name, value)) = parse_line(line) else {
                let expected = "expected a name and a whole number";
                faults.note(|| CollectError::malformed(self.file.path(), number + 1, expected));
                continue;
            };
            if let Some((_, family)) = COUNTERS.iter().find(|(line, _)| line.as_bytes() == name) {
                out.put(family, &[], value as f64);
            }
        }
        faults.finish()
    }
}

fn parse_line(line: &[u8]) -> Option<(&[u8], u64)> {
    let mut words = text::words(line);
    let pair = (words.next()?, text::parse_u64(words.next()?)?);
    words.next().is_none().then_some(pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_number() {
        assert_eq!(parse_line(b"XfrmInError             \t1"), Some((&b"XfrmInError"[..], 1)));
        assert_eq!(parse_line(b"XfrmInError"), None);
        assert_eq!(parse_line(b"XfrmInError 1 2"), None);
    }
}
