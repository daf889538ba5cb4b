//! DNS queries over UDP, and over TCP where an answer did not fit, to the servers of /etc/resolv.conf. Answers
//! are believed as far as a resolver of the host is: nothing is kept, nothing is validated. Refuses names that
//! DNS can't carry, answers to other questions, and compression that points forward.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::config::DnsKind;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const MAX_UDP: usize = 4096;
/// Servers and search domains that are taken from the file, as the C library does.
const MAX_SERVERS: usize = 3;
const MAX_SEARCH: usize = 6;
/// Records of one answer.
const MAX_RECORDS: usize = 10_000;
const CLASS_INTERNET: u16 = 1;
const NAME_ERROR: u8 = 3;

/// What a record says. Names end in a dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Address(IpAddr),
    Service { host: String, port: u16 },
    Host(String),
}

/// The servers to ask.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    dots: usize,
    timeout: Duration,
    attempts: usize,
}

enum Answer {
    Records(Vec<Record>),
    /// There is no such name.
    NoName,
}

fn type_code(kind: DnsKind) -> u16 {
    match kind {
        DnsKind::A => 1,
        DnsKind::Ns => 2,
        DnsKind::Mx => 15,
        DnsKind::Aaaa => 28,
        DnsKind::Srv => 33,
    }
}

impl Resolver {
    /// As /etc/resolv.conf says now.
    pub(super) fn from_system() -> Self {
        Self::parse(&std::fs::read_to_string(RESOLV_CONF).unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let mut resolver = Resolver {
            servers: Vec::new(),
            search: Vec::new(),
            dots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        };
        for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address =
                        words.next().and_then(|text| text.split('%').next()?.parse::<IpAddr>().ok());
                    resolver.servers.extend(address.map(|address| SocketAddr::new(address, 53)));
                }
                Some("search" | "domain") => {
                    resolver.search =
                        words.take(MAX_SEARCH).map(|word| word.trim_matches('.').to_owned()).collect();
                }
                Some("options") => words.for_each(|word| resolver.option(word)),
                _ => {}
            }
        }
        resolver.servers.truncate(MAX_SERVERS);
        if resolver.servers.is_empty() {
            resolver.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53));
        }
        resolver
    }

    fn option(&mut self, word: &str) {
        let Some((name, value)) = word.split_once(':') else { return };
        let Ok(value) = value.parse::<u64>() else { return };
        match name {
            "ndots" => self.dots = value.min(15) as usize,
            "timeout" => self.timeout = Duration::from_secs(value.clamp(1, 30)),
            "attempts" => self.attempts = value.clamp(1, 5) as usize,
            _ => {}
        }
    }

    /// The names to try, one after another.
    fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let plain = format!("{name}.");
        let mut all: Vec<String> = self.search.iter().map(|domain| format!("{name}.{domain}.")).collect();
        let first = name.matches('.').count() >= self.dots;
        all.insert(if first { 0 } else { all.len() }, plain);
        all
    }

    /// The records of that kind. A name that does not exist has none.
    ///
    /// # Errors
    /// Why it can't be known.
    pub(super) async fn lookup(&self, name: &str, kind: DnsKind) -> Result<Vec<Record>, String> {
        let mut fault = None;
        for candidate in self.candidates(name) {
            match self.ask_any(&candidate, kind).await {
                Ok(Answer::Records(records)) if !records.is_empty() => return Ok(records),
                Ok(_) => {}
                Err(why) => fault = Some(why),
            }
        }
        fault.map_or(Ok(Vec::new()), Err)
    }

    async fn ask_any(&self, name: &str, kind: DnsKind) -> Result<Answer, String> {
        let mut fault = String::new();
        for _ in 0..self.attempts {
            for server in &self.servers {
                let asked = tokio::time::timeout(self.timeout, ask(*server, name, type_code(kind))).await;
                match asked.unwrap_or_else(|_| Err("no answer".to_owned())) {
                    Ok(answer) => return Ok(answer),
                    Err(why) => fault = format!("{server}: {why}"),
                }
            }
        }
        Err(fault)
    }
}

async fn ask(server: SocketAddr, name: &str, kind: u16) -> Result<Answer, String> {
    let fail = |error: std::io::Error| error.to_string();
    let mut random = [0; 2];
    // An answer must know the number, besides the port that the kernel chose at random.
    random.copy_from_slice(
        &std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), name).to_ne_bytes()[..2],
    );
    let query = encode_query(u16::from_ne_bytes(random), name, kind)?;
    let local: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(local, 0)).await.map_err(fail)?;
    socket.connect(server).await.map_err(fail)?;
    socket.send(&query).await.map_err(fail)?;
    let mut buffer = vec![0; MAX_UDP];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(fail)?;
        let answer = &buffer[..length];
        if answer.len() < 12 || answer[..2] != query[..2] {
            continue;
        }
        // Truncated: the whole of it is had by TCP.
        if answer[2] & 0x02 == 0 {
            return parse_answer(answer, kind);
        }
        break;
    }
    let mut stream = TcpStream::connect(server).await.map_err(fail)?;
    let length = u16::try_from(query.len()).map_err(|_| "the question is too long")?;
    stream.write_all(&[&length.to_be_bytes(), &query[..]].concat()).await.map_err(fail)?;
    let length = stream.read_u16().await.map_err(fail)?;
    buffer.resize(usize::from(length), 0);
    stream.read_exact(&mut buffer).await.map_err(fail)?;
    if buffer.len() < 12 || buffer[..2] != query[..2] {
        return Err("an answer to another question".to_owned());
    }
    parse_answer(&buffer, kind)
}

/// One question, with the extension that allows for long answers (RFC 6891).
fn encode_query(number: u16, name: &str, kind: u16) -> Result<Vec<u8>, String> {
    let mut out = number.to_be_bytes().to_vec();
    // Recursion desired; one question, one additional record.
    out.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 1]);
    let start = out.len();
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length));
        out.push(length.ok_or_else(|| format!("{name:?} is not a name that DNS can carry"))?);
        out.extend(label.as_bytes());
    }
    out.push(0);
    if out.len() - start > 255 {
        return Err(format!("{name:?} is too long for DNS"));
    }
    out.extend(kind.to_be_bytes());
    out.extend(CLASS_INTERNET.to_be_bytes());
    out.extend([0, 0, 41]);
    out.extend((MAX_UDP as u16).to_be_bytes());
    out.extend([0; 6]);
    Ok(out)
}

fn parse_answer(message: &[u8], kind: u16) -> Result<Answer, String> {
    match message[3] & 0x0f {
        0 => parse_records(message, kind).map(Answer::Records).ok_or_else(|| "a bad answer".to_owned()),
        NAME_ERROR => Ok(Answer::NoName),
        code => Err(format!("the server answers with code {code}")),
    }
}

fn parse_records(message: &[u8], kind: u16) -> Option<Vec<Record>> {
    let mut at = 12;
    for _ in 0..number(message, 4)? {
        at = name(message, at)?.1 + 4;
    }
    let mut records = Vec::new();
    for _ in 0..usize::from(number(message, 6)?).min(MAX_RECORDS) {
        at = name(message, at)?.1;
        let (found, class) = (number(message, at)?, number(message, at + 2)?);
        let length = usize::from(number(message, at + 8)?);
        let data = at + 10;
        let bytes = message.get(data..data + length)?;
        at = data + length;
        // An alias comes before what it stands for.
        if found != kind || class != CLASS_INTERNET {
            continue;
        }
        records.push(match kind {
            1 => Record::Address(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
            28 => Record::Address(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
            15 => Record::Host(name(message, data + 2)?.0),
            33 => Record::Service { port: number(message, data + 4)?, host: name(message, data + 6)?.0 },
            _ => Record::Host(name(message, data)?.0),
        });
    }
    Some(records)
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?))
}

/// A name, and where what follows it begins. Each pointer goes back, so that none goes round.
fn name(message: &[u8], at: usize) -> Option<(String, usize)> {
    let (mut text, mut at, mut end, mut before) = (String::new(), at, None, at);
    loop {
        let length = usize::from(*message.get(at)?);
        match length {
            0 => {
                if text.is_empty() {
                    text.push('.');
                }
                return Some((text, end.unwrap_or(at + 1)));
            }
            1..64 => {
                text.push_str(&String::from_utf8_lossy(message.get(at + 1..at + 1 + length)?));
                text.push('.');
                if text.len() > 1024 {
                    return None;
                }
                at += 1 + length;
            }
            192.. => {
                let to = usize::from(number(message, at)? & 0x3fff);
                end = end.or(Some(at + 2));
                if to >= before {
                    return None;
                }
                (at, before) = (to, to);
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
#[path = "resolver_tests.rs"]
mod tests;
