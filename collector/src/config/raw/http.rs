//! The keys of outgoing HTTP, which several sections have among their own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// Declares a section that has the keys of outgoing HTTP beside its own. (A flattened struct would take keys
/// that it does not know.)
macro_rules! with_http {
    ($visible:vis struct $name:ident { $($field:ident: $kind:ty,)* }) => {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        $visible struct $name {
            $(pub $field: $kind,)*
            pub basic_auth: Option<$crate::config::raw::BasicAuth>,
            pub authorization: Option<$crate::config::raw::Authorization>,
            pub oauth2: Option<$crate::config::raw::OAuth2>,
            pub bearer_token: Option<String>,
            pub bearer_token_file: Option<std::path::PathBuf>,
            pub tls_config: Option<$crate::config::raw::TlsConfig>,
            pub proxy_url: Option<String>,
            pub no_proxy: Option<String>,
            pub proxy_from_environment: Option<bool>,
            pub proxy_connect_header: Option<std::collections::BTreeMap<String, Vec<String>>>,
            pub follow_redirects: Option<bool>,
            pub enable_http2: Option<bool>,
            pub http_headers:
                Option<std::collections::BTreeMap<String, $crate::config::raw::HeaderValues>>,
        }

        impl $name {
            /// Takes out what concerns HTTP.
            pub fn take_http(&mut self) -> $crate::config::raw::Http {
                $crate::config::raw::Http {
                    basic_auth: self.basic_auth.take(),
                    authorization: self.authorization.take(),
                    oauth2: self.oauth2.take(),
                    bearer_token: self.bearer_token.take(),
                    bearer_token_file: self.bearer_token_file.take(),
                    tls_config: self.tls_config.take(),
                    proxy_url: self.proxy_url.take(),
                    no_proxy: self.no_proxy.take(),
                    proxy_from_environment: self.proxy_from_environment.take(),
                    proxy_connect_header: self.proxy_connect_header.take(),
                    follow_redirects: self.follow_redirects.take(),
                    enable_http2: self.enable_http2.take(),
                    http_headers: self.http_headers.take(),
                }
            }
        }
    };
}
pub(super) use with_http;

#[derive(Default)]
pub(in crate::config) struct Http {
    pub basic_auth: Option<BasicAuth>,
    pub authorization: Option<Authorization>,
    pub oauth2: Option<OAuth2>,
    pub bearer_token: Option<String>,
    pub bearer_token_file: Option<PathBuf>,
    pub tls_config: Option<TlsConfig>,
    pub proxy_url: Option<String>,
    pub no_proxy: Option<String>,
    pub proxy_from_environment: Option<bool>,
    pub proxy_connect_header: Option<BTreeMap<String, Vec<String>>>,
    pub follow_redirects: Option<bool>,
    pub enable_http2: Option<bool>,
    pub http_headers: Option<BTreeMap<String, HeaderValues>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct BasicAuth {
    pub username: Option<String>,
    pub username_file: Option<PathBuf>,
    pub password: Option<String>,
    pub password_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Authorization {
    #[serde(rename = "type")]
    pub scheme: Option<String>,
    pub credentials: Option<String>,
    pub credentials_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct OAuth2 {
    pub client_id: Option<String>,
    pub client_secret: Option<String>,
    pub client_secret_file: Option<PathBuf>,
    pub scopes: Option<Vec<String>>,
    pub token_url: Option<String>,
    pub endpoint_params: Option<BTreeMap<String, String>>,
    pub tls_config: Option<TlsConfig>,
    pub proxy_url: Option<String>,
    pub no_proxy: Option<String>,
    pub proxy_from_environment: Option<bool>,
    pub proxy_connect_header: Option<BTreeMap<String, Vec<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct TlsConfig {
    pub ca: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub cert: Option<String>,
    pub cert_file: Option<PathBuf>,
    pub key: Option<String>,
    pub key_file: Option<PathBuf>,
    pub server_name: Option<String>,
    pub insecure_skip_verify: Option<bool>,
    pub min_version: Option<String>,
    pub max_version: Option<String>,
}

/// The values of one header, given in place or in files.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct HeaderValues {
    pub values: Option<Vec<String>>,
    pub secrets: Option<Vec<String>>,
    pub files: Option<Vec<PathBuf>>,
}
