//! Requests of one endpoint, and what an answer means.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Request, Response, Uri};

use super::backoff::parse_retry_after;
use crate::client::Client as Http;
use crate::config::{Endpoint, Secret};
use crate::encode::Protocol;
use crate::limits::MAX_ERROR_BODY;

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

/// Sends the requests of one endpoint.
pub(super) struct Client {
    http: Http,
    uri: Uri,
    timeout: Duration,
    retry_429: bool,
}

impl Client {
    /// # Errors
    /// What is wrong with the TLS files or the headers.
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, String> {
        let uri: Uri = endpoint.url.parse().map_err(|error| format!("url: {error}"))?;
        let inline = |value: &String| vec![Secret::Inline(value.clone())];
        let own = endpoint.headers.iter().map(|(name, value)| (name.clone(), inline(value)));
        let mut settings = endpoint.http.clone();
        settings.headers.extend(own);
        Ok(Client {
            http: Http::new(&settings)?,
            uri,
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
            let response = self.http.send(request).await?;
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
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
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
