//! The keys of the configuration file as rows: the reference is generated from them, and a test holds them
//! against what the reader of the file takes.

mod discovery;
mod http;
mod jobs;
mod remote_write;

pub use http::{HTTP_KEYS, HTTP_SECTIONS};

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

/// Every key that a file may hold, in tables, without those of HTTP and of relabelling, which several sections share.
pub static KEYS: &[&[Key]] = &[
    jobs::GLOBAL,
    HOST,
    remote_write::KEYS,
    jobs::KEYS,
    discovery::KEYS,
    PROM_SCRAPER,
    TARGET_API,
    NO_EFFECT,
];

/// The keys of a relabelling rule, behind the path of each of [`RELABEL_SECTIONS`].
pub static RELABEL_KEYS: &[Key] = &[
    key("source_labels", "list of names", "", "Labels whose values are joined; a missing one is empty."),
    key("separator", "text", "`;`", "Put between the values."),
    key(
        "regex",
        "expression of RE2",
        "`(.*)`",
        "What the values (or, for the actions on names, each name) must match as a whole.",
    ),
    key("modulus", "number", "", "For `hashmod`: how many remainders there are."),
    key("target_label", "name", "", "The label that is written; for `replace` it may hold `$1`."),
    key(
        "replacement",
        "text",
        "`$1`",
        "What is written; `$1`, `${1}` and `${name}` stand for groups of the regex.",
    ),
    key(
        "action",
        "`replace`, `keep`, `drop`, `keepequal`, `dropequal`, `hashmod`, `labelmap`, `labeldrop`, `labelkeep`, `lowercase`, `uppercase`",
        "`replace`",
        "What the rule does.",
    ),
];

/// Lists of relabelling rules.
pub static RELABEL_SECTIONS: &[&str] = &[
    "remote_write[].write_relabel_configs[]",
    "scrape_configs[].relabel_configs[]",
    "scrape_configs[].metric_relabel_configs[]",
];

const HOST: &[Key] = &[
    key("host.scrape_interval", "duration", "`global.scrape_interval`", "The same, for this host alone."),
    key("host.job_name", "text", "`node`", "The label `job` of what this host pushes."),
    key("host.instance", "text", "the host's name", "The label `instance`."),
    key("host.labels", "map of labels", "", "More labels for what this host pushes."),
    key(
        "host.ebpf",
        "map of probe to true or false",
        "the flags `--ebpf.*`",
        "Kernel probes that are loaded at start, or not; `--no-ebpf` loads none all the same.",
    ),
];

const TARGET_API: &[Key] = &[
    key(
        "target_api.job_name",
        "text",
        "`scrape_targets`",
        "The job of the targets that are posted to `/v1/scrape_targets`.",
    ),
    key(
        "target_api.scrape_interval",
        "duration",
        "`global.scrape_interval`",
        "How often targets are scraped that do not say it.",
    ),
    key(
        "target_api.honor_labels",
        "true or false",
        "false",
        "Let the labels of a page win over those of its target.",
    ),
    key(
        "target_api.bearer_token_file",
        "file",
        "",
        "Has the token that requests must bear. Without it the web configuration must ask for users or verified client certificates.",
    ),
];

const PROM_SCRAPER: &[Key] = &[
    key(
        "prom_scraper.config_globs",
        "list of patterns",
        "`$CONFIG_GLOBS`",
        "Files of Cloud Foundry's prom_scraper, of which each names one target on this host; read again when they change.",
    ),
    key(
        "prom_scraper.scrape_interval",
        "duration",
        "`$SCRAPE_INTERVAL`, else 15s",
        "How often targets are scraped whose file does not say it.",
    ),
    key(
        "prom_scraper.default_source_id",
        "text",
        "`$DEFAULT_SOURCE_ID`",
        "The label `source_id` of targets whose file does not say it.",
    ),
    key(
        "prom_scraper.cert_path",
        "file",
        "`$SCRAPE_CERT_PATH`",
        "Client certificate, unless a file names its own.",
    ),
    key("prom_scraper.key_path", "file", "`$SCRAPE_KEY_PATH`", "Its private key."),
    key(
        "prom_scraper.ca_path",
        "file",
        "`$SCRAPE_CA_CERT_PATH`",
        "Who may have signed the certificates of targets.",
    ),
    key(
        "prom_scraper.skip_ssl_validation",
        "true or false",
        "`$SKIP_SSL_VALIDATION`",
        "Take any certificate.",
    ),
];

const NO_EFFECT: &[Key] = &[
    key(
        "rule_files",
        "anything",
        "",
        "Taken with a warning, and without effect: no rules are evaluated here.",
    ),
    key("alerting", "anything", "", "Taken with a warning, and without effect: no alerts are made here."),
    key("storage", "anything", "", "Taken with a warning, and without effect: samples are not stored here."),
    key("remote_read", "anything", "", "Taken with a warning, and without effect: nothing is queried here."),
    key(
        "runtime",
        "anything",
        "",
        "Taken with a warning, and without effect: it speaks of Go's garbage collector.",
    ),
];

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
