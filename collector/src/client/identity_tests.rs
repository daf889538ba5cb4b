//! Tokens of clouds from servers of a few lines, and what is asked of these.

use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

use super::super::tests::{get, ok, server};
use super::*;
use crate::config::{HttpSettings, OAuth2, Proxy, Secret, TlsSettings};

/// A key that was made for this test and signs for nobody.
const KEY: &str = include_str!("testdata/service_account.pem");
const TOKEN: &str = r#"{"access_token": "abc", "token_type": "Bearer", "expires_in": "3599"}"#;

/// Asks twice with the identity's token, and gives what its service was asked for, which is once.
async fn asked(
    identity: Option<Identity>,
    oauth2: Option<OAuth2>,
    tokens: &std::sync::mpsc::Receiver<String>,
) -> String {
    let (address, seen) = server(|_| ok("x"));
    let (identity, oauth2) = (identity.map(Box::new), oauth2.map(Box::new));
    let client = Client::new(&HttpSettings { identity, oauth2, ..HttpSettings::default() }).unwrap();
    for _ in 0..2 {
        get(&client, &format!("http://{address}/")).await.unwrap();
        assert!(seen.recv().unwrap().contains("authorization: Bearer abc\r\n"));
    }
    let first = tokens.recv().unwrap();
    assert!(tokens.try_recv().is_err(), "the token is kept");
    first
}

#[tokio::test]
async fn a_machine_in_azure_asks_its_instance_metadata() {
    let (address, tokens) = server(|_| ok(TOKEN));
    let (service, resource) = (format!("http://{address}"), "https://monitor.azure.com/".to_owned());
    let of = |client_id: Option<&str>| Identity::Azure {
        service: service.clone(),
        resource: resource.clone(),
        client_id: client_id.map(str::to_owned),
    };
    let path = "GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fmonitor.azure.com%2F";
    let head = asked(Some(of(Some("1-2"))), None, &tokens).await;
    assert!(head.starts_with(&format!("{path}&client_id=1-2 HTTP/1.1\r\n")), "{head}");
    assert!(head.contains("metadata: true\r\n"), "{head}");
    let head = asked(Some(of(None)), None, &tokens).await;
    assert!(head.starts_with(&format!("{path} HTTP/1.1\r\n")), "{head}");
}

#[tokio::test]
async fn a_workload_shows_the_token_of_its_file_and_no_secret() {
    let (address, tokens) = server(|_| ok(TOKEN));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "e30.e30.c2ln\n").unwrap();
    let oauth2 = OAuth2 {
        client_id: "me".into(),
        client_secret: Secret::File(file),
        is_assertion: true,
        scopes: vec!["https://monitor.azure.com//.default".into()],
        token_url: format!("http://{address}/tenant/oauth2/v2.0/token"),
        endpoint_params: Vec::new(),
        tls: TlsSettings::default(),
        proxy: Proxy::None,
    };
    let head = asked(None, Some(oauth2), &tokens).await;
    let form = "grant_type=client_credentials&scope=https%3A%2F%2Fmonitor.azure.com%2F%2F.default&client_id=me&\
                client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&\
                client_assertion=e30.e30.c2ln";
    assert!(head.starts_with("POST /tenant/oauth2/v2.0/token ") && head.ends_with(form), "{head}");
    assert!(!head.contains("authorization: Basic"), "{head}");
}

#[tokio::test]
async fn a_machine_of_google_asks_the_metadata_server() {
    let (address, tokens) = server(|_| ok(TOKEN));
    let identity = Identity::Google { key: None, service: format!("http://{address}") };
    let head = asked(Some(identity), None, &tokens).await;
    let path = "/computeMetadata/v1/instance/service-accounts/default/token\
                ?scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fmonitoring.write";
    assert!(head.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{head}");
    assert!(head.contains("metadata-flavor: Google\r\n"), "{head}");
}

#[tokio::test]
async fn a_service_account_of_google_signs_who_it_is() {
    let (address, tokens) = server(|_| ok(TOKEN));
    let folder = tempfile::tempdir().unwrap();
    let (file, url) = (folder.path().join("key.json"), format!("http://{address}/token"));
    let account = serde_json::json!({
        "type": "service_account",
        "client_email": "me@example.com",
        "private_key": KEY,
        "private_key_id": "k1",
        "token_uri": url,
    });
    std::fs::write(&file, account.to_string()).unwrap();
    let identity = Identity::Google { key: Some(file.clone()), service: String::new() };
    let head = asked(Some(identity.clone()), None, &tokens).await;
    let form = head.rsplit("\r\n\r\n").next().unwrap();
    let pairs: Vec<_> = form_urlencoded::parse(form.as_bytes()).collect();
    assert_eq!(pairs[0], ("grant_type".into(), JWT_BEARER.into()));
    let (text, signature) = pairs[1].1.rsplit_once('.').unwrap();
    let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
    let key = PrivatePkcs8KeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let public = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap().public_key().as_ref().to_vec();
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public);
    public.verify(text.as_bytes(), &decode(signature)).unwrap();
    let parts: Vec<serde_json::Value> =
        text.split('.').map(|part| serde_json::from_slice(&decode(part)).unwrap()).collect();
    assert_eq!((&parts[0]["alg"], &parts[0]["kid"]), (&"RS256".into(), &"k1".into()));
    assert_eq!((&parts[1]["iss"], &parts[1]["aud"]), (&"me@example.com".into(), &url.as_str().into()));
    assert_eq!(parts[1]["scope"], GOOGLE_SCOPE);
    assert_eq!(parts[1]["exp"].as_u64(), parts[1]["iat"].as_u64().map(|at| at + 3600));
    std::fs::write(&file, r#"{"type": "authorized_user"}"#).unwrap();
    let client = Client::new(&HttpSettings { identity: Some(Box::new(identity)), ..HttpSettings::default() });
    let error = get(&client.unwrap(), "http://127.0.0.1:1/").await.unwrap_err();
    assert!(error.contains("google_iam") && error.contains("authorized_user"), "{error}");
}
