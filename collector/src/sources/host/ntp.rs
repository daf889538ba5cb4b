//! The time server of this host: asks it once a tick with SNTP (RFC 5905 14), and tells whether it can be trusted.
//! Cost a tick: five system calls, and the time until it answers, at most a second. Deprecated by node_exporter.

mod packet;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use packet::{Answer, PACKET_BYTES, Times, parse_answer};

use super::{CollectError, Collector, Flag, FlagDefault, FlagValues, Registration, SetupError, Tick};
use crate::model::{Family, Recorder};

const SERVER_FLAG: &str = "collector.ntp.server";
const PORT_FLAG: &str = "collector.ntp.server-port";
const VERSION_FLAG: &str = "collector.ntp.protocol-version";
const LOCAL_FLAG: &str = "collector.ntp.server-is-local";
const TTL_FLAG: &str = "collector.ntp.ip-ttl";
const DISTANCE_FLAG: &str = "collector.ntp.max-distance";
const TOLERANCE_FLAG: &str = "collector.ntp.local-offset-tolerance";

/// As long as ntpdate waits.
const DEADLINE: Duration = Duration::from_secs(1);
const DAY: f64 = 86_400.0;

static STRATUM: Family =
    Family::gauge("node_ntp_stratum", "How many servers away the reference clock is.", &[]);
static LEAP: Family = Family::gauge(
    "node_ntp_leap",
    "Leap second to come: 0 none, 1 one more, 2 one less, 3 the clock is not synchronised.",
    &[],
);
static RTT: Family = Family::gauge("node_ntp_rtt_seconds", "Time to the server and back.", &[]);
static OFFSET: Family =
    Family::gauge("node_ntp_offset_seconds", "How far the server is ahead of the local clock.", &[]);
static REFERENCE: Family = Family::gauge(
    "node_ntp_reference_timestamp_seconds",
    "When the clock of the server was set or corrected last, in seconds since 1970; 0 if never.",
    &[],
);
static ROOT_DELAY: Family = Family::gauge(
    "node_ntp_root_delay_seconds",
    "Time from the server to the reference clock and back.",
    &[],
);
static ROOT_DISPERSION: Family = Family::gauge(
    "node_ntp_root_dispersion_seconds",
    "How far the server may be off the reference clock beside that.",
    &[],
);
static SANITY: Family = Family::gauge(
    "node_ntp_sanity",
    "Whether the server can be trusted (RFC 5905, and the limits that were given): 1 if so, 0 if not.",
    &[],
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "ntp",
    default_enabled: false,
    flags: &[
        Flag::new(SERVER_FLAG, FlagDefault::Text("127.0.0.1"), "Address of the time server."),
        Flag::new(PORT_FLAG, FlagDefault::Int(123), "Port of the time server."),
        Flag::new(VERSION_FLAG, FlagDefault::Int(4), "Version of the protocol: 2, 3 or 4."),
        Flag::new(LOCAL_FLAG, FlagDefault::Switch(false), "The server is this host, whatever its address."),
        Flag::new(TTL_FLAG, FlagDefault::Int(1), "How many hosts the question may pass through."),
        Flag::new(
            DISTANCE_FLAG,
            FlagDefault::Duration("3.46608s"),
            "Distance to the root that is still sane.",
        ),
        Flag::new(
            TOLERANCE_FLAG,
            FlagDefault::Duration("1ms"),
            "Offset to the local clock that is still sane.",
        ),
    ],
    families: &[&LEAP, &OFFSET, &REFERENCE, &ROOT_DELAY, &ROOT_DISPERSION, &RTT, &SANITY, &STRATUM],
    new: |setup| {
        log::warn!(collector = "ntp"; "this collector is deprecated by node_exporter");
        Ok(Box::new(Ntp::new(setup.flags).map_err(SetupError::of("ntp"))?))
    },
};

struct Ntp {
    server: String,
    port: u16,
    version: u8,
    ttl: u32,
    max_distance: f64,
    tolerance: f64,
    /// The midnight with the last leap second, in seconds since 1970: servers forget it right after it.
    leap_midnight: f64,
}

impl Ntp {
    fn new(flags: &FlagValues) -> Result<Self, String> {
        let server = flags.text(SERVER_FLAG);
        let is_loopback = server.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        if !flags.switch(LOCAL_FLAG) && !is_loopback {
            return Err(format!(
                "only an address of this host is valid for --{SERVER_FLAG}, see --{LOCAL_FLAG}"
            ));
        }
        let number = |flag: &str, from: i64, to: i64| {
            let number = flags.int(flag)?;
            let is_valid = (from..=to).contains(&number);
            is_valid.then_some(number).ok_or(format!("--{flag}: expected {from} to {to}, got {number}"))
        };
        Ok(Ntp {
            server: server.to_owned(),
            port: number(PORT_FLAG, 1, 65_535)? as u16,
            version: number(VERSION_FLAG, 2, 4)? as u8,
            ttl: number(TTL_FLAG, 0, 255)? as u32,
            max_distance: flags.duration(DISTANCE_FLAG)?.as_secs_f64(),
            tolerance: flags.duration(TOLERANCE_FLAG)?.as_secs_f64(),
            leap_midnight: f64::NEG_INFINITY,
        })
    }

    fn ask(&self) -> Result<Answer, CollectError> {
        let fail = |error: std::io::Error| {
            CollectError::Other(format!("no SNTP reply from {} port {}: {error}", self.server, self.port))
        };
        let socket = self.connect().map_err(fail)?;
        // What comes back must hold these bytes, so that nobody answers who did not see the question.
        let nonce = random();
        let sent = unix_time();
        let clock = Instant::now();
        socket.send(&packet::encode_question(self.version, nonce)).map_err(fail)?;
        let mut packet = [0; PACKET_BYTES];
        let length = socket.recv(&mut packet).map_err(fail)?;
        let took = clock.elapsed();
        let times = Times { sent, received: sent + took };
        let answer = packet.get(..length).filter(|packet| packet.len() == PACKET_BYTES);
        let answer = answer.ok_or("shorter than a packet").and_then(|_| parse_answer(&packet, nonce, times));
        answer.map_err(|why| CollectError::Other(format!("bad SNTP reply from {}: {why}", self.server)))
    }

    fn connect(&self) -> std::io::Result<UdpSocket> {
        let unknown = || std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
        let server = (self.server.as_str(), self.port).to_socket_addrs()?.next().ok_or_else(unknown)?;
        let local =
            if server.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((local, 0))?;
        if self.ttl > 0 {
            socket.set_ttl(self.ttl)?;
        }
        socket.set_read_timeout(Some(DEADLINE))?;
        socket.connect(server)?;
        Ok(socket)
    }

    fn is_sane(&mut self, answer: &Answer) -> bool {
        if answer.announces_leap() {
            self.leap_midnight = (answer.time / DAY).floor() * DAY + DAY;
        }
        // Around a leap second, servers may smear it over hours.
        let smears = (answer.time - self.leap_midnight).abs() < DAY;
        let tolerance = self.tolerance + if smears { 1.0 } else { 0.0 };
        answer.is_valid() && answer.root_distance() <= self.max_distance && answer.least_error <= tolerance
    }
}

fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// From the seed of the hash maps, which the kernel gave.
fn random() -> [u8; 8] {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish().to_be_bytes()
}

impl Collector for Ntp {
    fn update(&mut self, _: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let answer = self.ask()?;
        out.put(&STRATUM, &[], f64::from(answer.stratum));
        out.put(&LEAP, &[], f64::from(answer.leap));
        out.put(&RTT, &[], answer.rtt);
        out.put(&OFFSET, &[], answer.offset);
        out.put(&REFERENCE, &[], answer.reference_time);
        out.put(&ROOT_DELAY, &[], answer.root_delay);
        out.put(&ROOT_DISPERSION, &[], answer.root_dispersion);
        out.put(&SANITY, &[], f64::from(u8::from(self.is_sane(&answer))));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(given: &[(&str, &str)]) -> Result<Ntp, String> {
        let mut flags = FlagValues::default();
        COLLECTOR.flags.iter().for_each(|flag| flags.declare(flag));
        given.iter().for_each(|(name, value)| flags.give(name, *value));
        Ntp::new(&flags)
    }

    #[test]
    fn only_this_host_is_asked_unless_somebody_vouches_for_it() {
        assert!(make(&[]).is_ok_and(|ntp| (ntp.port, ntp.version, ntp.ttl) == (123, 4, 1)));
        assert!(make(&[(SERVER_FLAG, "::1")]).is_ok());
        assert!(make(&[(SERVER_FLAG, "192.0.2.1")]).is_err());
        assert!(make(&[(SERVER_FLAG, "time.example"), (LOCAL_FLAG, "true")]).is_ok());
        for (flag, value) in [(PORT_FLAG, "0"), (PORT_FLAG, "65536"), (VERSION_FLAG, "5"), (TTL_FLAG, "256")]
        {
            assert!(make(&[(flag, value)]).is_err(), "{flag} {value}");
        }
    }

    #[test]
    fn sanity_has_limits() {
        let good = Answer {
            leap: 0,
            stratum: 2,
            time: 1_000_000.0,
            reference_time: 999_900.0,
            rtt: 0.002,
            offset: 0.0,
            root_delay: 0.1,
            root_dispersion: 0.05,
            least_error: 0.0005,
        };
        let is_sane = |answer: Answer| make(&[]).unwrap().is_sane(&answer);
        assert!(is_sane(good));
        for (what, bad) in [
            ("kiss of death", Answer { stratum: 0, ..good }),
            ("not synchronised", Answer { stratum: 16, ..good }),
            ("leap indicator", Answer { leap: 3, ..good }),
            ("not fresh", Answer { reference_time: 1_000_000.0 - 131_073.0, ..good }),
            ("never set", Answer { reference_time: 0.0, ..good }),
            ("set in the future", Answer { reference_time: 1_000_001.0, ..good }),
            ("dispersion", Answer { root_dispersion: 16.0, ..good }),
            ("distance", Answer { root_delay: 7.0, ..good }),
            ("offset", Answer { least_error: 0.0011, ..good }),
        ] {
            assert!(!is_sane(bad), "{what}");
        }
        let mut ntp = make(&[]).unwrap();
        let smeared = Answer { least_error: 0.9, ..good };
        assert!(!ntp.is_sane(&smeared), "no leap second in sight");
        assert!(ntp.is_sane(&Answer { leap: 1, ..smeared }));
        assert!(ntp.is_sane(&smeared), "the server forgot, but not we");
        let later = Answer { time: 1_200_000.0, reference_time: 1_199_990.0, ..smeared };
        assert!(!ntp.is_sane(&later), "the day after is over");
    }
}
