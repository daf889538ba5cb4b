//! Counters of the network protocols, from /proc/net/netstat, snmp and snmp6. Cost a tick: three reads, of which
//! the fields that the pattern names are given.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use regex::Regex;

use super::error::Faults;
use super::{CollectError, Collector, Flag, FlagDefault, OrderedFilter, Registration, SetupError, Tick};
use crate::model::{Dynamic, Family, Kind, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::network_octets::NetworkOctets;
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
        let fail = SetupError::of("netstat");
        let pattern = setup.flags.text(FIELDS_FLAG);
        let list_fields = OrderedFilter::new(pattern).map_err(&fail)?;
        let fields = Regex::new(pattern).map_err(|error| fail(error.to_string()))?;
        let file = |name: &str| KeptFile::whole(setup.paths.proc("net").join(name));
        let table = |name: &str| Table { file: file(name), headers: Vec::new() };
        let tables = [table("netstat"), table("snmp")];
        // Another folder may hold what another host or namespace says.
        let octets = (setup.paths.procfs == Path::new("/proc")).then(|| setup.network_octets.clone());
        Ok(Box::new(Netstat { tables, list: file("snmp6"), fields, list_fields, octets }))
    },
};

struct Netstat {
    tables: [Table; 2],
    /// A file with a name and a number a line; kernels without IPv6 have not got it.
    list: KeptFile,
    /// The pattern twice: for the tables, and for the list.
    fields: Regex,
    list_fields: OrderedFilter,
    /// Where the bytes of this process' own namespace are left for who else wants them.
    octets: Option<Arc<NetworkOctets>>,
}

/// A file of pairs of lines: names, then numbers.
struct Table {
    file: KeptFile,
    headers: Vec<Header>,
}

impl Collector for Netstat {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        for table in &mut self.tables {
            let text = table.file.read(&mut tick.buffer)?;
            put_table(table, text, &self.fields, out, &mut faults);
            if let (Some(shared), Some((received, sent))) = (&self.octets, table.octets(text)) {
                shared.put(received, sent);
            }
        }
        self.list_fields.begin();
        match self.list.read(&mut tick.buffer) {
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => {}
            other => put_list(self.list.path(), other?, &mut self.list_fields, out, &mut faults),
        }
        faults.finish()
    }
}

impl Table {
    /// `InOctets` and `OutOctets` of the text that was read last.
    fn octets(&self, text: &[u8]) -> Option<(u64, u64)> {
        let (pair, (received, sent)) =
            self.headers.iter().enumerate().find_map(|(at, h)| Some((at, h.octets?)))?;
        let values = text::ended_lines(text).nth(2 * pair + 1)?;
        let value = |column: usize| text::parse_u64(text::words(values).nth(column + 1)?);
        values.starts_with(b"IpExt:").then_some((value(received)?, value(sent)?))
    }
}

/// A line of names as it was last, and which of them are wanted: while the line stays the same, none of its
/// names is looked at.
#[derive(Default)]
struct Header {
    line: Vec<u8>,
    /// The column, and where its name is in the line.
    wanted: Vec<(usize, Range<usize>)>,
    /// The columns of `InOctets` and `OutOctets`, where the line is that of `IpExt`.
    octets: Option<(usize, usize)>,
}

impl Header {
    fn learn(&mut self, line: &[u8], protocol: &[u8], fields: &Regex) {
        self.line.clear();
        self.line.extend_from_slice(line);
        self.wanted.clear();
        let column = |wanted: &[u8]| text::words(line).skip(1).position(|name| name == wanted);
        let is_ip = protocol == b"IpExt";
        self.octets = if is_ip { column(b"InOctets").zip(column(b"OutOctets")) } else { None };
        for (column, name) in text::words(line).skip(1).enumerate() {
            let joined = [protocol, b"_", name].concat();
            if fields.is_match(&String::from_utf8_lossy(&joined)) {
                let start = name.as_ptr().addr() - line.as_ptr().addr();
                self.wanted.push((column, start..start + name.len()));
            }
        }
    }
}

/// `Tcp: RtoAlgorithm RtoMin ...` and then `Tcp: 1 200 ...`.
fn put_table(table: &mut Table, text: &[u8], fields: &Regex, out: &mut Recorder, faults: &mut Faults) {
    let Table { file, headers } = table;
    let path = file.path();
    let mut lines = text::ended_lines(text).enumerate();
    let mut pair = 0;
    while let Some((number, names)) = lines.next() {
        let values = lines.next().map_or(&b""[..], |(_, values)| values);
        let Some(protocol) = protocol_of(names).filter(|_| protocol_of(names) == protocol_of(values)) else {
            let expected = "expected a line of names and then one of numbers, of the same protocol";
            faults.note(|| CollectError::malformed(path, number + 1, expected));
            continue;
        };
        if headers.len() == pair {
            headers.push(Header::default());
        }
        let header = &mut headers[pair];
        pair += 1;
        if header.line != names {
            header.learn(names, protocol, fields);
        }
        let mut values = text::words(values).skip(1);
        let mut next = 0;
        for (column, name) in &header.wanted {
            let value = values.nth(column - next);
            next = column + 1;
            if value.and_then(|value| put(protocol, &names[name.clone()], value, out)).is_none() {
                let expected = "expected a number for each name of letters and digits";
                faults.note(|| CollectError::malformed(path, number + 2, expected));
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
    let name = |word| text::as_str(word).filter(|name| text::is_name(name));
    let (protocol, field) = (name(protocol)?, name(field)?);
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
