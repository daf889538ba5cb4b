//! The rows against what the reader of the file says that it takes.

use super::*;

/// What the reader of the file says it takes at this place.
fn taken_at(yaml: &str) -> Vec<String> {
    let text = yaml.replace('@', "no_such_key: 1");
    let error = serde_norway::from_str::<crate::config::raw::Config>(&text).err().expect("an unknown key");
    let message = error.to_string();
    let quoted = message.split("unknown field `").nth(1).unwrap_or_else(|| panic!("{yaml}: {message}"));
    let mut quoted = quoted.split('`').skip(2);
    let mut keys = Vec::new();
    while let Some(key) = quoted.next() {
        keys.push(key.to_owned());
        quoted.next();
    }
    keys
}

/// A file that holds nothing but the section at this path, with `@` where its keys are.
fn file_with(path: &str) -> String {
    path.split('.').rev().fold("{@}".to_owned(), |inner, part| match part.strip_suffix("[]") {
        Some("remote_write") => format!("{{remote_write: [{{url: x, {}]}}", &inner[1..]),
        Some("scrape_configs") => format!("{{scrape_configs: [{{job_name: x, {}]}}", &inner[1..]),
        Some("filters") => format!("{{filters: [{{name: x, {}]}}", &inner[1..]),
        Some(list) => format!("{{{list}: [{inner}]}}"),
        None => format!("{{{part}: {inner}}}"),
    })
}

#[test]
fn the_rows_are_what_the_file_may_hold() {
    let http = HTTP_SECTIONS.iter().flat_map(|section| HTTP_KEYS.iter().map(move |key| (section, key)));
    let rules =
        RELABEL_SECTIONS.iter().flat_map(|section| RELABEL_KEYS.iter().map(move |key| (section, key)));
    let mut rows: Vec<String> =
        KEYS.iter().flat_map(|table| table.iter()).map(|key| key.path.to_owned()).collect();
    rows.extend(http.chain(rules).map(|(section, key)| format!("{section}.{}", key.path)));
    let mut sections: Vec<String> = Vec::new();
    for row in &rows {
        let mut path = row.as_str();
        while let Some((section, _)) = path.rsplit_once('.') {
            sections.push(section.to_owned());
            path = section;
        }
    }
    sections.sort();
    sections.dedup();
    let mut taken: Vec<String> = taken_at("{@}");
    for section in &sections {
        let shared = section.ends_with(".oauth2");
        let known = |key: &String| !shared || !(key == "tls_config" || key.contains("proxy"));
        taken.extend(
            taken_at(&file_with(section)).into_iter().filter(known).map(|key| format!("{section}.{key}")),
        );
    }
    let is_section = |key: &String| sections.iter().any(|section| section.trim_end_matches("[]") == key);
    taken.retain(|key| !is_section(key));
    taken.sort();
    rows.sort();
    assert_eq!(rows, taken);
}

/// A value of the wrong kind at every key, and what is said of it: read the fixture when it changes.
#[test]
fn a_wrong_kind_at_every_key_is_refused() {
    let mut written = String::new();
    let http = HTTP_KEYS.iter().map(|key| (format!("scrape_configs[].{}", key.path), key.kind));
    let rules = RELABEL_KEYS.iter().map(|key| (format!("{}.{}", RELABEL_SECTIONS[1], key.path), key.kind));
    let rows = KEYS.iter().flat_map(|table| table.iter()).map(|key| (key.path.to_owned(), key.kind));
    for (path, kind) in rows.chain(http).chain(rules).filter(|(_, kind)| *kind != "anything") {
        let (section, key) = path.rsplit_once('.').unwrap_or(("", &path));
        let wrong = if kind.starts_with("list") || kind.starts_with("map") { "7" } else { "[[x]]" };
        let entry = format!("{key}: {wrong}");
        let mut text =
            if section.is_empty() { format!("{{{entry}}}") } else { file_with(section).replace('@', &entry) };
        for needed in ["url: x, url:", "job_name: x, job_name:", "name: x, name:"] {
            let own = needed.rsplit_once(' ').map_or("", |(_, own)| own);
            text = text.replace(needed, own);
        }
        let result = crate::config::parse_config(&text, std::path::Path::new("c.yml"));
        let message = result.err().unwrap_or_else(|| panic!("{text} is taken")).to_string();
        written.push_str(&format!("{path}\n    {message}\n"));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/config/wrong_kinds.txt");
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(path, &written).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    for (got, expected) in written.lines().zip(expected.lines()) {
        assert_eq!(got, expected);
    }
    assert_eq!(written, expected, "UPDATE_FIXTURES=1 writes it anew");
}
