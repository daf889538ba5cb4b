//! What stands before every request where `--web.config.file` is given: rate limit, headers, users.
//!
//! The file is looked at for each request, and each certificate for each handshake: one stat(2) each, and read
//! again only when its stamp has changed.

use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use hashbrown::HashMap;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use rustls::ServerConfig;

use super::routes::text;
use super::tls;
use super::web_config::{ClientAuth, Rate, TlsSettings, WebConfig, parse_web_config};
use crate::sys::file::Stamp;

/// Decisions about users that are remembered, so that bcrypt is asked once for each password.
const REMEMBERED: usize = 100;
/// A hash of no password, checked for users that do not exist, so that their absence can't be told by the time.
const NOBODY: &str = "$2y$10$vI8aWBnW3fID.ZQ4/zo1G.q1lRps.9cGLcZEiGDMVr5yUP1KUOYTa";

/// The file, and what was made of it.
pub(super) struct Guard {
    path: PathBuf,
    loaded: Mutex<Loaded>,
    /// Held while bcrypt works: one guess at a time.
    hashing: tokio::sync::Mutex<()>,
    decided: Mutex<HashMap<u128, bool>>,
    keys: [RandomState; 2],
}

struct Loaded {
    /// Absent while the file may still change without a new stamp.
    stamp: Option<Stamp>,
    config: Arc<WebConfig>,
    /// With the stamps of the files that it was made from.
    tls: Option<(Vec<Option<Stamp>>, Arc<ServerConfig>)>,
    bucket: Option<Bucket>,
}

impl Guard {
    /// Reads the file, and the certificates that it names.
    ///
    /// # Errors
    /// With the path: the file can't be read, or says what makes no sense.
    pub(super) fn open(path: PathBuf) -> Result<Self, String> {
        let (stamp, config) = read(&path)?;
        let bucket = config.rate.map(Bucket::new);
        let loaded = Loaded { stamp, config, tls: None, bucket };
        let guard = Guard {
            path,
            loaded: Mutex::new(loaded),
            hashing: tokio::sync::Mutex::default(),
            decided: Mutex::default(),
            keys: [RandomState::new(), RandomState::new()],
        };
        guard.tls()?;
        Ok(guard)
    }

    /// The TLS configuration as the files are now; `None` for plain HTTP.
    ///
    /// # Errors
    /// As [`Guard::open`].
    pub(super) fn tls(&self) -> Result<Option<Arc<ServerConfig>>, String> {
        let mut loaded = self.current()?;
        let Some(settings) = &loaded.config.tls else { return Ok(None) };
        let stamps: Vec<_> =
            tls::files(settings).map(|path| Stamp::read(path).ok().filter(Stamp::is_settled)).collect();
        if let Some((known, config)) = &loaded.tls
            && *known == stamps
            && stamps.iter().all(Option::is_some)
        {
            return Ok(Some(config.clone()));
        }
        let config = tls::server_config(settings, loaded.config.http2)
            .map_err(|error| format!("{}: {error}", self.path.display()))?;
        loaded.tls = Some((stamps, config.clone()));
        Ok(Some(config))
    }

    /// What is asked of whoever comes in, by the files as they are now: to be a user, to show a certificate that is
    /// verified.
    ///
    /// # Errors
    /// As [`Guard::open`].
    pub(super) fn demands(&self) -> Result<(bool, bool), String> {
        let loaded = self.current()?;
        let config = &loaded.config;
        let verified = |tls: &TlsSettings| tls.client_auth == ClientAuth::RequireAndVerify;
        Ok((!config.users.is_empty(), config.tls.as_ref().is_some_and(verified)))
    }

    /// Lets a request in, with the headers that its answer must bear; or says what to answer instead.
    pub(super) async fn admit(&self, request: &HeaderMap) -> Result<Arc<WebConfig>, Response<Full<Bytes>>> {
        let config = {
            let mut loaded = self.current().map_err(|error| {
                log::error!(err = error.as_str(); "Unable to parse configuration");
                plain(StatusCode::INTERNAL_SERVER_ERROR)
            })?;
            if loaded.bucket.as_mut().is_some_and(|bucket| !bucket.take(Instant::now())) {
                return Err(plain(StatusCode::TOO_MANY_REQUESTS));
            }
            loaded.config.clone()
        };
        if config.users.is_empty() || self.is_user(&config, request).await {
            return Ok(config);
        }
        let mut response = plain(StatusCode::UNAUTHORIZED);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
        add_headers(&config, response.headers_mut());
        Err(response)
    }

    /// The file as it is now.
    fn current(&self) -> Result<MutexGuard<'_, Loaded>, String> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Stamp::read(&self.path).ok();
        if loaded.stamp.is_none() || loaded.stamp != now {
            let (stamp, config) = read(&self.path)?;
            if *config != *loaded.config {
                if config.rate != loaded.config.rate {
                    loaded.bucket = config.rate.map(Bucket::new);
                }
                loaded.tls = None;
                loaded.config = config;
            }
            loaded.stamp = stamp;
        }
        Ok(loaded)
    }

    async fn is_user(&self, config: &WebConfig, request: &HeaderMap) -> bool {
        let Some((user, password)) = credentials(request) else { return false };
        let known = config.users.get(&user);
        let hash = known.map_or(NOBODY, String::as_str).to_owned();
        let [low, high] = [0, 1].map(|n| self.keys[n].hash_one((&user, &hash, &password)));
        let key = u128::from(high) << 64 | u128::from(low);
        let decided = || self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        let before = decided().get(&key).copied();
        let is_right = match before {
            Some(is_right) => is_right,
            None => {
                let _one_at_a_time = self.hashing.lock().await;
                let check = move || bcrypt::verify(password, &hash).unwrap_or(false);
                let is_right = tokio::task::spawn_blocking(check).await.unwrap_or(false) && known.is_some();
                let mut decided = decided();
                if decided.len() >= REMEMBERED {
                    decided.clear();
                }
                decided.insert(key, is_right);
                is_right
            }
        };
        is_right && known.is_some()
    }
}

/// Adds the headers of the file to an answer.
pub(super) fn add_headers(config: &WebConfig, headers: &mut HeaderMap) {
    for (name, value) in &config.headers {
        headers.insert(name.clone(), value.clone());
    }
}

fn read(path: &PathBuf) -> Result<(Option<Stamp>, Arc<WebConfig>), String> {
    let fail = |error: String| format!("{}: {error}", path.display());
    let stamp = Stamp::read(path).ok().filter(Stamp::is_settled);
    let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    Ok((stamp, Arc::new(parse_web_config(&text, path).map_err(fail)?)))
}

/// As Go's `http.Error` answers.
fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    text(status, &format!("{}\n", status.canonical_reason().unwrap_or_default()))
}

/// User and password of `Authorization: Basic` (RFC 7617).
fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(encoded).ok()?;
    let colon = decoded.iter().position(|&byte| byte == b':')?;
    Some((String::from_utf8_lossy(&decoded[..colon]).into_owned(), decoded[colon + 1..].to_vec()))
}

/// A bucket of tokens: one an interval is put in, each request takes one.
struct Bucket {
    rate: Rate,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        Bucket { rate, tokens: f64::from(rate.burst), filled: Instant::now() }
    }

    fn take(&mut self, now: Instant) -> bool {
        let new = now.saturating_duration_since(self.filled).as_secs_f64() / self.rate.interval.as_secs_f64();
        self.tokens = (self.tokens + new).min(f64::from(self.rate.burst));
        self.filled = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
