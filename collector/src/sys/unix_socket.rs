//! Unix sockets where the standard library is not enough: a stream that is connected within a time (it waits as long as
//! the queue of the other side is full), and datagrams that a server under another user may answer.

use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::Duration;

/// Anybody may write to it: the answer comes from whoever the server runs as.
const ANSWERABLE: u32 = 0o666;

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

/// A datagram socket with a name of its own, so that it can be answered; the name goes with it.
#[derive(Debug)]
pub struct NamedDatagram<'p> {
    socket: UnixDatagram,
    own: &'p Path,
}

impl<'p> NamedDatagram<'p> {
    /// Makes the socket `own` and connects it to the one at `server`. What an earlier process left at `own` is removed.
    ///
    /// # Errors
    /// As bind(2) and connect(2); `PermissionDenied` too when something else came to stand at `own`.
    pub fn connect(server: &Path, own: &'p Path) -> io::Result<Self> {
        // What no server keeps leaves no trace in its folder.
        if !std::fs::metadata(server)?.file_type().is_socket() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        match std::fs::remove_file(own) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let named = NamedDatagram { socket: UnixDatagram::bind(own)?, own };
        make_answerable(own)?;
        named.socket.connect(server)?;
        Ok(named)
    }

    pub fn socket(&self) -> &UnixDatagram {
        &self.socket
    }
}

impl Drop for NamedDatagram<'_> {
    fn drop(&mut self) {
        // Only a name is left if it fails, and the next socket takes it.
        let _ = std::fs::remove_file(self.own);
    }
}

/// Lets anybody write to the socket at that path. The folder belongs to somebody else, who may put a link there
/// meanwhile: so what was opened is looked at, and no other than that is changed.
fn make_answerable(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    let facts = file.metadata()?;
    if !facts.file_type().is_socket() || facts.nlink() != 1 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::set_permissions(opened, Permissions::from_mode(ANSWERABLE))
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

    #[test]
    fn a_datagram_socket_can_be_answered_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (path, own) = (folder.path().join("server"), folder.path().join("own"));
        assert_eq!(NamedDatagram::connect(&path, &own).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::write(&path, "").unwrap();
        assert_eq!(NamedDatagram::connect(&path, &own).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        std::fs::remove_file(&path).unwrap();
        let server = UnixDatagram::bind(&path).unwrap();
        // Left by a process that was killed.
        drop(UnixDatagram::bind(&own).unwrap());
        let named = NamedDatagram::connect(&path, &own).unwrap();
        assert_eq!(std::fs::metadata(&own).unwrap().mode() & 0o777, ANSWERABLE);
        named.socket().send(b"question").unwrap();
        let mut buffer = [0; 16];
        let (length, client) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"question");
        server.send_to(b"answer", client.as_pathname().unwrap()).unwrap();
        assert_eq!(named.socket().recv(&mut buffer).unwrap(), 6);
        drop(named);
        assert!(!own.exists());
    }

    #[test]
    fn nothing_but_a_socket_is_made_answerable() {
        let folder = tempfile::tempdir().unwrap();
        let (secret, link) = (folder.path().join("secret"), folder.path().join("link"));
        std::fs::write(&secret, "").unwrap();
        std::fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&secret, &link).unwrap();
        assert!(make_answerable(&link).is_err());
        assert!(make_answerable(&secret).is_err());
        assert_eq!(std::fs::metadata(&secret).unwrap().mode() & 0o777, 0o600);
    }
}
