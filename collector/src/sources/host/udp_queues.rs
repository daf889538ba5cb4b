//! Bytes that wait in UDP sockets, from /proc/net/udp and udp6, which list every socket.
//! Cost a tick: one read a page of sockets.

use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

static QUEUES: Family = Family::gauge(
    "node_udp_queues",
    "Bytes of memory that wait in the queues of all UDP sockets.",
    &["queue", "ip"],
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "udp_queues",
    default_enabled: true,
    flags: &[],
    families: &[&QUEUES],
    new: |setup| {
        let file = |name: &str| KeptFile::records(setup.paths.proc("net").join(name), LONGEST_LINE);
        Ok(Box::new(UdpQueues { files: [("v4", file("udp")), ("v6", file("udp6"))] }))
    },
};

const LONGEST_LINE: usize = 256;

struct UdpQueues {
    files: [(&'static str, KeptFile); 2],
}

impl Collector for UdpQueues {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        let mut found = false;
        for (version, file) in &mut self.files {
            let text = match file.read(&mut tick.buffer) {
                Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => continue,
                other => other?,
            };
            found = true;
            match parse_queues(text) {
                Ok((sending, receiving)) => {
                    out.put(&QUEUES, &["tx", version], sending as f64);
                    out.put(&QUEUES, &["rx", version], receiving as f64);
                }
                Err(line) => faults.note(|| {
                    let expected = "expected `tx_queue:rx_queue` as the fifth word, hexadecimal";
                    CollectError::malformed(file.path(), line, expected)
                }),
            }
        }
        if !found {
            faults.note(|| CollectError::NoData("no /proc/net/udp and no udp6".into()));
        }
        faults.finish()
    }
}

/// The sums of both queues over all sockets. Error: the number of a line that is not as it should be.
fn parse_queues(text: &[u8]) -> Result<(u64, u64), usize> {
    let (mut sending, mut receiving) = (0u64, 0u64);
    for (number, line) in text::ended_lines(text).enumerate().skip(1) {
        let queues = text::words(line).nth(4).ok_or(number + 1)?;
        let mut lengths = queues.splitn(2, |&b| b == b':').map(text::parse_hex);
        let (Some(Some(tx)), Some(Some(rx))) = (lengths.next(), lengths.next()) else {
            return Err(number + 1);
        };
        sending = sending.wrapping_add(tx);
        receiving = receiving.wrapping_add(rx);
    }
    Ok((sending, receiving))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_added_up() {
        let text = b"  sl  local_address\n   0: 00000000:0016 00000000:0000 0A 00000015:00000001 0\n \
            11: 00000000:0016 00000000:0000 0A 00000001:0000000F 0\n";
        assert_eq!(parse_queues(text), Ok((22, 16)));
        assert_eq!(parse_queues(b"  sl\n"), Ok((0, 0)));
        assert_eq!(parse_queues(b"  sl\n 0: 0:0 0:0 0A 15:"), Err(2));
        assert_eq!(parse_queues(b"  sl\n 0: 0:0"), Err(2));
    }
}
