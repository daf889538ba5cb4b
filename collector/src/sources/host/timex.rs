//! The kernel's clock discipline, by adjtimex(2). Cost a tick: one system call. Containers may refuse it.

use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::clock::Timex;

macro_rules! families {
    ($($constant:ident = $kind:ident $name:literal, $help:literal;)*) => {
        $(static $constant: Family = Family::$kind(concat!("node_timex_", $name), $help, &[]);)*
        static FAMILIES: &[&Family] = &[$(&$constant),*];
    };
}

families! {
    SYNC_STATUS = gauge "sync_status", "Whether the clock is held to a reference: 1 if so, 0 if not.";
    OFFSET = gauge "offset_seconds", "Offset of the clock from its reference.";
    FREQUENCY = gauge "frequency_adjustment_ratio", "Speed of the clock as adjusted, 1 for not at all.";
    MAXERROR = gauge "maxerror_seconds", "Largest error of the clock.";
    ESTERROR = gauge "estimated_error_seconds", "Error of the clock as estimated.";
    STATUS = gauge "status", "The status bits (STA_*) as a number.";
    CONSTANT = gauge "loop_time_constant", "Time constant of the phase-locked loop.";
    TICK = gauge "tick_seconds", "Time between ticks of the clock.";
    PPS_FREQUENCY = gauge "pps_frequency_hertz", "Frequency of the pulse-per-second signal.";
    PPS_JITTER = gauge "pps_jitter_seconds", "Jitter of the pulse-per-second signal.";
    PPS_SHIFT = gauge "pps_shift_seconds", "Interval over which the pulse-per-second signal is averaged.";
    PPS_STABILITY = gauge "pps_stability_hertz", "Average of the last changes of the pulse's frequency.";
    PPS_JITTER_TOTAL = counter "pps_jitter_total", "Pulses whose jitter was beyond the limit.";
    PPS_CALIBRATIONS = counter "pps_calibration_total", "Calibration intervals of the pulse-per-second signal.";
    PPS_ERRORS = counter "pps_error_total", "Calibration errors of the pulse-per-second signal.";
    PPS_UNSTABLE = counter "pps_stability_exceeded_total", "Pulses whose frequency was beyond the limit.";
    TAI = gauge "tai_offset_seconds", "Offset of International Atomic Time from UTC.";
}

pub(super) static COLLECTOR: Registration = Registration {
    name: "timex",
    default_enabled: true,
    flags: &[],
    families: FAMILIES,
    new: |_| Ok(Box::new(TimexCollector)),
};

/// The clock is not held to a reference.
const TIME_ERROR: i32 = 5;
/// Offset and jitter are in nanoseconds, else in microseconds.
const STA_NANO: i32 = 0x2000;
const MICRO: f64 = 1e6;
/// Frequencies are in parts per million with 16 bits of fraction, adjtimex(2).
const PPM_16_BITS: f64 = 1e6 * 65536.0;

struct TimexCollector;

impl Collector for TimexCollector {
    fn update(&mut self, _: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let timex = Timex::read().map_err(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                CollectError::NoData("adjtimex is not permitted here".into())
            }
            _ => CollectError::call("adjtimex", &error),
        })?;
        for (family, value) in FAMILIES.iter().zip(values(&timex)) {
            out.put(family, &[], value);
        }
        Ok(())
    }
}

/// In the order of [`FAMILIES`].
fn values(timex: &Timex) -> [f64; 17] {
    let fields = &timex.fields;
    let divisor = if fields.status & STA_NANO != 0 { 1e9 } else { MICRO };
    [
        f64::from(u8::from(timex.state != TIME_ERROR)),
        fields.offset as f64 / divisor,
        1.0 + fields.freq as f64 / PPM_16_BITS,
        fields.maxerror as f64 / MICRO,
        fields.esterror as f64 / MICRO,
        f64::from(fields.status),
        fields.constant as f64,
        fields.tick as f64 / MICRO,
        fields.ppsfreq as f64 / PPM_16_BITS,
        fields.jitter as f64 / divisor,
        f64::from(fields.shift),
        fields.stabil as f64 / PPM_16_BITS,
        fields.jitcnt as f64,
        fields.calcnt as f64,
        fields.errcnt as f64,
        fields.stbcnt as f64,
        f64::from(fields.tai),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_follow_the_status_bits() {
        let Ok(mut timex) = Timex::read() else { return };
        timex.state = TIME_ERROR;
        timex.fields.status = STA_NANO;
        timex.fields.offset = -1500;
        timex.fields.freq = 65536;
        assert_eq!(values(&timex)[..3], [0.0, -1500.0 / 1e9, 1.000_001]);
        timex.state = 0;
        timex.fields.status = 0;
        assert_eq!(values(&timex)[..2], [1.0, -1500.0 / 1e6]);
        assert_eq!(FAMILIES.len(), values(&timex).len());
    }
}
