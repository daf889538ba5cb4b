//! A file system that hangs on purpose: FUSE (Documentation/filesystems/fuse, uapi/linux/fuse.h), as little of it as
//! statfs(2) needs.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const GETATTR: u32 = 3;
const STATFS: u32 = 17;
const INIT: u32 = 26;
/// The kernel asks for at least this much room.
const ROOM: usize = 64 << 10;
const BLOCKS: u64 = 1000;
/// Bytes of a block.
pub const BLOCK: u64 = 4096;

/// A mount that answers statfs(2), or does not while it is told to hang. It goes with its owner.
pub struct FuseMount {
    path: PathBuf,
    hangs: Arc<AtomicBool>,
}

impl FuseMount {
    /// Mounts it on `path`. Needs root.
    ///
    /// # Errors
    /// When this kernel has no FUSE, or the mount is refused.
    pub fn new(path: &Path) -> std::io::Result<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse")?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let [source, kind, options] =
            ["hangs", "fuse", &options].map(|text| CString::new(text).expect("no NUL"));
        let target = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
        let flags = libc::MS_NOSUID | libc::MS_NODEV;
        // SAFETY: all pointers are to texts that end with NUL and outlive the call.
        let result = unsafe {
            libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast())
        };
        if result != 0 {
            return Err(std::io::Error::last_os_error());
        }
        let hangs = Arc::new(AtomicBool::new(false));
        let server = hangs.clone();
        std::thread::spawn(move || serve(device, &server));
        Ok(FuseMount { path: path.to_owned(), hangs })
    }

    /// From now on questions wait, or are answered, those that wait as well.
    pub fn set_hangs(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::SeqCst);
    }
}

impl Drop for FuseMount {
    fn drop(&mut self) {
        self.set_hangs(false);
        let target = CString::new(self.path.as_os_str().as_bytes()).expect("no NUL");
        // SAFETY: the pointer is to a text that ends with NUL and outlives the call.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    }
}

/// Answers until the mount is gone.
fn serve(mut device: File, hangs: &AtomicBool) {
    let mut request = vec![0u8; ROOM];
    let mut waiting: Vec<u64> = Vec::new();
    set_nonblocking(&device);
    loop {
        if !hangs.load(Ordering::SeqCst) {
            waiting.drain(..).for_each(|unique| answer(&mut device, unique, 0, &statfs()));
        }
        let length = match device.read(&mut request) {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let number = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().expect("four bytes"));
        if length < 40 {
            return;
        }
        let unique = u64::from_ne_bytes(request[8..16].try_into().expect("eight bytes"));
        match number(4) {
            INIT => answer(&mut device, unique, 0, &init()),
            STATFS => waiting.push(unique),
            GETATTR => answer(&mut device, unique, 0, &attributes()),
            _ => answer(&mut device, unique, -libc::ENOSYS, &[]),
        }
    }
}

fn set_nonblocking(device: &File) {
    // SAFETY: no pointer is passed.
    unsafe {
        let flags = libc::fcntl(device.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(device.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK);
    }
}

fn answer(device: &mut File, unique: u64, error: i32, body: &[u8]) {
    let length = u32::try_from(16 + body.len()).expect("answers are small");
    let head = [&length.to_ne_bytes()[..], &error.to_ne_bytes(), &unique.to_ne_bytes()].concat();
    // Who asked may have gone.
    let _ = device.write_all(&[&head, body].concat());
}

/// `fuse_init_out`: version 7.31, and no more than the least of everything.
fn init() -> Vec<u8> {
    let mut body = vec![0; 64];
    body[..4].copy_from_slice(&7u32.to_ne_bytes());
    body[4..8].copy_from_slice(&31u32.to_ne_bytes());
    body[20..24].copy_from_slice(&4096u32.to_ne_bytes());
    body
}

/// `fuse_statfs_out`: a quarter is free.
fn statfs() -> Vec<u8> {
    let mut body: Vec<u8> =
        [BLOCKS, BLOCKS / 4, BLOCKS / 4, 100, 50].into_iter().flat_map(u64::to_ne_bytes).collect();
    let block = u32::try_from(BLOCK).expect("small");
    body.extend([block, 255, block, 0].into_iter().flat_map(u32::to_ne_bytes));
    body.resize(80, 0);
    body
}

/// `fuse_attr_out`: a folder.
fn attributes() -> Vec<u8> {
    let mut body = vec![0; 104];
    body[16..24].copy_from_slice(&1u64.to_ne_bytes());
    body[76..80].copy_from_slice(&(libc::S_IFDIR | 0o755).to_ne_bytes());
    body[80..84].copy_from_slice(&2u32.to_ne_bytes());
    body
}
