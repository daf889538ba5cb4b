//! A page of a real target, as it was scraped several times: `COLLECTOR_PAGE` of the bench `encode`.

use std::collections::HashMap;

use collector::model::Kind;
use collector_tests::made::Series;

use crate::page::{Motion, Page};

/// A page of the text format, as it was at one tick after the other. Series that the first does not have are left out.
pub fn parse_pages(texts: &[String]) -> Page {
    let later: Vec<HashMap<&str, f64>> =
        texts[1..].iter().map(|text| text.lines().filter_map(parse_line).collect()).collect();
    let mut series = Vec::new();
    let mut kind = Kind::Untyped;
    for line in texts[0].lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            kind = match rest.split(' ').nth(1) {
                Some("counter") => Kind::Counter,
                Some("gauge") => Kind::Gauge,
                Some("histogram") => Kind::Histogram,
                Some("summary") => Kind::Summary,
                _ => Kind::Untyped,
            };
        }
        let Some((key, first)) = parse_line(line) else { continue };
        let (name, labels) = key.split_once('{').unwrap_or((key, ""));
        let labels: Vec<(&str, &str)> = labels
            .trim_end_matches('}')
            .split("\",")
            .filter_map(|label| label.split_once("=\""))
            .map(|(name, value)| (name, value.trim_end_matches('"')))
            .collect();
        let mut values = vec![first];
        values.extend(later.iter().map_while(|page| page.get(key)));
        values.reverse();
        series.push((Series::gauge(name, &labels).kind(kind), Motion::Recorded(values)));
    }
    Page::of("page", series)
}

/// Name and labels of a sample as they stand there, and its value.
fn parse_line(line: &str) -> Option<(&str, f64)> {
    let (key, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
    Some((key, value.parse().unwrap_or(f64::NAN)))
}
