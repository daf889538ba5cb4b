//! Rows of outgoing HTTP.

use super::{Key, key};

/// Sections that have [`HTTP_KEYS`] among their own.
pub static HTTP_SECTIONS: &[&str] = &[
    "remote_write[]",
    "scrape_configs[]",
    "scrape_configs[].http_sd_configs[]",
    "scrape_configs[].docker_sd_configs[]",
    "scrape_configs[].consul_sd_configs[]",
    "scrape_configs[].kubernetes_sd_configs[]",
];

/// The keys of outgoing HTTP, behind the path of each of [`HTTP_SECTIONS`]. Those of TLS and of proxies hold for
/// `oauth2` too.
pub static HTTP_KEYS: &[Key] = &[
    key("basic_auth.username", "text", "", "User name."),
    key("basic_auth.username_file", "file", "", "The same from a file, read for each request."),
    key("basic_auth.password", "text", "", "Password."),
    key("basic_auth.password_file", "file", "", "The same from a file, read for each request."),
    key("authorization.type", "text", "`Bearer`", "First word of the header `Authorization`."),
    key("authorization.credentials", "text", "", "The rest of it."),
    key("authorization.credentials_file", "file", "", "The same from a file, read for each request."),
    key("bearer_token", "text", "", "Short for `authorization.credentials`."),
    key("bearer_token_file", "file", "", "Short for `authorization.credentials_file`."),
    key("tls_config.ca", "PEM", "the system's roots", "Who may have signed the server's certificate."),
    key("tls_config.ca_file", "file", "", "The same from a file."),
    key("tls_config.cert", "PEM", "", "Client certificate."),
    key("tls_config.cert_file", "file", "", "The same from a file."),
    key("tls_config.key", "PEM", "", "Its private key."),
    key("tls_config.key_file", "file", "", "The same from a file."),
    key("tls_config.server_name", "text", "host of the URL", "Name that the certificate must be for."),
    key("tls_config.insecure_skip_verify", "true or false", "false", "Take any certificate."),
    key("tls_config.min_version", "`TLS12` or `TLS13`", "`TLS12`", "Oldest version of TLS."),
    key("tls_config.max_version", "`TLS12` or `TLS13`", "`TLS13`", "Newest version of TLS."),
    key("enable_http2", "true or false", "true", "Offer HTTP/2 over TLS."),
    key("oauth2.client_id", "text", "required", "Who asks for a token."),
    key("oauth2.client_secret", "text", "", "The secret of the client."),
    key("oauth2.client_secret_file", "file", "", "The same from a file."),
    key("oauth2.scopes", "list of texts", "", "What the token shall allow."),
    key("oauth2.token_url", "URL", "required", "Where tokens are had."),
    key("oauth2.endpoint_params", "map", "", "More parameters of the request for a token."),
    key("proxy_url", "URL", "", "Proxy that requests go through."),
    key("no_proxy", "list with commas", "", "Hosts, domains and networks that are asked without a proxy."),
    key(
        "proxy_from_environment",
        "true or false",
        "false",
        "Take the proxy from HTTP_PROXY, HTTPS_PROXY and NO_PROXY.",
    ),
    key("proxy_connect_header", "map of lists", "", "Headers for a proxy that is asked to connect."),
    key("follow_redirects", "true or false", "true", "Go where an answer sends us."),
    key("http_headers", "map", "", "More headers: for each name the lists `values`, `secrets` and `files`."),
];
