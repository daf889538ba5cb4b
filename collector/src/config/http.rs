//! How requests are made: authorization, TLS, proxies, headers. The checks are those of Prometheus.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::fault::{Fault, Resolved, fault, fault_at};
use super::raw;
use super::resolved::{Authorization, Secret, TlsSettings};
use super::scrape::{HttpSettings, OAuth2, Proxy};

/// Headers that belong to the protocol, or have a key of their own.
const RESERVED_HEADERS: &[&str] = &[
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "transfer-encoding",
    "user-agent",
    "www-authenticate",
    "x-prometheus-remote-write-version",
    "x-prometheus-scrape-timeout-seconds",
];

pub(super) fn resolve_http(raw: raw::Http, folder: &Path) -> Resolved<HttpSettings> {
    let authorization = resolve_authorization(&raw, folder)?;
    let oauth2 = raw
        .oauth2
        .map(|oauth2| resolve_oauth2(oauth2, folder).map(Box::new).map_err(|fault| fault.under("oauth2")))
        .transpose()?;
    if authorization.is_some() && oauth2.is_some() {
        return fault("at most one of basic_auth, oauth2, authorization and bearer_token may be given");
    }
    let tls = resolve_tls(raw.tls_config, folder)?;
    let proxy =
        resolve_proxy(raw.proxy_url, raw.no_proxy, raw.proxy_from_environment, raw.proxy_connect_header)?;
    let mut headers = Vec::new();
    for (name, values) in raw.http_headers.unwrap_or_default() {
        let all = values.values.iter().chain(&values.secrets).flatten().cloned().map(Secret::Inline);
        let files = values.files.iter().flatten().map(|file| Secret::File(folder.join(file)));
        let all: Vec<Secret> = all.chain(files).collect();
        for value in all.iter().chain([&Secret::Inline(String::new())]) {
            let text = if let Secret::Inline(text) = value { text } else { "" };
            check_header(&name, text).map_err(|why| Fault::new("http_headers", why))?;
        }
        headers.push((name, all));
    }
    Ok(HttpSettings {
        authorization,
        oauth2,
        identity: None,
        tls,
        proxy,
        follow_redirects: raw.follow_redirects.unwrap_or(true),
        http2: raw.enable_http2.unwrap_or(true),
        headers,
        round_robin_dns: false,
    })
}

/// What is wrong with a header that a person gives.
pub(super) fn check_header(name: &str, value: &str) -> Result<(), String> {
    if RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(format!("{name} is set by the protocol or by its own key, and can't be set here"));
    }
    let valid = hyper::header::HeaderName::from_bytes(name.as_bytes()).is_ok();
    if !valid || hyper::header::HeaderValue::from_str(value).is_err() {
        return Err(format!("{name:?} is not a header that HTTP allows"));
    }
    Ok(())
}

fn resolve_authorization(raw: &raw::Http, folder: &Path) -> Resolved<Option<Authorization>> {
    let bearer = raw.bearer_token.is_some() || raw.bearer_token_file.is_some();
    let given = [raw.basic_auth.is_some(), raw.authorization.is_some(), bearer];
    if given.iter().filter(|given| **given).count() > 1 {
        return fault("at most one of basic_auth, authorization and bearer_token may be given");
    }
    let header = |scheme: &str, inline: &Option<String>, file: &Option<PathBuf>, key: &str| {
        let credentials = one_secret(inline, file, folder, key)?
            .ok_or_else(|| Fault::new(key, format!("{key} or {key}_file must be given")))?;
        Ok(Some(Authorization::Header { scheme: scheme.to_owned(), credentials }))
    };
    if let Some(basic) = &raw.basic_auth {
        let secret = |inline, file, key: &str| {
            one_secret(inline, file, folder, key)
                .map(|secret| secret.unwrap_or(Secret::Inline(String::new())))
                .map_err(|fault| fault.under("basic_auth"))
        };
        let username = secret(&basic.username, &basic.username_file, "username")?;
        let password = secret(&basic.password, &basic.password_file, "password")?;
        return Ok(Some(Authorization::Basic { username, password }));
    }
    if let Some(authorization) = &raw.authorization {
        let scheme = authorization.scheme.as_deref().map_or("Bearer", str::trim);
        if scheme.eq_ignore_ascii_case("basic") {
            return fault_at("authorization.type", "for Basic use basic_auth");
        }
        let (inline, file) = (&authorization.credentials, &authorization.credentials_file);
        return header(scheme, inline, file, "credentials")
            .map_err(|fault: Fault| fault.under("authorization"));
    }
    if bearer {
        return header("Bearer", &raw.bearer_token, &raw.bearer_token_file, "bearer_token");
    }
    Ok(None)
}

pub(super) fn one_secret(
    inline: &Option<String>,
    file: &Option<PathBuf>,
    folder: &Path,
    key: &str,
) -> Resolved<Option<Secret>> {
    match (inline, file) {
        (Some(_), Some(_)) => fault_at(key, format!("at most one of {key} and {key}_file may be given")),
        (Some(text), None) => Ok(Some(Secret::Inline(text.clone()))),
        (None, Some(path)) => Ok(Some(Secret::File(folder.join(path)))),
        (None, None) => Ok(None),
    }
}

fn resolve_oauth2(raw: raw::OAuth2, folder: &Path) -> Resolved<OAuth2> {
    let needed = |value: Option<String>, key: &str| {
        value.filter(|text| !text.is_empty()).ok_or_else(|| Fault::new(key, format!("{key} must be given")))
    };
    let secret = one_secret(&raw.client_secret, &raw.client_secret_file, folder, "client_secret")?;
    let Some(client_secret) = secret else {
        return fault_at("client_secret", "client_secret or client_secret_file must be given");
    };
    Ok(OAuth2 {
        client_id: needed(raw.client_id, "client_id")?,
        client_secret,
        is_assertion: false,
        scopes: raw.scopes.unwrap_or_default(),
        token_url: needed(raw.token_url, "token_url")?,
        endpoint_params: raw.endpoint_params.unwrap_or_default().into_iter().collect(),
        tls: resolve_tls(raw.tls_config, folder)?,
        proxy: resolve_proxy(
            raw.proxy_url,
            raw.no_proxy,
            raw.proxy_from_environment,
            raw.proxy_connect_header,
        )?,
    })
}

fn resolve_proxy(
    url: Option<String>,
    no_proxy: Option<String>,
    from_environment: Option<bool>,
    connect_header: Option<BTreeMap<String, Vec<String>>>,
) -> Resolved<Proxy> {
    let url = url.filter(|url| !url.is_empty());
    let no_proxy = no_proxy.unwrap_or_default();
    let connect_headers: Vec<_> = connect_header
        .unwrap_or_default()
        .into_iter()
        .map(|(name, values)| (name, values.into_iter().map(Secret::Inline).collect::<Vec<_>>()))
        .collect();
    for (name, values) in &connect_headers {
        let valid = hyper::header::HeaderName::from_bytes(name.as_bytes()).is_ok();
        let is_value = |value: &Secret| matches!(value, Secret::Inline(text) if hyper::header::HeaderValue::from_str(text).is_ok());
        if !valid || !values.iter().all(is_value) {
            return fault_at("proxy_connect_header", format!("{name:?} is not a header that HTTP allows"));
        }
    }
    match (url, from_environment.unwrap_or(false)) {
        (Some(_), true) => {
            fault_at("proxy_from_environment", "proxy_url may not be given beside it: remove one of them")
        }
        (None, true) if !no_proxy.is_empty() => fault_at(
            "no_proxy",
            "may not be given beside proxy_from_environment: the environment's NO_PROXY counts then",
        ),
        (None, true) => Ok(Proxy::FromEnvironment { connect_headers }),
        (None, false) if !no_proxy.is_empty() => fault_at("no_proxy", "proxy_url must be given too"),
        (None, false) if !connect_headers.is_empty() => {
            fault_at("proxy_connect_header", "proxy_url or proxy_from_environment must be given too")
        }
        (None, false) => Ok(Proxy::None),
        (Some(url), false) => {
            let parsed: Result<hyper::Uri, _> = url.parse();
            match parsed {
                Ok(uri) if uri.host().is_some() => Ok(Proxy::Url { url, no_proxy, connect_headers }),
                _ => fault_at("proxy_url", "is not a URL such as http://proxy.example:3128"),
            }
        }
    }
}

fn resolve_tls(raw: Option<raw::TlsConfig>, folder: &Path) -> Resolved<TlsSettings> {
    let Some(raw) = raw else { return Ok(TlsSettings::default()) };
    resolve_tls_config(raw, folder).map_err(|fault| fault.under("tls_config"))
}

fn resolve_tls_config(raw: raw::TlsConfig, folder: &Path) -> Resolved<TlsSettings> {
    let newest = match raw.max_version.as_deref() {
        None => None,
        Some("TLS12") => Some(12),
        Some("TLS13") => Some(13),
        Some("TLS10" | "TLS11") => {
            return fault_at("max_version", "versions before TLS12 are broken and not spoken here");
        }
        Some(other) => {
            return fault_at("max_version", format!("{other:?} is neither TLS12 nor TLS13"));
        }
    };
    let oldest = match raw.min_version.as_deref() {
        // What is older than the oldest that is spoken changes nothing.
        None | Some("TLS10" | "TLS11") => None,
        Some("TLS12") => Some(12),
        Some("TLS13") => Some(13),
        Some(other) => {
            return fault_at("min_version", format!("{other:?} is neither TLS12 nor TLS13"));
        }
    };
    if oldest == Some(13) && newest == Some(12) {
        return fault_at("min_version", "min_version is above max_version");
    }
    let settings = TlsSettings {
        ca: one_secret(&raw.ca, &raw.ca_file, folder, "ca")?,
        cert: one_secret(&raw.cert, &raw.cert_file, folder, "cert")?,
        key: one_secret(&raw.key, &raw.key_file, folder, "key")?,
        server_name: raw.server_name.filter(|name| !name.is_empty()),
        insecure_skip_verify: raw.insecure_skip_verify.unwrap_or(false),
        only_tls13: oldest == Some(13),
        only_tls12: newest == Some(12),
    };
    if settings.cert.is_some() != settings.key.is_some() {
        return fault("a client certificate needs both cert and key");
    }
    Ok(settings)
}
