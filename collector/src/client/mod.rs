//! Outgoing HTTP, as Prometheus' `http_config` describes it: of discovery, of remote write, and of the scrapes
//! that need more than a plain connection (TLS, a proxy, HTTP/2, redirects, tokens).
//!
//! Secrets in files are read for each request, certificates when their stamps have changed: a new one needs no
//! reload. Credentials go to the host they were given for, not to one that a redirect names.

mod connect;
mod identity;
mod oauth2;
mod proxy;
mod secrets;
mod tls;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::TokioExecutor;

use self::connect::{Connector, Route};
use self::oauth2::{Grant, TokenSource};
use self::proxy::Proxies;
use crate::config::{Authorization, HttpSettings, Secret, TlsSettings};
use crate::sys::file::Stamp;

pub use secrets::read_secret;

const IDLE_CONNECTIONS: usize = 4;
/// As many as Go's client follows.
const MAX_REDIRECTS: usize = 10;

/// Bytes of a refusal that are shown.
const MAX_REFUSAL: usize = 200;

/// The name that requests bear unless they bring one.
pub const USER_AGENT: &str = concat!("collector/", env!("CARGO_PKG_VERSION"));

/// An answer whose body was read.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// What the far side says to a request that it refused, cut to what a person reads.
    pub fn refusal(&self) -> String {
        let body = &self.body[..self.body.len().min(MAX_REFUSAL)];
        format!("server returned HTTP status {}: {}", self.status, String::from_utf8_lossy(body).trim())
    }
}

/// Makes requests as the settings say, and keeps connections.
pub struct Client {
    settings: HttpSettings,
    headers: Vec<(HeaderName, Vec<Secret>)>,
    proxies: Arc<Proxies>,
    unix: Option<PathBuf>,
    tokens: Option<TokenSource>,
    transport: Mutex<Transport>,
}

struct Transport {
    /// Of the files that the TLS configuration was made from; an absent one may still change unnoticed.
    stamps: Vec<Option<Stamp>>,
    http: Http<Connector, Full<Bytes>>,
}

impl Client {
    /// # Errors
    /// What is wrong with the headers, the proxy or the TLS files.
    pub fn new(settings: &HttpSettings) -> Result<Self, String> {
        Self::build(settings, None)
    }

    /// A client all of whose requests go to the socket at `path`, whatever host they name.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn unix(settings: &HttpSettings, path: &Path) -> Result<Self, String> {
        Self::build(settings, Some(path.to_owned()))
    }

    fn build(settings: &HttpSettings, unix: Option<PathBuf>) -> Result<Self, String> {
        let mut headers = Vec::new();
        for (name, values) in &settings.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| format!("{name}: {error}"))?;
            headers.push((name, values.clone()));
        }
        let proxies = Arc::new(Proxies::new(&settings.proxy)?);
        let tokens = token_source(settings)?;
        let transport = Mutex::new(transport(settings, &proxies, unix.as_deref())?);
        Ok(Client { settings: settings.clone(), headers, proxies, unix, tokens, transport })
    }

    /// Sends `request`, whose URI names scheme and host, and follows where it is sent to if the settings say so.
    ///
    /// # Errors
    /// Why there is no answer. An answer of any status is one.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
        let (parts, body) = request.into_parts();
        let mut body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let (mut method, mut uri) = (parts.method, parts.uri);
        let first = (uri.scheme().cloned(), uri.authority().cloned());
        for _ in 0..=MAX_REDIRECTS {
            let own_host = first == (uri.scheme().cloned(), uri.authority().cloned());
            let mut next = Request::new(Full::new(body.clone()));
            *next.method_mut() = method.clone();
            *next.uri_mut() = uri.clone();
            next.headers_mut().clone_from(&parts.headers);
            self.add_headers(next.headers_mut(), &uri, own_host).await?;
            let http = self.http()?;
            let response = http.request(next).await.map_err(|error| describe(&error))?;
            let Some(to) = redirect(&response, &uri).filter(|_| self.settings.follow_redirects) else {
                return Ok(response);
            };
            let keeps_method = matches!(response.status().as_u16(), 307 | 308);
            if !keeps_method && method != Method::HEAD {
                (method, body) = (Method::GET, Bytes::new());
            }
            uri = to?;
        }
        Err(format!("stopped after {MAX_REDIRECTS} redirects"))
    }

    /// Gets `url` and reads its body of at most `limit` bytes, all within `timeout`.
    ///
    /// # Errors
    /// Why there is no answer, or why its body is of no use.
    pub async fn get(
        &self,
        url: &str,
        headers: HeaderMap,
        limit: usize,
        timeout: Duration,
    ) -> Result<Answer, String> {
        let mut request =
            Request::get(url).body(Full::default()).map_err(|error| format!("{url}: {error}"))?;
        *request.headers_mut() = headers;
        let exchange = async {
            let response = self.send(request).await?;
            let (parts, incoming) = response.into_parts();
            let mut body = Vec::new();
            read_body(incoming, limit, &mut body).await?;
            Ok(Answer { status: parts.status, headers: parts.headers, body })
        };
        let timed = tokio::time::timeout(timeout, exchange).await;
        timed.unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")))
    }

    /// Whether requests to `uri` would go through a proxy.
    pub fn is_proxied(&self, uri: &Uri) -> bool {
        self.unix.is_none() && self.proxies.for_uri(uri).is_some()
    }

    /// What the settings add to a request; credentials only for the host that they are meant for.
    async fn add_headers(&self, headers: &mut HeaderMap, uri: &Uri, own_host: bool) -> Result<(), String> {
        headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
        if let Some(proxy) = self.proxies.for_uri(uri).filter(|_| uri.scheme_str() == Some("http"))
            && let Some(value) = &proxy.authorization
        {
            headers.insert(header::PROXY_AUTHORIZATION, value.clone());
        }
        if !own_host {
            for name in [header::AUTHORIZATION, header::COOKIE] {
                headers.remove(name);
            }
            return Ok(());
        }
        for (name, values) in &self.headers {
            headers.remove(name);
            for value in values {
                headers.append(name, header_value(&read_secret(value)?)?);
            }
        }
        let authorization = match (&self.tokens, &self.settings.authorization) {
            (Some(tokens), _) => Some(Box::pin(tokens.authorization()).await?),
            (None, Some(authorization)) => Some(secrets::authorization(authorization)?),
            (None, None) => None,
        };
        if let Some(authorization) = authorization {
            let mut value = header_value(&authorization)?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(())
    }

    /// The transport, made anew when a certificate has changed: its connections were made with the old one.
    fn http(&self) -> Result<Http<Connector, Full<Bytes>>, String> {
        let mut current = self.transport.lock().unwrap_or_else(PoisonError::into_inner);
        if !current.stamps.is_empty() {
            let stamps = stamps(&self.settings.tls);
            if stamps != current.stamps {
                *current = transport(&self.settings, &self.proxies, self.unix.as_deref())?;
            }
        }
        Ok(current.http.clone())
    }
}

/// The headers that the settings put on each request, with credentials, for those who write requests of their own.
///
/// # Errors
/// Which secret can't be read.
pub fn static_headers(settings: &HttpSettings) -> Result<Vec<(String, String)>, String> {
    let mut all = Vec::new();
    for (name, values) in &settings.headers {
        for value in values {
            all.push((name.clone(), read_secret(value)?));
        }
    }
    if let Some(authorization) = &settings.authorization {
        all.push(("Authorization".to_owned(), secrets::authorization(authorization)?));
    }
    for (_, value) in &all {
        header_value(value)?;
    }
    Ok(all)
}

/// The secrets of the header `Authorization`.
pub fn secrets_of(settings: &HttpSettings) -> impl Iterator<Item = &Secret> {
    let both = match &settings.authorization {
        Some(Authorization::Basic { username, password }) => [Some(username), Some(password)],
        Some(Authorization::Header { credentials, .. }) => [Some(credentials), None],
        None => [None, None],
    };
    both.into_iter().flatten()
}

fn token_source(settings: &HttpSettings) -> Result<Option<TokenSource>, String> {
    let mut own = HttpSettings { http2: true, ..HttpSettings::default() };
    let grant = match (&settings.oauth2, settings.identity.as_deref()) {
        (Some(oauth2), _) => {
            (own.tls, own.proxy) = (oauth2.tls.clone(), oauth2.proxy.clone());
            Grant::Client(oauth2.clone())
        }
        (None, Some(identity)) => Grant::Cloud(identity.clone()),
        (None, None) => return Ok(None),
    };
    Ok(Some(TokenSource::new(grant, Box::new(Client::new(&own)?))))
}

fn transport(
    settings: &HttpSettings,
    proxies: &Arc<Proxies>,
    unix: Option<&Path>,
) -> Result<Transport, String> {
    // The stamps are taken first: a file that changes meanwhile is read again by the next request.
    let stamps = stamps(&settings.tls);
    let route = match unix {
        Some(path) => Route::Unix(path.to_owned()),
        None => Route::Network(proxies.clone()),
    };
    let tls = tls::client_config(&settings.tls, settings.http2)?;
    let connector = Connector::new(route, tls, settings)?;
    let http = Http::builder(TokioExecutor::new()).pool_max_idle_per_host(IDLE_CONNECTIONS).build(connector);
    Ok(Transport { stamps, http })
}

fn stamps(tls: &TlsSettings) -> Vec<Option<Stamp>> {
    let files = [&tls.ca, &tls.cert, &tls.key].into_iter().flatten();
    files
        .filter_map(|secret| match secret {
            Secret::File(path) => Some(Stamp::read(path).ok().filter(Stamp::is_settled)),
            Secret::Inline(_) => None,
        })
        .collect()
}

/// Where the answer sends its reader, if it does.
fn redirect(response: &Response<Incoming>, from: &Uri) -> Option<Result<Uri, String>> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?;
    let wrong = |why: &str| format!("redirected to {location:?}: {why}");
    let Ok(text) = location.to_str() else { return Some(Err(wrong("not readable"))) };
    Some(resolve(text, from).map_err(|why| wrong(&why)))
}

/// A reference as RFC 3986, section 5.2, resolves it, without dot segments.
fn resolve(reference: &str, base: &Uri) -> Result<Uri, String> {
    let reference = reference.split('#').next().unwrap_or_default();
    let (scheme, authority) =
        (base.scheme_str().unwrap_or("http"), base.authority().map_or("", |a| a.as_str()));
    let whole = if reference.contains("://") {
        reference.to_owned()
    } else if let Some(rest) = reference.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if reference.starts_with('/') {
        format!("{scheme}://{authority}{reference}")
    } else if reference.starts_with('?') || reference.is_empty() {
        format!("{scheme}://{authority}{}{reference}", base.path())
    } else {
        let folder = base.path().rfind('/').map_or("/", |end| &base.path()[..=end]);
        format!("{scheme}://{authority}{folder}{reference}")
    };
    let uri: Uri = whole.parse().map_err(|error| format!("{error}"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(_)) => Ok(uri),
        _ => Err("neither http nor https".into()),
    }
}

/// Appends the body to `out`; one of more than `limit` bytes is refused as soon as that is known.
///
/// # Errors
/// The limit, or what broke the body off.
pub async fn read_body(mut body: Incoming, limit: usize, out: &mut Vec<u8>) -> Result<(), String> {
    let begin = out.len();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| describe(&error))?;
        if let Some(data) = frame.data_ref() {
            if out.len() - begin + data.len() > limit {
                return Err(format!("the body is larger than {limit} bytes"));
            }
            out.extend_from_slice(data);
        }
    }
    Ok(())
}

fn header_value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text)
        .map_err(|_| "a header or its credentials hold characters that no header may have".to_owned())
}

/// The error and its causes, which alone say "connection refused".
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
#[path = "client_tests.rs"]
pub(crate) mod tests;
