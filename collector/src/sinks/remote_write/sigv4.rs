//! Signatures of AWS, version 4: HMAC-SHA256 over the request in a canonical form ("Signature Version 4 signing
//! process"). Keys come from the configuration, the environment, or the shared credentials file, which is read for
//! each request.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use ring::{digest, hmac};

use crate::client::read_secret;
use crate::config::SigV4;

/// The service of Amazon Managed Prometheus.
pub(super) const SERVICE: &str = "aps";

/// What signs.
#[derive(Clone)]
pub(super) struct Keys {
    pub access: String,
    pub secret: String,
    pub token: Option<String>,
}

/// Adds the headers that sign a POST of `body` to `uri`.
///
/// # Errors
/// What is wrong with the keys.
pub(super) fn sign(
    keys: &Keys,
    (region, service): (&str, &str),
    uri: &Uri,
    body: &[u8],
    now: SystemTime,
    headers: &mut HeaderMap,
) -> Result<(), String> {
    let signed = Signed { region, service, now: &timestamp(now) };
    let mut add = |name: &'static str, value: &str| {
        let value =
            HeaderValue::from_str(value).map_err(|_| "sigv4: a key holds odd characters".to_owned())?;
        headers.insert(HeaderName::from_static(name), value);
        Ok::<_, String>(())
    };
    add("x-amz-date", signed.now)?;
    if let Some(token) = &keys.token {
        add("x-amz-security-token", token)?;
    }
    add("authorization", &signed.authorization("POST", uri, body, keys))
}

struct Signed<'a> {
    region: &'a str,
    service: &'a str,
    /// `20150830T123600Z`.
    now: &'a str,
}

impl Signed<'_> {
    fn authorization(&self, method: &str, uri: &Uri, body: &[u8], keys: &Keys) -> String {
        let host = uri.authority().map_or("", |authority| authority.as_str());
        let mut signed = vec![("host", host), ("x-amz-date", self.now)];
        signed.extend(keys.token.as_deref().map(|token| ("x-amz-security-token", token)));
        let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let canonical = format!(
            "{method}\n{}\n{}\n{lines}\n{names}\n{}",
            escape(uri.path(), true),
            query(uri.query().unwrap_or("")),
            hex(digest::digest(&digest::SHA256, body).as_ref())
        );
        let date = &self.now[..8];
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{hash}", self.now);
        let first = format!("AWS4{}", keys.secret).into_bytes();
        let key = [date, self.region, self.service, "aws4_request"]
            .iter()
            .fold(first, |key, part| mac(&key, part.as_bytes()));
        let signature = hex(&mac(&key, text.as_bytes()));
        let access = &keys.access;
        format!("AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, Signature={signature}")
    }
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is not plain as `%XX`; in a path, slashes stay.
fn escape(text: &str, is_path: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            b'/' if is_path => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    if out.is_empty() && is_path { "/".into() } else { out }
}

/// The query in the order of its names. What is escaped in a URL is escaped as it shall be.
fn query(text: &str) -> String {
    let mut pairs: Vec<(String, String)> = form_urlencoded::parse(text.as_bytes())
        .map(|(name, value)| (escape(&name, false), escape(&value, false)))
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// The time as signatures have it.
fn timestamp(now: SystemTime) -> String {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (day, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, in eras of 400 years: leap days come last in their years.
    let days = day + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let (month, day) = ((from_march + 2) % 12 + 1, of_year - (153 * from_march + 2) / 5 + 1);
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// The keys that the settings name.
///
/// # Errors
/// Which key is missing.
pub(super) fn keys(settings: &SigV4) -> Result<Keys, String> {
    if let (Some(access), Some(secret)) = (&settings.access_key, &settings.secret_key) {
        return Ok(Keys { access: access.clone(), secret: read_secret(secret)?, token: None });
    }
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if settings.profile.is_none()
        && let (Some(access), Some(secret)) =
            (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"))
    {
        return Ok(Keys { access, secret, token: variable("AWS_SESSION_TOKEN") });
    }
    let home = || variable("HOME").map(|home| PathBuf::from(home).join(".aws/credentials"));
    let path = variable("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from).or_else(home);
    let path = path.ok_or("sigv4: neither keys nor a shared credentials file")?;
    let text =
        std::fs::read_to_string(&path).map_err(|error| format!("sigv4: {}: {error}", path.display()))?;
    let profile = settings.profile.clone().or_else(|| variable("AWS_PROFILE"));
    let profile = profile.as_deref().unwrap_or("default");
    keys_of(&text, profile)
        .ok_or_else(|| format!("sigv4: {}: no keys of the profile {profile:?}", path.display()))
}

/// The keys of a profile in a shared credentials file.
fn keys_of(text: &str, profile: &str) -> Option<Keys> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| {
        line.strip_prefix('[').and_then(|l| l.strip_suffix(']')).map(str::trim) == Some(profile)
    })?;
    let (mut access, mut secret, mut token) = (None, None, None);
    for line in lines.take_while(|line| !line.starts_with('[')).filter(|line| !line.starts_with(['#', ';'])) {
        let Some((name, value)) = line.split_once('=') else { continue };
        let value = Some(value.trim().to_owned());
        match name.trim() {
            "aws_access_key_id" => access = value,
            "aws_secret_access_key" => secret = value,
            "aws_session_token" => token = value,
            _ => {}
        }
    }
    Some(Keys { access: access?, secret: secret?, token })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn example() -> Keys {
        Keys { access: "AKIDEXAMPLE".into(), secret: SECRET.into(), token: None }
    }

    /// The examples of AWS's own test suite for signature version 4.
    #[test]
    fn the_published_examples_are_signed_as_published() {
        let signed = Signed { region: "us-east-1", service: "service", now: "20150830T123600Z" };
        for (method, uri, signature) in [
            (
                "GET",
                "http://example.amazonaws.com/",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "POST",
                "http://example.amazonaws.com/",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "GET",
                "http://example.amazonaws.com/?Param2=value2&Param1=value1",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
        ] {
            let header = signed.authorization(method, &uri.parse().unwrap(), b"", &example());
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                 SignedHeaders=host;x-amz-date, Signature={signature}"
            );
            assert_eq!(header, expected);
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        let at = |seconds| timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "19700101T000000Z");
        assert_eq!(at(1_440_938_160), "20150830T123600Z");
        assert_eq!(at(951_782_399), "20000228T235959Z");
        assert_eq!(at(951_868_800), "20000301T000000Z");
        assert_eq!(at(1_735_689_599), "20241231T235959Z");
    }

    #[test]
    fn keys_come_from_the_profile_that_was_asked_for() {
        let text = "# ours\n[default]\naws_access_key_id = A\naws_secret_access_key=B\n\n[ other ]\n\
                    aws_access_key_id=C\n; no\naws_secret_access_key = D=\naws_session_token=T\n";
        let keys = |profile| keys_of(text, profile).map(|keys| (keys.access, keys.secret, keys.token));
        assert_eq!(keys("default"), Some(("A".into(), "B".into(), None)));
        assert_eq!(keys("other"), Some(("C".into(), "D=".into(), Some("T".into()))));
        assert_eq!(keys("none"), None);
    }

    #[test]
    fn paths_are_escaped_once_more_and_queries_sorted() {
        assert_eq!(escape("/a%20b/c", true), "/a%2520b/c");
        assert_eq!(escape("", true), "/");
        assert_eq!(query("b=2&a=1%20x&a=0&c"), "a=0&a=1%20x&b=2&c=");
    }
}
