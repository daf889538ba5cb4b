//! Users, rates, and a file that changes.

use std::time::Duration;

use super::*;

/// bcrypt of "secret", at the least cost.
fn hash_of_secret() -> String {
    bcrypt::hash("secret", 4).unwrap()
}

fn authorization(user: &str, password: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let value = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
    headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&value).unwrap());
    headers
}

fn guard(text: &str) -> (tempfile::TempDir, Guard) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.yml");
    std::fs::write(&path, text).unwrap();
    let guard = Guard::open(path).unwrap();
    (folder, guard)
}

async fn status(guard: &Guard, headers: &HeaderMap) -> u16 {
    guard.admit(headers).await.err().map_or(200, |response| response.status().as_u16())
}

#[tokio::test]
async fn users_need_their_password() {
    let (_folder, guard) = guard(&format!("basic_auth_users:\n  alice: {}\n", hash_of_secret()));
    for _ in 0..2 {
        assert_eq!(status(&guard, &authorization("alice", "secret")).await, 200);
        assert_eq!(status(&guard, &authorization("alice", "Secret")).await, 401);
        assert_eq!(status(&guard, &authorization("alice", "")).await, 401);
        assert_eq!(status(&guard, &authorization("bob", "secret")).await, 401);
        assert_eq!(status(&guard, &HeaderMap::new()).await, 401);
    }
    assert_eq!(guard.decided.lock().unwrap().len(), 4, "each password was hashed once");
    for n in 0..REMEMBERED {
        status(&guard, &authorization("alice", &n.to_string())).await;
    }
    assert!(guard.decided.lock().unwrap().len() <= REMEMBERED);
    let mut odd = HeaderMap::new();
    for value in ["Basic", "Basic %%%", "Bearer abc", "Basic YWxpY2U="] {
        odd.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        assert_eq!(status(&guard, &odd).await, 401, "{value}");
    }
}

#[tokio::test]
async fn a_changed_file_counts_at_once() {
    let (folder, guard) = guard("");
    assert_eq!(status(&guard, &HeaderMap::new()).await, 200);
    let path = folder.path().join("web.yml");
    std::fs::write(&path, format!("basic_auth_users:\n  alice: {}\n", hash_of_secret())).unwrap();
    assert_eq!(status(&guard, &HeaderMap::new()).await, 401);
    std::fs::write(&path, "basic_auth_user: {}\n").unwrap();
    assert_eq!(status(&guard, &authorization("alice", "secret")).await, 500);
    std::fs::write(&path, "http_server_config: {headers: {X-Frame-Options: deny}}\n").unwrap();
    let config = guard.admit(&HeaderMap::new()).await.unwrap();
    let mut headers = HeaderMap::new();
    add_headers(&config, &mut headers);
    assert_eq!(headers["x-frame-options"], "deny");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(status(&guard, &HeaderMap::new()).await, 500);
    assert!(Guard::open(path).err().unwrap().contains("web.yml: No such file"));
}

#[tokio::test]
async fn requests_over_the_rate_are_turned_away() {
    let (_folder, guard) = guard("rate_limit: {interval: 1h, burst: 2}\n");
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(status(&guard, &HeaderMap::new()).await);
    }
    assert_eq!(seen, [200, 200, 429, 429]);
}

#[test]
fn a_bucket_fills_up_to_its_burst() {
    let mut bucket = Bucket::new(Rate { interval: Duration::from_secs(1), burst: 2 });
    let start = bucket.filled;
    let taken =
        [0, 0, 0, 999, 1000, 1001, 9000, 9000, 9000].map(|ms| bucket.take(start + Duration::from_millis(ms)));
    assert_eq!(taken, [true, true, false, false, true, false, true, true, false]);
}
