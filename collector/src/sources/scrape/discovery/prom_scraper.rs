//! The files of Cloud Foundry's prom_scraper: each names one target on this host, with certificates of its own
//! if it says so. Read again when they change; one that is wrong costs itself alone.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::file::Files;
use super::provider::Updates;
use crate::config::PromScraper;
use crate::sources::scrape::target::TargetGroup;

const LOOK_EVERY: Duration = Duration::from_secs(5);

pub(super) async fn run(config: PromScraper, out: Updates) {
    let mut files = Files::default();
    let mut first = true;
    loop {
        let (job, failed) = (config.clone(), out.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let complain = |path: &Path, why: &str| failed.failed(&path.to_string_lossy(), why);
            let changed = files.look(&job.globs, false, |path, text| parse(&job, path, text), complain);
            (files, changed)
        });
        let Ok((back, changed)) = looked.await else { return };
        files = back;
        if changed || first {
            out.replace_all(files.contents().flatten().cloned());
        }
        first = false;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// `None` for a file that asks not to be scraped.
fn parse(config: &PromScraper, path: &Path, text: &str) -> Result<Option<TargetGroup>, String> {
    let file = config.parse_file(text)?;
    Ok(file.map(|file| TargetGroup {
        source: path.to_string_lossy().into_owned(),
        targets: vec![file.labels],
        labels: vec![("__meta_filepath".to_owned(), path.to_string_lossy().into_owned())],
        http: (file.http != config.http).then(|| Arc::new(file.http)),
    }))
}
