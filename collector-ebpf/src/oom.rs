//! The probe of out-of-memory kills: how its maps are laid out.

/// Levels of a victim's cgroup that are kept, from the innermost.
pub const LEVELS: usize = 6;
/// Bytes of a level's name, with the 0 at its end.
pub const NAME: usize = 96;

/// What is said of a kill, through the ring buffer.
#[repr(C)]
pub struct Kill {
    pub pid: u32,
    /// Names in `path`.
    pub levels: u32,
    /// The number of the victim's cgroup, 0 where it is not known.
    pub cgroup: u64,
    pub comm: [u8; 16],
    /// Names of the cgroup and of those above it, without the root; a longer one is cut.
    pub path: [[u8; NAME]; LEVELS],
}

/// Bytes of the ring buffer: more kills than one second allows.
pub const RING_BYTES: u32 = 64 << 10;
/// Kills in one second that are said; more are counted alone.
pub const KILLS_A_SECOND: u64 = 32;

/// The only element of the map `HOST`.
#[repr(C, align(64))]
pub struct HostBank {
    pub kills: u64,
    /// Kills that were not said, because there were too many in a second.
    pub unsaid: u64,
    /// The second in which kills were said last, and how many.
    pub second: u64,
    pub said: u64,
    /// Kills that were not said, because nobody had taken those before out of the ring buffer.
    pub full: u64,
    pub reserved: [u64; 3],
}
