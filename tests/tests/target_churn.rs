//! Ten thousand targets that a file names come, change and go: what they took comes back, and no other job hears
//! of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use collector::config::parse_config;
use collector::self_metrics::DiscoveryStats;
use collector::sources::scrape::discovery::{Discovery, Update};
use collector_tests::allocation::{Counting, in_use, turn};
use tokio::sync::mpsc::Receiver;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TARGETS: usize = 10_000;
const ROUNDS: usize = 3;

fn write(file: &Path, targets: usize, label: &str) {
    let groups: Vec<String> = (0..targets)
        .map(|n| {
            format!("{{\"targets\": [\"host-{n}.example:9100\"], \"labels\": {{\"rack\": \"{label}\"}}}}")
        })
        .collect();
    let next = file.with_extension("next");
    std::fs::write(&next, format!("[{}]", groups.join(","))).unwrap();
    // All at once, as who generates such files does.
    std::fs::rename(next, file).unwrap();
}

/// The next update with so many targets of that label.
async fn until(updates: &mut Receiver<Update>, targets: usize, label: &str) {
    loop {
        let update = tokio::time::timeout(Duration::from_secs(120), updates.recv()).await;
        let update = update.expect("an update comes in time").expect("discovery runs");
        assert_eq!(update.job, "churning", "the other job hears nothing");
        let rack = ("rack".to_owned(), label.to_owned());
        let active = &update.targets.active;
        if active.len() == targets && active.iter().all(|target| target.labels.contains(&rack)) {
            return;
        }
    }
}

#[test]
fn memory_comes_back_when_targets_go() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.json");
    let text = format!(
        "scrape_configs:\n  - job_name: steady\n    static_configs: [{{targets: ['a:1', 'b:1']}}]\n  \
         - job_name: churning\n    file_sd_configs: [{{files: ['{}'], refresh_interval: 100ms}}]\n",
        file.display()
    );
    let configs = parse_config(&text, Path::new("c.yml")).unwrap().scrape;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stats = Arc::new(DiscoveryStats::default());
        let settle = Duration::from_millis(50);
        let (mut discovery, mut updates) = Discovery::with_settle(None, stats.clone(), settle);
        write(&file, 0, "");
        discovery.apply(&configs).unwrap();
        let mut first: Vec<String> = Vec::new();
        for _ in 0..2 {
            first.push(updates.recv().await.unwrap().job);
        }
        first.sort();
        assert_eq!(first, ["churning", "steady"]);
        let mut left = Vec::new();
        for round in 0..ROUNDS {
            write(&file, TARGETS, &format!("old-{round}"));
            until(&mut updates, TARGETS, &format!("old-{round}")).await;
            let full = in_use();
            write(&file, TARGETS, &format!("new-{round}"));
            until(&mut updates, TARGETS, &format!("new-{round}")).await;
            assert_eq!(stats.jobs()[0].discovered(), TARGETS as u64);
            write(&file, 0, "");
            until(&mut updates, 0, "").await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            left.push(in_use());
            println!("round {round}: {full} bytes with {TARGETS} targets, {} without", in_use());
            assert!(full - in_use() > TARGETS * 50, "the targets did take memory");
        }
        // The first round makes room that later ones use again.
        let grown = left[ROUNDS - 1].saturating_sub(left[0]);
        assert!(grown < 256 * 1024, "{grown} bytes more than after the first round: {left:?}");
    });
}
