//! Tokens of who a machine or a service is: from the instance metadata of Azure and of Google, and for the key of a
//! Google service account (a JWT by RS256, RFC 7523).

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use form_urlencoded::Serializer;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;

use super::Client;
use super::oauth2::{MAX_ANSWER, post_form};
use crate::config::Identity;

const TIMEOUT: Duration = Duration::from_secs(20);
/// To write metrics, and no more.
const GOOGLE_SCOPE: &str = "https://www.googleapis.com/auth/monitoring.write";
const GOOGLE_TOKENS: &str = "https://oauth2.googleapis.com/token";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// For how long an assertion is right: the longest that Google takes.
const ASSERTION_SECONDS: u64 = 3600;

/// The key of a service account, as Google gives it away.
#[derive(Deserialize)]
struct ServiceAccount {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    client_email: String,
    #[serde(default)]
    private_key: String,
    #[serde(default)]
    private_key_id: String,
    token_uri: Option<String>,
}

/// Whose token it is, for a person to read.
pub(super) fn name(identity: &Identity) -> &'static str {
    match identity {
        Identity::Azure { .. } => "azuread.managed_identity",
        Identity::Google { .. } => "google_iam",
    }
}

/// Asks for a token: the answer's status and body.
pub(super) async fn ask(identity: &Identity, client: &Client) -> Result<(StatusCode, Vec<u8>), String> {
    match identity {
        Identity::Azure { service, resource, client_id } => {
            let mut pairs = vec![("api-version", "2018-02-01"), ("resource", resource)];
            pairs.extend(client_id.as_deref().map(|id| ("client_id", id)));
            let url = format!("{service}/metadata/identity/oauth2/token?{}", encode_pairs(&pairs));
            get(client, &url, ("metadata", "true")).await
        }
        Identity::Google { key: None, service } => {
            let query = encode_pairs(&[("scopes", GOOGLE_SCOPE)]);
            let path = "computeMetadata/v1/instance/service-accounts/default/token";
            get(client, &format!("{service}/{path}?{query}"), ("metadata-flavor", "Google")).await
        }
        Identity::Google { key: Some(path), .. } => {
            let wrong = |why: String| format!("{}: {why}", path.display());
            let account = read_account(path).map_err(wrong)?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let url = account.token_uri.as_deref().unwrap_or(GOOGLE_TOKENS);
            let assertion = sign(&account, url, now).map_err(wrong)?;
            let form = encode_pairs(&[("grant_type", JWT_BEARER), ("assertion", &assertion)]);
            post_form(client, url, HeaderMap::new(), form).await
        }
    }
}

fn encode_pairs(pairs: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(pairs).finish()
}

async fn get(
    client: &Client,
    url: &str,
    (name, value): (&'static str, &'static str),
) -> Result<(StatusCode, Vec<u8>), String> {
    let mut headers = HeaderMap::new();
    headers.insert(name, HeaderValue::from_static(value));
    let answer = client.get(url, headers, MAX_ANSWER, TIMEOUT).await?;
    Ok((answer.status, answer.body))
}

fn read_account(path: &Path) -> Result<ServiceAccount, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let account: ServiceAccount = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    if account.kind != "service_account" {
        return Err(format!(
            "the key of a service account is wanted, and this is of type {:?}",
            account.kind
        ));
    }
    Ok(account)
}

/// The assertion that the account is the one that asks.
fn sign(account: &ServiceAccount, audience: &str, now: u64) -> Result<String, String> {
    let header = serde_json::json!({"alg": "RS256", "typ": "JWT", "kid": account.private_key_id});
    let claims = serde_json::json!({
        "iss": account.client_email,
        "scope": GOOGLE_SCOPE,
        "aud": audience,
        "iat": now,
        "exp": now + ASSERTION_SECONDS,
    });
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let text = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
    let key = PrivatePkcs8KeyDer::from_pem_slice(account.private_key.as_bytes());
    let key = key.map_err(|error| format!("private_key: {error}"))?;
    let key =
        RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).map_err(|error| format!("private_key: {error}"))?;
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
        .map_err(|_| "private_key: it signs nothing".to_owned())?;
    Ok(format!("{text}.{}", encode(&signature)))
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
