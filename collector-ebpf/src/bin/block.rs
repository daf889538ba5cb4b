//! The block I/O probe: how long requests wait for their device, how long that takes, and how large they are; by device
//! and operation, and summed by cgroup.
//!
//! Kernel interface: the tracepoint `block_rq_complete`, and `block_rq_issue` where a device's queue does not keep the
//! time at which its driver got a request (`io_start_time_ns`: only while write-back throttling is on).
//!
//! Cost: some 200 ns a request. It refuses what is no read, write, flush or discard (commands that a program sends by
//! itself, the management of zones), and what has no requests (device mapper, md: their disks below have them).
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod kernel_side {
    use aya_ebpf::bindings::BPF_F_MMAPABLE;
    use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
    use aya_ebpf::macros::map;
    use aya_ebpf::maps::Array;
    use collector_ebpf::block::{
        DEVICE_NS, DEVICE_WAYS, DEVICES as PLACES, DeviceBank, DeviceTable, ISSUED_BITS, Issued, Lost,
        OPERATIONS, OTHER_REQUESTS, QUEUE_NS, READ_BYTES, READ_REQUESTS, WRITE_BYTES, WRITE_REQUESTS,
        device_id, device_place, issued_place, operation,
    };
    use collector_ebpf::cgroups::{CgroupSet, MIN_SETS, cgroup_set};
    use collector_ebpf::kernel::{Arguments, Object, Read, add, count_size, count_time, masked, slot_of};
    use collector_ebpf::{constants, object, programs};

    /// Which device has which place.
    #[map]
    static DEVICES: Array<DeviceTable> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    /// Rows of banks, one for each place. User space sets the number of rows.
    #[map]
    static BANKS: Array<DeviceBank> = Array::with_max_entries(PLACES as u32, BPF_F_MMAPABLE);
    #[map]
    static LOST: Array<Lost> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    /// Rows of sets of cgroup slots.
    #[map]
    static CGROUPS: Array<CgroupSet> = Array::with_max_entries(MIN_SETS, BPF_F_MMAPABLE);
    #[map]
    static ISSUED: Array<Issued> = Array::with_max_entries(1 << ISSUED_BITS, 0);

    constants! {
        /// Offsets within `struct request`.
        REQUEST_QUEUE,
        REQUEST_DISK,
        REQUEST_FLAGS,
        REQUEST_BYTES,
        REQUEST_START,
        REQUEST_IO_START,
        REQUEST_BIO,
        /// Offsets within `request_queue`, `gendisk`, `bio`, `blkcg_gq`, `blkcg`, `cgroup` and `kernfs_node`.
        QUEUE_DISK,
        DISK_MAJOR,
        DISK_MINOR,
        BIO_GROUP,
        GROUP_BLKCG,
        BLKCG_CGROUP,
        CGROUP_NODE,
        NODE_ID,
        /// Whether a request itself points to its disk (up to 5.16); else its queue does.
        DISK_BY_REQUEST,
        /// Whether `block_rq_issue` gives the queue before the request (up to 5.10).
        QUEUE_COMES_FIRST,
        /// Whether cgroups are told apart.
        BY_CGROUP,
        /// Sets of cgroup slots in a row, a power of two.
        CGROUP_SETS,
        /// One less than the rows, which are a power of two.
        ROW_MASK,
    }

    /// Finds the place of a device in the table, or takes one.
    #[inline(always)]
    fn place(table: &mut DeviceTable, id: u64) -> Option<u32> {
        let start = device_place(id);
        for way in 0..DEVICE_WAYS {
            let place = masked::<{ PLACES as i32 - 1 }>(start + way) & (PLACES - 1);
            if table.ids[place] == id {
                return Some(place as u32);
            }
            if table.ids[place] == 0 {
                table.ids[place] = id;
                return Some(place as u32);
            }
        }
        None
    }

    /// The number of the request's device, 0 where it has none any more.
    #[inline(always)]
    fn device<R: Read>(request: Object) -> u64 {
        // SAFETY: each member holds a pointer to the object that the next line reads from, or null.
        unsafe {
            let disk: Object = if DISK_BY_REQUEST.load() != 0 {
                R::member(request, REQUEST_DISK.load())
            } else {
                let queue: Object = R::member(request, REQUEST_QUEUE.load());
                R::member(queue, QUEUE_DISK.load())
            };
            if disk.is_null() {
                return 0;
            }
            device_id(R::member(disk, DISK_MAJOR.load()), R::member(disk, DISK_MINOR.load()))
        }
    }

    /// The number of the cgroup for which the request is made, 0 where it is not known.
    #[inline(always)]
    fn cgroup<R: Read>(request: Object) -> u64 {
        if BY_CGROUP.load() == 0 {
            return 0;
        }
        // SAFETY: as in `device`. Of a request's bios the first names the cgroup: others merge only within one.
        unsafe {
            let bio: Object = R::member(request, REQUEST_BIO.load());
            let group: Object = R::member(bio, BIO_GROUP.load());
            let blkcg: Object = R::member(group, GROUP_BLKCG.load());
            let cgroup: Object = R::member(blkcg, BLKCG_CGROUP.load());
            let node: Object = R::member(cgroup, CGROUP_NODE.load());
            R::member(node, NODE_ID.load())
        }
    }

    /// When the driver got the request, 0 where nobody knows.
    #[inline(always)]
    fn issued<R: Read>(request: Object) -> u64 {
        // SAFETY: a member of `request`.
        let kept: u64 = unsafe { R::member(request, REQUEST_IO_START.load()) };
        if kept != 0 {
            return kept;
        }
        match place_of::<R>(request) {
            // SAFETY: the map's memory lives as long as the program; a place that another CPU writes to at this
            // moment is one that another request has taken, which is what is looked at.
            Some((number, slot)) if unsafe { (*slot).request } == number => unsafe { (*slot).ns },
            _ => 0,
        }
    }

    /// The number of a request, and the place where its time is kept.
    #[inline(always)]
    fn place_of<R: Read>(request: Object) -> Option<(u64, *mut Issued)> {
        let number = R::number(request, ISSUED.get_ptr(0)?.cast());
        Some((number, ISSUED.get_ptr_mut(issued_place(number))?))
    }

    fn issue<R: Read, C: Arguments>(context: &C) {
        let request: Object =
            if QUEUE_COMES_FIRST.load() != 0 { context.argument(1) } else { context.argument(0) };
        if let Some((number, slot)) = place_of::<R>(request) {
            // SAFETY: as in `issued`; the helper has no conditions.
            unsafe { *slot = Issued { request: number, ns: bpf_ktime_get_ns() } };
        }
    }

    fn complete<R: Read, C: Arguments>(context: &C) {
        let request: Object = context.argument(0);
        let error: u8 = context.argument(1);
        let bytes: u32 = context.argument(2);
        // SAFETY: members of `request`; the helpers have no conditions.
        let (flags, left, started, now, row) = unsafe {
            let flags: u32 = R::member(request, REQUEST_FLAGS.load());
            let left: u32 = R::member(request, REQUEST_BYTES.load());
            let started: u64 = R::member(request, REQUEST_START.load());
            (flags, left, started, bpf_ktime_get_ns(), bpf_get_smp_processor_id() & ROW_MASK.load())
        };
        let operation = operation(flags & 0xff);
        let id = device::<R>(request);
        // A request may be done in parts: it is one when the last of them is.
        // A write without bytes asks for a flush, which is a request of its own.
        let asks_for_flush = operation == 1 && bytes == 0;
        if operation >= OPERATIONS.len() || id == 0 || bytes < left || asks_for_flush {
            return;
        }
        let (Some(lost), Some(table)) = (LOST.get_ptr_mut(row), DEVICES.get_ptr_mut(0)) else { return };
        // SAFETY: the maps' memory lives as long as the program, and holds nothing but numbers.
        let (lost, table) = unsafe { (&mut *lost, &mut *table) };
        let Some(place) = place(table, id) else { return add(&mut lost.device_slots, 1) };
        let Some(bank) = BANKS.get_ptr_mut(row * PLACES as u32 + place) else { return };
        // SAFETY: as above.
        let bank = unsafe { &mut (*bank).operations[operation] };
        count_size(&mut bank.size, bytes.into());
        if error != 0 {
            add(&mut bank.errors, 1);
        }
        let issued = issued::<R>(request);
        let (device_ns, queue_ns) = if issued == 0 || issued > now {
            add(&mut lost.request_slots, 1);
            (0, 0)
        } else {
            let device_ns = now - issued;
            count_time(&mut bank.device, device_ns);
            let queue_ns = if started == 0 { 0 } else { issued.saturating_sub(started) };
            if started != 0 {
                count_time(&mut bank.queue, queue_ns);
            }
            (device_ns, queue_ns)
        };
        let id = cgroup::<R>(request);
        if id != 0 {
            count_for_cgroup(lost, row, id, operation, bytes.into(), device_ns, queue_ns);
        }
    }

    #[inline(always)]
    fn count_for_cgroup(
        lost: &mut Lost,
        row: u32,
        id: u64,
        operation: usize,
        bytes: u64,
        device_ns: u64,
        queue_ns: u64,
    ) {
        let Some(set) = CGROUPS.get_ptr_mut(cgroup_set(row, CGROUP_SETS.load(), id)) else { return };
        // SAFETY: as in `complete`.
        let (Some(slot), _) = slot_of(unsafe { &mut *set }, id) else {
            return add(&mut lost.cgroup_slots, 1);
        };
        match operation {
            0 => {
                add(&mut slot.counts[READ_REQUESTS], 1);
                add(&mut slot.counts[READ_BYTES], bytes);
            }
            1 => {
                add(&mut slot.counts[WRITE_REQUESTS], 1);
                add(&mut slot.counts[WRITE_BYTES], bytes);
            }
            _ => add(&mut slot.counts[OTHER_REQUESTS], 1),
        }
        add(&mut slot.counts[DEVICE_NS], device_ns);
        add(&mut slot.counts[QUEUE_NS], queue_ns);
    }

    programs! {
        "block_rq_issue" => block_issue, raw_block_issue: issue;
        "block_rq_complete" => block_complete, raw_block_compl: complete;
    }

    object!();
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
