//! The keys of the configuration file as rows: the reference is generated from them, and a test holds them
//! against what the reader of the file takes.

/// A key, by its path from the top; `[]` stands for each entry of a list.
pub struct Key {
    pub path: &'static str,
    /// What it takes.
    pub kind: &'static str,
    /// What it is when it is not given.
    pub default: &'static str,
    pub help: &'static str,
}

const fn key(path: &'static str, kind: &'static str, default: &'static str, help: &'static str) -> Key {
    Key { path, kind, default, help }
}

/// Every key that a file may hold.
pub static KEYS: &[Key] = &[
    key("global.scrape_interval", "duration", "1m", "How often the host is read for pushing."),
    key(
        "global.external_labels",
        "map of labels",
        "",
        "Added to every series that is pushed and lacks them; `$NAME` and `${NAME}` stand for variables of the environment.",
    ),
    key("host.scrape_interval", "duration", "`global.scrape_interval`", "The same, for this host alone."),
    key("host.job_name", "text", "`node`", "The label `job` of what this host pushes."),
    key("host.instance", "text", "the host's name", "The label `instance`."),
    key("host.labels", "map of labels", "", "More labels for what this host pushes."),
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
        "remote_write[].send_native_histograms",
        "true or false",
        "true for 2.0",
        "Send histograms in their native form instead of their classic one. Where they are disabled, the classic one goes.",
    ),
    key("remote_write[].basic_auth.username", "text", "", "User name."),
    key(
        "remote_write[].basic_auth.username_file",
        "file",
        "",
        "The same from a file, read for each request.",
    ),
    key("remote_write[].basic_auth.password", "text", "", "Password."),
    key(
        "remote_write[].basic_auth.password_file",
        "file",
        "",
        "The same from a file, read for each request.",
    ),
    key("remote_write[].authorization.type", "text", "`Bearer`", "First word of the header `Authorization`."),
    key("remote_write[].authorization.credentials", "text", "", "The rest of it."),
    key(
        "remote_write[].authorization.credentials_file",
        "file",
        "",
        "The same from a file, read for each request.",
    ),
    key("remote_write[].bearer_token", "text", "", "Short for `authorization.credentials`."),
    key("remote_write[].bearer_token_file", "file", "", "Short for `authorization.credentials_file`."),
    key(
        "remote_write[].tls_config.ca",
        "PEM",
        "the system's roots",
        "Who may have signed the server's certificate.",
    ),
    key("remote_write[].tls_config.ca_file", "file", "", "The same from a file."),
    key("remote_write[].tls_config.cert", "PEM", "", "Client certificate."),
    key("remote_write[].tls_config.cert_file", "file", "", "The same from a file."),
    key("remote_write[].tls_config.key", "PEM", "", "Its private key."),
    key("remote_write[].tls_config.key_file", "file", "", "The same from a file."),
    key(
        "remote_write[].tls_config.server_name",
        "text",
        "host of the URL",
        "Name that the certificate must be for.",
    ),
    key("remote_write[].tls_config.insecure_skip_verify", "true or false", "false", "Take any certificate."),
    key("remote_write[].tls_config.min_version", "`TLS12` or `TLS13`", "`TLS12`", "Oldest version of TLS."),
    key("remote_write[].tls_config.max_version", "`TLS12` or `TLS13`", "`TLS13`", "Newest version of TLS."),
    key("remote_write[].enable_http2", "true or false", "true", "Offer HTTP/2 over TLS."),
    key(
        "remote_write[].queue_config.capacity",
        "number",
        "",
        "Taken for compatibility: the batch log is the queue.",
    ),
    key("remote_write[].queue_config.max_shards", "number", "", "Taken for compatibility."),
    key("remote_write[].queue_config.min_shards", "number", "", "Taken for compatibility."),
    key(
        "remote_write[].queue_config.max_samples_per_send",
        "number",
        "2000",
        "Samples in one request; a larger batch of one source goes alone.",
    ),
    key(
        "remote_write[].queue_config.batch_send_deadline",
        "duration",
        "5s",
        "Wait for more samples at the most. Ours never waits longer than 100ms.",
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
];

#[cfg(test)]
mod tests {
    use super::*;

    /// What the reader of the file says it takes at this place.
    fn taken_at(yaml: &str) -> Vec<String> {
        let text = yaml.replace('@', "no_such_key: 1");
        let error =
            serde_norway::from_str::<crate::config::raw::Config>(&text).err().expect("an unknown key");
        let message = error.to_string();
        let mut quoted = message.split("unknown field `").nth(1).expect("an unknown key").split('`').skip(2);
        let mut keys = Vec::new();
        while let Some(key) = quoted.next() {
            keys.push(key.to_owned());
            quoted.next();
        }
        keys
    }

    #[test]
    fn the_rows_are_what_the_file_may_hold() {
        let nested = ["basic_auth", "authorization", "tls_config", "queue_config"];
        let mut taken = Vec::new();
        let mut add = |prefix: &str, keys: Vec<String>| {
            let own = keys.into_iter().filter(|key| !nested.contains(&key.as_str()));
            taken.extend(own.map(|key| format!("{prefix}{key}")));
        };
        assert_eq!(taken_at("@"), ["global", "host", "remote_write"]);
        add("global.", taken_at("global: {@}"));
        add("host.", taken_at("host: {@}"));
        add("remote_write[].", taken_at("remote_write: [{@}]"));
        for section in nested {
            let yaml = format!("remote_write: [{{url: x, {section}: {{@}}}}]");
            add(&format!("remote_write[].{section}."), taken_at(&yaml));
        }
        taken.sort();
        let mut rows: Vec<&str> = KEYS.iter().map(|key| key.path).collect();
        rows.sort_unstable();
        assert_eq!(rows, taken);
    }
}
