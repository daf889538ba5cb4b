//! The only home of libc and of `unsafe` (with the ring and the eBPF maps): kept-open files, clocks, system calls.

#[cfg(test)]
pub(crate) mod bent;
pub mod bpf;
pub mod btrfs;
pub mod clock;
pub mod ethtool;
pub mod file;
pub mod folder;
pub mod genetlink;
pub mod gzip;
pub mod identity;
pub mod kept_entries;
pub mod memory;
pub mod mounts;
pub mod netlink;
pub mod network_octets;
pub mod perf;
pub mod privileges;
pub mod sockets;
pub mod sysfs;
pub mod tcp_sockets;
pub mod text;
pub mod uevent;
pub mod unix_socket;
