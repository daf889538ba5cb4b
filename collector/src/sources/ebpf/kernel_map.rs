//! The memory of a BPF array, mapped into this process: reading it is no system call.
//!
//! Kernel interface: mmap(2) of an array made with `BPF_F_MMAPABLE`. The kernel's programs write to it at any time,
//! so every word is an atomic one. It refuses elements that are not whole words. The mapping keeps the array alive,
//! with no descriptor open, and needs no privilege once it is there.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::AtomicU64;

/// An array of `elements`, each of `words` 64-bit words.
pub(super) struct KernelMap {
    start: *const AtomicU64,
    words: usize,
    elements: usize,
}

// SAFETY: the memory belongs to no thread, and is only reached through atomics.
unsafe impl Send for KernelMap {}

impl KernelMap {
    /// Maps the array behind `fd`, whose elements have the layout of `T`.
    ///
    /// # Errors
    /// As mmap(2): among others when the array is smaller than that.
    pub(super) fn new<T>(fd: BorrowedFd<'_>, elements: usize) -> io::Result<Self> {
        const { assert!(size_of::<T>().is_multiple_of(8), "an array's elements are whole words") };
        let words = size_of::<T>() / 8;
        let length = elements * size_of::<T>();
        // SAFETY: a fresh shared mapping at an address that the kernel chooses touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(KernelMap { start: start.cast(), words, elements })
    }

    /// The words of an element.
    ///
    /// # Panics
    /// When there is no such element.
    pub(super) fn element(&self, index: usize) -> &[AtomicU64] {
        assert!(index < self.elements, "element {index} of {}", self.elements);
        // SAFETY: the mapping spans `elements * words` words and lives as long as `self`; page alignment suffices.
        unsafe { std::slice::from_raw_parts(self.start.add(index * self.words), self.words) }
    }

    pub(super) fn elements(&self) -> usize {
        self.elements
    }
}

impl Drop for KernelMap {
    fn drop(&mut self) {
        let length = self.elements * self.words * 8;
        // SAFETY: this is the mapping that `new` made, and no slice of it outlives `self`.
        unsafe { libc::munmap(self.start.cast_mut().cast(), length) };
    }
}
