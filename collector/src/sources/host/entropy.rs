//! The kernel's random number pool, from /proc/sys/kernel/random (random(4)). Cost a tick: two small reads.

use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

static AVAILABLE: Family =
    Family::gauge("node_entropy_available_bits", "Bits of entropy that the kernel has at hand.", &[]);
static POOL_SIZE: Family =
    Family::gauge("node_entropy_pool_size_bits", "Bits of entropy that the kernel's pool can hold.", &[]);

pub(super) static COLLECTOR: Registration = Registration {
    name: "entropy",
    default_enabled: true,
    flags: &[],
    families: &[&AVAILABLE, &POOL_SIZE],
    new: |setup| {
        let file = |name: &str| KeptFile::whole(setup.paths.proc("sys/kernel/random").join(name));
        Ok(Box::new(Entropy { files: [(file("entropy_avail"), &AVAILABLE), (file("poolsize"), &POOL_SIZE)] }))
    },
};

struct Entropy {
    files: [(KeptFile, &'static Family); 2],
}

impl Collector for Entropy {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        for (file, family) in &mut self.files {
            let bits = text::parse_u64(text::trim(file.read(&mut tick.buffer)?))
                .ok_or_else(|| CollectError::malformed(file.path(), 1, "expected a whole number"))?;
            out.put(family, &[], bits as f64);
        }
        Ok(())
    }
}
