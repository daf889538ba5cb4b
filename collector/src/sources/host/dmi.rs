//! What the firmware says of this machine, from /sys/class/dmi/id. Read once, at the start: it stays so until
//! the next boot. Cost a tick: nothing.

use super::devices::read_text;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Dynamic, Family, Kind, Recorder};

const NAME: &str = "node_dmi_info";
const HELP: &str = "What the firmware says of this machine (DMI); always 1. Labels that it lacks, or that only root may read, are left out.";

/// In the order of the labels, which are named after them, but for the last.
const FILES: [&str; 20] = [
    "bios_date",
    "bios_release",
    "bios_vendor",
    "bios_version",
    "board_asset_tag",
    "board_name",
    "board_serial",
    "board_vendor",
    "board_version",
    "chassis_asset_tag",
    "chassis_serial",
    "chassis_vendor",
    "chassis_version",
    "product_family",
    "product_name",
    "product_serial",
    "product_sku",
    "product_uuid",
    "product_version",
    "sys_vendor",
];
const LABELS: [&str; FILES.len()] = {
    let mut labels = FILES;
    labels[FILES.len() - 1] = "system_vendor";
    labels
};
static INFO: Family = Family::gauge(NAME, HELP, &LABELS);

pub(super) static COLLECTOR: Registration = Registration {
    name: "dmi",
    default_enabled: true,
    flags: &[],
    families: &[&INFO],
    new: |setup| {
        let folder = setup.paths.sys("class/dmi/id");
        let texts = FILES.map(|file| read_text(folder.join(file)).ok().flatten());
        Ok(Box::new(Dmi { texts }))
    },
};

struct Dmi {
    texts: [Option<String>; FILES.len()],
}

impl Collector for Dmi {
    fn update(&mut self, _: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut pairs = [("", ""); FILES.len()];
        let mut given = 0;
        for (label, text) in LABELS.iter().zip(&self.texts) {
            if let Some(text) = text {
                pairs[given] = (label, text);
                given += 1;
            }
        }
        if given == 0 {
            return Err(CollectError::NoData("no DMI".into()));
        }
        let info =
            Dynamic { name: &[NAME], suffix: "", help: &[HELP], kind: Kind::Gauge, labels: &pairs[..given] };
        out.put_dynamic(&info, 1.0);
        Ok(())
    }
}
