//! What the standard library does not do with sockets: listening on vsock(7), on those that systemd hands over
//! (sd_listen_fds(3)), and waiting for more than a byte.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use tokio::io::unix::AsyncFd;

/// The first descriptor that systemd hands over.
const FIRST_INHERITED: libc::c_int = 3;
/// More are not looked at.
const MOST_INHERITED: libc::c_int = 64;
const BACKLOG: libc::c_int = 1024;

/// What kind of socket a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    Inet,
    Unix,
    Vsock,
}

/// The sockets that `LISTEN_PID` and `LISTEN_FDS` announce, ready not to block. Call it once.
///
/// # Errors
/// When what was handed over is no socket, or of a kind that is not served.
pub fn inherited() -> io::Result<Vec<(Domain, OwnedFd)>> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<libc::c_int>().ok());
    // SAFETY: the call has no conditions.
    let own_pid = unsafe { libc::getpid() };
    if number("LISTEN_PID") != Some(own_pid) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").unwrap_or(0).clamp(0, MOST_INHERITED);
    (FIRST_INHERITED..FIRST_INHERITED + count)
        .map(|descriptor| {
            // SAFETY: no pointer is passed; a descriptor that is not open is an error.
            let is_open = unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } >= 0;
            if !is_open {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: systemd opened it for this process, and says so once; nobody else here owns it.
            let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
            set_nonblocking(&socket)?;
            Ok((domain(&socket)?, socket))
        })
        .collect()
}

fn domain(socket: &OwnedFd) -> io::Result<Domain> {
    let mut domain: libc::c_int = 0;
    let mut size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: both pointers are to values of the size given, and outlive the call.
    let result = unsafe {
        let value = (&raw mut domain).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_DOMAIN, value, &raw mut size)
    };
    match (result, domain) {
        (0, libc::AF_INET | libc::AF_INET6) => Ok(Domain::Inet),
        (0, libc::AF_UNIX) => Ok(Domain::Unix),
        (0, libc::AF_VSOCK) => Ok(Domain::Vsock),
        (0, other) => Err(io::Error::other(format!("a socket of address family {other} is not served"))),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_nonblocking(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: no pointer is passed.
    let result = unsafe {
        let flags = libc::fcntl(socket.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(socket.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A socket that listens on that vsock port for every context, and does not block.
///
/// # Errors
/// When this kernel has no vsock, or the port is taken.
pub fn listen_vsock(port: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointer is passed.
    let socket = unsafe { libc::socket(libc::AF_VSOCK, kind, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let address = vsock_address(libc::VMADDR_CID_ANY, port);
    let size = size_of::<libc::sockaddr_vm>() as libc::socklen_t;
    // SAFETY: the pointer is to a `sockaddr_vm` of the size given, and outlives the call.
    let result = unsafe {
        let bound = libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size);
        if bound == 0 { libc::listen(socket.as_raw_fd(), BACKLOG) } else { bound }
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

fn vsock_address(context: u32, port: u32) -> libc::sockaddr_vm {
    // SAFETY: all zeros are a valid `sockaddr_vm`.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address.svm_cid = context;
    address.svm_port = port;
    address
}

/// A listening socket of any kind, which tokio waits for.
pub struct AsyncListener(AsyncFd<OwnedFd>);

impl AsyncListener {
    /// # Errors
    /// When the descriptor can't be waited for.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        // SAFETY: the descriptor is owned by the value, which never gives another one in its place.
        unsafe { AsyncFd::register(socket) }.map(AsyncListener).map_err(Into::into)
    }

    /// The next connection, which does not block.
    ///
    /// # Errors
    /// Those of accept(2).
    pub async fn accept(&self) -> io::Result<OwnedFd> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(accepted) = ready.try_io(|socket| accept(socket.get_ref())) {
                return accepted;
            }
        }
    }
}

fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let none = std::ptr::null_mut();
    // SAFETY: the address of the peer is not asked for.
    let socket = unsafe { libc::accept4(listener.as_raw_fd(), none, std::ptr::null_mut(), flags) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

/// Lets a reader sleep until so many bytes have come, or the stream has ended (socket(7), `SO_RCVLOWAT`). The kernel
/// bounds it by the socket's buffer.
///
/// # Errors
/// As setsockopt(2) has them.
pub fn set_low_water(socket: &impl AsFd, bytes: usize) -> io::Result<()> {
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    // SAFETY: the descriptor is borrowed for the call, and the value lives during it, with its size given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[tokio::test]
    async fn connections_are_waited_for() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let socket = OwnedFd::from(listener);
        assert_eq!(domain(&socket).unwrap(), Domain::Inet);
        let listener = AsyncListener::new(socket).unwrap();
        let client = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            std::net::TcpStream::connect(address).unwrap().write_all(b"word").unwrap();
        });
        let accepted = listener.accept().await.unwrap();
        client.join().unwrap();
        let mut stream = std::net::TcpStream::from(accepted);
        stream.set_nonblocking(false).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "word");
    }
}
