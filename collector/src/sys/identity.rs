//! What the kernel says of itself: uname(2), and the constants of sysconf(3).

use std::mem::MaybeUninit;

/// The six fields of `struct utsname`.
pub struct Uname(libc::utsname);

impl Uname {
    /// Cost: one system call.
    pub fn read() -> std::io::Result<Self> {
        let mut facts = MaybeUninit::<libc::utsname>::zeroed();
        // SAFETY: the pointer is to a whole `utsname` that outlives the call.
        if unsafe { libc::uname(facts.as_mut_ptr()) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: all bytes are initialised: zeroed, then written by the kernel.
        Ok(Uname(unsafe { facts.assume_init() }))
    }

    pub fn sysname(&self) -> &[u8] {
        field(&self.0.sysname)
    }

    pub fn release(&self) -> &[u8] {
        field(&self.0.release)
    }

    pub fn version(&self) -> &[u8] {
        field(&self.0.version)
    }

    pub fn machine(&self) -> &[u8] {
        field(&self.0.machine)
    }

    pub fn nodename(&self) -> &[u8] {
        field(&self.0.nodename)
    }

    pub fn domainname(&self) -> &[u8] {
        field(&self.0.domainname)
    }
}

/// Up to the first NUL.
fn field(chars: &[libc::c_char]) -> &[u8] {
    // SAFETY: `c_char` is one byte without invalid values, and the slice has the same length and lifetime.
    let bytes = unsafe { std::slice::from_raw_parts(chars.as_ptr().cast::<u8>(), chars.len()) };
    bytes.split(|&b| b == 0).next().unwrap_or_default()
}

/// The effective user of this process.
pub fn user_id() -> u32 {
    // SAFETY: the call has no conditions and always succeeds.
    unsafe { libc::geteuid() }
}

/// Bytes in a page of memory.
pub fn page_size() -> u64 {
    // SAFETY: no pointer is passed.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_names_itself() {
        let uname = Uname::read().unwrap();
        assert_eq!(uname.sysname(), b"Linux");
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert_eq!(uname.release(), release.trim_end().as_bytes());
        assert!(page_size().is_power_of_two());
    }
}
