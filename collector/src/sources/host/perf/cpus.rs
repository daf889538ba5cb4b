//! Which CPUs are watched: those of the flag, or all, while they are on.

use super::super::Paths;
use super::MAX_CPU;
use crate::sys::file::KeptFile;
use crate::sys::text;

pub(super) struct Cpus {
    /// `None` for all.
    wanted: Option<Vec<u32>>,
    file: KeptFile,
    buffer: Vec<u8>,
    /// What the file said last, and those of them that are wanted.
    said: Option<Vec<u8>>,
    online: Vec<u32>,
}

impl Cpus {
    pub(super) fn new(flag: &str, paths: &Paths) -> Result<Self, String> {
        let wanted = if flag.is_empty() { None } else { Some(parse_flag(flag)?) };
        let file = KeptFile::whole(paths.sys("devices/system/cpu/online"));
        Ok(Cpus { wanted, file, buffer: Vec::new(), said: None, online: Vec::new() })
    }

    /// Reads which CPUs are on; whether that has changed.
    pub(super) fn refresh(&mut self) -> bool {
        let Cpus { wanted, file, buffer, said, online } = self;
        // Without the file all are taken for on that this process may use: what is not can't be opened.
        let list = file.read(buffer).unwrap_or_default();
        if said.as_deref() == Some(list) {
            return false;
        }
        *said = Some(list.to_vec());
        online.clear();
        for (first, last) in text::ranges(list).flatten() {
            let range = first..=last.min(u64::from(MAX_CPU));
            online.extend(range.filter_map(|cpu| u32::try_from(cpu).ok()));
        }
        if online.is_empty() {
            let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            online.extend((0..=MAX_CPU).take(count));
        }
        if let Some(wanted) = wanted {
            online.retain(|cpu| wanted.contains(cpu));
        }
        true
    }

    /// As of the last [`Cpus::refresh`].
    pub(super) fn online(&self) -> &[u32] {
        &self.online
    }
}

/// Numbers, ranges, and ranges with a step: `0,2-5,8-16:4`.
fn parse_flag(flag: &str) -> Result<Vec<u32>, String> {
    let mut cpus = Vec::new();
    let fail = || format!("invalid flag value {flag:?}");
    let number = |text: &str| text.parse().ok().filter(|&cpu: &u32| cpu <= MAX_CPU).ok_or_else(fail);
    for part in flag.split(',') {
        let Some((first, rest)) = part.split_once('-') else {
            cpus.push(number(part)?);
            continue;
        };
        let (last, step) = match rest.split_once(':') {
            Some((last, step)) => (number(last)?, number(step)?),
            None => (number(rest)?, 1),
        };
        if step == 0 {
            return Err(fail());
        }
        cpus.extend((number(first)?..=last).step_by(step as usize));
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        for (flag, cpus) in [("0", &[0][..]), ("1,3-5", &[1, 3, 4, 5]), ("8-16:4,2", &[8, 12, 16, 2])] {
            assert_eq!(parse_flag(flag).unwrap(), cpus, "{flag}");
        }
        for wrong in ["", "x", "1-", "1-2-3", "-1", "1-4:0", "1,,2", "70000"] {
            assert!(parse_flag(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_those_that_are_on_are_watched() {
        let folder = tempfile::tempdir().unwrap();
        let cpu = folder.path().join("devices/system/cpu");
        std::fs::create_dir_all(&cpu).unwrap();
        let paths = Paths { sysfs: folder.path().to_owned(), ..Paths::default() };
        std::fs::write(cpu.join("online"), "0-3,6\n").unwrap();
        let mut cpus = Cpus::new("1-7:2,6", &paths).unwrap();
        assert!(cpus.refresh());
        assert!(!cpus.refresh(), "nothing new");
        assert_eq!(cpus.online(), [1, 3, 6]);
        std::fs::write(cpu.join("online"), "0-1\n").unwrap();
        assert!(cpus.refresh());
        assert_eq!(cpus.online(), [1]);
    }
}
