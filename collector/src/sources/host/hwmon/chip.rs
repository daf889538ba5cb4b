//! A chip, the files of its sensors, and the metrics that they give.

use std::path::Path;

use super::super::devices::{Label, chip_name, clean_name, read_text};
use super::super::{Filter, Tick};
use super::metric::{self, Metric};
use super::{CHIP_NAMES, SENSOR_LABEL};
use crate::model::{Dynamic, Recorder};
use crate::sys::file::ReadError;
use crate::sys::sysfs::{Attribute, LOOK_AGAIN, Listing};

pub(super) struct Chip {
    /// Where its device is; else what its driver or the kernel calls it.
    pub(super) place: String,
    /// What its driver calls it, empty if nothing.
    pub(super) driver_name: String,
    /// `hwmon0`
    pub(super) folder_name: String,
    /// The label, which depends on the other chips.
    pub(super) name: String,
    pub(super) is_ignored: bool,
    /// Old drivers have their files beside the device, newer ones in the chip's own folder.
    own: Listing,
    device: Listing,
    /// Ticks until the files are listed again.
    rest: u8,
    sensors: Vec<Sensor>,
}

struct Sensor {
    name: String,
    label: Option<Label>,
    /// The label as it was last read, and a name made of it.
    name_by_label: (String, String),
    readings: Vec<Reading>,
}

struct Reading {
    file: Attribute,
    metric: Metric,
}

/// A file that belongs to a sensor: `temp1_max` in some folder.
struct SensorFile<'f> {
    kind: &'static str,
    sensor: String,
    element: &'f str,
    folder: &'f Path,
    name: &'f str,
}

impl Chip {
    pub(super) fn new(folder_name: &str, folder: &Path) -> Option<Self> {
        if !folder.is_dir() {
            return None;
        }
        let device = folder.join("device");
        let driver_name = read_text(folder.join("name")).ok().flatten().unwrap_or_default();
        let driver_name = clean_name(&driver_name);
        let place = chip_name(&device).or_else(|| Some(driver_name.clone()).filter(|name| !name.is_empty()));
        Some(Chip {
            place: place.unwrap_or_else(|| clean_name(folder_name)),
            driver_name,
            folder_name: folder_name.to_owned(),
            name: String::new(),
            is_ignored: false,
            own: Listing::new(folder),
            device: Listing::new(device),
            rest: 0,
            sensors: Vec::new(),
        })
    }

    pub(super) fn put(
        &mut self,
        filter: &mut Filter,
        tick: &mut Tick,
        out: &mut Recorder,
    ) -> Result<(), ReadError> {
        self.look_for_files(filter)?;
        if !self.driver_name.is_empty() {
            out.put(&CHIP_NAMES, &[&self.name, &self.driver_name], 1.0);
        }
        for sensor in &mut self.sensors {
            sensor.put(&self.name, tick, out);
        }
        Ok(())
    }

    fn look_for_files(&mut self, filter: &mut Filter) -> Result<(), ReadError> {
        if self.rest > 0 {
            self.rest -= 1;
            return Ok(());
        }
        let own_changed = self.own.refresh()?;
        let device_changed = match self.device.refresh() {
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => false,
            other => other?,
        };
        self.rest = LOOK_AGAIN;
        if own_changed || device_changed {
            self.sensors = sensors(&self.name, [&self.own, &self.device], filter);
        }
        Ok(())
    }
}

/// The sensors whose files are in these folders; where both have a file, the latter's is taken.
fn sensors(chip: &str, folders: [&Listing; 2], filter: &mut Filter) -> Vec<Sensor> {
    let mut files: Vec<SensorFile<'_>> = Vec::new();
    for folder in folders {
        for name in folder.names() {
            let Some((kind, number, element)) = metric::parse_file_name(name) else { continue };
            // Such as the folder `power` that every device has.
            if folder.path().join(name).is_dir() {
                continue;
            }
            let sensor = format!("{kind}{number}");
            files.retain(|file| (&file.sensor, file.element) != (&sensor, element));
            files.push(SensorFile { kind, sensor, element, folder: folder.path(), name });
        }
    }
    files.sort_by(|a, b| (&a.sensor, a.element).cmp(&(&b.sensor, b.element)));
    files
        .chunk_by(|a, b| a.sensor == b.sensor)
        .filter(|files| !filter.ignores(&format!("{chip};{}", files[0].sensor)))
        .map(Sensor::new)
        .collect()
}

impl Sensor {
    /// `files` are those of one sensor.
    fn new(files: &[SensorFile<'_>]) -> Self {
        let has = |element: &str| files.iter().any(|file| file.element == element);
        let readings = files.iter().filter_map(|file| {
            let metric = Metric::of(file.kind, file.element, has("")).filter(|metric| {
                // A frequency without a name says nothing.
                !metric.is_by_label || has("label")
            })?;
            Some(Reading { file: Attribute::new(file.folder.join(file.name)), metric })
        });
        let label = files.iter().find(|file| file.element == "label");
        Sensor {
            name: files[0].sensor.clone(),
            label: label.map(|file| Label::line(file.folder.join(file.name))),
            name_by_label: Default::default(),
            readings: readings.collect(),
        }
    }

    fn put(&mut self, chip: &str, tick: &mut Tick, out: &mut Recorder) {
        let Sensor { name, label, name_by_label: (known, by_label), readings } = self;
        let label = label.as_mut().and_then(|label| label.read(tick).ok()?);
        if let Some(label) = label {
            out.put(&SENSOR_LABEL, &[chip, name, label], 1.0);
            if known != label {
                label.clone_into(known);
                *by_label = clean_name(label);
            }
        }
        for Reading { file, metric } in readings {
            let Ok(Some(text)) = file.read(&mut tick.buffer) else { continue };
            let Some(value) = metric.value(text) else { continue };
            let sensor = match (metric.is_by_label, label) {
                (false, _) => &*name,
                (true, Some(_)) => &*by_label,
                (true, None) => continue,
            };
            let sample = Dynamic {
                name: &[&metric.name],
                suffix: "",
                help: &[metric.help],
                kind: metric.kind,
                labels: &[("chip", chip), ("sensor", sensor)],
            };
            out.put_dynamic(&sample, value);
        }
    }
}
