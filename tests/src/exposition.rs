//! A reader of the text format 0.0.4 that shares no code with the collector: strict, slow and simple.

use std::collections::BTreeMap;

/// A page of metrics.
#[derive(Debug, Default)]
pub struct Page {
    /// Type of each family.
    pub types: BTreeMap<String, String>,
    pub samples: Vec<Sample>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Page {
    /// The value of the one sample of that name that has all of these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(name, value)| sample.labels.get(*name).is_some_and(|v| v == value))
        };
        let mut found = self.samples.iter().filter(has);
        let value = found.next()?.value;
        found.next().is_none().then_some(value)
    }

    /// Every `name{labels}`, as one text each.
    pub fn series(&self) -> Vec<String> {
        self.samples.iter().map(|sample| format!("{}{:?}", sample.name, sample.labels)).collect()
    }
}

/// # Errors
/// The line that is wrong.
pub fn parse(text: &str) -> Result<Page, String> {
    let mut page = Page::default();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| format!("no type: {line}"))?;
            if page.types.insert(name.to_owned(), kind.to_owned()).is_some() {
                return Err(format!("a second type: {line}"));
            }
        } else if !line.starts_with('#') && !line.is_empty() {
            let sample = parse_sample(line).ok_or_else(|| format!("no sample: {line}"))?;
            page.samples.push(sample);
        }
    }
    let series: std::collections::BTreeSet<String> = page.series().into_iter().collect();
    if series.len() != page.samples.len() {
        return Err("a series stands there twice".into());
    }
    Ok(page)
}

fn parse_sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, mut rest) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.insert(label.to_owned(), value);
        rest = after[end + 1..].strip_prefix(',').unwrap_or(&after[end + 1..]);
    }
    let value = match value {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        number => number.parse().ok()?,
    };
    Some(Sample { name: name.to_owned(), labels, value })
}
