//! btrfs and xfs on real loop mounts: what the kernel says of them is found under their names, the devices of
//! btrfs by ioctl(2), and nothing stays open that would keep them mounted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use collector::model::SeriesTable;
use collector::sources::host::{FlagValues, HostReader, Paths, Selection};
use collector_tests::skip;

mod render;
use render::Exposition;

/// Enough for either file system.
const SIZE: u64 = 512 << 20;

/// A file system in a file, mounted until it is dropped.
struct Loop {
    folder: tempfile::TempDir,
    is_mounted: bool,
}

impl Loop {
    /// `None`, said aloud, where the kernel, a program or a right for it is missing.
    fn mount(test: &str, kind: &str, make: &[&str]) -> Option<Self> {
        let kinds = std::fs::read_to_string("/proc/filesystems").unwrap();
        if !kinds.lines().any(|line| line.trim_start_matches("nodev").trim() == kind) {
            skip::skip(test, &format!("the kernel has no {kind}"));
            return None;
        }
        if !skip::root_or_skip(test) {
            return None;
        }
        let program = skip::program_or_skip(test, &[&format!("mkfs.{kind}")])?;
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(SIZE).unwrap();
        std::fs::create_dir(folder.path().join("mounted here")).unwrap();
        run(Command::new(program).args(make).arg(&image));
        let mut made = Loop { folder, is_mounted: false };
        let mount =
            Command::new("mount").args(["-t", kind, "-o", "loop"]).arg(&image).arg(made.path()).output();
        let mount = mount.unwrap();
        if !mount.status.success() {
            skip::skip(test, &format!("can't mount: {}", String::from_utf8_lossy(&mount.stderr).trim()));
            return None;
        }
        made.is_mounted = true;
        Some(made)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("mounted here")
    }

    fn unmount(&mut self) {
        run(Command::new("umount").arg(self.path()));
        self.is_mounted = false;
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = Command::new("umount").arg("-l").arg(self.path()).status();
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A reader of this host with that collector alone.
fn reader(collector: &str) -> (HostReader, Arc<SeriesTable>) {
    let table = Arc::new(SeriesTable::default());
    let only = |name: &str, _| name == collector;
    let reader = HostReader::new(&Paths::default(), &FlagValues::default(), only, &[], &table).unwrap();
    (reader, table)
}

fn tick(reader: &mut HostReader, table: &Arc<SeriesTable>) -> Exposition {
    let mut exposition = Exposition::new();
    reader.run(&Selection::All, 0, Default::default, |batch| render::add(&batch, table, &mut exposition));
    exposition
}

/// The samples of a family that name all of `labels`.
fn samples<'e>(exposition: &'e Exposition, family: &str, labels: &[&str]) -> Vec<(&'e str, f64)> {
    let all = exposition.get(family).into_iter().flat_map(|(_, samples)| samples);
    all.filter(|(series, _)| labels.iter().all(|label| series.contains(label)))
        .map(|(series, value)| (series.as_str(), *value))
        .collect()
}

fn loop_device(mounted: &Path) -> String {
    let path = mounted.to_str().unwrap().replace(' ', "\\040");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.split(' ').nth(4) == Some(&path)).unwrap();
    let source = line.split(" - ").nth(1).unwrap().split(' ').nth(1).unwrap();
    source.trim_start_matches("/dev/").to_owned()
}

#[test]
fn btrfs_tells_its_devices_by_ioctl() {
    const TEST: &str = "btrfs_tells_its_devices_by_ioctl";
    const LABEL: &str = "a label of ours";
    let Some(mut made) = Loop::mount(TEST, "btrfs", &["-q", "-L", LABEL]) else { return };
    std::fs::write(made.path().join("file"), vec![7; 1 << 20]).unwrap();
    let device = loop_device(&made.path());
    let (mut reader, table) = reader("btrfs");
    let exposition = tick(&mut reader, &table);
    let label = format!("label=\"{LABEL}\"");
    let [(info, _)] = samples(&exposition, "node_btrfs_info", &[&label])[..] else {
        panic!("one file system is ours: {exposition:#?}")
    };
    let uuid = info.split("uuid=\"").nth(1).unwrap().split('"').next().unwrap();
    let ours = [&format!("uuid=\"{uuid}\"")[..], &format!("device=\"{device}\"")];
    let [(size, bytes)] = samples(&exposition, "node_btrfs_device_size_bytes", &ours)[..] else {
        panic!("one device: {exposition:#?}")
    };
    assert!(size.contains("btrfs_dev_uuid=\""), "{size}");
    assert_eq!(bytes, SIZE as f64);
    let [(_, unused)] = samples(&exposition, "node_btrfs_device_unused_bytes", &ours)[..] else {
        panic!("one device: {exposition:#?}")
    };
    assert!(unused > 0.0 && unused < bytes, "{unused}");
    let errors = samples(&exposition, "node_btrfs_device_errors_total", &ours);
    assert_eq!(errors.len(), 5, "{errors:?}");
    assert!(errors.iter().all(|(_, count)| *count == 0.0), "{errors:?}");
    let data = [ours[0], "block_group_type=\"data\"", "mode=\"single\""];
    assert_eq!(samples(&exposition, "node_btrfs_allocation_ratio", &data).len(), 1);
    // Nothing of ours holds it: it can be unmounted between two ticks, and then it is gone.
    made.unmount();
    let exposition = tick(&mut reader, &table);
    assert!(samples(&exposition, "node_btrfs_info", &ours[..1]).is_empty());
}

#[test]
fn xfs_counts_what_is_written() {
    const TEST: &str = "xfs_counts_what_is_written";
    let Some(mut made) = Loop::mount(TEST, "xfs", &["-q"]) else { return };
    let device = loop_device(&made.path());
    let ours = [&format!("device=\"{device}\"")[..]];
    let (mut reader, table) = reader("xfs");
    let writes = |exposition: &Exposition| {
        let [(_, writes)] = samples(exposition, "node_xfs_write_calls_total", &ours)[..] else {
            panic!("one file system is ours: {exposition:#?}")
        };
        writes
    };
    let before = writes(&tick(&mut reader, &table));
    for file in ["one", "two", "three"] {
        std::fs::write(made.path().join(file), "content").unwrap();
    }
    let exposition = tick(&mut reader, &table);
    assert_eq!(writes(&exposition), before + 3.0);
    let created = samples(&exposition, "node_xfs_directory_operation_create_total", &ours);
    assert!(created[0].1 >= 3.0, "{created:?}");
    made.unmount();
    let exposition = tick(&mut reader, &table);
    assert!(samples(&exposition, "node_xfs_write_calls_total", &ours).is_empty());
}
