//! One list and its watch.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::header::HeaderMap;
use tokio::sync::mpsc;

use super::RETRY;
use super::connect::Api;
use super::objects::{Kind, Line, List, Object};
use crate::config::KubernetesSd;

/// Objects in one part of a list.
const PART: usize = 500;
/// Bytes of a part, and objects of a whole list.
const MAX_PART: usize = 256 << 20;
const MAX_OBJECTS: usize = 1_000_000;
/// Bytes of one line.
pub(super) const MAX_LINE: usize = 16 << 20;
const LIST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the server keeps a watch; then it goes on in another.
const WATCH: Duration = Duration::from_secs(300);
/// Beyond that a silent connection is a dead one.
const SILENCE: Duration = Duration::from_secs(330);
const PAUSE: Duration = Duration::from_millis(100);
const GONE: u16 = 410;

pub(super) enum Event {
    /// All there are of this list.
    Listed(Vec<Object>),
    Set(Box<Object>),
    Gone(Box<Object>),
    Failed(String),
}

/// Why a watch ended.
enum End {
    /// It was long enough; it goes on from where it is.
    Closed,
    /// Where it was is forgotten: the list is needed anew.
    TooOld,
    Failed(String),
}

pub(super) struct Watcher {
    number: usize,
    kind: Kind,
    api: Arc<Api>,
    /// With the namespace.
    url: String,
    /// Selectors, encoded.
    selectors: String,
    events: mpsc::Sender<(usize, Kind, Event)>,
}

impl Watcher {
    pub fn new(
        number: usize,
        kind: Kind,
        namespace: Option<&str>,
        config: &KubernetesSd,
        api: Arc<Api>,
        events: mpsc::Sender<(usize, Kind, Event)>,
    ) -> Self {
        let (group, plural) = kind.path();
        let within = namespace.map(|name| format!("/namespaces/{name}")).unwrap_or_default();
        let url = format!("{}{group}{within}/{plural}", api.server);
        let mut selectors = form_urlencoded::Serializer::new(String::new());
        if let Some(selector) = config.selectors.iter().find(|selector| Kind::of(selector.role) == kind) {
            for (name, value) in [("labelSelector", &selector.label), ("fieldSelector", &selector.field)] {
                if !value.is_empty() {
                    selectors.append_pair(name, value);
                }
            }
        }
        let selectors = selectors.finish();
        Watcher { number, kind, api, url, selectors, events }
    }

    /// Runs until nobody listens.
    pub async fn run(self) {
        let mut version: Option<String> = None;
        loop {
            let result = match version.take() {
                None => self.list().await.map(|(objects, now)| {
                    version = Some(now);
                    Some(Event::Listed(objects))
                }),
                Some(mut at) => match self.watch(&mut at).await {
                    End::Closed => {
                        version = Some(at);
                        Ok(None)
                    }
                    End::TooOld => Ok(None),
                    End::Failed(why) => {
                        version = Some(at);
                        Err(why)
                    }
                },
            };
            let failed = result.is_err();
            let event = result.unwrap_or_else(|why| Some(Event::Failed(why)));
            if let Some(event) = event
                && !self.tell(event).await
            {
                return;
            }
            // A server that ends every watch at once is not asked without a pause.
            tokio::time::sleep(if failed { RETRY } else { PAUSE }).await;
        }
    }

    async fn tell(&self, event: Event) -> bool {
        self.events.send((self.number, self.kind, event)).await.is_ok()
    }

    async fn list(&self) -> Result<(Vec<Object>, String), String> {
        let mut objects = Vec::new();
        let mut next = String::new();
        loop {
            let url = format!("{}?limit={PART}&{}{next}", self.url, self.selectors);
            let answer = self.api.client.get(&url, HeaderMap::new(), MAX_PART, LIST_TIMEOUT).await?;
            // A list that took too long to be read to its end begins anew.
            if answer.status.as_u16() == GONE && !next.is_empty() {
                objects.clear();
                next.clear();
                continue;
            }
            if answer.status != 200 {
                return Err(refused(answer.status.as_u16(), &answer.body));
            }
            let list: List =
                serde_json::from_slice(&answer.body).map_err(|error| format!("list: {error}"))?;
            objects.extend(list.items.unwrap_or_default());
            if objects.len() > MAX_OBJECTS {
                return Err(format!("more than {MAX_OBJECTS} objects: use selectors or namespaces"));
            }
            match list.metadata.next.filter(|token| !token.is_empty()) {
                Some(token) => {
                    let token: String = form_urlencoded::byte_serialize(token.as_bytes()).collect();
                    next = format!("&continue={token}");
                }
                None => return Ok((objects, list.metadata.resource_version)),
            }
        }
    }

    /// Watches from `at` on, and moves it along.
    async fn watch(&self, at: &mut String) -> End {
        let url = format!(
            "{}?watch=1&allowWatchBookmarks=true&timeoutSeconds={}&resourceVersion={at}&{}",
            self.url,
            WATCH.as_secs(),
            self.selectors
        );
        let request = match Request::get(&url).body(Full::<Bytes>::default()) {
            Ok(request) => request,
            Err(error) => return End::Failed(error.to_string()),
        };
        let response = match tokio::time::timeout(LIST_TIMEOUT, self.api.client.send(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(why)) => return End::Failed(why),
            Err(_) => return End::Failed(format!("no answer within {LIST_TIMEOUT:?}")),
        };
        match response.status().as_u16() {
            200 => {}
            GONE => return End::TooOld,
            status => return End::Failed(refused(status, b"")),
        }
        let mut body = response.into_body();
        let mut buffer: Vec<u8> = Vec::new();
        loop {
            let frame = match tokio::time::timeout(SILENCE, body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(_)) | None) => return End::Closed,
                Err(_) => return End::Failed(format!("the watch was silent for {SILENCE:?}")),
            };
            let Ok(data) = frame.into_data() else { continue };
            buffer.extend_from_slice(&data);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                if let Some(end) = self.take_line(&line, at).await {
                    return end;
                }
            }
            if buffer.len() > MAX_LINE {
                return End::Failed(format!("a line of more than {MAX_LINE} bytes"));
            }
        }
    }

    async fn take_line(&self, line: &[u8], at: &mut String) -> Option<End> {
        if line.trim_ascii().is_empty() {
            return None;
        }
        let Line { kind, object } = match serde_json::from_slice(line) {
            Ok(line) => line,
            Err(error) => return Some(End::Failed(format!("watch: {error}"))),
        };
        if kind == "ERROR" {
            return Some(match object.code {
                Some(GONE) => End::TooOld,
                _ => End::Failed(format!("watch: {}", object.message.unwrap_or_default())),
            });
        }
        at.clone_from(&object.metadata.resource_version);
        let event = match kind.as_str() {
            "ADDED" | "MODIFIED" => Event::Set(Box::new(object)),
            "DELETED" => Event::Gone(Box::new(object)),
            // A bookmark brings nothing but its version.
            _ => return None,
        };
        (!self.tell(event).await).then_some(End::Closed)
    }
}

fn refused(status: u16, body: &[u8]) -> String {
    let message = serde_json::from_slice::<Object>(body).ok().and_then(|object| object.message);
    format!("server returned HTTP status {status}: {}", message.unwrap_or_default())
}
