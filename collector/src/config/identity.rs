//! Who sends, where a cloud knows it: Azure by a client secret, by the machine or by a token of Kubernetes, Google by the
//! key of a service account or by the machine. What the clouds' own libraries take from the environment is taken from
//! there too.

use std::path::{Path, PathBuf};

use super::fault::{Fault, Resolved, fault, fault_at};
use super::raw;
use super::resolved::{Secret, TlsSettings};
use super::scrape::{OAuth2, Proxy};

/// Where Kubernetes puts the token of a workload.
const WORKLOAD_TOKEN: &str = "/var/run/secrets/azure/tokens/azure-identity-token";

/// Who the machine is, asked for over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Azure's instance metadata service at this URL, for tokens of `resource`.
    Azure { service: String, resource: String, client_id: Option<String> },
    /// The key of a service account, or Google's metadata server at this URL.
    Google { key: Option<PathBuf>, service: String },
}

/// What `azuread` comes to.
pub(super) enum Azure {
    OAuth2(Box<OAuth2>),
    Managed(Identity),
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

pub(super) fn resolve_azure(raw: raw::AzureAd, folder: &Path) -> Resolved<Azure> {
    let (login, monitor) = match raw.cloud.as_deref() {
        None | Some("AzurePublic") => ("login.microsoftonline.com", "monitor.azure.com"),
        Some("AzureChina") => ("login.chinacloudapi.cn", "monitor.azure.cn"),
        Some("AzureGovernment") => ("login.microsoftonline.us", "monitor.azure.us"),
        Some(other) => {
            let why = format!("{other:?} is neither AzurePublic nor AzureChina nor AzureGovernment");
            return fault_at("cloud", why);
        }
    };
    let given = [raw.oauth.is_some(), raw.managed_identity.is_some(), raw.workload_identity.is_some()];
    if given.iter().filter(|given| **given).count() != 1 {
        return fault("one of oauth, managed_identity and workload_identity must be given");
    }
    if let Some(managed) = raw.managed_identity {
        let service = variable("AZURE_POD_IDENTITY_AUTHORITY_HOST");
        let service = service.unwrap_or_else(|| "http://169.254.169.254".to_owned());
        let client_id = managed.client_id.filter(|id| !id.is_empty());
        return Ok(Azure::Managed(Identity::Azure {
            service,
            resource: format!("https://{monitor}/"),
            client_id,
        }));
    }
    let (key, client_id, tenant_id, client_secret, is_assertion) = match (raw.oauth, raw.workload_identity) {
        (Some(oauth), _) => {
            let secret = needed(oauth.client_secret, "oauth", "client_secret")?;
            ("oauth", oauth.client_id, oauth.tenant_id, Secret::Inline(secret), false)
        }
        (None, Some(workload)) => {
            let path = workload.token_file_path.unwrap_or_else(|| WORKLOAD_TOKEN.into());
            let secret = Secret::File(folder.join(path));
            ("workload_identity", workload.client_id, workload.tenant_id, secret, true)
        }
        (None, None) => return fault("one of them must be given"),
    };
    let tenant = needed(tenant_id, key, "tenant_id")?;
    if !tenant.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)) {
        return fault_at(&format!("{key}.tenant_id"), format!("{tenant:?} is no tenant"));
    }
    let login = variable("AZURE_AUTHORITY_HOST").unwrap_or_else(|| format!("https://{login}"));
    Ok(Azure::OAuth2(Box::new(OAuth2 {
        client_id: needed(client_id, key, "client_id")?,
        client_secret,
        is_assertion,
        scopes: vec![format!("https://{monitor}//.default")],
        token_url: format!("{}/{tenant}/oauth2/v2.0/token", login.trim_end_matches('/')),
        endpoint_params: Vec::new(),
        tls: TlsSettings::default(),
        proxy: Proxy::None,
    })))
}

fn needed(value: Option<String>, under: &str, key: &str) -> Resolved<String> {
    let value = value.filter(|text| !text.is_empty());
    value.ok_or_else(|| Fault::new(format!("{under}.{key}"), format!("{key} must be given")))
}

pub(super) fn resolve_google(raw: raw::GoogleIam, folder: &Path) -> Identity {
    let key = raw.credentials_file.map(|file| folder.join(file));
    let key = key.or_else(|| variable("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from));
    let host = variable("GCE_METADATA_HOST").unwrap_or_else(|| "metadata.google.internal".to_owned());
    Identity::Google { key, service: format!("http://{host}") }
}
