//! The memory allocator of the C library.

/// Gives memory that is no longer in use back to the kernel. Costs up to a millisecond: for after a rare, large piece
/// of work. Does nothing where the C library has no such call.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call has no conditions; it takes the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
