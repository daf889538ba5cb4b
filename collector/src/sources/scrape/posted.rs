//! Targets that others post (`/v1/scrape_targets`): each lives until it expires, unless it is posted again before.
//!
//! They are kept in a file beside the batch log, so that a restart ends no series. The times of the file are those of
//! the wall clock; within the process they are not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use super::target::TargetGroup;
use crate::config::parse_duration;
use crate::relabel::is_label_name;
use crate::sys::clock;

/// Targets that may be posted at the same time.
pub const MAX_POSTED: usize = 10_000;
/// Bytes of one request.
pub const MAX_BODY: usize = 4 << 20;
const MAX_LABELS: usize = 64;
/// Bytes of a label's name and value together, and of an address or a path.
const MAX_TEXT: usize = 2048;
const DEFAULT_EXPIRY: Duration = Duration::from_secs(5 * 60);
const EXPIRIES: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
const FILE: &str = "scrape_targets.json";

/// A target as it is posted, listed, and kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostedTarget {
    /// Host and port.
    pub target: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrape_interval: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrape_timeout: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    expires_ms: i64,
    #[serde(flatten)]
    target: PostedTarget,
}

struct Known {
    target: PostedTarget,
    expires: Instant,
}

/// All that is posted now.
pub struct Board {
    known: Mutex<BTreeMap<String, Known>>,
    changed: watch::Sender<u64>,
    file: Mutex<Option<PathBuf>>,
    /// Held while the file is written.
    writing: Mutex<()>,
}

impl Default for Board {
    fn default() -> Self {
        Board {
            known: Mutex::default(),
            changed: watch::channel(0).0,
            file: Mutex::default(),
            writing: Mutex::default(),
        }
    }
}

impl Board {
    /// Keeps the targets in `folder` from now on, and takes in those that it has. The first call counts.
    pub fn keep_in(&self, folder: &Path) {
        let path = folder.join(FILE);
        if self.file.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return;
        }
        let text = std::fs::read(&path).unwrap_or_default();
        let kept: Vec<Kept> = match serde_json::from_slice(&text) {
            Ok(kept) => kept,
            Err(_) if text.is_empty() => Vec::new(),
            Err(error) => {
                log::warn!(file = path.to_string_lossy().as_ref(), err = error.to_string().as_str();
                    "the posted targets of before can't be read; they must be posted again");
                Vec::new()
            }
        };
        let now_ms = clock::now_ms();
        let mut known = self.lock();
        for kept in kept.into_iter().filter(|kept| kept.expires_ms > now_ms).take(MAX_POSTED) {
            let left = Duration::from_millis(u64::try_from(kept.expires_ms - now_ms).unwrap_or(0));
            if check(&kept.target).is_ok() {
                let expires = Instant::now() + left.min(*EXPIRIES.end());
                known.entry(kept.target.key()).or_insert(Known { target: kept.target, expires });
            }
        }
        drop(known);
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(path);
        self.changed.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a list of targets, all of them or none; says how many.
    ///
    /// # Errors
    /// Where the list is wrong.
    pub fn post(&self, body: &[u8]) -> Result<usize, String> {
        let list: Vec<serde_json::Value> =
            serde_json::from_slice(body).map_err(|error| format!("not a JSON list of targets: {error}"))?;
        let mut next = BTreeMap::new();
        for (number, value) in list.into_iter().enumerate() {
            let target: PostedTarget =
                serde_json::from_value(value).map_err(|error| format!("[{number}]: {error}"))?;
            let expiry = check(&target).map_err(|why| format!("[{number}].{why}"))?;
            let known = Known { expires: Instant::now() + expiry, target };
            if next.insert(known.target.key(), known).is_some() {
                return Err(format!("[{number}]: a second target of this scheme, address and path"));
            }
        }
        let count = next.len();
        let mut known = self.lock();
        let fresh = next.keys().filter(|key| !known.contains_key(*key)).count();
        if known.len() + fresh > MAX_POSTED {
            return Err(format!("with these there would be more than {MAX_POSTED} targets"));
        }
        known.extend(next);
        drop(known);
        self.changed.send_modify(|version| *version += 1);
        Ok(count)
    }

    /// Takes out the targets of this address; says how many those were.
    pub fn delete(&self, address: &str) -> usize {
        let mut known = self.lock();
        let before = known.len();
        known.retain(|_, known| known.target.target != address);
        let count = before - known.len();
        drop(known);
        if count > 0 {
            self.changed.send_modify(|version| *version += 1);
        }
        count
    }

    /// What is posted, and for how long still.
    pub fn list(&self) -> Vec<(PostedTarget, Duration)> {
        let now = Instant::now();
        let left = |known: &Known| known.expires.saturating_duration_since(now);
        let known = self.lock();
        let alive = known.values().filter(|known| known.expires > now);
        alive.map(|known| (known.target.clone(), left(known))).collect()
    }

    /// Takes out what has expired. Gives what is left, and when the next of it expires.
    fn groups(&self, timeout: Duration) -> (Vec<TargetGroup>, Option<Instant>) {
        let now = Instant::now();
        let mut known = self.lock();
        known.retain(|_, known| known.expires > now);
        let groups = known.iter().map(|(key, known)| known.target.group(key, timeout)).collect();
        (groups, known.values().map(|known| known.expires).min())
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Writes the file anew. A file that can't be written is said in the log and costs nothing else.
    pub fn save(&self) {
        let Some(path) = self.file.lock().unwrap_or_else(PoisonError::into_inner).clone() else { return };
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = clock::now_ms();
        let expires_ms = |left: Duration| now_ms + i64::try_from(left.as_millis()).unwrap_or(0);
        let kept: Vec<Kept> = self
            .list()
            .into_iter()
            .map(|(target, left)| Kept { target, expires_ms: expires_ms(left) })
            .collect();
        let written = serde_json::to_vec(&kept).map_err(std::io::Error::other).and_then(|text| {
            let beside = path.with_extension("json.new");
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(&beside, text)?;
            std::fs::rename(&beside, &path)
        });
        if let Err(error) = written {
            log::warn!(file = path.to_string_lossy().as_ref(), err = error.to_string().as_str();
                "posted targets can't be kept; after a restart they must be posted again");
        }
    }
}

impl PostedTarget {
    fn scheme(&self) -> &str {
        self.scheme.as_deref().unwrap_or("http")
    }

    fn path(&self) -> &str {
        self.metrics_path.as_deref().unwrap_or("/metrics")
    }

    /// What makes it another target.
    fn key(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.target, self.path())
    }

    /// `timeout` is that of the job.
    fn group(&self, key: &str, timeout: Duration) -> TargetGroup {
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut labels = vec![
            own("__address__", &self.target),
            own("__scheme__", self.scheme()),
            own("__metrics_path__", self.path()),
        ];
        let is_short = |text: &&String| parse_duration(text).is_ok_and(|interval| interval < timeout);
        let shorter = self.scrape_interval.as_ref().filter(is_short);
        let spans = [
            ("__scrape_interval__", self.scrape_interval.as_ref()),
            ("__scrape_timeout__", self.scrape_timeout.as_ref().or(shorter)),
        ];
        labels.extend(spans.iter().filter_map(|(name, value)| Some(own(name, value.as_deref()?))));
        labels.extend(self.labels.iter().map(|(name, value)| own(name, value)));
        TargetGroup { source: key.to_owned(), targets: vec![labels], labels: Vec::new(), http: None }
    }
}

/// How long the target lives; or what is wrong with it, behind the name of its key.
fn check(target: &PostedTarget) -> Result<Duration, String> {
    let text = |key: &str, text: &str| match text {
        _ if text.len() > MAX_TEXT => Err(format!("{key}: longer than {MAX_TEXT} bytes")),
        _ if text.chars().any(|c| c.is_whitespace() || c.is_control()) => {
            Err(format!("{key}: {text:?} has blanks"))
        }
        _ => Ok(()),
    };
    text("target", &target.target)?;
    text("metrics_path", target.path())?;
    let authority: Result<hyper::http::uri::Authority, _> = target.target.parse();
    if target.target.contains(['/', '@']) || !authority.is_ok_and(|authority| !authority.host().is_empty()) {
        return Err(format!("target: {:?} is not a host and port", target.target));
    }
    if !["http", "https"].contains(&target.scheme()) {
        return Err(format!("scheme: {:?} is neither http nor https", target.scheme()));
    }
    if !target.path().starts_with('/') {
        return Err(format!("metrics_path: {:?} does not begin with a slash", target.path()));
    }
    if target.labels.len() > MAX_LABELS {
        return Err(format!("labels: more than {MAX_LABELS}"));
    }
    for (name, value) in &target.labels {
        let parameter = name.starts_with("__param_") || name.starts_with("__meta_");
        if !is_label_name(name) || (name.starts_with("__") && !parameter) {
            return Err(format!("labels: {name:?} can't be used as a label name"));
        }
        if name.len() + value.len() > MAX_TEXT {
            return Err(format!("labels.{name}: longer than {MAX_TEXT} bytes"));
        }
    }
    let span = |key: &str, text: &Option<String>| {
        let parsed = text.as_deref().map(parse_duration).transpose();
        parsed.map_err(|why| format!("{key}: {why}"))
    };
    let interval = span("scrape_interval", &target.scrape_interval)?;
    if interval.is_some_and(|interval| interval < Duration::from_millis(10)) {
        return Err("scrape_interval: must be at least 10ms".to_owned());
    }
    let timeout = span("scrape_timeout", &target.scrape_timeout)?;
    if timeout.is_some_and(|timeout| timeout.is_zero() || interval.is_some_and(|all| timeout > all)) {
        return Err("scrape_timeout: must be above 0 and not above scrape_interval".to_owned());
    }
    let expiry = span("expiry", &target.expiry)?.unwrap_or(DEFAULT_EXPIRY);
    if !EXPIRIES.contains(&expiry) {
        return Err("expiry: must lie between 1s and 1d".to_owned());
    }
    Ok(expiry)
}

/// Gives a provider's groups from the board, for as long as it is asked for.
pub async fn run(board: Arc<Board>, timeout: Duration, give: impl Fn(Vec<TargetGroup>)) {
    let mut changes = board.watch();
    loop {
        changes.borrow_and_update();
        let (groups, next) = board.groups(timeout);
        give(groups);
        let expiry = async {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = expiry => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(board: &Board) -> Vec<String> {
        board.list().into_iter().map(|(target, _)| target.target).collect()
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_changes_nothing() {
        let board = Board::default();
        for (body, expected) in [
            ("", "not a JSON list of targets: EOF"),
            ("{}", "not a JSON list of targets: invalid type: map"),
            (r#"[{"target":"a:1"},{}]"#, "[1]: missing field `target`"),
            (r#"[{"target":"a:1","port":1}]"#, "[0]: unknown field `port`"),
            (r#"[{"target":"http://a:1"}]"#, "[0].target: \"http://a:1\" is not a host and port"),
            (r#"[{"target":"u@a:1"}]"#, "[0].target: \"u@a:1\" is not a host and port"),
            (r#"[{"target":""}]"#, "[0].target: \"\" is not a host and port"),
            (r#"[{"target":"a b"}]"#, "[0].target: \"a b\" has blanks"),
            (r#"[{"target":"a:1","scheme":"ftp"}]"#, "[0].scheme: \"ftp\" is neither http nor https"),
            (
                r#"[{"target":"a:1","metrics_path":"x"}]"#,
                "[0].metrics_path: \"x\" does not begin with a slash",
            ),
            (
                r#"[{"target":"a:1","labels":{"__address__":"b"}}]"#,
                "[0].labels: \"__address__\" can't be used",
            ),
            (r#"[{"target":"a:1","labels":{"":"b"}}]"#, "[0].labels: \"\" can't be used"),
            (r#"[{"target":"a:1","scrape_interval":"1x"}]"#, "[0].scrape_interval: "),
            (r#"[{"target":"a:1","scrape_interval":"1ms"}]"#, "[0].scrape_interval: must be at least 10ms"),
            (
                r#"[{"target":"a:1","scrape_interval":"5s","scrape_timeout":"6s"}]"#,
                "[0].scrape_timeout: must be",
            ),
            (r#"[{"target":"a:1","expiry":"2d"}]"#, "[0].expiry: must lie between 1s and 1d"),
            (r#"[{"target":"a:1"},{"target":"a:1"}]"#, "[1]: a second target"),
        ] {
            let error = board.post(body.as_bytes()).expect_err(body);
            assert!(error.starts_with(expected), "{body}: {error}");
        }
        assert_eq!(board.list(), []);
        let many: Vec<String> = (0..=MAX_POSTED).map(|n| format!("{{\"target\":\"h:{n}\"}}")).collect();
        assert!(
            board.post(format!("[{}]", many.join(",")).as_bytes()).unwrap_err().contains("more than 10000")
        );
        assert_eq!(board.post(format!("[{}]", many[1..].join(",")).as_bytes()), Ok(MAX_POSTED));
        assert_eq!(board.post(br#"[{"target":"h:1"}]"#), Ok(1), "one that is there takes no room");
    }

    #[test]
    fn a_timeout_is_never_longer_than_the_interval() {
        for (target, expected) in [
            (r#"[{"target":"a:1","scrape_interval":"5s"}]"#, Some("5s")),
            (r#"[{"target":"a:1","scrape_interval":"1m"}]"#, None),
            (r#"[{"target":"a:1","scrape_interval":"5s","scrape_timeout":"1s"}]"#, Some("1s")),
        ] {
            let board = Board::default();
            board.post(target.as_bytes()).unwrap();
            let (groups, _) = board.groups(Duration::from_secs(10));
            let timeout = groups[0].targets[0].iter().find(|(name, _)| name == "__scrape_timeout__");
            assert_eq!(timeout.map(|(_, value)| value.as_str()), expected, "{target}");
        }
    }

    /// As if so much time had passed.
    fn age(board: &Board, by: Duration) {
        board.lock().values_mut().for_each(|known| known.expires -= by);
        board.changed.send_modify(|version| *version += 1);
    }

    #[tokio::test]
    async fn a_target_lives_until_it_expires_or_is_deleted() {
        let board = Arc::new(Board::default());
        let (given, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let give = move |groups: Vec<TargetGroup>| {
            given.send(groups.iter().map(|group| group.source.clone()).collect::<Vec<_>>()).unwrap();
        };
        tokio::spawn(run(board.clone(), Duration::from_secs(10), give));
        assert_eq!(seen.recv().await.unwrap(), [""; 0]);
        let both = br#"[{"target":"a:1","expiry":"100s"},{"target":"b:1","expiry":"300s","scheme":"https"}]"#;
        assert_eq!(board.post(both), Ok(2));
        assert_eq!(seen.recv().await.unwrap(), ["http://a:1/metrics", "https://b:1/metrics"]);
        age(&board, Duration::from_secs(80));
        seen.recv().await.unwrap();
        board.post(br#"[{"target":"a:1","expiry":"100s"}]"#).unwrap();
        age(&board, Duration::from_secs(80));
        assert_eq!(addresses(&board), ["a:1", "b:1"], "what is posted again lives on");
        age(&board, Duration::from_secs(30));
        while seen.recv().await.unwrap() != ["https://b:1/metrics"] {}
        assert_eq!((board.delete("c:1"), board.delete("b:1")), (0, 1));
        assert_eq!(seen.recv().await.unwrap(), [""; 0]);
        // Nobody need say that time has passed.
        board.post(br#"[{"target":"a:1","expiry":"1s"}]"#).unwrap();
        assert_eq!(seen.recv().await.unwrap().len(), 1);
        assert_eq!(seen.recv().await.unwrap(), [""; 0]);
    }

    #[tokio::test]
    async fn a_restart_finds_what_was_posted() {
        let folder = tempfile::tempdir().unwrap();
        let board = Board::default();
        board.keep_in(folder.path());
        let body = br#"[{"target":"a:1","labels":{"x":"y"},"expiry":"1h","scrape_interval":"5s"},{"target":"b:1","expiry":"1s"}]"#;
        board.post(body).unwrap();
        age(&board, Duration::from_millis(999));
        board.save();
        tokio::time::sleep(Duration::from_millis(5)).await;
        let next = Board::default();
        next.keep_in(folder.path());
        let (target, left) = next.list().remove(0);
        assert_eq!((target.target.as_str(), target.labels["x"].as_str()), ("a:1", "y"));
        assert!(left > Duration::from_secs(3500) && next.list().len() == 1);
        std::fs::write(folder.path().join(FILE), "[{").unwrap();
        let damaged = Board::default();
        damaged.keep_in(folder.path());
        assert_eq!(damaged.list(), []);
    }
}
