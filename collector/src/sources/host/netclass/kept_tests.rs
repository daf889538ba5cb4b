//! Tests of what is made of a dump; that it is what sysfs says is tested with real interfaces.

use super::*;

#[test]
fn flags_are_the_interfaces_own() {
    let all = libc::IFF_UP | libc::IFF_RUNNING | libc::IFF_LOWER_UP | libc::IFF_PROMISC;
    let link = Link { flags: all as u32, promiscuity: Some(0), allmulti: Some(2), ..Link::default() };
    assert_eq!(own_flags(&link), Some((libc::IFF_UP | libc::IFF_ALLMULTI) as u32));
    assert_eq!(own_flags(&Link { allmulti: None, ..link }), None);
}

fn interface(index: u32, lower: Option<u32>, master: Option<u32>, dirty: u8) -> Interface {
    let link = Link { index, lower, master, ..Link::default() };
    Interface { index, facts: Facts::of(&link), extra: Extra::default(), seen: 0, dirty }
}

#[test]
fn a_change_is_followed_upwards() {
    let mut kept = Kept::new("/nowhere".into());
    // A port of a bond, the bond, a VLAN on it, and an interface that has nothing to do with them.
    kept.interfaces = vec![
        interface(2, None, Some(5), 2),
        interface(3, Some(5), None, 0),
        interface(4, None, None, 0),
        interface(5, None, None, 0),
    ];
    kept.spread();
    let dirty: Vec<u8> = kept.interfaces.iter().map(|interface| interface.dirty).collect();
    assert_eq!(dirty, [2, 2, 0, 2]);
}

#[test]
fn a_tree_of_others_is_refused_and_looked_at_again_ever_more_rarely() {
    let mut kept = Kept::new("/nowhere".into());
    let mut links = SharedLinks::default();
    let mut filter = Filter::default();
    let mut comparisons = Vec::new();
    for tick in 0..200 {
        let before = kept.tick;
        assert!(!kept.put(&mut links, &mut filter, &mut |_| panic!("nothing may be given")));
        if kept.tick != before {
            comparisons.push(tick);
        }
    }
    assert_eq!(comparisons, [0, 2, 5, 10, 19, 36, 69, 134, 199]);
}
