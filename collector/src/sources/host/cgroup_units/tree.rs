//! The groups of a hierarchy, which stay open: listed every tick, made anew where a folder has changed.

use std::path::Path;

use super::files::{Content, File};
use crate::sources::host::Filter;
use crate::sys::file::ReadError;
use crate::sys::sysfs::{Attribute, Listing};

/// Groups of one folder that are kept; more are counted.
const MOST_GROUPS: usize = 4096;
/// What a directory of a unit ends with.
const UNIT_SUFFIXES: [&str; 3] = [".service", ".slice", ".scope"];

/// A group that is shown.
pub(super) struct Unit {
    pub(super) name: String,
    pub(super) attributes: Vec<(Attribute, Content)>,
}

/// A folder of the tree.
pub(super) struct Group {
    /// Not for the root, and what the patterns leave out.
    unit: Option<Unit>,
    /// Of those that may hold units: slices, and the services that run a user's manager.
    inside: Option<Inside>,
}

struct Inside {
    listing: Listing,
    /// Before the names of the units in it.
    prefix: String,
    groups: Vec<Group>,
    too_many: usize,
}

impl Group {
    pub(super) fn root(folder: &Path) -> Self {
        Group { unit: None, inside: Some(Inside::new(folder, String::new())) }
    }
}

impl Inside {
    fn new(folder: &Path, prefix: String) -> Self {
        Inside { listing: Listing::new(folder), prefix, groups: Vec::new(), too_many: 0 }
    }
}

/// How a hierarchy is walked through.
pub(super) struct Walk<'a> {
    pub(super) files: &'a [File],
    pub(super) filter: &'a mut Filter,
    pub(super) depth: usize,
}

impl Walk<'_> {
    /// Calls `each` for every unit, always in the same order. Returns how many groups there is no room for.
    ///
    /// # Errors
    /// When the root can't be listed.
    pub(super) fn run(
        &mut self,
        root: &mut Group,
        each: &mut impl FnMut(&mut Unit),
    ) -> Result<usize, ReadError> {
        self.visit(root, 0, each)
    }

    fn visit(
        &mut self,
        group: &mut Group,
        depth: usize,
        each: &mut impl FnMut(&mut Unit),
    ) -> Result<usize, ReadError> {
        if let Some(unit) = &mut group.unit {
            each(unit);
        }
        let Some(inside) = group.inside.as_mut().filter(|_| depth < self.depth) else { return Ok(0) };
        match inside.listing.refresh() {
            Ok(false) => {}
            Ok(true) => self.rebuild(inside, depth == 0),
            Err(error) => {
                inside.groups.clear();
                return Err(error);
            }
        }
        let mut too_many = inside.too_many;
        for group in &mut inside.groups {
            // One that can't be listed has gone since its folder was: the next tick knows.
            too_many += self.visit(group, depth + 1, each).unwrap_or(0);
        }
        Ok(too_many)
    }

    fn rebuild(&mut self, inside: &mut Inside, is_root: bool) {
        inside.groups.clear();
        inside.too_many = 0;
        for name in inside.listing.names() {
            let path = inside.listing.path().join(name);
            let is_unit = UNIT_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
            if !(is_unit || is_root) || !path.is_dir() {
                continue;
            }
            if inside.groups.len() == MOST_GROUPS {
                inside.too_many += 1;
                continue;
            }
            let full = format!("{}{name}", inside.prefix);
            let has_manager = name.starts_with("user@") && name.ends_with(".service");
            let below = match (name.ends_with(".slice"), has_manager) {
                (true, _) => Some(Inside::new(&path, inside.prefix.clone())),
                (false, true) => Some(Inside::new(&path, format!("{full}/"))),
                (false, false) => None,
            };
            let unit = (!self.filter.ignores(&full)).then(|| Unit {
                name: full,
                attributes: self
                    .files
                    .iter()
                    .map(|file| (Attribute::new(path.join(file.name)), file.content))
                    .collect(),
            });
            if unit.is_some() || below.is_some() {
                inside.groups.push(Group { unit, inside: below });
            }
        }
    }
}
