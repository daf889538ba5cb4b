//! The host collectors: one file each, named in one table.
//!
//! A new collector is one new file that defines `COLLECTOR`, and one word in the table below. Flags, help,
//! documentation and `--collector.*` switches follow from it.

mod cpu_columns;
mod crew;
mod dbus;
mod devices;
mod error;
mod filter;
mod fixture;
mod flags;
mod links;
mod nfs_rpc;
mod number_file;
mod pids;
mod runner;
mod tables;

pub use error::CollectError;
pub use filter::{Filter, OrderedFilter};
pub use flags::{Flag, FlagDefault, FlagValues, parse_go_duration};
pub use links::{Link, Names, SharedLinks};
pub use runner::{DEADLINE, HostReader, OUTCOME_FAMILIES, Selection};

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::{Family, Recorder};
use crate::sys::file::{KeptFile, ReadError};
use crate::sys::network_octets::NetworkOctets;
use crate::sys::uevent::Uevents;

/// Declares one module for each collector and the table of them, in this order.
macro_rules! collectors {
    ($($name:ident),* $(,)?) => {
        $(mod $name;)*
        /// Every host collector, in alphabetical order.
        pub static COLLECTORS: &[&Registration] = &[$(&$name::COLLECTOR),*];
    };
}

collectors! {
    arp,
    bcache,
    bcachefs,
    bonding,
    btrfs,
    buddyinfo,
    cgroup_units,
    cgroups,
    chrony,
    conntrack,
    cpu,
    cpu_vulnerabilities,
    cpufreq,
    diskstats,
    dmi,
    dmmultipath,
    drbd,
    drm,
    edac,
    entropy,
    ethtool,
    fibrechannel,
    filefd,
    filesystem,
    hwmon,
    infiniband,
    interrupts,
    ipvs,
    kernel_hung,
    ksmd,
    lnstat,
    loadavg,
    logind,
    mdadm,
    meminfo,
    meminfo_numa,
    mountstats,
    netclass,
    netdev,
    netstat,
    network_route,
    nfs,
    nfsd,
    ntp,
    nvme,
    nvmesubsystem,
    os,
    pcidevice,
    perf,
    powersupplyclass,
    pressure,
    process_groups,
    processes,
    qdisc,
    rapl,
    runit,
    schedstat,
    selinux,
    slabinfo,
    sockstat,
    softirqs,
    softnet,
    stat,
    supervisord,
    swap,
    sysctl,
    systemd,
    tapestats,
    tcpstat,
    textfile,
    thermal_zone,
    time,
    timex,
    udp_queues,
    uname,
    vmstat,
    watchdog,
    wifi,
    xfrm,
    xfs,
    zfs,
    zoneinfo,
}

/// What the table knows of a collector.
pub struct Registration {
    /// As in `--collector.<name>` and in the `collector` label.
    pub name: &'static str,
    /// Whether it runs when the command line does not say.
    pub default_enabled: bool,
    /// Its own flags, without the switch that every collector has.
    pub flags: &'static [Flag],
    /// Every family it can give; those that only the kernel names are written with `*`.
    pub families: &'static [&'static Family],
    /// Makes it ready: compiles its patterns, reads what never changes. Called once, before the first tick.
    pub new: fn(&Setup<'_>) -> Result<Box<dyn Collector>, SetupError>,
}

/// A collector that is ready to run.
pub trait Collector: Send {
    /// Reads what the kernel says now and hands it to `out`. What was handed over before an error stays.
    ///
    /// # Errors
    /// [`CollectError::NoData`] where this host has nothing to read, any other for what went wrong.
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError>;
}

/// What a collector may use while it reads: memory that all of them share.
pub struct Tick {
    /// For the file at hand.
    pub buffer: Vec<u8>,
    /// For a second file at the same time, or for text in the making.
    pub scratch: Vec<u8>,
    /// /proc/stat, for which the kernel adds up every interrupt of every CPU.
    pub stat: SharedFile,
    /// The network interfaces.
    pub links: SharedLinks,
    /// When the tick ends; what has not ended by then is left out of it.
    deadline: Instant,
    /// Tells whether folders of devices need be listed again.
    uevents: Uevents,
}

impl Tick {
    fn new(paths: &Paths) -> Self {
        let stat = SharedFile { file: KeptFile::whole(paths.proc("stat")), text: Vec::new(), is_read: false };
        Tick {
            buffer: Vec::new(),
            scratch: Vec::new(),
            stat,
            links: SharedLinks::default(),
            deadline: Instant::now() + DEADLINE,
            uevents: Uevents::listen(),
        }
    }

    /// Starts a tick: what was read in the last one is old.
    fn next(&mut self, deadline: Instant) {
        self.stat.is_read = false;
        self.links.next();
        self.deadline = deadline;
        self.uevents.poll();
    }

    /// How long a collector that waits for others (a device, a server) may still do so.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// A file that more than one collector needs: read once a tick, by the first that asks.
pub struct SharedFile {
    file: KeptFile,
    text: Vec<u8>,
    is_read: bool,
}

impl SharedFile {
    /// The path, and what the file said when the first collector of this tick asked.
    ///
    /// # Errors
    /// As [`KeptFile::read`]; the next one who asks tries again.
    pub fn read(&mut self) -> Result<(&Path, &[u8]), ReadError> {
        if !self.is_read {
            self.file.read(&mut self.text)?;
            self.is_read = true;
        }
        Ok((self.file.path(), &self.text))
    }
}

/// Where the kernel's file systems are.
#[derive(Clone, Debug)]
pub struct Paths {
    pub procfs: PathBuf,
    pub sysfs: PathBuf,
    pub rootfs: PathBuf,
    pub udev_data: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Paths {
            procfs: "/proc".into(),
            sysfs: "/sys".into(),
            rootfs: "/".into(),
            udev_data: "/run/udev/data".into(),
        }
    }
}

impl Paths {
    pub fn proc(&self, file: impl AsRef<Path>) -> PathBuf {
        self.procfs.join(file)
    }

    pub fn sys(&self, file: impl AsRef<Path>) -> PathBuf {
        self.sysfs.join(file)
    }

    /// `file`, which begins with a slash, as seen from the host's root.
    pub fn root(&self, file: &str) -> PathBuf {
        self.rootfs.join(file.trim_start_matches('/'))
    }
}

/// What a collector is made from.
pub struct Setup<'a> {
    pub paths: &'a Paths,
    pub flags: &'a FlagValues,
    /// For our own metrics, which want two numbers of a file that is dear to read.
    pub network_octets: &'a Arc<NetworkOctets>,
}

/// A collector that can't be made: a flag that makes no sense. Ends the program before it serves.
#[derive(Debug, thiserror::Error)]
#[error("couldn't create collector {collector}: {message}")]
pub struct SetupError {
    pub collector: &'static str,
    pub message: String,
}

impl SetupError {
    /// Makes the error of that collector from a message.
    pub fn of(collector: &'static str) -> impl Fn(String) -> Self {
        move |message| SetupError { collector, message }
    }
}
