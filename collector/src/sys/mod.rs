//! The only home of libc and of `unsafe` (with the ring and the eBPF maps): kept-open files, clocks, system calls.

pub mod btrfs;
pub mod clock;
pub mod file;
pub mod identity;
pub mod memory;
pub mod mounts;
pub mod netlink;
pub mod sockets;
pub mod sysfs;
pub mod text;
