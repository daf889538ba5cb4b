//! The probe of dropped packets: how its map is laid out.

/// Protocols that are told apart.
pub const PROTOCOLS: [&str; 3] = ["ipv4", "ipv6", "other"];
/// The kernel's numbers of reasons that are counted one by one; a power of two.
pub const REASONS: usize = 256;

/// What is counted: an element of the map `HOST` for each row.
#[repr(C, align(64))]
pub struct HostBank {
    /// By protocol and by the kernel's number of the reason; the last one stands for all above it, and for those that
    /// parts of the kernel have of their own.
    pub drops: [[u64; REASONS]; 4],
}
