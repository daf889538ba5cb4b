//! One HTTP client an endpoint: connections, TLS, authorization, and what an answer means.

use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::backoff::parse_retry_after;
use super::tls;
use crate::config::{Authorization, Endpoint, Secret};
use crate::encode::Protocol;
use crate::limits::MAX_ERROR_BODY;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_CONNECTIONS: usize = 4;

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Accepted,
    /// Worth trying again, after this long if the far side said so.
    Retry {
        why: String,
        status: u16,
        after: Option<Duration>,
    },
    /// Never to be sent again as it is.
    Refused {
        why: String,
        status: u16,
    },
    /// The far side does not speak this version of the protocol.
    WrongProtocol {
        why: String,
    },
}

enum Transport {
    Plain(Http<HttpConnector, Full<Bytes>>),
    Tls(Http<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

/// Sends the requests of one endpoint.
pub(super) struct Client {
    transport: Transport,
    uri: Uri,
    headers: HeaderMap,
    authorization: Option<Authorization>,
    timeout: Duration,
    retry_429: bool,
}

impl Client {
    /// # Errors
    /// What is wrong with the TLS files or the headers.
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, String> {
        let uri: Uri = endpoint.url.parse().map_err(|error| format!("url: {error}"))?;
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let mut builder = Http::builder(TokioExecutor::new());
        builder.pool_max_idle_per_host(IDLE_CONNECTIONS);
        let transport = if uri.scheme_str() == Some("https") {
            Transport::Tls(builder.build(tls::connector(connector, &endpoint.tls, endpoint.http2)?))
        } else {
            Transport::Plain(builder.build(connector))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &endpoint.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| format!("{name}: {error}"))?;
            headers.insert(name, HeaderValue::from_str(value).map_err(|error| error.to_string())?);
        }
        let agent = concat!("collector/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
        Ok(Client {
            transport,
            uri,
            headers,
            authorization: endpoint.authorization.clone(),
            timeout: endpoint.timeout,
            retry_429: endpoint.queue.retry_on_http_429,
        })
    }

    /// Sends the request once, and says what became of it and how long that took.
    pub(super) async fn send(&self, body: Bytes, protocol: Protocol, retry: u32) -> (Outcome, u16, Duration) {
        let start = Instant::now();
        let failed = |why: String| Outcome::Retry { why, status: 0, after: None };
        let request = match self.request(body, protocol, retry) {
            Ok(request) => request,
            Err(why) => return (failed(why), 0, start.elapsed()),
        };
        let exchange = async {
            let response = match &self.transport {
                Transport::Plain(client) => client.request(request).await,
                Transport::Tls(client) => client.request(request).await,
            }
            .map_err(|error| describe(&error))?;
            let status = response.status().as_u16();
            Ok::<_, String>((self.judge(response, protocol).await, status))
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(Ok((outcome, status))) => (outcome, status, start.elapsed()),
            Ok(Err(why)) => (failed(why), 0, start.elapsed()),
            Err(_) => (failed(format!("no answer within {:?}", self.timeout)), 0, start.elapsed()),
        }
    }

    fn request(&self, body: Bytes, protocol: Protocol, retry: u32) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::post(self.uri.clone()).body(Full::new(body)).map_err(|e| e.to_string())?;
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        let (content_type, version) = match protocol {
            Protocol::V1 => ("application/x-protobuf", "0.1.0"),
            Protocol::V2 => ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        let name = HeaderName::from_static("x-prometheus-remote-write-version");
        headers.insert(name, HeaderValue::from_static(version));
        if retry > 0 {
            headers.insert(HeaderName::from_static("retry-attempt"), HeaderValue::from(retry));
        }
        if let Some(authorization) = &self.authorization {
            let mut value = HeaderValue::from_str(&authorization_header(authorization)?)
                .map_err(|_| "the credentials hold characters that no header may have".to_owned())?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(request)
    }

    /// Remote write specification 2.0, "Retries & Backoff" and "Required Written Response Headers".
    async fn judge(&self, response: Response<hyper::body::Incoming>, protocol: Protocol) -> Outcome {
        let status = response.status();
        let code = status.as_u16();
        if status.is_success() {
            let written = response.headers().keys().any(|name| {
                let name = name.as_str();
                name.starts_with("x-prometheus-remote-write-") && name.ends_with("-written")
            });
            drain(response).await;
            if protocol == Protocol::V2 && !written {
                let why = format!("answered {code} without saying what it wrote, so it does not know 2.0");
                return Outcome::WrongProtocol { why };
            }
            return Outcome::Accepted;
        }
        let after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| parse_retry_after(value.to_str().ok()?, SystemTime::now()));
        let body = drain(response).await;
        let why = format!("server returned HTTP status {status}: {}", body.trim_end());
        match code {
            429 if self.retry_429 => Outcome::Retry { why, status: code, after },
            415 if protocol == Protocol::V2 => Outcome::WrongProtocol { why },
            500..600 => Outcome::Retry { why, status: code, after },
            _ => Outcome::Refused { why, status: code },
        }
    }
}

/// Reads the body, so that the connection can be used again; its beginning is for the log.
async fn drain(response: Response<hyper::body::Incoming>) -> String {
    const MAX_DRAINED: usize = 1 << 20;
    match Limited::new(response.into_body(), MAX_DRAINED).collect().await {
        Ok(body) => {
            let bytes = body.to_bytes();
            String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_ERROR_BODY)]).into_owned()
        }
        Err(error) => format!("(body could not be read: {error})"),
    }
}

/// The error and its causes, which alone say "connection refused".
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn authorization_header(authorization: &Authorization) -> Result<String, String> {
    match authorization {
        Authorization::Basic { username, password } => {
            let pair = format!("{}:{}", read_secret(username)?, read_secret(password)?);
            Ok(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
        }
        Authorization::Header { scheme, credentials } => {
            Ok(format!("{scheme} {}", read_secret(credentials)?))
        }
    }
}

/// A secret in a file is read each time, so that a new one needs no reload.
fn read_secret(secret: &Secret) -> Result<String, String> {
    match secret {
        Secret::Inline(text) => Ok(text.clone()),
        Secret::File(path) => std::fs::read_to_string(path)
            .map(|text| text.trim().to_owned())
            .map_err(|error| format!("{}: {error}", path.display())),
    }
}
