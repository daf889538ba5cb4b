//! Which process is in which group, what groups used, and which of them are shown.

use std::cmp::Reverse;

use hashbrown::HashMap;

use super::Stat;

/// Ticks for which a group keeps its row after it was last among those with the most CPU time.
const HOLD: u32 = 30;
/// A process may change its group (systemd moves what it has just started): it is looked at again at its second tick,
/// and from then on after so many.
const LOOK_AGAIN: u64 = 64;
/// Groups that have names; processes of further ones are in the rest.
const MOST_GROUPS: usize = 4096;
/// Processes that are remembered; of further ones the CPU time is not counted.
const MOST_PROCESSES: usize = 1 << 18;
/// The rest, which has no name.
const REST: usize = 0;

/// A control group.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) processes: u64,
    pub(super) threads: u64,
    pub(super) pages: u64,
    /// In ticks, since the group was first seen.
    pub(super) cpu: u64,
    /// The part of it since the last tick.
    used: u64,
    /// Ticks for which it is shown still; 0 if it is not shown.
    held: u32,
}

impl Group {
    fn add(&mut self, other: &Group) {
        self.processes += other.processes;
        self.threads = self.threads.saturating_add(other.threads);
        self.pages = self.pages.saturating_add(other.pages);
        self.cpu = self.cpu.saturating_add(other.used);
    }
}

#[derive(Debug)]
struct Known {
    start: u64,
    cpu: u64,
    group: usize,
    /// In ticks.
    age: u64,
    is_here: bool,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Groups {
    count: usize,
    known: HashMap<u64, Known>,
    /// The first is the rest; free places have no name.
    groups: Vec<Group>,
    places: HashMap<String, usize>,
    free: Vec<usize>,
    /// Those with processes, from the one with the most CPU time on.
    ranking: Vec<usize>,
    /// In the order of their names.
    shown: Vec<usize>,
}

impl Groups {
    /// At most `count` are shown.
    pub(super) fn new(count: usize) -> Self {
        Groups {
            count,
            known: HashMap::new(),
            groups: vec![Group::default()],
            places: HashMap::new(),
            free: Vec::new(),
            ranking: Vec::new(),
            shown: Vec::new(),
        }
    }

    /// Starts a tick.
    pub(super) fn begin(&mut self) {
        for group in &mut self.groups {
            (group.processes, group.threads, group.pages, group.used) = (0, 0, 0, 0);
        }
        self.known.values_mut().for_each(|process| process.is_here = false);
    }

    /// Whether the group of that process must be read before it can be counted.
    pub(super) fn wants_name(&self, pid: u64, stat: &Stat) -> bool {
        self.known.get(&pid).is_none_or(|process| {
            process.start != stat.start
                || process.age == 1
                || process.age.wrapping_add(pid).is_multiple_of(LOOK_AGAIN)
        })
    }

    /// The process is in the group of that name, or in none.
    pub(super) fn name(&mut self, pid: u64, stat: &Stat, name: &str) {
        let group = self.place(name);
        if let Some(process) = self.known.get_mut(&pid).filter(|process| process.start == stat.start) {
            process.group = group;
            return;
        }
        if self.known.len() < MOST_PROCESSES || self.known.contains_key(&pid) {
            let new = Known { start: stat.start, cpu: 0, group, age: 0, is_here: false };
            self.known.insert(pid, new);
        }
    }

    fn place(&mut self, name: &str) -> usize {
        if name.is_empty() {
            return REST;
        }
        if let Some(&place) = self.places.get(name) {
            return place;
        }
        if self.places.len() == MOST_GROUPS {
            return REST;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.groups.push(Group::default());
            self.groups.len() - 1
        });
        self.groups[place] = Group { name: name.to_owned(), ..Group::default() };
        self.places.insert(name.to_owned(), place);
        place
    }

    pub(super) fn count(&mut self, pid: u64, stat: &Stat) {
        let mut place = REST;
        let mut used = 0;
        if let Some(process) = self.known.get_mut(&pid) {
            used = stat.cpu.saturating_sub(process.cpu);
            process.cpu = process.cpu.max(stat.cpu);
            process.age += 1;
            process.is_here = true;
            place = process.group;
        }
        let group = &mut self.groups[place];
        group.processes += 1;
        group.threads = group.threads.saturating_add(stat.threads);
        group.pages = group.pages.saturating_add(stat.pages);
        group.used = group.used.saturating_add(used);
        group.cpu = group.cpu.saturating_add(used);
    }

    /// Ends a tick: forgets what is gone, and chooses who is shown.
    pub(super) fn finish(&mut self) {
        self.known.retain(|_, process| process.is_here);
        self.rank();
        self.choose();
        let Groups { groups, places, free, .. } = self;
        let (rest, named) = groups.split_at_mut(1);
        for (number, group) in named.iter_mut().enumerate().filter(|(_, group)| group.held == 0) {
            rest[REST].add(group);
            if group.processes == 0 && !group.name.is_empty() {
                places.remove(&group.name);
                *group = Group::default();
                free.push(number + 1);
            }
        }
    }

    fn rank(&mut self) {
        let Groups { groups, ranking, .. } = self;
        ranking.clear();
        ranking.extend((1..groups.len()).filter(|&place| groups[place].processes > 0));
        ranking
            .sort_unstable_by_key(|&place| Reverse((groups[place].used, groups[place].cpu, Reverse(place))));
    }

    /// A row goes to another group only after its own was not among the first for a while.
    fn choose(&mut self) {
        let Groups { groups, ranking, shown, count, .. } = self;
        let first = &ranking[..ranking.len().min(*count)];
        for &place in first {
            let group = &mut groups[place];
            group.held = if group.held > 0 { HOLD + 1 } else { 0 };
        }
        shown.iter().for_each(|&place| groups[place].held -= 1);
        shown.retain(|&place| groups[place].held > 0);
        for &place in first {
            if groups[place].held == 0 && shown.len() < *count {
                groups[place].held = HOLD;
                shown.push(place);
            }
        }
        shown.sort_unstable_by(|&a, &b| groups[a].name.cmp(&groups[b].name));
    }

    /// How many have processes.
    pub(super) fn inhabited(&self) -> usize {
        self.ranking.len()
    }

    pub(super) fn shown(&self) -> impl Iterator<Item = &Group> {
        self.shown.iter().map(|&place| &self.groups[place])
    }

    pub(super) fn rest(&self) -> &Group {
        &self.groups[REST]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tick over processes with number, group and CPU time; the names that are shown, and the CPU time of the rest.
    fn tick(groups: &mut Groups, processes: &[(u64, &str, u64)]) -> (Vec<String>, u64) {
        groups.begin();
        for &(pid, name, cpu) in processes {
            let stat = Stat { threads: 2, cpu, start: 100, pages: 3 };
            if groups.wants_name(pid, &stat) {
                groups.name(pid, &stat, name);
            }
            groups.count(pid, &stat);
        }
        groups.finish();
        (groups.shown().map(|group| group.name.clone()).collect(), groups.rest().cpu)
    }

    #[test]
    fn a_row_is_held_for_a_while() {
        let mut groups = Groups::new(1);
        assert_eq!(tick(&mut groups, &[(1, "a", 10), (2, "b", 5)]), (vec!["a".to_owned()], 5));
        for ticks in 1..u64::from(HOLD) {
            let (shown, rest) = tick(&mut groups, &[(1, "a", 10), (2, "b", 5 + ticks)]);
            assert_eq!((shown, rest), (vec!["a".to_owned()], 5 + ticks), "tick {ticks}");
        }
        let (shown, rest) = tick(&mut groups, &[(1, "a", 12), (2, "b", 100)]);
        // What b used in this tick is in its own row, what a used in that of the rest.
        assert_eq!((shown, rest), (vec!["b".to_owned()], 36));
        assert_eq!(groups.shown().next().map(|group| group.cpu), Some(100));
    }

    #[test]
    fn a_counter_never_falls() {
        let mut groups = Groups::new(2);
        tick(&mut groups, &[(1, "a", 10), (2, "a", 20)]);
        let (shown, _) = tick(&mut groups, &[(2, "a", 25)]);
        assert_eq!((shown, groups.shown().next().map(|group| group.cpu)), (vec!["a".to_owned()], Some(35)));
        let (shown, _) = tick(&mut groups, &[]);
        assert_eq!((shown, groups.inhabited()), (vec!["a".to_owned()], 0), "held without a process");
        for _ in 0..HOLD {
            tick(&mut groups, &[]);
        }
        assert_eq!((groups.shown().count(), groups.places.len(), groups.known.len()), (0, 0, 0));
        tick(&mut groups, &[(3, "b", 1)]);
        assert_eq!(groups.groups.len(), 2, "the place is used again");
    }

    #[test]
    fn a_process_that_moves_takes_its_time_along() {
        let mut groups = Groups::new(2);
        tick(&mut groups, &[(1, "a", 10)]);
        tick(&mut groups, &[(1, "b", 15)]);
        let of = |groups: &Groups| -> Vec<_> { groups.shown().map(|g| (g.processes, g.cpu)).collect() };
        assert_eq!(of(&groups), [(0, 10), (1, 5)], "from the second tick on");
        groups.begin();
        let reborn = Stat { cpu: 2, start: 200, ..Stat::default() };
        assert!(groups.wants_name(1, &reborn), "another process of the same number");
        groups.name(1, &reborn, "a");
        groups.count(1, &reborn);
        groups.finish();
        assert_eq!(of(&groups), [(1, 12), (0, 5)]);
    }

    #[test]
    fn groups_have_an_end() {
        let mut groups = Groups::new(2);
        groups.begin();
        for pid in 0..MOST_GROUPS as u64 + 10 {
            let stat = Stat { cpu: 1, ..Stat::default() };
            groups.name(pid, &stat, &format!("group{pid}"));
            groups.count(pid, &stat);
        }
        groups.finish();
        assert_eq!((groups.places.len(), groups.shown().count()), (MOST_GROUPS, 2));
        assert_eq!(groups.rest().processes, MOST_GROUPS as u64 + 8);
    }
}
