//! Keeping the process small: how the C library's allocator holds on to memory.

/// One arena for all threads, and freed memory at the end of the heap given back early. Threads here allocate
/// seldom, so they have no use for an arena each.
pub fn keep_small() {
    const TRIM_AT: libc::c_int = 256 * 1024;
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) only sets parameters of the allocator; it is called before other threads exist.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_AT);
    }
}

/// Gives memory that is no longer in use back to the kernel. Costs up to a millisecond: for after a rare, large piece
/// of work. Does nothing where the C library has no such call.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call has no conditions; it takes the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
