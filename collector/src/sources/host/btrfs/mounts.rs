//! The devices of the btrfs file systems that are mounted, and where: /proc/1/mountinfo, or that of this
//! process where the former may not be read. Cost a tick: two reads, and the questions to each file system, at
//! the first of its mounts that answers.

use std::path::{Path, PathBuf};

use super::super::{Paths, Tick};
use crate::sys::btrfs::{self, Mounted};
use crate::sys::file::KeptFile;
use crate::sys::text;

/// Mounts of btrfs that are looked at: subvolumes may be mounted by the thousand.
const MOST_MOUNTS: usize = 4096;

pub(super) struct Mounts {
    rootfs: PathBuf,
    files: [KeptFile; 2],
    /// What mountinfo said when `mounts` was made.
    known: Vec<u8>,
    mounts: Vec<Mount>,
    systems: Vec<MountedDevices>,
}

struct Mount {
    /// The device that it was mounted by: the same for all mounts of a file system, as a rule.
    source: String,
    folder: PathBuf,
}

/// The devices of a file system.
#[derive(Default)]
pub(super) struct MountedDevices {
    id: [u8; 16],
    /// As a folder of /sys/fs/btrfs is named, without dashes.
    name: String,
    devices: Vec<Device>,
    /// Those of `devices` that there are in this tick: the others are kept for their memory.
    count: usize,
}

#[derive(Default)]
pub(super) struct Device {
    pub(super) name: String,
    raw_name: Vec<u8>,
    pub(super) uuid: String,
    raw_uuid: [u8; 16],
    pub(super) size: u64,
    pub(super) unused: u64,
    pub(super) errors: [u64; 5],
}

impl MountedDevices {
    pub(super) fn devices(&self) -> &[Device] {
        &self.devices[..self.count]
    }
}

impl Mounts {
    pub(super) fn new(paths: &Paths) -> Self {
        Mounts {
            rootfs: paths.rootfs.clone(),
            files: ["1/mountinfo", "self/mountinfo"].map(|file| KeptFile::new(paths.proc(file))),
            known: Vec::new(),
            mounts: Vec::new(),
            systems: Vec::new(),
        }
    }

    /// Asks all file systems anew. Those that can't be asked have no devices.
    pub(super) fn refresh(&mut self, tick: &mut Tick) {
        let [first, second] = &mut self.files;
        let is_read = first.read(&mut tick.buffer).is_ok() || second.read(&mut tick.buffer).is_ok();
        let text = if is_read { tick.buffer.as_slice() } else { b"" };
        if self.known != text {
            self.known.clear();
            self.known.extend_from_slice(text);
            let mounts = text::lines(text).filter_map(|line| parse_mount(line, &self.rootfs));
            self.mounts = mounts.take(MOST_MOUNTS).collect();
            self.mounts.sort_by(|a, b| a.source.cmp(&b.source));
        }
        let mut asked = 0;
        for mounts in self.mounts.chunk_by(|a, b| a.source == b.source) {
            // One that this process may not open, or that lies under another, is passed over.
            let _ = mounts.iter().any(|mount| ask(&mut self.systems, &mut asked, &mount.folder).is_ok());
        }
        self.systems.truncate(asked);
    }

    /// The devices of the file system whose folder in sysfs is called so, if it could be asked.
    pub(super) fn devices_of(&self, id: &str) -> Option<&MountedDevices> {
        self.systems.iter().find(|system| id.bytes().filter(|&byte| byte != b'-').eq(system.name.bytes()))
    }
}

/// Asks the file system that is mounted there, unless it is one of the first `asked` of `systems`.
fn ask(systems: &mut Vec<MountedDevices>, asked: &mut usize, folder: &Path) -> std::io::Result<()> {
    let mounted = Mounted::open(folder)?;
    if systems[..*asked].iter().any(|system| system.id == mounted.id) {
        return Ok(());
    }
    if *asked == systems.len() {
        systems.push(MountedDevices::default());
    }
    let MountedDevices { id, name, devices, count } = &mut systems[*asked];
    if *id != mounted.id || name.is_empty() {
        *id = mounted.id;
        *name = hex(id);
    }
    *count = 0;
    mounted.devices(|device| {
        if *count == devices.len() {
            devices.push(Device::default());
        }
        devices[*count].take(device);
        *count += 1;
    })?;
    *asked += 1;
    Ok(())
}

impl Device {
    /// Labels are made anew only if they are others.
    fn take(&mut self, device: &btrfs::Device) {
        if self.raw_name != device.name() {
            self.raw_name = device.name().to_owned();
            self.name = text::lossy(&self.raw_name);
        }
        if self.raw_uuid != device.uuid || self.uuid.is_empty() {
            self.raw_uuid = device.uuid;
            self.uuid = hex(&device.uuid);
        }
        self.size = device.total_bytes;
        self.unused = device.total_bytes.wrapping_sub(device.bytes_used);
        self.errors = device.errors;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `26 29 0:24 / /data rw - btrfs /dev/sda1 rw,...`: a mount of btrfs, with its folder below `rootfs`.
fn parse_mount(line: &[u8], rootfs: &Path) -> Option<Mount> {
    let mut words = text::words(line);
    let mount_point = words.nth(4)?;
    let mut facts = words.skip_while(|word| *word != b"-").skip(1);
    if facts.next()? != b"btrfs" {
        return None;
    }
    let source = text::lossy(facts.next()?);
    let mount_point = unescape(mount_point);
    Some(Mount { source, folder: rootfs.join(mount_point.trim_start_matches('/')) })
}

/// Blanks and backslashes stand as three octal digits.
fn unescape(path: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after.first_chunk::<3>().filter(|_| byte == b'\\');
        let number = escaped.and_then(|digits| u8::from_str_radix(text::as_str(digits)?, 8).ok());
        bytes.push(number.unwrap_or(byte));
        rest = if number.is_some() { &after[3..] } else { after };
    }
    text::lossy(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_btrfs_are_told_from_others() {
        let parse = |line: &str| {
            let mount = parse_mount(line.as_bytes(), Path::new("/host"))?;
            Some((mount.source, mount.folder.to_str()?.to_owned()))
        };
        assert_eq!(
            parse("26 29 0:24 /@home /my\\040home rw,relatime shared:1 - btrfs /dev/sda1 rw,space_cache"),
            Some(("/dev/sda1".to_owned(), "/host/my home".to_owned()))
        );
        for other in ["26 29 8:1 / / rw - ext4 /dev/sda1 rw", "26 29 0:24 / /data rw", "26", ""] {
            assert_eq!(parse(other), None, "{other}");
        }
        assert_eq!(unescape(b"a\\134b\\9"), "a\\b\\9");
    }
}
