//! `/v1/scrape_targets`: others post the targets that are to be scraped, for as long as they say.
//!
//! It is never open: a request is let in by the users or the client certificates of `--web.config.file`, or by the
//! token of a file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::guard::Guard;
use super::routes::{Server, text};
use super::targets::{bad_data, parameter, span, success};
use crate::config::TargetApi;
use crate::sources::scrape::posted::{Board, MAX_BODY};

pub(super) const PATH: &str = "/v1/scrape_targets";

/// How long a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
/// A token longer than this is none, in bytes.
const MAX_TOKEN: u64 = 64 << 10;

/// The API, where it is switched on.
#[derive(Clone, Default)]
pub(super) struct TargetApiState {
    /// `None` where it is off.
    pub on: Option<On>,
}

#[derive(Clone)]
pub(super) struct On {
    board: Arc<Board>,
    bearer_token_file: Option<PathBuf>,
}

impl Server {
    /// Whether this API may be switched on.
    ///
    /// # Errors
    /// When it would be open to everybody, or a token could never come through.
    pub fn check_target_api(&self, api: Option<&TargetApi>) -> Result<(), String> {
        let Some(api) = api else { return Ok(()) };
        if !self.target_api_allowed {
            return Err("target_api: it is off until --web.enable-target-api switches it on too".to_owned());
        }
        let (users, certificates) = match self.guard() {
            Some(guard) => guard.demands()?,
            None => (false, false),
        };
        match &api.bearer_token_file {
            Some(_) if users => {
                Err("target_api.bearer_token_file: --web.config.file asks for users, who stand \
                in the same header: leave out one of both"
                    .to_owned())
            }
            Some(path) => {
                read_token(path).map(drop).map_err(|why| format!("target_api.bearer_token_file: {why}"))
            }
            None if users || certificates => Ok(()),
            None => {
                Err("target_api: everybody could post targets: give it a bearer_token_file, or users or \
                client_auth_type RequireAndVerifyClientCert in --web.config.file"
                    .to_owned())
            }
        }
    }

    /// Switches the API on or off, after [`Server::check_target_api`].
    pub fn set_target_api(&self, api: Option<&TargetApi>, board: &Arc<Board>) {
        let on = api.map(|api| On { board: board.clone(), bearer_token_file: api.bearer_token_file.clone() });
        let mut state = self.target_api.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *state = TargetApiState { on };
    }

    pub(super) async fn scrape_targets(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let state = self.target_api.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let Some(on) = state.on else { return text(StatusCode::NOT_FOUND, "404 page not found\n") };
        if let Some(refusal) = self.refuse(&on, request.headers()) {
            return refusal;
        }
        match *request.method() {
            Method::GET => success(&listed(&on.board)),
            Method::POST => post(&on.board, request).await,
            Method::DELETE => delete(&on.board, &request).await,
            _ => bad_data(StatusCode::METHOD_NOT_ALLOWED, "GET, POST or DELETE"),
        }
    }

    /// What is answered to a request that is not let in. The files may have changed since the start, so each is looked
    /// at.
    fn refuse(&self, on: &On, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
        let Some(path) = &on.bearer_token_file else {
            // The guard has let it in: that counts as long as it lets in nobody unknown.
            let demands = self.guard().map(Guard::demands);
            let known = matches!(demands, Some(Ok((true, _) | (_, true))));
            let why = "the file of --web.config.file asks nobody who they are any more";
            return (!known).then(|| bad_data(StatusCode::FORBIDDEN, why));
        };
        let token = match read_token(path) {
            Ok(token) => token,
            Err(why) => {
                log::error!(err = why.as_str(); "target_api.bearer_token_file is of no use");
                return Some(bad_data(StatusCode::INTERNAL_SERVER_ERROR, "the token can't be read"));
            }
        };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.split_once(' '));
        let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        if given.is_some_and(|(_, given)| is_equal(given.trim().as_bytes(), token.as_bytes())) {
            return None;
        }
        let why = "the token of target_api.bearer_token_file is needed";
        let mut refusal = bad_data(StatusCode::UNAUTHORIZED, why);
        refusal.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Some(refusal)
    }
}

async fn post(board: &Arc<Board>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let body = tokio::time::timeout(PATIENCE, Limited::new(request.into_body(), MAX_BODY).collect()).await;
    let body = match body {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let why = format!("a body of more than {MAX_BODY} bytes");
            return bad_data(StatusCode::PAYLOAD_TOO_LARGE, &why);
        }
        Ok(Err(error)) => return bad_data(StatusCode::BAD_REQUEST, &error.to_string()),
        Err(_) => return bad_data(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
    };
    match board.post(&body) {
        Ok(count) => {
            save(board).await;
            success(&json!({"posted": count, "targets": board.list().len()}))
        }
        Err(why) => bad_data(StatusCode::BAD_REQUEST, &why),
    }
}

async fn delete(board: &Arc<Board>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let Some(address) = parameter(request.uri().query().unwrap_or_default(), "target") else {
        return bad_data(StatusCode::BAD_REQUEST, "target=HOST:PORT must be given");
    };
    match board.delete(&address) {
        0 => bad_data(StatusCode::NOT_FOUND, &format!("no target {address:?}")),
        count => {
            save(board).await;
            success(&json!({"deleted": count, "targets": board.list().len()}))
        }
    }
}

async fn save(board: &Arc<Board>) {
    let board = board.clone();
    // A panic in there is said by the runtime.
    let _ = tokio::task::spawn_blocking(move || board.save()).await;
}

fn listed(board: &Board) -> Value {
    let targets = board.list().into_iter().map(|(target, left)| {
        let mut value = serde_json::to_value(target).unwrap_or_default();
        value["expires_in"] = span(Duration::from_secs(left.as_secs())).into();
        value
    });
    json!({"targets": targets.collect::<Vec<_>>()})
}

fn read_token(path: &std::path::Path) -> Result<String, String> {
    let fail = |why: String| format!("{}: {why}", path.display());
    let length = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?.len();
    if length > MAX_TOKEN {
        return Err(fail(format!("larger than {MAX_TOKEN} bytes")));
    }
    let token = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    match token.trim() {
        "" => Err(fail("is empty".to_owned())),
        token => Ok(token.to_owned()),
    }
}

/// Takes as long whatever the bytes are, so that they can't be guessed one by one.
fn is_equal(given: &[u8], token: &[u8]) -> bool {
    let differs = given.iter().zip(token).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(differs) == 0 && given.len() == token.len()
}
