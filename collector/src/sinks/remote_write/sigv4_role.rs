//! A role of AWS that is assumed before anything is signed: its keys come from the token service (STS `AssumeRole`) for an
//! hour, and are kept until shortly before they expire.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use form_urlencoded::Serializer;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::{Request, Uri};
use tokio::sync::Mutex;

use super::sigv4::{Keys, sign};
use crate::client::{Client as Http, read_body};
use crate::config::{AssumedRole, HttpSettings};
use crate::limits::MAX_ERROR_BODY;

/// What the token service is asked for, and how long before its end the keys are fetched anew.
const SPAN: Duration = Duration::from_secs(3600);
const EARLY: Duration = Duration::from_secs(300);
const MAX_ANSWER: usize = 64 << 10;
const TIMEOUT: Duration = Duration::from_secs(20);

/// A role, and its keys while they hold.
pub(super) struct Assumed {
    role: AssumedRole,
    region: String,
    uri: Uri,
    http: Http,
    kept: Mutex<Option<(Keys, Instant)>>,
}

impl Assumed {
    /// # Errors
    /// What is wrong with the URL of the token service.
    pub(super) fn new(role: AssumedRole, region: &str) -> Result<Self, String> {
        let uri = role.service.parse().map_err(|error| format!("sigv4: {}: {error}", role.service))?;
        let http = Http::new(&HttpSettings { http2: true, ..HttpSettings::default() })?;
        Ok(Assumed { role, region: region.to_owned(), uri, http, kept: Mutex::new(None) })
    }

    /// The keys of the role, which `own` may assume.
    pub(super) async fn keys(&self, own: &Keys) -> Result<Keys, String> {
        let mut kept = self.kept.lock().await;
        if let Some((keys, until)) = &*kept
            && Instant::now() < *until
        {
            return Ok(keys.clone());
        }
        let timed = tokio::time::timeout(TIMEOUT, self.assume(own)).await;
        let keys = timed.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")));
        let keys = keys.map_err(|why| format!("sigv4: {}: {why}", self.role.service))?;
        *kept = Some((keys.clone(), Instant::now() + SPAN - EARLY));
        Ok(keys)
    }

    fn form(&self) -> String {
        let mut form = Serializer::new(String::new());
        form.append_pair("Action", "AssumeRole").append_pair("Version", "2011-06-15");
        form.append_pair("RoleArn", &self.role.arn).append_pair("RoleSessionName", "collector");
        form.append_pair("DurationSeconds", &SPAN.as_secs().to_string());
        form.extend_pairs(self.role.external_id.iter().map(|id| ("ExternalId", id)));
        form.finish()
    }

    async fn assume(&self, own: &Keys) -> Result<Keys, String> {
        let body = Bytes::from(self.form());
        let mut request =
            Request::post(self.uri.clone()).body(Full::new(body.clone())).map_err(|e| e.to_string())?;
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
        request.headers_mut().insert(header::CONTENT_TYPE, form_type);
        let headers = request.headers_mut();
        sign(own, (&self.region, "sts"), &self.uri, &body, SystemTime::now(), headers)?;
        let response = self.http.send(request).await?;
        let status = response.status();
        let mut answer = Vec::new();
        read_body(response.into_body(), MAX_ANSWER, &mut answer).await?;
        let text = String::from_utf8_lossy(&answer);
        if !status.is_success() {
            let shown = text.get(..MAX_ERROR_BODY).unwrap_or(&text);
            return Err(format!("server returned HTTP status {status}: {}", shown.trim()));
        }
        keys_of(&text).ok_or_else(|| "the answer holds no keys".to_owned())
    }
}

/// The keys of an answer. Its elements hold plain text without entities: keys are letters, digits and `+/=`.
fn keys_of(answer: &str) -> Option<Keys> {
    let element = |name: &str| {
        let (_, rest) = answer.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.trim().to_owned())
    };
    let token = element("SessionToken")?;
    Some(Keys { access: element("AccessKeyId")?, secret: element("SecretAccessKey")?, token: Some(token) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{ok, server};

    #[tokio::test]
    async fn keys_are_kept_until_shortly_before_their_end_and_a_refusal_is_told() {
        let (refusal, text) =
            ("HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 12\r\n\r\n", "AccessDenied");
        let answers = std::sync::Mutex::new(0);
        let (address, seen) = server(move |_| {
            let mut number = answers.lock().unwrap();
            *number += 1;
            match *number {
                3 => format!("{refusal}{text}"),
                4 => ok("<AccessKeyId>A</AccessKeyId>"),
                n => ok(&format!(
                    "<AccessKeyId>K{n}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
                )),
            }
        });
        let service = format!("http://{address}/");
        let role = AssumedRole { arn: "arn:aws:iam::1:role/r".into(), external_id: None, service };
        let assumed = Assumed::new(role, "eu-west-1").unwrap();
        let own = Keys { access: "AKID".into(), secret: "s3".into(), token: None };
        let keys = async || assumed.keys(&own).await.map(|keys| keys.access);
        let expire = async || assumed.kept.lock().await.as_mut().unwrap().1 = Instant::now();
        assert_eq!((keys().await, keys().await), (Ok("K1".into()), Ok("K1".into())));
        let until = assumed.kept.lock().await.as_ref().unwrap().1;
        assert!(until <= Instant::now() + SPAN - EARLY);
        assert_eq!(seen.try_iter().count(), 1, "they are kept");
        expire().await;
        assert_eq!(keys().await, Ok("K2".into()));
        expire().await;
        let error = keys().await.unwrap_err();
        assert!(
            error.starts_with("sigv4: http://") && error.ends_with("403 Forbidden: AccessDenied"),
            "{error}"
        );
        assert!(keys().await.unwrap_err().ends_with("the answer holds no keys"));
        assert_eq!(keys().await, Ok("K5".into()), "it is asked again");
    }

    #[test]
    fn the_keys_are_those_of_the_answer() {
        let text = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
                    <AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/collector</Arn></AssumedRoleUser>\
                    <Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>a/b+c=</SecretAccessKey>\n\
                    <SessionToken> t/== </SessionToken><Expiration>2026-01-01T00:00:00Z</Expiration></Credentials>\
                    </AssumeRoleResult></AssumeRoleResponse>";
        let keys = keys_of(text).map(|keys| (keys.access, keys.secret, keys.token));
        assert_eq!(keys, Some(("ASIA1".into(), "a/b+c=".into(), Some("t/==".into()))));
        assert!(keys_of("<AccessKeyId>A</AccessKeyId>").is_none());
    }
}
