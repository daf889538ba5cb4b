//! Requests of one endpoint, and their answers.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, Uri};
use tokio::time::Instant;

use super::answer::{Answer, Written};
use super::backoff::parse_retry_after;
use super::sigv4;
use super::sigv4_role::Assumed;
use crate::client::Client as Http;
use crate::config::{Endpoint, Secret, SigV4};
use crate::encode::Protocol;
use crate::limits::MAX_ERROR_BODY;

/// Bytes of a body that are read and thrown away, so that the connection can be used again.
const MAX_DRAINED: usize = 1 << 20;
/// Time for the body of an answer whose status is known.
const MAX_DRAIN_TIME: Duration = Duration::from_secs(2);

/// Sends the requests of one endpoint.
pub(super) struct Client {
    http: Http,
    uri: Uri,
    timeout: Duration,
    sigv4: Option<SigV4>,
    role: Option<Assumed>,
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
        let http = Http::new(&settings)?;
        let sigv4 = endpoint.sigv4.clone();
        let role = sigv4.as_ref().and_then(|settings| Some((settings.role.clone()?, &settings.region)));
        let role = role.map(|(role, region)| Assumed::new(role, region)).transpose()?;
        Ok(Client { http, uri, timeout: endpoint.timeout, sigv4, role })
    }

    /// Sends the request once, and gives the answer and how long it took.
    pub(super) async fn send(&self, body: Bytes, protocol: Protocol, retry: u32) -> (Answer, Duration) {
        let start = Instant::now();
        let answer = match tokio::time::timeout(self.timeout, self.exchange(body, protocol, retry)).await {
            Ok(Ok(response)) => read_answer(response).await,
            Ok(Err(why)) => Answer::none(why),
            Err(_) => Answer::none(format!("no answer within {:?}", self.timeout)),
        };
        (answer, start.elapsed())
    }

    async fn exchange(
        &self,
        body: Bytes,
        protocol: Protocol,
        retry: u32,
    ) -> Result<Response<Incoming>, String> {
        let mut request =
            Request::post(self.uri.clone()).body(Full::new(body.clone())).map_err(|e| e.to_string())?;
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
        if let Some(settings) = &self.sigv4 {
            let own = sigv4::keys(settings)?;
            let keys = match &self.role {
                Some(role) => role.keys(&own).await?,
                None => own,
            };
            let scope = (settings.region.as_str(), sigv4::SERVICE);
            sigv4::sign(&keys, scope, &self.uri, &body, SystemTime::now(), request.headers_mut())?;
        }
        drop(body);
        self.http.send(request).await
    }
}

/// What the answer says. Its status counts whatever becomes of the body, which is only for the log.
async fn read_answer(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let status = parts.status.as_u16();
    let text = |name: header::HeaderName| parts.headers.get(name)?.to_str().ok().map(str::to_owned);
    let after = text(header::RETRY_AFTER).and_then(|value| parse_retry_after(&value, SystemTime::now()));
    let deadline = Instant::now() + MAX_DRAIN_TIME;
    let mut shown = Vec::new();
    let end = tokio::time::timeout_at(deadline, drain(body, &mut shown)).await;
    let mut why = String::new();
    if !parts.status.is_success() {
        why = format!("server returned HTTP status {}: ", parts.status);
        why.push_str(String::from_utf8_lossy(&shown).trim_end());
        match end {
            Ok(Ok(())) => {}
            Ok(Err(error)) => why.push_str(&format!(" (the rest could not be read: {error})")),
            Err(_) => why.push_str(" (the rest did not come in time)"),
        }
    }
    Answer { status, why, after, written: written(&parts.headers) }
}

/// Reads the body, and keeps its beginning.
async fn drain(mut body: Incoming, shown: &mut Vec<u8>) -> Result<(), String> {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        let Some(data) = frame.data_ref() else { continue };
        read += data.len();
        shown.extend_from_slice(&data[..data.len().min(MAX_ERROR_BODY - shown.len())]);
        if read > MAX_DRAINED {
            return Err(format!("longer than {MAX_DRAINED} bytes"));
        }
    }
    Ok(())
}

/// What the receiver says it wrote (remote write 2.0, "Required Written Response Headers"). One header that is
/// missing or makes no sense beside another counts as 0.
fn written(headers: &HeaderMap) -> Option<Written> {
    let number = |kind: &str| {
        let value = headers.get(format!("x-prometheus-remote-write-{kind}-written"))?;
        Some(value.to_str().ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0))
    };
    let (samples, histograms, exemplars) = (number("samples"), number("histograms"), number("exemplars"));
    samples.or(histograms).or(exemplars)?;
    let or_none = |number: Option<u64>| number.unwrap_or(0);
    Some(Written {
        samples: or_none(samples),
        histograms: or_none(histograms),
        exemplars: or_none(exemplars),
    })
}
