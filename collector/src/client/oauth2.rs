//! Tokens by OAuth 2.0 client credentials (RFC 6749, section 4.4) or of a cloud (`identity.rs`), kept until shortly before
//! they expire.

use std::time::{Duration, Instant};

use bytes::Bytes;
use form_urlencoded::Serializer;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::secrets::{basic, read_secret};
use super::{Client, identity, read_body};
use crate::config::{Identity, OAuth2};

/// A token is fetched anew this long before it expires, as Go's oauth2 does.
const EARLY: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(30);
pub(super) const MAX_ANSWER: usize = 1 << 20;
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Who gives tokens.
pub(super) enum Grant {
    Client(Box<OAuth2>),
    Cloud(Identity),
}

pub(super) struct TokenSource {
    grant: Grant,
    client: Box<Client>,
    /// Held while a token is fetched: those who wait for one take what the first has got.
    token: Mutex<Option<Token>>,
}

struct Token {
    authorization: String,
    secret: String,
    expires: Option<Instant>,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<Seconds>,
}

/// Azure writes numbers as texts.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

impl Seconds {
    fn span(&self) -> Option<Duration> {
        let seconds = match self {
            Seconds::Number(number) => *number,
            Seconds::Text(text) => text.parse().ok()?,
        };
        Duration::try_from_secs_f64(seconds).ok().filter(|span| !span.is_zero())
    }
}

impl TokenSource {
    pub(super) fn new(grant: Grant, client: Box<Client>) -> Self {
        TokenSource { grant, client, token: Mutex::new(None) }
    }

    /// The header `Authorization`, by the token that is kept or a new one.
    pub(super) async fn authorization(&self) -> Result<String, String> {
        let mut kept = self.token.lock().await;
        let secret = match &self.grant {
            Grant::Client(settings) => read_secret(&settings.client_secret)?,
            Grant::Cloud(_) => String::new(),
        };
        if let Some(token) = &*kept
            && token.secret == secret
            && token.expires.is_none_or(|expires| Instant::now() + EARLY < expires)
        {
            return Ok(token.authorization.clone());
        }
        let timed = tokio::time::timeout(TIMEOUT, self.fetch(&secret)).await;
        let token = timed.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")));
        let token = token.map_err(|error| match &self.grant {
            Grant::Client(settings) => format!("oauth2: {}: {error}", settings.token_url),
            Grant::Cloud(identity) => format!("{}: {error}", identity::name(identity)),
        })?;
        Ok(kept.insert(token).authorization.clone())
    }

    async fn fetch(&self, secret: &str) -> Result<Token, String> {
        let (status, body) = match &self.grant {
            Grant::Client(settings) => self.ask_either(settings, secret).await?,
            Grant::Cloud(identity) => identity::ask(identity, &self.client).await?,
        };
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body[..body.len().min(crate::limits::MAX_ERROR_BODY)]);
            return Err(format!("server returned HTTP status {status}: {}", text.trim()));
        }
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|error| format!("the answer is no token: {error}"))?;
        let scheme = match answer.token_type.as_deref() {
            None | Some("") => "Bearer",
            Some(scheme) if scheme.eq_ignore_ascii_case("bearer") => "Bearer",
            Some(scheme) => scheme,
        };
        let expires = answer.expires_in.and_then(|seconds| seconds.span());
        Ok(Token {
            authorization: format!("{scheme} {}", answer.access_token),
            secret: secret.to_owned(),
            expires: expires.and_then(|span| Instant::now().checked_add(span)),
        })
    }

    /// Some servers take the client's credentials in the header, some in the body alone (RFC 6749, section 2.3.1).
    async fn ask_either(&self, settings: &OAuth2, secret: &str) -> Result<(StatusCode, Vec<u8>), String> {
        if !settings.is_assertion {
            let first = self.ask(settings, secret, true).await?;
            if first.0.is_success() {
                return Ok(first);
            }
        }
        self.ask(settings, secret, false).await
    }

    async fn ask(
        &self,
        settings: &OAuth2,
        secret: &str,
        in_header: bool,
    ) -> Result<(StatusCode, Vec<u8>), String> {
        let mut headers = HeaderMap::new();
        if in_header {
            let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let value = basic(&encode(&settings.client_id), &encode(secret));
            let mut value = super::header_value(&value)?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        post_form(&self.client, &settings.token_url, headers, form(settings, secret, in_header)).await
    }
}

/// Posts a form and reads the answer.
pub(super) async fn post_form(
    client: &Client,
    url: &str,
    headers: HeaderMap,
    form: String,
) -> Result<(StatusCode, Vec<u8>), String> {
    let mut request =
        Request::post(url).body(Full::new(Bytes::from(form))).map_err(|error| error.to_string())?;
    *request.headers_mut() = headers;
    let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(header::CONTENT_TYPE, form_type);
    let response = client.send(request).await?;
    let status = response.status();
    let mut body = Vec::new();
    read_body(response.into_body(), MAX_ANSWER, &mut body).await?;
    Ok((status, body))
}

fn form(settings: &OAuth2, secret: &str, in_header: bool) -> String {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if !settings.scopes.is_empty() {
        form.append_pair("scope", &settings.scopes.join(" "));
    }
    if !in_header {
        form.append_pair("client_id", &settings.client_id);
        if settings.is_assertion {
            form.append_pair("client_assertion_type", ASSERTION);
        }
        form.append_pair(if settings.is_assertion { "client_assertion" } else { "client_secret" }, secret);
    }
    form.extend_pairs(&settings.endpoint_params);
    form.finish()
}
