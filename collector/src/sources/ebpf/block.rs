//! The block I/O probe: how long requests wait for their device, how long that takes, and how large they are; by device
//! and operation, and summed by cgroup.
//!
//! Kernel interface: the tracepoints `block_rq_complete` and, where a device's queue does not keep the time at which its
//! driver got a request, `block_rq_issue`; /sys/block at the start and for the name of each device that is met. Cost: in
//! the kernel some 200 ns a request, a tick some microseconds and no system call while the devices stay the same.

use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use collector_ebpf::block::{
    self as shared, DEVICES, DeviceBank, DeviceTable, Lost, OPERATIONS, OperationBank,
};

use super::btf::BtfError;
use super::cgroup_slots::CgroupSlots;
use super::counts::{self, Histogram};
use super::ground::{self, Ground, Hook, InRows};
use super::kernel_map::KernelMap;
use super::layout::Finder;
use super::load::{ProbeError, RunningProgram};
use super::{CgroupChoice, Probe, Running};
use crate::model::{Family, Recorder};
use crate::sys::file::read_once;
use crate::sys::text;

static DEVICE_TIME: Family = Family::histogram(
    "collector_block_io_device_seconds",
    "Time from when a request was given to the device's driver until it was done.",
    &["device", "operation"],
);
static QUEUE_TIME: Family = Family::histogram(
    "collector_block_io_queue_seconds",
    "Time from when a request was made until it was given to the device's driver.",
    &["device", "operation"],
);
static SIZE: Family = Family::histogram(
    "collector_block_io_size_bytes",
    "Sizes of requests; their sum is what was read or written.",
    &["device", "operation"],
);
static ERRORS: Family =
    Family::counter("collector_block_io_errors_total", "Requests that failed.", &["device", "operation"]);
static CGROUP_REQUESTS: Family = Family::counter(
    "collector_cgroup_block_io_requests_total",
    "Requests that were done for the cgroup's own tasks, on all devices.",
    &["cgroup", "operation"],
);
static CGROUP_BYTES: Family = Family::counter(
    "collector_cgroup_block_io_bytes_total",
    "Bytes that were read or written for the cgroup's own tasks.",
    &["cgroup", "operation"],
);
static CGROUP_DEVICE_TIME: Family = Family::counter(
    "collector_cgroup_block_io_device_seconds_total",
    "Time that devices had the cgroup's requests, summed over the requests.",
    &["cgroup"],
);
static CGROUP_QUEUE_TIME: Family = Family::counter(
    "collector_cgroup_block_io_queue_seconds_total",
    "Time that the cgroup's requests waited for a device's driver, summed over the requests.",
    &["cgroup"],
);

pub(super) static PROBE: Probe = Probe {
    name: "block",
    about: "latency and size of block I/O by device and operation",
    default_on: true,
    hooks: &[COMPLETE, ISSUE],
    needs: "request, request_queue.disk (or request.rq_disk), bio.bi_blkg",
    families: &[
        &DEVICE_TIME,
        &QUEUE_TIME,
        &SIZE,
        &ERRORS,
        &CGROUP_REQUESTS,
        &CGROUP_BYTES,
        &CGROUP_DEVICE_TIME,
        &CGROUP_QUEUE_TIME,
    ],
    start: |ground| Ok(Box::new(Block::start(ground)?)),
};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../collector-ebpf/prebuilt/block.o");

const COMPLETE: &[Hook] = &[Hook::new("block_rq_complete", "block_complete", "raw_block_compl")];
const ISSUE: &[Hook] = &[Hook::new("block_rq_issue", "block_issue", "raw_block_issue")];

/// Where devices are listed.
const BLOCK_DEVICES: &str = "/sys/block";

struct Block {
    table: KernelMap,
    banks: KernelMap,
    lost: KernelMap,
    /// For each place of the table, whose it was at the last tick, and its name.
    devices: Vec<(u64, Option<String>)>,
    times: Histogram,
    sizes: Histogram,
    cgroups: Option<CgroupSlots>,
    programs: Vec<RunningProgram>,
}

impl Block {
    fn start(ground: &mut Ground<'_>) -> Result<Self, ProbeError> {
        let mut find = ground.finder()?;
        let bio = look_up(&mut find)?;
        let by_cgroup = look_up_cgroup(&mut find, bio);
        let mut constants = find.constants;
        let cgroups = match (by_cgroup, io_hierarchy(ground)) {
            (_, None) => None,
            (Err(missing), _) => ground::told_why(PROBE.name, &missing.to_string()),
            (Ok(()), Some(mount)) => Some(ground.cgroups_under(&mount)),
        };
        constants.push(("BY_CGROUP", u32::from(cgroups.is_some())));
        let hooks = if keeps_issue_times(Path::new(BLOCK_DEVICES)) {
            COMPLETE.to_vec()
        } else {
            [ISSUE, COMPLETE].concat()
        };
        let arrays = [("BANKS", DEVICES), ("LOST", 1)];
        let InRows { loaded, rows, cgroups } =
            ground.load_in_rows(OBJECT, constants, &arrays, cgroups.as_ref(), &hooks)?;
        Ok(Block {
            table: loaded.map::<DeviceTable>("DEVICES", 1)?,
            banks: loaded.map::<DeviceBank>("BANKS", rows * DEVICES)?,
            lost: loaded.map::<Lost>("LOST", rows)?,
            devices: vec![(0, None); DEVICES],
            times: Histogram::new(&counts::TIMES),
            sizes: Histogram::new(&counts::SIZES),
            cgroups,
            programs: loaded.attach()?,
        })
    }

    /// Finds the names of devices that have come since the last tick.
    fn name_devices(&mut self) {
        for (place, known) in self.devices.iter_mut().enumerate() {
            let id = self.table.element(0)[place].load(Ordering::Acquire);
            if known.0 != id {
                *known = (id, read_name(id));
            }
        }
    }

    /// Calls with the labels and the rows of each device and operation that there was.
    fn each<'a>(
        devices: &'a [(u64, Option<String>)],
        banks: &'a KernelMap,
        mut found: impl FnMut([&str; 2], &dyn Fn() -> Rows<'a>),
    ) {
        for (place, (_, name)) in devices.iter().enumerate() {
            let Some(name) = name else { continue };
            for (number, operation) in OPERATIONS.iter().enumerate() {
                let rows = || Rows { banks, place, operation: number };
                let count = offset_of!(OperationBank, size) / 8;
                // The sum of the sizes, and their counts: a flush has no bytes.
                let some =
                    rows().any(|row| row[count..count + 32].iter().any(|w| w.load(Ordering::Relaxed) != 0));
                if some {
                    found([name, operation], &rows);
                }
            }
        }
    }
}

/// The banks of a device's operation, one in each row.
struct Rows<'a> {
    banks: &'a KernelMap,
    /// Of the next bank.
    place: usize,
    operation: usize,
}

impl<'a> Iterator for Rows<'a> {
    type Item = &'a [AtomicU64];

    fn next(&mut self) -> Option<&'a [AtomicU64]> {
        const WORDS: usize = size_of::<OperationBank>() / 8;
        if self.place >= self.banks.elements() {
            return None;
        }
        let bank = self.banks.element(self.place);
        self.place += DEVICES;
        Some(&bank[self.operation * WORDS..][..WORDS])
    }
}

/// Finds what the probe needs. Returns the struct of a bio.
fn look_up(find: &mut Finder<'_>) -> Result<u32, ProbeError> {
    let request = find.btf.structure("request")?;
    find.tracepoint("block_rq_complete", &[(0, request)])?;
    // It was `block_rq_issue(queue, request)` before 5.11.
    let queue_first = find.tracepoint("block_rq_issue", &[(0, request)]).is_err();
    if queue_first {
        find.tracepoint("block_rq_issue", &[(1, request)])?;
    }
    find.set("QUEUE_COMES_FIRST", u32::from(queue_first));
    find.member(request, "cmd_flags", 4, "REQUEST_FLAGS")?;
    find.member(request, "__data_len", 4, "REQUEST_BYTES")?;
    find.member(request, "start_time_ns", 8, "REQUEST_START")?;
    find.member(request, "io_start_time_ns", 8, "REQUEST_IO_START")?;
    let queue = find.pointer(request, "q", "REQUEST_QUEUE")?;
    let disk = match find.pointer(queue, "disk", "QUEUE_DISK") {
        Ok(disk) => disk,
        Err(_) => {
            find.set("DISK_BY_REQUEST", 1);
            find.pointer(request, "rq_disk", "REQUEST_DISK")?
        }
    };
    find.member(disk, "major", 4, "DISK_MAJOR")?;
    find.member(disk, "first_minor", 4, "DISK_MINOR")?;
    Ok(find.pointer(request, "bio", "REQUEST_BIO")?)
}

fn look_up_cgroup(find: &mut Finder<'_>, bio: u32) -> Result<(), BtfError> {
    let group = find.pointer(bio, "bi_blkg", "BIO_GROUP")?;
    let blkcg = find.pointer(group, "blkcg", "GROUP_BLKCG")?;
    let cgroup = find.pointer(blkcg, "css.cgroup", "BLKCG_CGROUP")?;
    find.node(cgroup).map(drop)
}

/// The hierarchy by which I/O is told apart: that of `blkio` where it is on version 1.
fn io_hierarchy(ground: &Ground<'_>) -> Option<PathBuf> {
    let mounts = &ground.hierarchies;
    match ground.options.cgroups {
        CgroupChoice::Off => None,
        _ => mounts.blkio.clone().or_else(|| mounts.unified.clone()),
    }
}

/// Whether all devices have write-back throttling on, and so keep the times at which their drivers get requests.
fn keeps_issue_times(devices: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(devices) else { return false };
    let mut buffer = Vec::new();
    let mut keeps = true;
    for entry in entries.flatten() {
        // One without a queue of requests has no such file.
        if let Ok(limit) = read_once(&entry.path().join("queue/wbt_lat_usec"), &mut buffer) {
            keeps &= text::parse_u64(text::trim(limit)).is_some_and(|limit| limit > 0);
        } else {
            keeps &= !entry.path().join("mq").exists();
        }
    }
    keeps
}

/// The name of a device by its number, `None` where it has gone already.
fn read_name(id: u64) -> Option<String> {
    if id == 0 {
        return None;
    }
    let (major, minor) = ((id >> 32) & 0x7fff_ffff, id & 0xffff_ffff);
    let link = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    // A slash of the name stands as an exclamation mark there.
    Some(link.file_name()?.to_str()?.replace('!', "/"))
}

impl Running for Block {
    fn programs(&self) -> &[RunningProgram] {
        &self.programs
    }

    fn cgroups(&mut self) -> Option<&mut CgroupSlots> {
        self.cgroups.as_mut()
    }

    fn read(&mut self, out: &mut Recorder) {
        self.name_devices();
        let Self { devices, banks, times, sizes, cgroups, .. } = self;
        for (family, at) in [
            (&DEVICE_TIME, offset_of!(OperationBank, device)),
            (&QUEUE_TIME, offset_of!(OperationBank, queue)),
        ] {
            Self::each(devices, banks, |labels, rows| {
                out.histogram(family, &labels, &times.read(rows(), at, at + 8));
            });
        }
        let at = offset_of!(OperationBank, size);
        Self::each(devices, banks, |labels, rows| {
            out.histogram(&SIZE, &labels, &sizes.read(rows(), at, at + 8));
        });
        Self::each(devices, banks, |labels, rows| {
            let errors = rows().map(|row| row[offset_of!(OperationBank, errors) / 8].load(Ordering::Relaxed));
            out.put(&ERRORS, &labels, counts::number(errors.sum()));
        });
        if let Some(cgroups) = cgroups {
            read_cgroups(cgroups, out);
        }
    }

    fn lost(&self, lose: &mut dyn FnMut(&'static str, f64)) {
        for (limit, offset) in [
            ("device_slots", offset_of!(Lost, device_slots)),
            ("cgroup_slots", offset_of!(Lost, cgroup_slots)),
            ("request_slots", offset_of!(Lost, request_slots)),
        ] {
            lose(limit, counts::sum(&self.lost, offset));
        }
    }
}

fn read_cgroups(cgroups: &CgroupSlots, out: &mut Recorder) {
    for (path, counts) in cgroups.named() {
        for (operation, count) in [
            ("read", shared::READ_REQUESTS),
            ("write", shared::WRITE_REQUESTS),
            ("other", shared::OTHER_REQUESTS),
        ] {
            out.put(&CGROUP_REQUESTS, &[path, operation], counts::number(counts[count]));
        }
    }
    for (path, counts) in cgroups.named() {
        out.put(&CGROUP_BYTES, &[path, "read"], counts::number(counts[shared::READ_BYTES]));
        out.put(&CGROUP_BYTES, &[path, "write"], counts::number(counts[shared::WRITE_BYTES]));
    }
    for (path, counts) in cgroups.named() {
        out.put(&CGROUP_DEVICE_TIME, &[path], counts::seconds(counts[shared::DEVICE_NS]));
    }
    for (path, counts) in cgroups.named() {
        out.put(&CGROUP_QUEUE_TIME, &[path], counts::seconds(counts[shared::QUEUE_NS]));
    }
}
