//! The unit file of `packaging`, started by a real systemd: a container of systemd-nspawn(1) with this host's `/usr`.

use std::fmt::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use collector::sources::ebpf::PROBES;
use collector_tests::probe::is_locked_out;
use collector_tests::process::collector_binary;
use collector_tests::skip::{program_or_skip, root_or_skip, skip};

/// The most that a boot of the container may take, in seconds.
const PATIENCE: &str = "120";

/// Waits for the service, writes down what can be seen of it, stops it, and ends the container.
const CHECK: &str = "[Unit]\nAfter=collector.service\nWants=collector.service\n\n[Service]\nType=oneshot\n\
     ExecStart=/bin/sh /etc/check\nExecStopPost=/bin/systemctl --no-block poweroff\n";
const SCRIPT: &str = "
curl -s --retry 30 --retry-delay 1 --retry-connrefused localhost:9100/metrics >/dev/null
# The probes load while the first pages are made.
for turn in 1 2 3 4 5 6 7 8 9; do
    curl -s localhost:9100/metrics >/result/metrics
    grep -q '^collector_ebpf_probe_up' /result/metrics && break
    sleep 1
done
cat /proc/$(systemctl show -P MainPID collector)/status >/result/status
ls /var/lib/collector >/result/state
systemctl stop collector
systemctl show collector >/result/service
journalctl -u collector >/result/log
";

/// A root file system: this host's `/usr` with the collector in it, and little else. The mount ends with it.
struct Root {
    folder: tempfile::TempDir,
}

impl Root {
    /// `Err` says what is missing for it.
    fn make() -> Result<Self, String> {
        let root = Root { folder: tempfile::tempdir().unwrap() };
        let made = ["etc/systemd/system", "etc/collector", "usr", "var", "result", "above/bin", "work"];
        for folder in made {
            std::fs::create_dir_all(root.at(folder)).unwrap();
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            if !Path::new("/").join(link).is_symlink() {
                return Err(format!("/{link} is not a part of /usr"));
            }
            symlink(Path::new("usr").join(link), root.at(link)).unwrap();
        }
        std::fs::set_permissions(root.folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::copy(collector_binary(), root.at("above/bin/collector")).unwrap();
        root.write("etc/passwd", "root:x:0:0::/root:/bin/sh\ncollector:x:990:990::/:/bin/false\n");
        root.write("etc/group", "root:x:0:\ncollector:x:990:\n");
        root.write("etc/os-release", "ID=test\n");
        root.write("etc/machine-id", "");
        root.write("etc/check", SCRIPT);
        root.write("etc/systemd/system/check.service", CHECK);
        root.write(
            "etc/collector/collector.yml",
            "global: {scrape_interval: 1s}\n\
            remote_write: [{url: 'http://127.0.0.1:9/'}]\n",
        );
        let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/collector.service");
        std::fs::copy(unit, root.at("etc/systemd/system/collector.service")).unwrap();
        let mut layers = String::from("lowerdir=/usr");
        write!(layers, ",upperdir={},workdir={}", root.at("above").display(), root.at("work").display())
            .unwrap();
        let output = Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &layers])
            .arg(root.at("usr"))
            .output()
            .unwrap();
        if output.status.success() {
            Ok(root)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        std::fs::write(self.at(path), text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.at(path)).unwrap_or_default()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.at("usr")).stderr(Stdio::null()).status();
    }
}

/// The value of a line `key` in a file of such lines.
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("{key} in {text}")).trim()
}

/// The number of the capability sets with CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE.
const KEPT: u64 = 1 << 2 | 1 << 19;

#[test]
fn the_unit_runs_as_it_says() {
    let test = "the unit of packaging under systemd";
    if !root_or_skip(test) {
        return;
    }
    let Some(nspawn) = program_or_skip(test, &["systemd-nspawn"]) else { return };
    let root = match Root::make() {
        Ok(root) => root,
        Err(reason) => return skip(test, &reason),
    };
    let output = Command::new("timeout")
        .arg(PATIENCE)
        .arg(nspawn)
        .args(["--quiet", "--register=no", "--keep-unit", "--private-network", "--capability=all"])
        // Beside what the container may do by itself: to load the probes is for the unit to allow.
        .args(["--system-call-filter=bpf perf_event_open", &format!("--machine=unit-{}", std::process::id())])
        .arg(format!("--directory={}", root.folder.path().display()))
        .args(["/usr/lib/systemd/systemd", "--unit=check.service"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let console = String::from_utf8_lossy(&output.stdout);
    let (metrics, status) = (root.read("result/metrics"), root.read("result/status"));
    let (service, log) = (root.read("result/service"), root.read("result/log"));
    assert!(!service.is_empty(), "the container: {console}\n{}", String::from_utf8_lossy(&output.stderr));

    for probe in PROBES.iter().filter(|probe| probe.default_on && !is_locked_out(probe)) {
        let up = format!("collector_ebpf_probe_up{{probe=\"{}\",reason=\"\"}} 1", probe.name);
        assert!(metrics.contains(&up), "{up}\n{log}");
    }
    assert!(metrics.contains("\nnode_load1 "), "{log}");
    assert_eq!(value(&status, "Uid:").split_whitespace().collect::<Vec<_>>(), ["990"; 4]);
    for set in ["CapPrm:", "CapEff:"] {
        assert_eq!(u64::from_str_radix(value(&status, set), 16).unwrap(), KEPT, "{set}");
    }
    assert_eq!(value(&status, "NoNewPrivs:"), "1");
    assert_eq!(value(&status, "Seccomp:"), "2");
    assert!(
        !root.read("result/state").is_empty(),
        "the batch log lies in the folder of the service's state: {log}"
    );
    assert_eq!(value(&service, "Result="), "success", "{log}");
    assert_eq!(value(&service, "ExecMainStatus="), "0", "{log}");
}
