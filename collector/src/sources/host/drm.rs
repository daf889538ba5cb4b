//! Graphics cards of AMD, from /sys/class/drm/card*/device. Cost a tick: a listing, and eight reads for each
//! card; some ask the card. Cards with other drivers show no such attributes.

use std::path::Path;

use super::devices::{
    Devices, Label, Normal, Numbers, chip_name, families, number_after, read_labels, read_text, rows,
    unsigned,
};
use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::sysfs::Refusal;

static INFO: Family = Family::gauge(
    "node_drm_card_info",
    "A graphics card; always 1.",
    &["card", "memory_vendor", "power_performance_level", "unique_id", "chip", "vendor"],
);

rows! { NUMBERS &["card"];
    gauge "gpu_busy_percent" "node_drm_gpu_busy_percent" unsigned, "How busy the graphics processor is, in percent.";
    gauge "mem_info_gtt_total" "node_drm_memory_gtt_size_bytes" unsigned, "Memory of the host that the card may use (graphics translation table), in bytes.";
    gauge "mem_info_gtt_used" "node_drm_memory_gtt_used_bytes" unsigned, "Memory of the host that the card uses, in bytes.";
    gauge "mem_info_vis_vram_total" "node_drm_memory_vis_vram_size_bytes" unsigned, "Memory of the card that the host can address, in bytes.";
    gauge "mem_info_vis_vram_used" "node_drm_memory_vis_vram_used_bytes" unsigned, "Memory of the card that the host can address and that is used, in bytes.";
    gauge "mem_info_vram_total" "node_drm_memory_vram_size_bytes" unsigned, "Memory of the card in bytes.";
    gauge "mem_info_vram_used" "node_drm_memory_vram_used_bytes" unsigned, "Memory of the card that is used, in bytes.";
}

pub(super) static COLLECTOR: Registration = Registration {
    name: "drm",
    default_enabled: false,
    flags: &[],
    families: &families::<8>(&[NUMBERS], &[&INFO]),
    new: |setup| Ok(Box::new(Drm { cards: Devices::new(setup.paths.sys("class/drm")) })),
};

/// A card that sleeps does not answer; others lack what they are asked for.
const NORMAL: Normal = Normal {
    refusals: &[
        Refusal::Invalid,
        Refusal::NoData,
        Refusal::NoDevice,
        Refusal::NotNow,
        Refusal::Busy,
        Refusal::Unsupported,
        Refusal::Denied,
    ],
    texts: &[],
};

struct Drm {
    cards: Devices<Card>,
}

struct Card {
    name: String,
    /// Where the card is plugged in.
    chip: String,
    /// mem_info_vram_vendor, power_dpm_force_performance_level, unique_id
    labels: [Label; 3],
    numbers: Numbers,
}

impl Collector for Drm {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        for Card { name, chip, labels, numbers } in self.cards.refresh_if_any(Card::new)? {
            if read_labels(&mut *labels, &NORMAL, tick, &mut faults) {
                let [memory, level, id] = labels.each_ref().map(Label::text);
                out.put(&INFO, &[name, memory, level, id, chip, "amd"], 1.0);
            }
            numbers.put(&[name], &NORMAL, tick, out, &mut faults);
        }
        faults.finish()
    }
}

impl Card {
    fn new(name: &str, folder: &Path) -> Option<Self> {
        number_after(name, "card")?;
        let device = folder.join("device");
        let facts = read_text(device.join("uevent")).ok()??;
        let files = [
            ("mem_info_vram_vendor", true),
            ("power_dpm_force_performance_level", false),
            ("unique_id", true),
        ];
        facts.lines().any(|line| line == "DRIVER=amdgpu").then(|| Card {
            name: name.to_owned(),
            chip: chip_name(&device).unwrap_or_default(),
            labels: files.map(|(file, is_fixed)| Label::new(device.join(file), is_fixed)),
            numbers: Numbers::new(NUMBERS, &device),
        })
    }
}
