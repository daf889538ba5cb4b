//! Connects to a Unix socket within a time: the standard library waits as long as the queue of the other side is full.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Connects to the stream socket at `path`; `timeout` holds for connecting, and for each write after it.
///
/// # Errors
/// As connect(2); `WouldBlock` when the time is over.
pub fn connect(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let path = path.as_os_str().as_bytes();
    let mut address =
        libc::sockaddr_un { sun_family: libc::AF_UNIX as libc::sa_family_t, sun_path: [0; 108] };
    // A zero ends the path.
    if path.len() >= address.sun_path.len() || path.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in address.sun_path.iter_mut().zip(path) {
        *to = *from as libc::c_char;
    }
    // SAFETY: no pointers are given.
    let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to nobody else.
    let stream = unsafe { UnixStream::from_raw_fd(fd) };
    stream.set_write_timeout(Some(timeout))?;
    let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: the address is whole and outlives the call, and the length is its own.
    let result = unsafe { libc::connect(stream.as_raw_fd(), (&raw const address).cast(), length) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_full_queue_ends_the_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let timeout = Duration::from_millis(20);
        assert_eq!(connect(&path, timeout).unwrap_err().kind(), io::ErrorKind::NotFound);
        let _listener = UnixListener::bind(&path).unwrap();
        let mut streams = Vec::new();
        let full = loop {
            match connect(&path, timeout) {
                Ok(stream) => streams.push(stream),
                Err(error) => break error,
            }
            assert!(streams.len() < 10_000, "nobody accepts, but the queue never fills");
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let long = Path::new("/").join("x".repeat(200));
        assert_eq!(connect(&long, timeout).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
