//! The file of `--web.config.file`: TLS, users, headers and the rate of requests, as Prometheus' exporters share it
//! (exporter-toolkit, "Web configuration"). It is read again when it has changed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use std::collections::BTreeMap;

use crate::sources::host::parse_go_duration;

/// The headers that the file may set, and the values of those that have only a few.
const HEADERS: &[(&str, &[&str])] = &[
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];
/// Users in one file; more are refused.
const MAX_USERS: usize = 1000;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawFile {
    tls_server_config: Option<RawTls>,
    http_server_config: Option<RawHttp>,
    rate_limit: Option<RawRate>,
    basic_auth_users: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawTls {
    cert: String,
    key: String,
    client_ca: String,
    cert_file: String,
    key_file: String,
    client_auth_type: String,
    client_ca_file: String,
    cipher_suites: Vec<String>,
    curve_preferences: Vec<String>,
    min_version: String,
    max_version: String,
    /// Taken and without effect, as in Go since 1.17.
    #[serde(rename = "prefer_server_cipher_suites")]
    _prefer_server_cipher_suites: bool,
    client_allowed_sans: Option<Vec<String>>,
}

impl Default for RawTls {
    fn default() -> Self {
        RawTls {
            cert: String::new(),
            key: String::new(),
            client_ca: String::new(),
            cert_file: String::new(),
            key_file: String::new(),
            client_auth_type: String::new(),
            client_ca_file: String::new(),
            cipher_suites: Vec::new(),
            curve_preferences: Vec::new(),
            min_version: "TLS12".into(),
            max_version: "TLS13".into(),
            _prefer_server_cipher_suites: true,
            client_allowed_sans: None,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawHttp {
    http2: bool,
    headers: BTreeMap<String, String>,
}

impl Default for RawHttp {
    fn default() -> Self {
        RawHttp { http2: true, headers: BTreeMap::new() }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRate {
    burst: u32,
    interval: RawInterval,
}

/// A Go duration, or a number of nanoseconds.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RawInterval {
    Nanoseconds(u64),
    Text(String),
}

impl Default for RawInterval {
    fn default() -> Self {
        RawInterval::Nanoseconds(0)
    }
}

/// The file, checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WebConfig {
    /// Absent for plain HTTP.
    pub(super) tls: Option<TlsSettings>,
    pub(super) http2: bool,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// bcrypt hashes by user. Empty where everybody is let in.
    pub(super) users: BTreeMap<String, String>,
    pub(super) rate: Option<Rate>,
}

/// One request an interval, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) interval: Duration,
    pub(super) burst: u32,
}

/// A PEM text, or the file that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pem {
    Text(String),
    File(PathBuf),
}

/// Whether a client must show a certificate, and whether it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientAuth {
    No,
    Request,
    RequireAny,
    VerifyIfGiven,
    RequireAndVerify,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TlsSettings {
    pub(super) cert: Pem,
    pub(super) key: Pem,
    pub(super) client_ca: Option<Pem>,
    pub(super) client_auth: ClientAuth,
    pub(super) client_allowed_sans: Option<Vec<String>>,
    pub(super) tls12: bool,
    pub(super) tls13: bool,
    /// Names as in Go; empty for all.
    pub(super) cipher_suites: Vec<String>,
    pub(super) curves: Vec<String>,
}

/// Checks the content of the file at `path`, of which only the folder matters here.
///
/// # Errors
/// What is wrong, with the key.
pub(super) fn parse_web_config(text: &str, path: &Path) -> Result<WebConfig, String> {
    let raw: RawFile = if text.trim().is_empty() {
        RawFile::default()
    } else {
        serde_norway::from_str::<Option<RawFile>>(text)
            .map_err(|error| error.to_string())?
            .unwrap_or_default()
    };
    let http = raw.http_server_config.unwrap_or_default();
    let folder = path.parent().unwrap_or(Path::new(""));
    let users = raw.basic_auth_users.unwrap_or_default();
    if users.len() > MAX_USERS {
        return Err(format!("basic_auth_users: more than {MAX_USERS} users"));
    }
    for (user, hash) in &users {
        hash.parse::<bcrypt::HashParts>()
            .map_err(|error| format!("basic_auth_users.{user}: not a bcrypt hash: {error}"))?;
    }
    Ok(WebConfig {
        tls: raw.tls_server_config.map_or(Ok(None), |tls| resolve_tls(tls, folder))?,
        http2: http.http2,
        headers: http.headers.iter().map(resolve_header).collect::<Result<_, _>>()?,
        users,
        rate: resolve_rate(raw.rate_limit.unwrap_or_default())?,
    })
}

fn resolve_header((name, value): (&String, &String)) -> Result<(HeaderName, HeaderValue), String> {
    let Some((_, values)) = HEADERS.iter().find(|(known, _)| known == name) else {
        return Err(format!("http_server_config.headers: HTTP header {name:?} can not be configured"));
    };
    if !values.is_empty() && !values.contains(&value.as_str()) {
        return Err(format!(
            "http_server_config.headers: invalid value for {name}: expected one of {values:?}, got {value:?}"
        ));
    }
    let wrong = |_| format!("http_server_config.headers.{name}: {value:?} can't be the value of a header");
    let parsed = HeaderValue::from_str(value).map_err(|_| ()).map_err(wrong)?;
    Ok((HeaderName::from_bytes(name.as_bytes()).map_err(|_| ()).map_err(wrong)?, parsed))
}

fn resolve_rate(raw: RawRate) -> Result<Option<Rate>, String> {
    let interval = match raw.interval {
        RawInterval::Nanoseconds(number) => Duration::from_nanos(number),
        RawInterval::Text(text) => parse_go_duration(&text)
            .ok_or_else(|| format!("rate_limit.interval: {text:?} is not a duration such as 1s or 100ms"))?,
    };
    Ok((!interval.is_zero()).then_some(Rate { interval, burst: raw.burst }))
}

fn resolve_tls(raw: RawTls, folder: &Path) -> Result<Option<TlsSettings>, String> {
    let pem = |text: String, file: String| match (file.is_empty(), text.is_empty()) {
        (false, _) => Some(Pem::File(folder.join(file))),
        (true, false) => Some(Pem::Text(text)),
        (true, true) => None,
    };
    let (cert, key) = (pem(raw.cert, raw.cert_file), pem(raw.key, raw.key_file));
    let client_ca = pem(raw.client_ca, raw.client_ca_file);
    if cert.is_none() && key.is_none() && client_ca.is_none() && raw.client_auth_type.is_empty() {
        return Ok(None);
    }
    let key_error = |message: &str| format!("tls_server_config: {message}");
    let client_auth = match raw.client_auth_type.as_str() {
        "" | "NoClientCert" => ClientAuth::No,
        "RequestClientCert" => ClientAuth::Request,
        "RequireAnyClientCert" | "RequireClientCert" => ClientAuth::RequireAny,
        "VerifyClientCertIfGiven" => ClientAuth::VerifyIfGiven,
        "RequireAndVerifyClientCert" => ClientAuth::RequireAndVerify,
        other => return Err(format!("tls_server_config.client_auth_type: invalid: {other:?}")),
    };
    if client_ca.is_some() && client_auth == ClientAuth::No {
        return Err(key_error("client CA's have been configured without a Client Auth Policy"));
    }
    let must_show = matches!(client_auth, ClientAuth::RequireAny | ClientAuth::RequireAndVerify);
    if raw.client_allowed_sans.is_some() && !must_show {
        return Err(key_error(
            "client_allowed_sans requires client_auth_type to be RequireAnyClientCert or RequireAndVerifyClientCert",
        ));
    }
    let (tls12, tls13) = resolve_versions(&raw.min_version, &raw.max_version)?;
    Ok(Some(TlsSettings {
        cert: cert.ok_or_else(|| key_error("missing one of cert or cert_file"))?,
        key: key.ok_or_else(|| key_error("missing one of key or key_file"))?,
        client_ca,
        client_auth,
        client_allowed_sans: raw.client_allowed_sans,
        tls12,
        tls13,
        cipher_suites: raw.cipher_suites,
        curves: raw.curve_preferences,
    }))
}

/// Whether TLS 1.2 and 1.3 lie within the bounds. Older ones are not spoken, whatever the file says.
fn resolve_versions(min: &str, max: &str) -> Result<(bool, bool), String> {
    let number = |key: &str, text: &str| {
        let known = ["TLS10", "TLS11", "TLS12", "TLS13"].iter().position(|name| *name == text);
        known.ok_or_else(|| format!("tls_server_config.{key}: unknown TLS version: {text:?}"))
    };
    let (min, max) = (number("min_version", min)?, number("max_version", max)?);
    let (tls12, tls13) = ((min..=max).contains(&2), (min..=max).contains(&3));
    if !tls12 && !tls13 {
        return Err("tls_server_config: neither TLS12 nor TLS13 is within min_version and max_version".into());
    }
    Ok((tls12, tls13))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<WebConfig, String> {
        parse_web_config(text, Path::new("/etc/collector/web.yml"))
    }

    #[test]
    fn nothing_means_plain_http() {
        for text in
            ["", "# only a remark\n", "{}", "tls_server_config: {}", "basic_auth_users: {}\nrate_limit:"]
        {
            let config = parse(text).unwrap();
            assert_eq!((config.tls, config.rate, config.users.len()), (None, None, 0), "{text:?}");
            assert!(config.http2);
        }
    }

    #[test]
    fn every_key_is_taken() {
        let config = parse(
            "tls_server_config:\n  cert_file: a.crt\n  key: |\n    PEM\n  client_ca_file: /ca.crt\n  \
             client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: [a.example]\n  \
             min_version: TLS13\n  max_version: TLS13\n  cipher_suites: [TLS_AES_128_GCM_SHA256]\n  \
             curve_preferences: [X25519]\n  prefer_server_cipher_suites: false\nhttp_server_config:\n  \
             http2: false\n  headers:\n    X-Frame-Options: deny\nrate_limit:\n  interval: 1.5s\n  burst: 7\n\
             basic_auth_users:\n  alice: $2y$10$mDwo.lAisC94iLAyP81MCesa29IzH37oigHC/42V2pdJlUprsJPze\n",
        )
        .unwrap();
        let tls = config.tls.unwrap();
        assert_eq!(tls.cert, Pem::File("/etc/collector/a.crt".into()));
        assert_eq!(tls.key, Pem::Text("PEM\n".into()));
        assert_eq!(tls.client_ca, Some(Pem::File("/ca.crt".into())));
        assert_eq!((tls.tls12, tls.tls13), (false, true));
        assert_eq!(config.rate, Some(Rate { interval: Duration::from_millis(1500), burst: 7 }));
        assert_eq!((config.http2, config.headers.len(), config.users.len()), (false, 1, 1));
    }

    #[test]
    fn faults_name_their_key() {
        for (text, expected) in [
            ("tls_server_confg: {}", "unknown field"),
            ("tls_server_config: {cert_file: a}", "missing one of key or key_file"),
            ("tls_server_config: {key_file: a}", "missing one of cert or cert_file"),
            ("tls_server_config: {client_auth_type: Sometimes}", "client_auth_type: invalid"),
            ("tls_server_config: {client_ca_file: a}", "without a Client Auth Policy"),
            (
                "tls_server_config: {cert_file: a, key_file: a, client_allowed_sans: [x]}",
                "client_allowed_sans requires",
            ),
            ("tls_server_config: {cert_file: a, key_file: a, min_version: TLS9}", "unknown TLS version"),
            ("tls_server_config: {cert_file: a, key_file: a, max_version: TLS11}", "neither TLS12 nor TLS13"),
            ("http_server_config: {headers: {X-Mine: a}}", "can not be configured"),
            ("http_server_config: {headers: {X-Frame-Options: allow}}", "expected one of"),
            ("rate_limit: {interval: soon}", "not a duration"),
            ("basic_auth_users: {bob: secret}", "basic_auth_users.bob: not a bcrypt hash"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    const SEED: &str = "tls_server_config:\n  cert_file: a.crt\n  key: |\n    PEM\n  client_ca_file: /ca.crt\n  \
        client_auth_type: RequireAndVerifyClientCert\n  min_version: TLS12\n  cipher_suites: [A, B]\n\
        http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: deny\nrate_limit:\n  \
        interval: 1.5s\n  burst: 7\nbasic_auth_users:\n  \
        alice: $2y$10$mDwo.lAisC94iLAyP81MCesa29IzH37oigHC/42V2pdJlUprsJPze\n";

    proptest::proptest! {
        #![proptest_config(crate::sys::bent::inputs())]

        #[test]
        fn bent_files_are_taken_or_explained(bytes in crate::sys::bent::bent(vec![SEED.into()])) {
            if let Err(error) = parse(&String::from_utf8_lossy(&bytes)) {
                proptest::prop_assert!(!error.is_empty());
            }
        }
    }
}
