//! Keeping the process small: how the C library's allocator holds on to memory, and what of the program is resident.

use std::ops::Range;

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

/// Lets go of the pages of the program's own code: those that are run again come back from the page cache with their
/// next use, those that only the start needed stay away. Returns how many bytes of code there are.
///
/// # Errors
/// When the mappings can't be read, or the kernel refuses (madvise(2)).
pub fn forget_code() -> std::io::Result<usize> {
    let program = std::fs::read_link("/proc/self/exe")?;
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let mut bytes = 0;
    for range in maps.lines().filter_map(|line| parse_code(line, program.to_str()?)) {
        // SAFETY: the range is a mapping of a file that nobody has written to and that can't be written: code. Its
        // contents come back from the file when they are needed.
        let result = unsafe { libc::madvise(range.start as *mut _, range.len(), libc::MADV_DONTNEED) };
        if result < 0 {
            return Err(std::io::Error::last_os_error());
        }
        bytes += range.len();
    }
    Ok(bytes)
}

/// The addresses of a line of /proc/PID/maps (proc_pid_maps(5)) that maps code of `program`, privately and not
/// writable.
fn parse_code(line: &str, program: &str) -> Option<Range<usize>> {
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let is_code = words.next()? == "r-xp" && words.nth(3)?.trim_start() == program;
    let address = |text| usize::from_str_radix(text, 16).ok();
    is_code.then_some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_the_program_is_let_go_of() {
        let line = "55ef1bd56000-55ef1c590000 r-xp 00246000 fe:00 1234                       /usr/bin/a b";
        assert_eq!(parse_code(line, "/usr/bin/a b"), Some(0x55ef_1bd5_6000..0x55ef_1c59_0000));
        assert_eq!(parse_code(line, "/usr/bin/a"), None);
        for other in ["r--p", "rwxp", "rw-p", "r-xs"] {
            assert_eq!(parse_code(&line.replace("r-xp", other), "/usr/bin/a b"), None, "{other}");
        }
        assert_eq!(parse_code("7ff0-8ff0 r-xp 0 00:00 0", "/usr/bin/a b"), None);
        assert!(forget_code().unwrap() > 0, "and the program goes on");
    }
}
