//! Counters of the network protocols, from /proc/net/netstat, snmp and snmp6. Cost a tick: three reads, of which
//! the fields that the pattern names are given.

use std::path::Path;

use super::error::Faults;
use super::{CollectError, Collector, Flag, FlagDefault, OrderedFilter, Registration, SetupError, Tick};
use crate::model::{Dynamic, Family, Kind, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

const FIELDS_FLAG: &str = "collector.netstat.fields";
const DEFAULT_FIELDS: &str = "^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|\
    Icmp6?_(InMsgs|OutMsgs)|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)|\
    Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)|\
    Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$";

static FIELDS: Family = Family::untyped(
    "node_netstat_*",
    "A field of /proc/net/netstat, /proc/net/snmp or /proc/net/snmp6.",
    &[],
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "netstat",
    default_enabled: true,
    flags: &[Flag::new(
        FIELDS_FLAG,
        FlagDefault::Text(DEFAULT_FIELDS),
        "Pattern of the fields to give, named as in `Tcp_InSegs`.",
    )],
    families: &[&FIELDS],
    new: |setup| {
        let fields = OrderedFilter::new(setup.flags.text(FIELDS_FLAG)).map_err(SetupError::of("netstat"))?;
        let file = |name: &str| KeptFile::whole(setup.paths.proc("net").join(name));
        Ok(Box::new(Netstat { tables: [file("netstat"), file("snmp")], list: file("snmp6"), fields }))
    },
};

struct Netstat {
    /// Files of pairs of lines: names, then numbers.
    tables: [KeptFile; 2],
    /// A file with a name and a number a line; kernels without IPv6 have not got it.
    list: KeptFile,
    fields: OrderedFilter,
}

impl Collector for Netstat {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        self.fields.begin();
        for file in &mut self.tables {
            let text = file.read(&mut tick.buffer)?;
            put_table(file.path(), text, &mut self.fields, out, &mut faults);
        }
        match self.list.read(&mut tick.buffer) {
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => {}
            other => put_list(self.list.path(), other?, &mut self.fields, out, &mut faults),
        }
        faults.finish()
    }
}

/// `Tcp: RtoAlgorithm RtoMin ...` and then `Tcp: 1 200 ...`.
fn put_table(path: &Path, text: &[u8], fields: &mut OrderedFilter, out: &mut Recorder, faults: &mut Faults) {
    let mut lines = text::ended_lines(text).enumerate();
    while let Some((number, names)) = lines.next() {
        let pair =
            lines.next().and_then(|(_, values)| Some((protocol_of(names)?, protocol_of(values)?, values)));
        let Some((protocol, _, values)) = pair.filter(|(first, second, _)| first == second) else {
            let expected = "expected a line of names and then one of numbers, of the same protocol";
            faults.note(|| CollectError::malformed(path, number + 1, expected));
            continue;
        };
        let mut values = text::words(values).skip(1);
        for name in text::words(names).skip(1) {
            let Some(value) = values.next() else {
                faults
                    .note(|| CollectError::malformed(path, number + 2, "expected as many numbers as names"));
                break;
            };
            if fields.passes(&[protocol, b"_", name]) && put(protocol, name, value, out).is_none() {
                faults.note(|| CollectError::malformed(path, number + 2, "expected numbers"));
            }
        }
    }
}

fn protocol_of(line: &[u8]) -> Option<&[u8]> {
    text::words(line).next()?.strip_suffix(b":")
}

/// `Ip6InReceives      7`: the protocol ends with the 6.
fn put_list(path: &Path, text: &[u8], fields: &mut OrderedFilter, out: &mut Recorder, faults: &mut Faults) {
    for (number, line) in text::ended_lines(text).enumerate() {
        let mut words = text::words(line);
        let (Some(name), Some(value)) = (words.next(), words.next()) else {
            faults.note(|| CollectError::malformed(path, number + 1, "expected a name and a number"));
            continue;
        };
        let Some(end) = name.iter().position(|&b| b == b'6') else { continue };
        let (protocol, field) = name.split_at(end + 1);
        if fields.passes(&[protocol, b"_", field]) && put(protocol, field, value, out).is_none() {
            faults.note(|| CollectError::malformed(path, number + 1, "expected a number"));
        }
    }
}

fn put(protocol: &[u8], field: &[u8], value: &[u8], out: &mut Recorder) -> Option<()> {
    let (protocol, field) = (text::as_str(protocol)?, text::as_str(field)?);
    let sample = Dynamic {
        name: &["node_netstat_", protocol, "_", field],
        suffix: "",
        help: &["Statistic ", protocol, field, "."],
        kind: Kind::Untyped,
        labels: &[],
    };
    out.put_dynamic(&sample, text::parse_f64(value)?);
    Some(())
}
