//! What btrfs tells of a mounted file system and its devices, by ioctl(2): `BTRFS_IOC_FS_INFO`,
//! `BTRFS_IOC_DEV_INFO`, `BTRFS_IOC_GET_DEV_STATS` (linux/btrfs.h).
//!
//! The folder is opened for each look and closed after it: an open file would keep the file system from being
//! unmounted. Cost: two system calls a file system, one for its facts, and two for each device.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Identities beyond this are not asked for: they count up as devices are replaced.
pub const MOST_DEVICES: u64 = 65_536;

const MAGIC: u64 = 0x94;

/// A request as `_IOR` (2) and `_IOWR` (3) make it.
const fn request(direction: u64, number: u64, size: usize) -> u64 {
    (direction << 30) | ((size as u64) << 16) | (MAGIC << 8) | number
}

#[repr(C)]
#[derive(Clone, Copy)]
struct FsInfo {
    max_id: u64,
    num_devices: u64,
    fsid: [u8; 16],
    unused: [u8; 992],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct DevInfo {
    devid: u64,
    uuid: [u8; 16],
    bytes_used: u64,
    total_bytes: u64,
    unused: [u64; 379],
    path: [u8; 1024],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct DevStats {
    devid: u64,
    nr_items: u64,
    flags: u64,
    values: [u64; 5],
    unused: [u64; 121],
}

const _: () = assert!(
    size_of::<FsInfo>() == 1024 && size_of::<DevInfo>() == 4096 && size_of::<DevStats>() == 1032,
    "as large as the kernel's"
);

const FS_INFO: u64 = request(2, 31, size_of::<FsInfo>());
const DEV_INFO: u64 = request(3, 30, size_of::<DevInfo>());
const GET_DEV_STATS: u64 = request(3, 52, size_of::<DevStats>());

/// Numbers of which every pattern of bits is one.
trait Plain: Copy {}
impl Plain for FsInfo {}
impl Plain for DevInfo {}
impl Plain for DevStats {}

/// A mounted file system.
pub struct Mounted {
    folder: File,
    pub id: [u8; 16],
    devices: u64,
    max_id: u64,
}

/// One of its devices.
pub struct Device {
    pub uuid: [u8; 16],
    pub bytes_used: u64,
    pub total_bytes: u64,
    path: [u8; 1024],
    /// Errors of writes, reads and flushes, and of blocks that were corrupt or of another generation.
    pub errors: [u64; 5],
}

impl Device {
    /// The last part of its path: `sda1`.
    pub fn name(&self) -> &[u8] {
        let path = self.path.split(|&byte| byte == 0).next().unwrap_or_default();
        path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
    }
}

impl Mounted {
    /// # Errors
    /// When the folder can't be opened, or is not of btrfs.
    pub fn open(mount_point: &Path) -> io::Result<Self> {
        let folder = File::open(mount_point)?;
        let mut facts = FsInfo { max_id: 0, num_devices: 0, fsid: [0; 16], unused: [0; 992] };
        ask(&folder, FS_INFO, &mut facts)?;
        Ok(Mounted { folder, id: facts.fsid, devices: facts.num_devices, max_id: facts.max_id })
    }

    /// Hands each device to `take`.
    ///
    /// # Errors
    /// Those of ioctl(2): only root may ask for devices.
    pub fn devices(&self, mut take: impl FnMut(&Device)) -> io::Result<()> {
        let mut found = 0;
        for devid in 0..=self.max_id.min(MOST_DEVICES) {
            let mut facts = DevInfo {
                devid,
                uuid: [0; 16],
                bytes_used: 0,
                total_bytes: 0,
                unused: [0; 379],
                path: [0; 1024],
            };
            match ask(&self.folder, DEV_INFO, &mut facts) {
                Ok(()) => {}
                // Identities are not used again, so that there are gaps.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => continue,
                Err(error) => return Err(error),
            }
            let mut stats = DevStats { devid, nr_items: 5, flags: 0, values: [0; 5], unused: [0; 121] };
            ask(&self.folder, GET_DEV_STATS, &mut stats)?;
            let DevInfo { uuid, bytes_used, total_bytes, path, .. } = facts;
            take(&Device { uuid, bytes_used, total_bytes, path, errors: stats.values });
            found += 1;
            if found == self.devices {
                break;
            }
        }
        Ok(())
    }
}

fn ask<T: Plain>(folder: &File, request: u64, answer: &mut T) -> io::Result<()> {
    // SAFETY: each request is made from the size of the structure that it comes with, which holds numbers only;
    // the kernel reads and writes no more than that.
    let result =
        unsafe { libc::ioctl(folder.as_raw_fd(), request as libc::Ioctl, std::ptr::from_mut(answer)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_those_of_the_kernel() {
        assert_eq!((FS_INFO, DEV_INFO, GET_DEV_STATS), (0x8400_941f, 0xd000_941e, 0xc408_9434));
    }

    #[test]
    fn another_file_system_is_refused() {
        let error = Mounted::open(Path::new("/proc")).err().unwrap();
        assert!(matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL)), "{error}");
    }
}
