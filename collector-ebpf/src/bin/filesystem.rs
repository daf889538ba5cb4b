//! The probe of file systems: how long reads, writes and fsyncs take, what they move and how they fail, by the type of the
//! file system.
//!
//! Kernel interface: the functions `vfs_read` and `vfs_write`, whose first argument of four is the file; and those of the
//! system calls fsync(2) and fdatasync(2), which are given the registers, and in them a descriptor; at their start and at
//! their end (fentry, fexit). `vfs_fsync_range` and `do_fsync` would do with less, but compilers make them a part of those
//! that call them; what the table of system calls points to stays a function.
//!
//! Cost: some 250 ns for both; that is why the probe is off by default. It refuses what goes another way: readv and its
//! like, splice, io_uring, memory that is mapped.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod kernel_side {
    use aya_ebpf::bindings::BPF_F_MMAPABLE;
    use aya_ebpf::helpers::generated::bpf_get_current_task;
    use aya_ebpf::helpers::{
        bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_probe_read_kernel_str_bytes,
    };
    use aya_ebpf::macros::{fentry, fexit, map};
    use aya_ebpf::maps::Array;
    use aya_ebpf::programs::{FEntryContext, FExitContext};
    use collector_ebpf::filesystem::{
        FSYNC, HostBank, READ, Started, TRIES, TYPES as TYPE_COUNT, TypeBank, TypeSlot, WRITE, started_place,
    };
    use collector_ebpf::kernel::{Direct, Object, Probed, Read, add, count_time};
    use collector_ebpf::{constants, object};

    #[map]
    static HOST: Array<HostBank> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    #[map]
    static TYPES: Array<TypeSlot> = Array::with_max_entries(TYPE_COUNT as u32, BPF_F_MMAPABLE);
    #[map]
    static BANKS: Array<TypeBank> = Array::with_max_entries(TYPE_COUNT as u32, BPF_F_MMAPABLE);
    #[map]
    static STARTED: Array<Started> = Array::with_max_entries(1, 0);

    constants! {
        /// Offsets on the way from a file to the name of its file system's type.
        FILE_INODE,
        INODE_SUPER,
        SUPER_TYPE,
        TYPE_NAME,
        /// Offsets on the way from a task to the file of a descriptor.
        TASK_FILES,
        FILES_TABLE,
        TABLE_FILES,
        TABLE_SIZE,
        /// Offset of a system call's first argument within `pt_regs`.
        REGISTERS_FIRST,
        /// How many low bits of a pid choose its place in `STARTED`.
        TASK_BITS,
        /// One less than the rows, which are a power of two.
        ROW_MASK,
    }

    /// What is kept of the operation of the task that runs, and one more than its pid.
    #[inline(always)]
    fn started(operation: usize) -> Option<(&'static mut Started, u64)> {
        let pid = bpf_get_current_pid_tgid() as u32;
        let place = started_place(operation, pid, TASK_BITS.load());
        // SAFETY: the map's memory lives as long as the program, and holds but numbers.
        STARTED.get_ptr_mut(place).map(|slot| (unsafe { &mut *slot }, u64::from(pid) + 1))
    }

    #[inline(always)]
    fn enter(operation: usize) -> i32 {
        if let Some((slot, task)) = started(operation) {
            // SAFETY: a helper without conditions.
            *slot = Started { task, ns: unsafe { bpf_ktime_get_ns() } };
        }
        0
    }

    /// The place of a file's type, taken now if it has none yet.
    #[inline(always)]
    fn type_of<R: Read>(file: Object) -> Option<u32> {
        // SAFETY: each member holds a pointer to the object that the next line reads from.
        let number: u64 = unsafe {
            let inode: Object = R::member(file, FILE_INODE.load());
            let root: Object = R::member(inode, INODE_SUPER.load());
            let kind: Object = R::member(root, SUPER_TYPE.load());
            // Where its name lies tells a type from others. Read without a check it would be a pointer to the verifiers since
            // 6.17, and not to be reckoned with.
            Probed::member(kind, TYPE_NAME.load())
        };
        if number == 0 {
            return None;
        }
        let first = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u32;
        for attempt in 0..TRIES as u32 {
            let place = (first + attempt) & (TYPE_COUNT as u32 - 1);
            // SAFETY: as in `started`; two CPUs that take slots at the same instant may give a type two of them, which user
            // space adds up.
            let slot = unsafe { &mut *TYPES.get_ptr_mut(place)? };
            if slot.number == number {
                return Some(place);
            }
            if slot.number == 0 {
                slot.number = number;
                // SAFETY: the helper checks the address, and ends what it writes with a zero.
                let _ = unsafe { bpf_probe_read_kernel_str_bytes(number as Object, &mut slot.name) };
                return Some(place);
            }
        }
        None
    }

    #[inline(always)]
    fn exit<R: Read>(operation: usize, file: Object, result: i64) -> i32 {
        let Some((slot, task)) = started(operation) else { return 0 };
        // Not both at once: that would be a call of `memset`, and 5.10 has no way on after a plain load at a bad address in a
        // program with calls.
        let began = Started { task: slot.task, ns: slot.ns };
        slot.task = 0;
        // SAFETY: helpers without conditions; the maps' memory lives as long as the program, and holds but numbers.
        unsafe {
            let (now, row) = (bpf_ktime_get_ns(), bpf_get_smp_processor_id() & ROW_MASK.load());
            let Some(host) = HOST.get_ptr_mut(row) else { return 0 };
            if began.task != task {
                add(&mut (*host).task_slots, 1);
                return 0;
            }
            let Some(place) = type_of::<R>(file) else {
                add(&mut (*host).type_slots, 1);
                return 0;
            };
            let Some(bank) = BANKS.get_ptr_mut(row * TYPE_COUNT as u32 + place) else { return 0 };
            let bank = &mut (*bank).operations[operation];
            count_time(&mut bank.latency, now.saturating_sub(began.ns));
            if result < 0 {
                add(&mut bank.errors, 1);
            } else if operation != FSYNC {
                add(&mut bank.bytes, result as u64);
            }
        }
        0
    }

    #[fentry(function = "vfs_read")]
    fn fs_read_enter(_: FEntryContext) -> i32 {
        enter(READ)
    }

    #[fexit(function = "vfs_read")]
    fn fs_read_exit(context: FExitContext) -> i32 {
        exit::<Direct>(READ, context.arg(0), context.arg(4))
    }

    #[fentry(function = "vfs_write")]
    fn fs_write_enter(_: FEntryContext) -> i32 {
        enter(WRITE)
    }

    #[fexit(function = "vfs_write")]
    fn fs_write_exit(context: FExitContext) -> i32 {
        exit::<Direct>(WRITE, context.arg(0), context.arg(4))
    }

    /// The file of a descriptor of the task that runs.
    #[inline(always)]
    fn file_of(descriptor: u32) -> Option<Object> {
        // SAFETY: a helper without conditions; each member holds a pointer to the object that the next line reads from.
        unsafe {
            let task = bpf_get_current_task() as Object;
            let files: Object = Probed::member(task, TASK_FILES.load());
            let table: Object = Probed::member(files, FILES_TABLE.load());
            let size: u32 = Probed::member(table, TABLE_SIZE.load());
            let all: Object = Probed::member(table, TABLE_FILES.load());
            let file: Object = Probed::member(all.wrapping_add(descriptor as usize * 8), 0);
            (descriptor < size && !file.is_null()).then_some(file)
        }
    }

    /// For both calls.
    #[fentry(function = "__x64_sys_fsync")]
    fn fs_fsync_enter(_: FEntryContext) -> i32 {
        enter(FSYNC)
    }

    /// For both calls.
    #[fexit(function = "__x64_sys_fsync")]
    fn fs_fsync_exit(context: FExitContext) -> i32 {
        // SAFETY: a member of the registers that the call was given.
        let descriptor: u32 = unsafe { Probed::member(context.arg::<Object>(0), REGISTERS_FIRST.load()) };
        // Where there is no such file there is no type.
        match file_of(descriptor) {
            Some(file) => exit::<Probed>(FSYNC, file, context.arg(1)),
            None => 0,
        }
    }

    object!();
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
