//! One page of one target: by the short way where it is open, by the client of the job where it is not.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Uri};

use super::body::{Buffer, MAX_BODY};
use super::content::{self, Encoding, UnpackError};
use super::fault::Fault;
use super::http::{Broken, Connection};
use super::state::Entry;
use crate::client::{self, Client, USER_AGENT, describe, static_headers};
use crate::config::{HttpSettings, ScrapeConfig, Secret};
use crate::sources::scrape::page::Format;

/// A page as it came.
pub(super) struct Fetched {
    buffer: Buffer,
    range: Range<usize>,
    pub format: Format,
}

impl Fetched {
    pub(super) fn page(&self) -> &[u8] {
        &self.buffer.bytes[self.range.clone()]
    }
}

/// Fetches the pages of one target.
pub(super) struct Fetcher {
    config: Arc<ScrapeConfig>,
    /// Where the target is not asked as its job says.
    own_http: Option<Arc<HttpSettings>>,
    client: Arc<Client>,
    uri: Uri,
    timeout: Duration,
    is_plain: bool,
    connection: Option<Connection>,
    /// The request of the short way; empty until it is known for whom, or where it must be made anew each time.
    request: Vec<u8>,
}

impl Fetcher {
    /// # Errors
    /// What is wrong with the URL, or with the target's own settings.
    pub(super) fn new(entry: &Entry) -> Result<Self, String> {
        let (config, target) = (entry.job.config.clone(), &entry.target);
        let uri: Uri = target.url.parse().map_err(|error| format!("{:?}: {error}", target.url))?;
        if uri.host().is_none() {
            return Err(format!("{:?} names no host", target.url));
        }
        let client = entry.client()?;
        let own_http = target.http.clone();
        let http = own_http.as_deref().unwrap_or(&config.http);
        let is_plain = uri.scheme_str() == Some("http") && http.oauth2.is_none() && !client.is_proxied(&uri);
        let (connection, request) = (None, Vec::new());
        Ok(Fetcher { own_http, client, uri, timeout: target.timeout, is_plain, connection, request, config })
    }

    fn http(&self) -> &HttpSettings {
        self.own_http.as_deref().unwrap_or(&self.config.http)
    }

    fn limit(&self) -> usize {
        match usize::try_from(self.config.page.body_size_limit) {
            Ok(0) | Err(_) => MAX_BODY,
            Ok(limit) => limit.min(MAX_BODY),
        }
    }

    /// The page. The caller bounds the time that this takes.
    pub(super) async fn fetch(&mut self) -> Result<Fetched, Fault> {
        if self.is_plain {
            match self.fetch_plain().await {
                Err(Fault::Redirected) => {}
                result => return result,
            }
        }
        Box::pin(self.fetch_by_client()).await
    }

    async fn fetch_plain(&mut self) -> Result<Fetched, Fault> {
        let limit = self.limit();
        loop {
            let connection = match self.connection.take() {
                Some(connection) => connection,
                None => {
                    self.request.clear();
                    Connection::open(&self.uri).await?
                }
            };
            if self.request.is_empty() || self.has_secret_files() {
                self.request = self.make_request(connection.is_loopback()).map_err(Fault::Other)?;
            }
            let (buffer, answer, connection) = match connection.exchange(&self.request, limit).await {
                Ok(done) => done,
                Err(Broken { is_stale: true, .. }) => continue,
                Err(Broken { fault, .. }) => return Err(fault),
            };
            self.connection = connection;
            let head = answer.head;
            if self.http().follow_redirects && head.location && (300..400).contains(&head.status) {
                return Err(Fault::Redirected);
            }
            if head.status != 200 {
                let status = format!("server returned HTTP status {} {}", head.status, head.reason);
                return Err(Fault::other(status.trim_end()));
            }
            return self.unpack(buffer, answer.body, &head.content_type, &head.content_encoding, limit);
        }
    }

    async fn fetch_by_client(&mut self) -> Result<Fetched, Fault> {
        let limit = self.limit();
        let mut request = Request::get(self.uri.clone())
            .body(Full::<Bytes>::default())
            .map_err(|error| Fault::other(error.to_string()))?;
        for (name, value) in self.own_headers(false) {
            let value = HeaderValue::from_str(&value).map_err(|error| Fault::other(error.to_string()))?;
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        let response = self.client.send(request).await.map_err(Fault::Other)?;
        let status = response.status();
        if status != 200 {
            return Err(Fault::other(format!("server returned HTTP status {status}")));
        }
        let text = |headers: &HeaderMap, name| {
            headers
                .get(name)
                .map_or_else(String::new, |value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let content_type = text(response.headers(), header::CONTENT_TYPE);
        let content_encoding = text(response.headers(), header::CONTENT_ENCODING);
        let (mut body, mut buffer) = (response.into_body(), Buffer::take());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Fault::other(describe(&error)))?;
            let Some(data) = frame.data_ref() else { continue };
            if buffer.bytes.len() + data.len() > limit {
                return Err(Fault::BodyTooLong(limit));
            }
            reserve(&mut buffer, data.len())?;
            buffer.bytes.extend_from_slice(data);
        }
        let range = 0..buffer.bytes.len();
        self.unpack(buffer, range, &content_type, &content_encoding, limit)
    }

    fn unpack(
        &self,
        buffer: Buffer,
        range: Range<usize>,
        content_type: &str,
        content_encoding: &str,
        limit: usize,
    ) -> Result<Fetched, Fault> {
        let format =
            content::format(content_type, self.config.page.fallback_protocol).map_err(Fault::Other)?;
        let encoding = content::encoding(content_encoding).map_err(Fault::Other)?;
        if encoding == Encoding::Identity {
            return Ok(Fetched { buffer, range, format });
        }
        let mut plain = Buffer::take();
        let unpacked = content::unpack(encoding, &buffer.bytes[range], limit, &mut plain.bytes);
        unpacked.map_err(|error| match error {
            UnpackError::TooLong => Fault::BodyTooLong(limit),
            UnpackError::Malformed(text) => Fault::Other(text),
        })?;
        reserve(&mut plain, 0)?;
        let range = 0..plain.bytes.len();
        Ok(Fetched { buffer: plain, range, format })
    }

    /// What every request of a scrape says of itself.
    fn own_headers(&self, is_loopback: bool) -> Vec<(&'static str, String)> {
        // On loopback packing costs both sides more than it saves.
        let encoding = if self.config.enable_compression && !is_loopback { "gzip, zstd" } else { "identity" };
        vec![
            ("user-agent", USER_AGENT.to_owned()),
            ("accept", content::accept(&self.config.protocols, self.config.escaping)),
            ("accept-encoding", encoding.to_owned()),
            ("x-prometheus-scrape-timeout-seconds", self.timeout.as_secs_f64().to_string()),
        ]
    }

    fn make_request(&self, is_loopback: bool) -> Result<Vec<u8>, String> {
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let host = authority.rsplit('@').next().unwrap_or_default();
        let mut text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
        let given = static_headers(self.http())?;
        let is_given = |name: &str| given.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
        for (name, value) in self.own_headers(is_loopback) {
            if !is_given(name) {
                text += &format!("{name}: {value}\r\n");
            }
        }
        for (name, value) in &given {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        Ok(text.into_bytes())
    }

    fn has_secret_files(&self) -> bool {
        let is_file = |secret: &Secret| matches!(secret, Secret::File(_));
        self.http().headers.iter().any(|(_, values)| values.iter().any(is_file))
            || client::secrets_of(self.http()).any(is_file)
    }
}

fn reserve(buffer: &mut Buffer, more: usize) -> Result<(), Fault> {
    if buffer.reserve(more) {
        Ok(())
    } else {
        Err(Fault::other("the bodies that are being read take too much memory"))
    }
}
