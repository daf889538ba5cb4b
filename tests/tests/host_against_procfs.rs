//! The collectors against another reader of the same files, the `procfs` crate, on this host: what it reads
//! between two of our ticks lies between their values.

mod render;

use std::collections::HashMap;
use std::sync::Arc;

use collector::model::SeriesTable;
use collector::sources::host::{FlagValues, HostReader, Paths, Selection};
use procfs::{Current, CurrentSI};

struct Subject {
    reader: HostReader,
    table: Arc<SeriesTable>,
}

impl Subject {
    fn tick(&mut self) -> HashMap<String, f64> {
        let mut exposition = render::Exposition::new();
        self.reader.run(&Selection::All, 0, Default::default, |batch| {
            render::add(&batch, &self.table, &mut exposition);
        });
        exposition.into_values().flat_map(|(_, samples)| samples).collect()
    }
}

/// What the other reader says, by our names.
fn procfs_says() -> Vec<(String, f64)> {
    let mut said = Vec::new();
    let mut say = |name: String, value: u64| said.push((name, value as f64));
    let stat = procfs::KernelStats::current().unwrap();
    say("node_context_switches_total".into(), stat.ctxt);
    say("node_forks_total".into(), stat.processes);
    say("node_boot_time_seconds".into(), stat.btime);
    let memory = procfs::Meminfo::current().unwrap();
    say("node_memory_MemTotal_bytes".into(), memory.mem_total);
    say("node_memory_SwapTotal_bytes".into(), memory.swap_total);
    for (name, value) in procfs::vmstat().unwrap() {
        if name.starts_with("pgpg") || name.starts_with("pswp") || name == "pgfault" {
            say(format!("node_vmstat_{name}"), value.unsigned_abs());
        }
    }
    for disk in
        procfs::diskstats().unwrap().into_iter().filter(|disk| disk.name == "vda" || disk.name == "sda")
    {
        let of = |name: &str| format!("node_disk_{name}{{device=\"{}\"}}", disk.name);
        say(of("reads_completed_total"), disk.reads);
        say(of("written_bytes_total"), disk.sectors_written * 512);
    }
    for (device, status) in procfs::net::dev_status().unwrap() {
        let of = |name: &str| format!("node_network_{name}_total{{device=\"{device}\"}}");
        say(of("receive_bytes"), status.recv_bytes);
        say(of("transmit_packets"), status.sent_packets);
        say(of("receive_drop"), status.recv_drop);
    }
    for (cpu, times) in stat.cpu_time.iter().enumerate() {
        said.push((
            format!("node_cpu_seconds_total{{cpu=\"{cpu}\",mode=\"user\"}}"),
            times.user as f64 / 100.0,
        ));
        said.push((
            format!("node_cpu_seconds_total{{cpu=\"{cpu}\",mode=\"system\"}}"),
            times.system as f64 / 100.0,
        ));
    }
    said
}

#[test]
fn another_reader_says_the_same() {
    let table = Arc::new(SeriesTable::default());
    let flags = FlagValues::default();
    let reader = HostReader::new(&Paths::default(), &flags, |_, default| default, &[], &table).unwrap();
    let mut subject = Subject { reader, table };
    let before = subject.tick();
    let said = procfs_says();
    let after = subject.tick();
    let mut compared = 0;
    for (name, value) in said {
        // A device that came or went in between.
        let (Some(before), Some(after)) = (before.get(&name), after.get(&name)) else { continue };
        assert!(*before <= value && value <= *after, "{name}: {before}, {value}, {after}");
        compared += 1;
    }
    assert!(compared >= 10, "only {compared} series were in both");
}
