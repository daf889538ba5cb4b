//! How the API is reached: as the job says, by a kubeconfig file, or by the service account of the pod around us.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde::Deserialize;

use crate::client::Client;
use crate::config::{
    Authorization, HttpSettings, KubernetesApi, KubernetesSd, Proxy, Secret, TlsSettings, parse_yaml,
};

const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

pub(super) struct Api {
    pub client: Client,
    /// Scheme, host and what goes before the paths.
    pub server: String,
    /// Our own.
    pub namespace: Option<String>,
}

impl Api {
    pub(super) fn connect(config: &KubernetesSd) -> Result<Self, String> {
        let (server, http, namespace) = match &config.api {
            KubernetesApi::Server(server) => (server.clone(), config.http.clone(), None),
            KubernetesApi::InCluster => in_cluster(&config.http)?,
            KubernetesApi::Kubeconfig(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
                let folder = path.parent().unwrap_or(Path::new(""));
                kubeconfig(&text, folder, &config.http).map_err(|why| format!("{}: {why}", path.display()))?
            }
        };
        Ok(Api { client: Client::new(&http)?, server: server.trim_end_matches('/').to_owned(), namespace })
    }
}

type Found = (String, HttpSettings, Option<String>);

fn bearer(credentials: Secret) -> Authorization {
    Authorization::Header { scheme: "Bearer".to_owned(), credentials }
}

fn in_cluster(base: &HttpSettings) -> Result<Found, String> {
    let variable = |name: &str| {
        std::env::var(name).map_err(|_| {
            format!(
                "{name} is not set: outside of a cluster api_server or kubeconfig_file must say where it is"
            )
        })
    };
    let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
    let file = |name: &str| Path::new(SERVICE_ACCOUNT).join(name);
    let mut http = base.clone();
    http.authorization = Some(bearer(Secret::File(file("token"))));
    http.tls.ca = Some(Secret::File(file("ca.crt")));
    let namespace = std::fs::read_to_string(file("namespace")).ok().map(|text| text.trim().to_owned());
    Ok((format!("https://{}", crate::sources::scrape::discovery::docker::join(&host, port)), http, namespace))
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    current_context: Option<String>,
    contexts: Option<Vec<Named<Context>>>,
    clusters: Option<Vec<Named<Cluster>>>,
    users: Option<Vec<Named<User>>>,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "context", alias = "cluster", alias = "user")]
    value: T,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: Option<String>,
    namespace: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    insecure_skip_tls_verify: Option<bool>,
    tls_server_name: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
struct User {
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    username: Option<String>,
    password: Option<String>,
    exec: Option<serde::de::IgnoredAny>,
    auth_provider: Option<serde::de::IgnoredAny>,
}

fn named<T>(list: Option<Vec<Named<T>>>, what: &str, name: &str) -> Result<T, String> {
    let found = list.unwrap_or_default().into_iter().find(|entry| entry.name == name);
    found.map(|entry| entry.value).ok_or_else(|| format!("there is no {what} named {name:?}"))
}

fn secret(data: Option<String>, file: Option<PathBuf>, folder: &Path) -> Result<Option<Secret>, String> {
    if let Some(data) = data {
        let bytes = base64::engine::general_purpose::STANDARD.decode(data.trim());
        let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        return text
            .map(|text| Some(Secret::Inline(text)))
            .ok_or_else(|| "data that is not base64 of PEM".to_owned());
    }
    Ok(file.map(|file| Secret::File(folder.join(file))))
}

fn kubeconfig(text: &str, folder: &Path, base: &HttpSettings) -> Result<Found, String> {
    let file: Kubeconfig = parse_yaml(text).map_err(|error| error.to_string())?;
    let current = file.current_context.ok_or("current-context is missing")?;
    let context = named(file.contexts, "context", &current)?;
    let cluster = named(file.clusters, "cluster", &context.cluster)?;
    let user = match &context.user {
        Some(name) => named(file.users, "user", name)?,
        None => User::default(),
    };
    if user.exec.is_some() || user.auth_provider.is_some() {
        return Err("users by exec or auth-provider are not supported: give a token or a client certificate"
            .to_owned());
    }
    let mut http = base.clone();
    http.tls = TlsSettings {
        ca: secret(cluster.certificate_authority_data, cluster.certificate_authority, folder)?,
        cert: secret(user.client_certificate_data, user.client_certificate, folder)?,
        key: secret(user.client_key_data, user.client_key, folder)?,
        server_name: cluster.tls_server_name,
        insecure_skip_verify: cluster.insecure_skip_tls_verify.unwrap_or(false),
        ..TlsSettings::default()
    };
    http.authorization = match (user.token_file, user.token, user.username) {
        (Some(file), _, _) => Some(bearer(Secret::File(folder.join(file)))),
        (None, Some(token), _) => Some(bearer(Secret::Inline(token))),
        (None, None, Some(username)) => Some(Authorization::Basic {
            username: Secret::Inline(username),
            password: Secret::Inline(user.password.unwrap_or_default()),
        }),
        (None, None, None) => None,
    };
    if let Some(url) = cluster.proxy_url {
        http.proxy = Proxy::Url { url, no_proxy: String::new(), connect_headers: Vec::new() };
    }
    Ok((cluster.server, http, context.namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_says_where_and_who() {
        let text = "
current-context: b
contexts:
- {name: a, context: {cluster: x, user: y}}
- {name: b, context: {cluster: c, user: u, namespace: n}}
clusters:
- {name: c, cluster: {server: 'https://k:6443', certificate-authority: ca.pem, tls-server-name: s}}
users:
- {name: u, user: {tokenFile: t, client-certificate-data: UEVN, client-key: k.pem}}
";
        let (server, http, namespace) = kubeconfig(text, Path::new("/f"), &HttpSettings::default()).unwrap();
        assert_eq!((server.as_str(), namespace.as_deref()), ("https://k:6443", Some("n")));
        assert_eq!(http.authorization, Some(bearer(Secret::File("/f/t".into()))));
        assert_eq!(http.tls.ca, Some(Secret::File("/f/ca.pem".into())));
        assert_eq!(http.tls.cert, Some(Secret::Inline("PEM".into())));
        for (from, to, why) in [
            ("context: b", "context: z", "no context named \"z\""),
            ("cluster: c, ", "cluster: z, ", "no cluster named \"z\""),
            ("tokenFile: t", "exec: {command: x}", "users by exec"),
            ("UEVN", "'*'", "not base64"),
            ("current-context: b", "", "current-context is missing"),
        ] {
            let error = kubeconfig(&text.replace(from, to), Path::new(""), &HttpSettings::default());
            assert!(error.as_ref().is_err_and(|error| error.contains(why)), "{error:?}");
        }
    }
}
