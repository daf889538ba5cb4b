//! Counters of the kernel and the CPUs, by perf_event_open(2): all processes on one CPU, kernel and user.
//! Cost: one system call a read of a group.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Events in a group, at the most.
pub const MAX_GROUP: usize = 16;
/// Words before the values in what is read: their number, and two times.
const HEADER: usize = 3;
/// `PERF_ATTR_SIZE_VER0`: what every kernel knows.
const ATTRIBUTE_SIZE: u64 = 64;
const FORMAT_TOTAL_TIME_ENABLED: u64 = 1;
const FORMAT_TOTAL_TIME_RUNNING: u64 = 1 << 1;
const FORMAT_GROUP: u64 = 1 << 3;
const EXCLUDE_HYPERVISOR: u64 = 1 << 6;
const FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;

/// What is counted: `perf_type_id`, and what it means to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: u32,
    pub config: u64,
}

/// Events of one CPU that are counted and read together.
#[derive(Debug)]
pub struct Group {
    cpu: u32,
    /// The first leads.
    events: Vec<OwnedFd>,
}

/// What a group has counted since it was opened.
#[derive(Debug, PartialEq, Eq)]
pub struct Reading<'b> {
    /// Nanoseconds in which it should have counted, and in which it did.
    pub enabled: u64,
    pub running: u64,
    pub values: &'b [u64],
}

impl Group {
    /// # Errors
    /// EACCES without the right to it, ENOENT for an event that this machine lacks, ENODEV for a CPU that is off.
    pub fn open(cpu: u32, event: Event) -> io::Result<Self> {
        Ok(Group { cpu, events: vec![open(cpu, event, -1)?] })
    }

    /// Adds an event.
    ///
    /// # Errors
    /// As [`Group::open`]; EINVAL where the CPU can't count it together with the others.
    pub fn join(&mut self, event: Event) -> io::Result<()> {
        if self.events.len() >= MAX_GROUP {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        self.events.push(open(self.cpu, event, self.events[0].as_raw_fd())?);
        Ok(())
    }

    /// The counts now, in the order in which events were added; `None` while the CPU is off.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn read<'b>(&self, buffer: &'b mut [u64; HEADER + MAX_GROUP]) -> io::Result<Option<Reading<'b>>> {
        let leader = self.events[0].as_raw_fd();
        // SAFETY: the pointer and the size are of the array, which outlives the call; any bytes are words.
        let got = unsafe { libc::read(leader, buffer.as_mut_ptr().cast(), size_of_val(buffer)) };
        let Ok(got) = usize::try_from(got) else { return Err(io::Error::last_os_error()) };
        Ok(parse(&buffer[..got / 8]))
    }
}

/// Room for [`Group::read`].
pub fn buffer() -> [u64; HEADER + MAX_GROUP] {
    [0; HEADER + MAX_GROUP]
}

fn parse(words: &[u64]) -> Option<Reading<'_>> {
    let &[count, enabled, running, ref values @ ..] = words else { return None };
    let values = values.get(..usize::try_from(count).ok()?)?;
    Some(Reading { enabled, running, values })
}

fn open(cpu: u32, event: Event, leader: libc::c_int) -> io::Result<OwnedFd> {
    // struct perf_event_attr: type and size, config, period, sample type, read format, flags, two words more.
    let kind_and_size = if cfg!(target_endian = "little") {
        u64::from(event.kind) | ATTRIBUTE_SIZE << 32
    } else {
        u64::from(event.kind) << 32 | ATTRIBUTE_SIZE
    };
    let format = FORMAT_TOTAL_TIME_ENABLED | FORMAT_TOTAL_TIME_RUNNING | FORMAT_GROUP;
    let attribute: [u64; 8] = [kind_and_size, event.config, 0, 0, format, EXCLUDE_HYPERVISOR, 0, 0];
    let (process, cpu) = (-1 as libc::pid_t, cpu as libc::c_int);
    // SAFETY: the pointer is to a structure of the size that it says, which outlives the call.
    let opened = unsafe {
        libc::syscall(libc::SYS_perf_event_open, attribute.as_ptr(), process, cpu, leader, FLAG_FD_CLOEXEC)
    };
    if opened < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(opened as libc::c_int) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_has_as_many_values_as_it_says() {
        let reading = parse(&[2, 10, 5, 7, 8]).unwrap();
        assert_eq!(reading, Reading { enabled: 10, running: 5, values: &[7, 8] });
        for short in [&[][..], &[1], &[1, 10, 5], &[u64::MAX, 1, 1, 1]] {
            assert_eq!(parse(short), None, "{short:?}");
        }
    }

    #[test]
    fn a_cpu_that_is_not_there_can_not_be_opened() {
        assert!(Group::open(1 << 20, Event { kind: 1, config: 3 }).is_err());
    }
}
