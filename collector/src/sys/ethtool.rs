//! What a driver says of its network device, by ioctl(2) SIOCETHTOOL: settings of the link, the driver, and its
//! statistics with their names.
//! Cost: one system call a question; the names of statistics take one more, and are for the caller to keep.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GSET: u32 = 0x1;
const ETHTOOL_GDRVINFO: u32 = 0x3;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSTATS: u32 = 0x1d;
const ETH_SS_STATS: u32 = 1;
/// Bytes of a name of a statistic.
pub const NAME_SIZE: usize = 32;
/// A driver that says that it has more statistics is not asked for them.
pub const MAX_STATISTICS: usize = 32_768;
/// Room for twice as many names, whoever asks for what: before Linux 6.18 the kernel writes as many as the driver
/// has at that moment, whatever number it was told. Pages that it does not write cost no memory.
const ROOM: usize = 16 + 2 * MAX_STATISTICS * NAME_SIZE;

/// A socket for the questions.
#[derive(Debug, Default)]
pub struct Ethtool {
    socket: Option<OwnedFd>,
    /// What goes to the kernel and comes back; in words, which it writes as such.
    buffer: Vec<u64>,
}

/// `struct ethtool_cmd`: what the link can do, in the first 32 modes, which is all that this question shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkSettings {
    pub supported: u32,
    pub advertised: u32,
    pub autonegotiation: u8,
}

/// `struct ethtool_drvinfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Driver {
    texts: [[u8; 32]; 5],
    pub statistics: u32,
}

impl Driver {
    /// With these texts: name, version, version of the firmware, place on the bus, version of the ROM.
    pub fn new(texts: [&[u8]; 5], statistics: u32) -> Self {
        let mut driver = Driver { texts: [[0; 32]; 5], statistics };
        for (to, from) in driver.texts.iter_mut().zip(texts) {
            let length = from.len().min(to.len());
            to[..length].copy_from_slice(&from[..length]);
        }
        driver
    }

    pub fn name(&self) -> &[u8] {
        super::netlink::string(&self.texts[0])
    }

    pub fn version(&self) -> &[u8] {
        super::netlink::string(&self.texts[1])
    }

    pub fn firmware_version(&self) -> &[u8] {
        super::netlink::string(&self.texts[2])
    }

    pub fn bus(&self) -> &[u8] {
        super::netlink::string(&self.texts[3])
    }

    pub fn rom_version(&self) -> &[u8] {
        super::netlink::string(&self.texts[4])
    }
}

impl Ethtool {
    /// # Errors
    /// EOPNOTSUPP where the device has no link, ENODEV where it is gone.
    pub fn link_settings(&mut self, device: &[u8]) -> io::Result<LinkSettings> {
        // struct ethtool_cmd, 44 bytes.
        let bytes = self.ask(device, ETHTOOL_GSET, 0, 0, 44)?;
        let word = |offset| super::netlink::u32_at(bytes, offset).unwrap_or(0);
        // Speed (2), duplex, port, address, transceiver, then autonegotiation.
        let autonegotiation = bytes.get(18).copied().unwrap_or(0);
        Ok(LinkSettings { supported: word(4), advertised: word(8), autonegotiation })
    }

    /// # Errors
    /// As [`Ethtool::link_settings`].
    pub fn driver(&mut self, device: &[u8]) -> io::Result<Driver> {
        // struct ethtool_drvinfo, 196 bytes: five texts, twelve bytes of nothing, private flags, statistics.
        let bytes = self.ask(device, ETHTOOL_GDRVINFO, 0, 0, 196)?;
        let mut texts = bytes[4..164].chunks_exact(32);
        let texts = std::array::from_fn(|_| texts.next().unwrap_or_default());
        Ok(Driver::new(texts, super::netlink::u32_at(bytes, 180).unwrap_or(0)))
    }

    /// The names of `count` statistics, [`NAME_SIZE`] bytes each, padded with NUL.
    ///
    /// # Errors
    /// As [`Ethtool::link_settings`].
    pub fn statistic_names(&mut self, device: &[u8], count: usize) -> io::Result<&[u8]> {
        // struct ethtool_gstrings: command, set, count, and then the names.
        let count = count.min(MAX_STATISTICS);
        let bytes = self.ask(device, ETHTOOL_GSTRINGS, ETH_SS_STATS, count as u32, ROOM)?;
        let given = super::netlink::u32_at(bytes, 8).unwrap_or(0) as usize;
        Ok(bytes[12..].get(..given * NAME_SIZE).unwrap_or_default())
    }

    /// The values of `count` statistics, in the order of their names. Fewer or more where the driver has changed
    /// its mind.
    ///
    /// # Errors
    /// As [`Ethtool::link_settings`].
    pub fn statistics(&mut self, device: &[u8], count: usize) -> io::Result<&[u64]> {
        // struct ethtool_stats: command, count, and then the values.
        let count = count.min(MAX_STATISTICS);
        let bytes = self.ask(device, ETHTOOL_GSTATS, count as u32, 0, ROOM)?;
        let given = super::netlink::u32_at(bytes, 4).unwrap_or(0) as usize;
        Ok(self.buffer[1..].get(..given).unwrap_or_default())
    }

    /// Sends `command` and two more words, and gives back the first `size` bytes of what the kernel made of them.
    fn ask(
        &mut self,
        device: &[u8],
        command: u32,
        second: u32,
        third: u32,
        size: usize,
    ) -> io::Result<&[u8]> {
        let socket = self.open()?;
        if device.len() >= libc::IFNAMSIZ {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.buffer.is_empty() {
            self.buffer = vec![0; ROOM / 8];
        }
        let word = |first: u32, second: u32| {
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&first.to_ne_bytes());
            bytes[4..].copy_from_slice(&second.to_ne_bytes());
            u64::from_ne_bytes(bytes)
        };
        self.buffer[..2].copy_from_slice(&[word(command, second), word(third, 0)]);
        // SAFETY: an `ifreq` may be all zero.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, &from) in request.ifr_name.iter_mut().zip(device) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = self.buffer.as_mut_ptr().cast();
        // SAFETY: the kernel reads the `ifreq` and writes what the command asks for to its pointer: a structure
        // of fixed size, or as many names or values as the driver has, for which there is room (see `ROOM`).
        if unsafe { libc::ioctl(socket, SIOCETHTOOL as _, &raw mut request) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let size = size.min(ROOM);
        // SAFETY: the words are as many bytes, all of them set, and `size` is not more.
        Ok(unsafe { std::slice::from_raw_parts(self.buffer.as_ptr().cast(), size) })
    }

    fn open(&mut self) -> io::Result<libc::c_int> {
        if let Some(socket) = &self.socket {
            return Ok(socket.as_raw_fd());
        }
        // SAFETY: no pointer is passed.
        let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        self.socket = Some(unsafe { OwnedFd::from_raw_fd(socket) });
        Ok(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_a_driver_and_no_link() {
        let mut ethtool = Ethtool::default();
        if let Err(error) = ethtool.driver(b"lo") {
            assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
        }
        assert_eq!(ethtool.link_settings(b"lo").unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
        assert_eq!(ethtool.driver(b"no_such").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert!(ethtool.driver(b"a_name_that_is_too_long").is_err());
        assert!(ethtool.statistics(b"lo", 1 << 30).is_err(), "it has none");
    }
}
