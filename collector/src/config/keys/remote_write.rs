//! Rows of `remote_write`.

use super::{Key, key};

pub(super) const KEYS: &[Key] = &[
    key("remote_write[].url", "URL", "required", "Where requests are sent: http or https."),
    key(
        "remote_write[].name",
        "text",
        "follows from the URL",
        "Names the endpoint in metrics, logs and the batch log. Its place in the log goes with the name.",
    ),
    key("remote_write[].remote_timeout", "duration", "30s", "Time for one request and its answer."),
    key(
        "remote_write[].headers",
        "map",
        "",
        "More headers, such as `X-Scope-OrgID`; not those of the protocol.",
    ),
    key(
        "remote_write[].protobuf_message",
        "`prometheus.WriteRequest` or `io.prometheus.write.v2.Request`",
        "`prometheus.WriteRequest`",
        "Remote write 1.0 or 2.0. A receiver that does not know 2.0 gets 1.0.",
    ),
    key(
        "remote_write[].send_exemplars",
        "true or false",
        "false",
        "Send the exemplars of scraped targets along.",
    ),
    key(
        "remote_write[].send_native_histograms",
        "true or false",
        "true for 2.0",
        "Send histograms in their native form instead of their classic one. Where they are disabled, the classic one goes.",
    ),
    key(
        "remote_write[].newest_first",
        "true or false",
        "false",
        "After an outage (more than 131072 samples behind) send what is new at once, and the backlog beside it. \
         For receivers that take samples out of order: those of a series come so. Prometheus has no such key.",
    ),
    key(
        "remote_write[].queue_config.capacity",
        "number",
        "10000",
        "Shown as `prometheus_remote_storage_shard_capacity`, and without effect: the batch log is the queue.",
    ),
    key(
        "remote_write[].queue_config.max_shards",
        "number",
        "50",
        "Requests under way at once at the most, up to 64. There is one while answers are fast.",
    ),
    key(
        "remote_write[].queue_config.min_shards",
        "number",
        "1",
        "Requests that may be under way at once at any time.",
    ),
    key(
        "remote_write[].queue_config.max_samples_per_send",
        "number",
        "10000; 2000 in 2.0",
        "Samples in one request at the most.",
    ),
    key(
        "remote_write[].queue_config.batch_send_deadline",
        "duration",
        "5s",
        "How long less than a full request waits behind those under way. With none under way it waits 100ms for more.",
    ),
    key(
        "remote_write[].queue_config.min_backoff",
        "duration",
        "30ms",
        "First wait before a request is sent again; it doubles each time.",
    ),
    key(
        "remote_write[].queue_config.max_backoff",
        "duration",
        "5s",
        "Longest wait, unless `Retry-After` asks for a longer one (up to 10m).",
    ),
    key(
        "remote_write[].queue_config.retry_on_http_429",
        "true or false",
        "true",
        "Send again what was refused as too much.",
    ),
    key(
        "remote_write[].queue_config.sample_age_limit",
        "duration",
        "no limit",
        "Drop samples that are older when their turn comes.",
    ),
    key(
        "remote_write[].metadata_config.send",
        "true or false",
        "true",
        "Send type, help and unit of families in requests of their own. In 2.0 each series has its type anyway; help \
         and unit go along with the first series of a family in an interval.",
    ),
    key(
        "remote_write[].metadata_config.send_interval",
        "duration",
        "1m; 5m in 2.0",
        "How often all of it is sent.",
    ),
    key(
        "remote_write[].metadata_config.max_samples_per_send",
        "number",
        "2000",
        "Families in one request, in 1.0.",
    ),
    key("remote_write[].sigv4.region", "text", "`$AWS_REGION`", "Sign requests for AWS in this region."),
    key("remote_write[].sigv4.access_key", "text", "`$AWS_ACCESS_KEY_ID`", "Who signs."),
    key("remote_write[].sigv4.secret_key", "text", "`$AWS_SECRET_ACCESS_KEY`", "The key to it."),
    key(
        "remote_write[].sigv4.profile",
        "text",
        "`$AWS_PROFILE`, else default",
        "The profile of the shared credentials file that has the keys, where none are given.",
    ),
    key(
        "remote_write[].sigv4.role_arn",
        "text",
        "",
        "The role that signs: the keys assume it at the token service (`$AWS_ENDPOINT_URL_STS`, else that of the region).",
    ),
    key("remote_write[].sigv4.external_id", "text", "", "What the role asks of who assumes it."),
    key(
        "remote_write[].azuread.cloud",
        "`AzurePublic`, `AzureChina` or `AzureGovernment`",
        "`AzurePublic`",
        "Fetch tokens of Azure in this cloud.",
    ),
    key("remote_write[].azuread.oauth.client_id", "text", "required", "The application that sends."),
    key("remote_write[].azuread.oauth.client_secret", "text", "required", "Its secret."),
    key("remote_write[].azuread.oauth.tenant_id", "text", "required", "The tenant that it belongs to."),
    key(
        "remote_write[].azuread.managed_identity.client_id",
        "text",
        "that of the machine",
        "The identity of a machine in Azure, instead of `oauth`: tokens come from the instance metadata service \
         (`$AZURE_POD_IDENTITY_AUTHORITY_HOST`, else 169.254.169.254).",
    ),
    key(
        "remote_write[].azuread.workload_identity.client_id",
        "text",
        "required",
        "The identity of a workload in Kubernetes, instead of `oauth`.",
    ),
    key(
        "remote_write[].azuread.workload_identity.tenant_id",
        "text",
        "required",
        "The tenant that it belongs to.",
    ),
    key(
        "remote_write[].azuread.workload_identity.token_file_path",
        "file",
        "`/var/run/secrets/azure/tokens/azure-identity-token`",
        "The token of Kubernetes that says so; it is read for each request.",
    ),
    key(
        "remote_write[].google_iam.credentials_file",
        "file",
        "`$GOOGLE_APPLICATION_CREDENTIALS`, else the machine's",
        "The key of a service account of Google. Without one the tokens come from the metadata server \
         (`$GCE_METADATA_HOST`).",
    ),
    key(
        "remote_write[].round_robin_dns",
        "true or false",
        "false",
        "Each connection goes to one of the addresses of the host's name, at random; else to the first that answers.",
    ),
];
