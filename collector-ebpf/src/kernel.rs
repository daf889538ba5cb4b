//! How the programs read kernel memory, whose layout they learn only when they are loaded.
//!
//! The offset of a member is a constant of the running kernel: user space finds it in the kernel's BTF and writes it
//! into read-only data before the program is loaded. The verifier sees frozen data as constants, so that a member
//! read through [`Direct`] stays typed, and a branch on such a constant costs nothing where it isn't taken.

use core::mem::MaybeUninit;

use aya_ebpf::Argument;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::maps::Array;
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};

use crate::cgroups::{CgroupSet, CgroupSlot, WAYS};
use crate::maps::WHOLE;
use crate::scale::{SIZE_TABLES, SizeHistogram, TIME_TABLES, TimeHistogram};

/// `number & MASK`, done where the verifier sees it. The compiler would leave out a mask that it knows to change nothing;
/// but the verifier does not know what the compiler knows.
#[inline(always)]
pub fn masked<const MASK: i32>(number: usize) -> usize {
    let mut bounded = number;
    // SAFETY: one instruction on one register, without memory or stack; what it leaves is at most the mask.
    unsafe {
        core::arch::asm!("{0} &= {1}", inout(reg) bounded, const MASK, options(pure, nomem, nostack));
        core::hint::assert_unchecked(bounded <= MASK as usize);
    }
    bounded
}

/// The same number, in a register of its own: what the verifier learns of it by a compare it knows where the number is used. Of a
/// copy that lay on the stack meanwhile 5.10 would not know it.
#[inline(always)]
pub fn apart(number: usize) -> usize {
    let mut own = number;
    // SAFETY: no instruction.
    unsafe {
        core::arch::asm!("/* {0} */", inout(reg) own, options(pure, nomem, nostack, preserves_flags));
    }
    own
}

/// An array that is reached without a lookup: to the kernel it is one value, which holds all the elements. User space says
/// how many they are ([`WHOLE`]), and gives the program a number by which it keeps within them.
#[repr(transparent)]
pub struct Whole<T>(Array<T>);

impl<T> Whole<T> {
    pub const fn new(flags: u32) -> Self {
        Whole(Array::with_max_entries(1, flags | WHOLE))
    }

    /// # Safety
    /// There is such an element, and the verifier sees it too.
    #[inline(always)]
    pub unsafe fn element(&'static self, number: usize) -> &'static mut T {
        // SAFETY: the caller's.
        unsafe { self.part(number) }
    }

    /// The part of that number, where the array is taken to be made of such parts.
    ///
    /// # Safety
    /// Likewise.
    #[inline(always)]
    pub unsafe fn part<P>(&'static self, number: usize) -> &'static mut P {
        let mut first: *mut P = core::ptr::from_ref(self).cast_mut().cast();
        // SAFETY: no instruction: the compiler is to forget that it knows an object there, which is the map's definition. The
        // loader puts the address of the value in its place; it lives as long as the program, and holds but numbers.
        unsafe {
            core::arch::asm!("/* {0} */", inout(reg) first, options(pure, nomem, nostack, preserves_flags));
            core::hint::assert_unchecked(!first.is_null());
            &mut *first.add(number)
        }
    }
}

/// A pointer to a kernel object.
pub type Object = *const u8;

/// A way to read a member of a kernel object.
pub trait Read {
    /// # Safety
    /// `object` is a kernel pointer that the program may follow, `offset` that of a member of this size.
    unsafe fn member<T: Copy>(object: Object, offset: u32) -> T;

    /// A number that tells `object` from others of its kind, as long as `origin` is always the same place in a map.
    fn number(object: Object, origin: *const u8) -> u64;
}

/// Plain loads: for programs whose arguments the verifier knows by type (`tp_btf`). A bad address reads 0.
pub enum Direct {}

impl Read for Direct {
    #[inline(always)]
    unsafe fn member<T: Copy>(object: Object, offset: u32) -> T {
        // SAFETY: the caller vouches for the object; the verifier checks that the load is within it.
        unsafe { object.add(offset as usize).cast::<T>().read_volatile() }
    }

    #[inline(always)]
    fn number(object: Object, origin: *const u8) -> u64 {
        let mut number = object as u64;
        // The verifier lets nobody reckon with a typed pointer; but the distance between two pointers is a number.
        // SAFETY: one instruction on registers, without memory or stack.
        unsafe {
            core::arch::asm!("{0} -= {1}", inout(reg) number, in(reg) origin, options(pure, nomem, nostack));
        }
        number
    }
}

/// Reads by a helper that checks the address: for programs whose arguments are mere numbers (`raw_tp`).
pub enum Probed {}

impl Read for Probed {
    #[inline(always)]
    unsafe fn member<T: Copy>(object: Object, offset: u32) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the helper checks the address. It writes the whole value: zeros where it can't be read, as with plain
        // loads. Zeros of our own might be a call of `memset`, and 5.10 dies of a plain load at a bad address in a program
        // with calls ([`way_of`]).
        unsafe {
            let from = object.add(offset as usize).cast();
            bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from);
            value.assume_init()
        }
    }

    #[inline(always)]
    fn number(object: Object, _: *const u8) -> u64 {
        object as u64
    }
}

/// The arguments of a tracepoint.
pub trait Arguments {
    fn argument<T: Argument>(&self, number: usize) -> T;
}

impl Arguments for BtfTracePointContext {
    #[inline(always)]
    fn argument<T: Argument>(&self, number: usize) -> T {
        self.arg(number)
    }
}

impl Arguments for RawTracePointContext {
    #[inline(always)]
    fn argument<T: Argument>(&self, number: usize) -> T {
        self.arg(number)
    }
}

/// Declares constants that user space sets before the programs are loaded.
#[macro_export]
macro_rules! constants {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $($(#[$doc])* #[unsafe(no_mangle)] static $name: ::aya_ebpf::Global<u32> = ::aya_ebpf::Global::new(0);)*
    };
}

/// Declares the two programs of a tracepoint: as `tp_btf` with plain loads, and as `raw_tp` with checked ones.
#[macro_export]
macro_rules! programs {
    ($($tracepoint:tt => $typed:ident, $raw:ident: $body:ident;)*) => {
        $(
            #[::aya_ebpf::macros::btf_tracepoint(function = $tracepoint)]
            fn $typed(context: ::aya_ebpf::programs::BtfTracePointContext) -> i32 {
                $body::<$crate::kernel::Direct, _>(&context);
                0
            }

            #[::aya_ebpf::macros::raw_tracepoint(tracepoint = $tracepoint)]
            fn $raw(context: ::aya_ebpf::programs::RawTracePointContext) -> i32 {
                $body::<$crate::kernel::Probed, _>(&context);
                0
            }
        )*
    };
}

/// Declares how the number of a task's cgroup is read, and the offsets for it.
#[macro_export]
macro_rules! task_cgroup {
    () => {
        $crate::constants! {
            /// Offsets on the way from a task to its cgroup.
            TASK_CGROUPS,
            TASK_GROUP,
            CSS_SET_CGROUP,
            GROUP_CGROUP,
            CGROUP_NODE,
            NODE_ID,
            /// A `CgroupSource`.
            CGROUP_SOURCE,
        }

        /// What says in which cgroup the task is, and is the same object for tasks that are in the same; null when cgroups are
        /// not told apart.
        #[inline(always)]
        fn task_group<R: $crate::kernel::Read>(task: $crate::kernel::Object) -> $crate::kernel::Object {
            use $crate::cgroups::CgroupSource;
            let source = CGROUP_SOURCE.load();
            // SAFETY: each member holds a pointer.
            unsafe {
                if source == CgroupSource::Unified as u32 {
                    R::member(task, TASK_CGROUPS.load())
                } else if source == CgroupSource::Scheduler as u32 {
                    R::member(task, TASK_GROUP.load())
                } else {
                    core::ptr::null()
                }
            }
        }

        /// The kernfs node of the cgroup of what `task_group` gives; null where there is none.
        #[inline(always)]
        fn group_node<R: $crate::kernel::Read>(group: $crate::kernel::Object) -> $crate::kernel::Object {
            if group.is_null() {
                return core::ptr::null();
            }
            let unified = CGROUP_SOURCE.load() == $crate::cgroups::CgroupSource::Unified as u32;
            let offset = if unified { CSS_SET_CGROUP.load() } else { GROUP_CGROUP.load() };
            // SAFETY: each member holds a pointer to the object that the next line reads from, or null.
            unsafe {
                let cgroup: $crate::kernel::Object = R::member(group, offset);
                if cgroup.is_null() { core::ptr::null() } else { R::member(cgroup, CGROUP_NODE.load()) }
            }
        }

        /// The number of the cgroup of what `task_group` gives, 0 when cgroups are not told apart.
        #[allow(dead_code, reason = "a probe takes the node or the number")]
        #[inline(always)]
        fn group_cgroup<R: $crate::kernel::Read>(group: $crate::kernel::Object) -> u64 {
            let node = group_node::<R>(group);
            if node.is_null() {
                // An autogroup, which the scheduler makes for a session, has no cgroup: its tasks are in the root.
                let scheduler = $crate::cgroups::CgroupSource::Scheduler as u32;
                return u64::from(CGROUP_SOURCE.load() == scheduler);
            }
            // SAFETY: a member of the node.
            unsafe { R::member(node, NODE_ID.load()) }
        }

        /// The kernfs node of the task's cgroup; null when cgroups are not told apart.
        #[allow(dead_code, reason = "a probe takes the node or the number")]
        #[inline(always)]
        fn task_node<R: $crate::kernel::Read>(task: $crate::kernel::Object) -> $crate::kernel::Object {
            group_node::<R>(task_group::<R>(task))
        }

        /// The number of the task's cgroup, 0 when cgroups are not told apart.
        #[allow(dead_code, reason = "a probe takes the node or the number")]
        #[inline(always)]
        fn task_cgroup<R: $crate::kernel::Read>(task: $crate::kernel::Object) -> u64 {
            group_cgroup::<R>(task_group::<R>(task))
        }
    };
}

/// Declares how the number of a socket's cgroup is read, and the offsets for it.
#[macro_export]
macro_rules! socket_cgroup {
    () => {
        $crate::constants! {
            /// Offset within `struct sock`.
            SOCK_CGROUP,
            /// 0: cgroups are not told apart. 1: a socket points to its cgroup. 2: the two lowest bits of what it has there
            /// say what else it may be (up to 5.14).
            SOCK_CGROUP_FORM,
            /// Offsets within `cgroup` and `kernfs_node`.
            CGROUP_NODE,
            NODE_ID,
        }

        /// The number of the socket's cgroup in version 2, 0 where it is not known.
        #[inline(always)]
        fn socket_cgroup<R: $crate::kernel::Read>(socket: $crate::kernel::Object) -> u64 {
            use $crate::kernel::{Object, Probed, Read};
            // SAFETY: each member holds a pointer to the object that the next line reads from, or null.
            unsafe {
                match SOCK_CGROUP_FORM.load() {
                    1 => {
                        let cgroup: Object = R::member(socket, SOCK_CGROUP.load());
                        let node: Object = R::member(cgroup, CGROUP_NODE.load());
                        R::member(node, NODE_ID.load())
                    }
                    2 => {
                        // A number to the verifier, so that what follows is read with a check. Where net_cls or net_prio
                        // of version 1 is in use, it is no pointer.
                        let value: u64 = R::member(socket, SOCK_CGROUP.load());
                        if value & 1 != 0 || value == 0 {
                            return 0;
                        }
                        let node: Object = Probed::member((value & !3) as Object, CGROUP_NODE.load());
                        Probed::member(node, NODE_ID.load())
                    }
                    _ => 0,
                }
            }
        }
    };
}

/// What every object has at its end.
#[macro_export]
macro_rules! object {
    () => {
        #[panic_handler]
        fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
            loop {}
        }

        #[unsafe(link_section = "license")]
        #[unsafe(no_mangle)]
        static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
    };
}

/// Adds to a counter that other CPUs, or an interrupt of this one, may add to as well.
///
/// It is one instruction, which kernels know from their first BPF on: those that give the old value are younger than 5.10.
#[inline(always)]
pub fn add(counter: &mut u64, by: u64) {
    // SAFETY: the reference is to memory of a map, and the addition is atomic.
    unsafe {
        core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) by, options(nostack));
    }
}

/// Counts a time in a histogram.
#[inline(always)]
pub fn count_time(histogram: &mut TimeHistogram, ns: u64) {
    let bucket = TIME_TABLES.bucket(ns);
    if bucket < histogram.buckets.len() {
        add(&mut histogram.buckets[bucket], 1);
        add(&mut histogram.sum_ns, ns);
    }
}

/// Counts a size in a histogram.
#[inline(always)]
pub fn count_size(histogram: &mut SizeHistogram, bytes: u64) {
    let bucket = SIZE_TABLES.bucket(bytes);
    if bucket < histogram.buckets.len() {
        add(&mut histogram.buckets[bucket], 1);
        add(&mut histogram.sum_bytes, bytes);
    }
}

/// The slot of a cgroup, taken now if it has none yet, and whether it was.
#[inline(always)]
pub fn slot_of(set: &mut CgroupSet, id: u64) -> (Option<&mut CgroupSlot>, bool) {
    let (way, taken) = way_of(set, id);
    if way < WAYS { (Some(&mut set.slots[way]), taken) } else { (None, false) }
}

/// As [`slot_of`], by the slot's number in the set; [`WAYS`] when there is none left.
///
/// It is no function of its own: Linux 5.10 dies of a plain load at a bad address in a program that calls another function,
/// because it does not find where to go on.
#[inline(always)]
pub fn way_of(set: &mut CgroupSet, id: u64) -> (usize, bool) {
    for way in 0..WAYS {
        if set.slots[way].id == id {
            return (way, false);
        }
    }
    for way in 0..WAYS {
        // SAFETY: a reference to it. Read again: what the first search read would take stack, on the way of all.
        if unsafe { (&raw const set.slots[way].id).read_volatile() } == 0 {
            set.slots[way].id = id;
            return (way, true);
        }
    }
    (WAYS, false)
}
