//! Tokens by OAuth 2.0 client credentials (RFC 6749, section 4.4), kept until shortly before they expire.

use std::time::{Duration, Instant};

use bytes::Bytes;
use form_urlencoded::Serializer;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::{Request, StatusCode};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::secrets::{basic, read_secret};
use super::{Client, read_body};
use crate::config::OAuth2;

/// A token is fetched anew this long before it expires, as Go's oauth2 does.
const EARLY: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_ANSWER: usize = 1 << 20;

pub(super) struct TokenSource {
    settings: OAuth2,
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
    expires_in: Option<f64>,
}

impl TokenSource {
    pub(super) fn new(settings: OAuth2, client: Box<Client>) -> Self {
        TokenSource { settings, client, token: Mutex::new(None) }
    }

    /// The header `Authorization`, by the token that is kept or a new one.
    pub(super) async fn authorization(&self) -> Result<String, String> {
        let mut kept = self.token.lock().await;
        let secret = read_secret(&self.settings.client_secret)?;
        if let Some(token) = &*kept
            && token.secret == secret
            && token.expires.is_none_or(|expires| Instant::now() + EARLY < expires)
        {
            return Ok(token.authorization.clone());
        }
        let timed = tokio::time::timeout(TIMEOUT, self.fetch(&secret)).await;
        let token = timed.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")));
        let token = token.map_err(|error| format!("oauth2: {}: {error}", self.settings.token_url))?;
        Ok(kept.insert(token).authorization.clone())
    }

    /// Some servers take the client's credentials in the header, some in the body alone (RFC 6749, section 2.3.1).
    async fn fetch(&self, secret: &str) -> Result<Token, String> {
        let first = self.ask(secret, true).await?;
        let (status, body) = if first.0.is_success() { first } else { self.ask(secret, false).await? };
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
        let span = answer.expires_in.filter(|seconds| *seconds > 0.0);
        let expires = span.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Ok(Token {
            authorization: format!("{scheme} {}", answer.access_token),
            secret: secret.to_owned(),
            expires: expires.and_then(|span| Instant::now().checked_add(span)),
        })
    }

    async fn ask(&self, secret: &str, in_header: bool) -> Result<(StatusCode, Vec<u8>), String> {
        let mut request = Request::post(&self.settings.token_url)
            .body(Full::new(Bytes::from(self.form(secret, in_header))))
            .map_err(|error| error.to_string())?;
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(header::CONTENT_TYPE, form_type);
        if in_header {
            let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let value = basic(&encode(&self.settings.client_id), &encode(secret));
            let mut value = super::header_value(&value)?;
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let response = self.client.send(request).await?;
        let status = response.status();
        let mut body = Vec::new();
        read_body(response.into_body(), MAX_ANSWER, &mut body).await?;
        Ok((status, body))
    }

    fn form(&self, secret: &str, in_header: bool) -> String {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if !self.settings.scopes.is_empty() {
            form.append_pair("scope", &self.settings.scopes.join(" "));
        }
        if !in_header {
            form.append_pair("client_id", &self.settings.client_id);
            form.append_pair("client_secret", secret);
        }
        form.extend_pairs(&self.settings.endpoint_params);
        form.finish()
    }
}
