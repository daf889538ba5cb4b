//! How the programs read kernel memory, whose layout they learn only when they are loaded.
//!
//! The offset of a member is a constant of the running kernel: user space finds it in the kernel's BTF and writes it
//! into read-only data before the program is loaded. The verifier sees frozen data as constants, so that a member
//! read through [`Direct`] stays typed, and a branch on such a constant costs nothing where it isn't taken.

use aya_ebpf::helpers::bpf_probe_read_kernel;

/// `number & MASK`, done where the verifier sees it. The compiler would leave out a mask that it knows to change nothing;
/// but the verifier does not know what the compiler knows.
#[inline(always)]
pub fn masked<const MASK: i32>(number: usize) -> usize {
    let mut bounded = number;
    // SAFETY: one instruction on one register, without memory or stack.
    unsafe {
        core::arch::asm!("{0} &= {1}", inout(reg) bounded, const MASK, options(pure, nomem, nostack));
    }
    bounded
}

/// A pointer to a kernel object.
pub type Object = *const u8;

/// A way to read a member of a kernel object.
pub trait Read {
    /// # Safety
    /// `object` is a kernel pointer that the program may follow, `offset` that of a member of this size.
    unsafe fn member<T: Copy>(object: Object, offset: u32) -> T;
}

/// Plain loads: for programs whose arguments the verifier knows by type (`tp_btf`). A bad address reads 0.
pub enum Direct {}

impl Read for Direct {
    #[inline(always)]
    unsafe fn member<T: Copy>(object: Object, offset: u32) -> T {
        // SAFETY: the caller vouches for the object; the verifier checks that the load is within it.
        unsafe { object.add(offset as usize).cast::<T>().read_volatile() }
    }
}

/// Reads by a helper that checks the address: for programs whose arguments are mere numbers (`raw_tp`).
pub enum Probed {}

impl Read for Probed {
    #[inline(always)]
    unsafe fn member<T: Copy>(object: Object, offset: u32) -> T {
        // SAFETY: the helper checks the address; a value that can't be read is all zeros, as with plain loads.
        unsafe {
            bpf_probe_read_kernel(object.add(offset as usize).cast::<T>()).unwrap_or(core::mem::zeroed())
        }
    }
}
