//! Whether devices came or went since the last tick: the kernel's events (netlink(7), NETLINK_KOBJECT_UEVENT), of which
//! only the fact counts. While there was none, folders of devices need not be listed again, nor looked for.
//!
//! Cost: one system call a tick. Where the socket is refused, every tick counts as a change.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Events taken off the socket at one time; what is left counts for the next tick too.
const MOST_EVENTS: usize = 256;
/// The group to which the kernel sends; udev has another.
const KERNEL_GROUP: u32 = 1;

/// Changes so far; 0 while nobody listens.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// A number that stays while no device comes or goes; `None` where that can't be known.
pub fn changes() -> Option<u64> {
    match CHANGES.load(Ordering::Relaxed) {
        0 => None,
        changes => Some(changes),
    }
}

/// For how many looks what was seen is taken for true at the most, events or none.
const LOOKS: u8 = 60;
const SYSFS_MAGIC: u64 = 0x6265_6572;
const PROC_MAGIC: u64 = 0x9fa0;

/// What was seen of a file or folder of the kernel's, and holds until an event.
#[derive(Debug, Default)]
pub struct Seen {
    changes: Option<u64>,
    rest: u8,
    /// Whether absence and presence would be announced: found out once.
    announced: [Option<bool>; 2],
}

impl Seen {
    /// Notes that `path` was looked for when [`changes`] was `changes`, and was not there.
    pub fn note_absent(&mut self, path: &Path, changes: Option<u64>) {
        let announced = *self.announced[0].get_or_insert_with(|| would_announce(path));
        self.note(announced, changes);
    }

    /// Notes that the folder `path` was listed when [`changes`] was `changes`.
    pub fn note_listed(&mut self, path: &Path, changes: Option<u64>) {
        let announced = *self.announced[1].get_or_insert_with(|| announces(path));
        self.note(announced, changes);
    }

    fn note(&mut self, announced: bool, changes: Option<u64>) {
        self.rest = if announced { LOOKS } else { 0 };
        self.changes = changes;
    }

    /// From now on it must be looked at.
    pub fn forget(&mut self) {
        self.rest = 0;
    }

    /// Whether there is no need to look.
    pub fn holds(&mut self) -> bool {
        if self.rest == 0 || self.changes.is_none() || self.changes != changes() {
            return false;
        }
        self.rest -= 1;
        true
    }
}

/// Whether a file that is not there would come with an event: in sysfs with a device, in procfs with a module.
fn would_announce(path: &Path) -> bool {
    let mut ancestors = path.ancestors().skip(1).filter(|ancestor| ancestor.is_dir());
    let kind = ancestors.next().and_then(|ancestor| kind_of(ancestor).ok());
    matches!(kind, Some(SYSFS_MAGIC | PROC_MAGIC))
}

/// Whether what lies in that folder comes and goes with events: so it is with the devices of sysfs, but not with what
/// file systems show of themselves there.
fn announces(folder: &Path) -> bool {
    kind_of(folder).is_ok_and(|kind| kind == SYSFS_MAGIC)
        && !folder.components().any(|part| part.as_os_str() == "fs")
}

fn kind_of(path: &Path) -> io::Result<u64> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).map_err(io::Error::other)?;
    let mut facts = std::mem::MaybeUninit::<libc::statfs64>::zeroed();
    // SAFETY: the path ends with NUL, and the pointer is to a whole `statfs64`; both outlive the call.
    if unsafe { libc::statfs64(path.as_ptr(), facts.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed, then filled by the call, which did not fail.
    Ok(unsafe { facts.assume_init() }.f_type as u64)
}

/// The kernel sends its events to the initial user namespace alone.
fn is_initial_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Listens for the kernel's events. One is enough for the process.
#[derive(Debug)]
pub struct Uevents {
    socket: Option<OwnedFd>,
}

impl Uevents {
    pub fn listen() -> Self {
        let socket = open().inspect_err(|error| {
            log::debug!(err = error.to_string().as_str(); "device events can't be heard: folders are listed every tick");
        });
        if socket.is_ok() {
            CHANGES.fetch_add(1, Ordering::Relaxed);
        }
        Uevents { socket: socket.ok() }
    }

    /// Notes what has come since the last call.
    pub fn poll(&mut self) {
        let Some(socket) = &self.socket else { return };
        let mut seen = false;
        for _ in 0..MOST_EVENTS {
            // SAFETY: nothing is written: the length is 0, and what does not fit is thrown away.
            let received =
                unsafe { libc::recv(socket.as_raw_fd(), std::ptr::null_mut(), 0, libc::MSG_TRUNC) };
            if received < 0 {
                match io::Error::last_os_error().raw_os_error() {
                    Some(libc::EAGAIN) => break,
                    // Events were lost, or a signal came: look at everything once.
                    _ => {
                        seen = true;
                        continue;
                    }
                }
            }
            seen = true;
        }
        if seen {
            CHANGES.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn open() -> io::Result<OwnedFd> {
    if !is_initial_user_namespace() {
        return Err(io::Error::other("not in the initial user namespace"));
    }
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointer is passed.
    let socket = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_KOBJECT_UEVENT) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: all zeros are a valid `sockaddr_nl`.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = KERNEL_GROUP;
    let size = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    // SAFETY: the pointer is to a `sockaddr_nl` of the size given, and outlives the call.
    match unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) } {
        0 => Ok(socket),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced() {
        assert!(would_announce(Path::new("/sys/class/no-such-class")));
        assert!(would_announce(Path::new("/proc/net/rpc/no-such-file/none")));
        assert!(!would_announce(Path::new("/tmp/none")));
        assert!(announces(Path::new("/sys/class/net")));
        assert!(!announces(Path::new("/sys/fs")) && !announces(Path::new("/proc")));
    }

    #[test]
    fn an_event_is_a_change_and_silence_is_none() {
        let mut events = Uevents::listen();
        assert!(events.socket.is_some(), "anybody may listen");
        events.poll();
        let before = changes().unwrap();
        let mut seen = Seen::default();
        assert!(!seen.holds());
        seen.note_listed(Path::new("/sys/class/net"), changes());
        assert!(seen.holds() || changes().unwrap() > before);
        // Asks the kernel to send an event of the loopback interface again; needs root.
        let asked = std::fs::write("/sys/class/net/lo/uevent", "change\n");
        for _ in 0..100 {
            events.poll();
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        if asked.is_ok() {
            assert!(changes().unwrap() > before && !seen.holds());
        }
        seen.note_absent(Path::new("/sys/class/none"), changes());
        assert!((0..=LOOKS).any(|_| !seen.holds()), "not for ever");
    }
}
