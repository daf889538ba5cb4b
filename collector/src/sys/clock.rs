//! Clocks, read through the vDSO without a system call.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is added to the system's clock: nothing, but where a test steps it.
static STEPPED_MS: AtomicI64 = AtomicI64::new(0);

/// Names a file with the milliseconds by which the clock is wrong. It is for the loss test: the machine's clock is not a
/// test's to set.
const STEPS: &str = "COLLECTOR_TEST_CLOCK";
const FOLLOW_EVERY: Duration = Duration::from_millis(10);

/// Follows the file that a test steps the clock by, if there is one.
pub fn follow_steps() {
    let Some(path) = std::env::var_os(STEPS).map(PathBuf::from) else { return };
    let read = move || {
        let text = std::fs::read_to_string(&path).ok();
        text.and_then(|text| text.trim().parse().ok())
            .into_iter()
            .for_each(|ms| STEPPED_MS.store(ms, Ordering::Relaxed));
    };
    read();
    std::thread::spawn(move || {
        loop {
            read();
            std::thread::sleep(FOLLOW_EVERY);
        }
    });
}

/// Milliseconds since 1970-01-01 UTC, as sample time stamps are given.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX).saturating_add(STEPPED_MS.load(Ordering::Relaxed))
}

/// Seconds since 1970-01-01 UTC.
pub fn now_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// The local time zone at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Zone {
    /// Seconds east of UTC.
    pub offset: i64,
    abbreviation: [u8; 16],
}

impl Zone {
    /// The zone that holds at `seconds` since 1970, by TZ or /etc/localtime as they were at the first call.
    /// Cost: no system call after the first.
    pub fn at(seconds: i64) -> Option<Zone> {
        let time = seconds as libc::time_t;
        let mut broken_down = std::mem::MaybeUninit::<libc::tm>::zeroed();
        // SAFETY: both pointers are to whole values that outlive the call.
        if unsafe { libc::localtime_r(&raw const time, broken_down.as_mut_ptr()) }.is_null() {
            return None;
        }
        // SAFETY: zeroed, then filled by the call, which did not fail.
        let broken_down = unsafe { broken_down.assume_init() };
        let mut abbreviation = [0; 16];
        if !broken_down.tm_zone.is_null() {
            // SAFETY: a name that the C library keeps, ended by NUL; it is copied before any other call.
            let name = unsafe { std::ffi::CStr::from_ptr(broken_down.tm_zone) }.to_bytes();
            let kept = name.len().min(abbreviation.len());
            abbreviation[..kept].copy_from_slice(&name[..kept]);
        }
        Some(Zone { offset: i64::from(broken_down.tm_gmtoff as i32), abbreviation })
    }

    /// Such as `CET`.
    pub fn abbreviation(&self) -> &str {
        let end = self.abbreviation.iter().position(|&b| b == 0).unwrap_or(self.abbreviation.len());
        std::str::from_utf8(&self.abbreviation[..end]).unwrap_or_default()
    }
}

/// The state of the kernel's clock discipline, adjtimex(2).
pub struct Timex {
    /// What the call returned: `TIME_OK` to `TIME_ERROR`.
    pub state: i32,
    pub fields: libc::timex,
}

impl Timex {
    /// Reads and changes nothing. Cost: one system call.
    ///
    /// # Errors
    /// Those of adjtimex(2): EPERM in some containers.
    pub fn read() -> std::io::Result<Self> {
        let mut fields = std::mem::MaybeUninit::<libc::timex>::zeroed();
        // SAFETY: a whole `timex` with `modes` 0 (read only) that outlives the call.
        let state = unsafe { libc::adjtimex(fields.as_mut_ptr()) };
        if state < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: all zero is a `timex`, and the kernel has filled it.
        Ok(Timex { state, fields: unsafe { fields.assume_init() } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zone_has_a_name() {
        let zone = Zone::at(now_ms() / 1000).unwrap();
        assert!(!zone.abbreviation().is_empty());
        assert!(zone.offset.abs() <= 14 * 3600);
    }

    #[test]
    fn the_clock_can_be_asked() {
        match Timex::read() {
            Ok(timex) => assert!((0..=5).contains(&timex.state)),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EPERM)),
        }
    }
}
