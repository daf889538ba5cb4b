//! What goes wrong: each time the rest runs on, and the reason can be seen.

use collector::sources::ebpf::{EbpfOptions, PROBES};
use collector_tests::cgroup::{Cgroup, Hierarchy, shell_in};
use collector_tests::probe::{Probe, alone};
use collector_tests::skip::root_or_skip;

use super::programs;

/// A probe that is loaded from this object.
fn start(name: &str, object: Vec<u8>) -> Probe {
    Probe::start(&EbpfOptions {
        probes: vec![name.to_owned()],
        object: Some(object),
        ..EbpfOptions::default()
    })
}

/// The one reason why it does not run; `None` where it was not permitted to.
fn reason(probe: &mut Probe, name: &str) -> Option<(&'static str, String)> {
    let (reason, text) = probe.failure().expect("it can't run");
    if reason == "not_permitted" && text.contains("CAP_") {
        collector_tests::skip::skip("faults", &text);
        return None;
    }
    probe.tick();
    let up = [("probe", name), ("reason", reason)];
    assert_eq!(probe.value("collector_ebpf_probe_up", &up), 0.0);
    Some((reason, text))
}

#[test]
fn a_map_that_the_kernel_refuses_is_a_reason() {
    let _alone = alone();
    let mut object = include_bytes!("../../../collector-ebpf/prebuilt/oom.o").to_vec();
    // The definition of an array: its type, bytes of a key, of a value, and one element. There is no memory for so many.
    let is_array = |at: &usize| {
        let word =
            |offset: usize| u32::from_le_bytes(object[at + offset..at + offset + 4].try_into().unwrap());
        word(0) == 2 && word(4) == 4 && word(8) % 64 == 0 && word(8) > 0 && word(12) == 1
    };
    let at = (0..object.len() - 16).step_by(4).find(is_array).expect("the object has an array of the host");
    object[at + 12..at + 16].copy_from_slice(&(u32::MAX / 2).to_ne_bytes());
    let mut probe = start("oom", object);
    let Some((reason, text)) = reason(&mut probe, "oom") else { return };
    assert!(reason == "rejected" && text.contains("map HOST"), "{reason}: {text}");
}

#[test]
fn a_program_that_the_verifier_refuses_is_a_reason() {
    /// Reads from where a register points that nobody has set.
    const STRAY: [u8; 8] = [0x79, 0x90, 0, 0, 0, 0, 0, 0];
    let _alone = alone();
    let mut object = include_bytes!("../../../collector-ebpf/prebuilt/drops.o").to_vec();
    for (name, place) in programs::places(&object) {
        if name.contains("packet_drop") {
            object[place..place + 8].copy_from_slice(&STRAY);
        }
    }
    let mut probe = start("drops", object);
    let Some((reason, text)) = reason(&mut probe, "drops") else { return };
    assert!(reason == "rejected" && text.contains("R9 !read_ok"), "{reason}: {text}");
}

#[test]
fn without_type_information_the_rest_runs_on() {
    let _alone = alone();
    let probes: Vec<_> = PROBES.iter().map(|probe| probe.name.to_owned()).collect();
    let options = EbpfOptions { probes, btf: "/nowhere/vmlinux".into(), ..EbpfOptions::default() };
    let mut probe = Probe::start(&options);
    if probe.failure().is_some_and(|(reason, _)| reason == "not_permitted") {
        return collector_tests::skip::skip("without_type_information_the_rest_runs_on", "not permitted");
    }
    probe.tick();
    for own in PROBES {
        // Their programs look into nothing of the kernel's.
        let needs_none = matches!(own.name, "irq" | "network");
        let up = probe.value("collector_ebpf_probe_up", &[("probe", own.name)]);
        assert_eq!(up, f64::from(u8::from(needs_none)), "{}", own.name);
    }
    assert!(probe.reader.failures().all(|(_, reason, _)| reason == "no_btf"));
}

#[test]
fn too_many_cgroups_are_said_and_cost_the_host_nothing() {
    /// More than the slots that a probe makes where there are few cgroups at its start.
    const CGROUPS: usize = 700;
    let test = "too_many_cgroups_are_said_and_cost_the_host_nothing";
    let _alone = alone();
    if !root_or_skip(test) {
        return;
    }
    let Some(mut probe) = Probe::named_or_skip(test, "process") else { return };
    let before = probe.before(&[("collector_process_exits_total", vec![("code", "77")])]);
    let cgroups: Vec<_> =
        (0..CGROUPS).map_while(|_| Cgroup::create_or_skip(test, Hierarchy::Of("cpu"))).collect();
    if cgroups.len() < CGROUPS {
        return;
    }
    for cgroup in &cgroups {
        assert_eq!(shell_in(&[cgroup], "exit 77", &[]).status().unwrap().code(), Some(77));
    }
    let grown = probe.grown(&before);
    assert_eq!(grown[0], CGROUPS as f64, "the host's count holds");
    let counted = probe.value("collector_cgroup_process_exits_total", &[("outcome", "failure")]);
    let lost = probe.value("collector_ebpf_lost_total", &[("probe", "process"), ("limit", "cgroup_slots")]);
    eprintln!("{test}: {counted} counted, {lost} events lost");
    assert!(lost > 0.0, "more cgroups than slots");
    assert!(counted >= 200.0 && counted <= CGROUPS as f64 + 50.0, "those with a slot are counted: {counted}");
}

/// So many kills at once, in cgroups whose memory is too small.
fn kill_at_once(cgroups: &[Cgroup], number: usize) {
    let script = "exec dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null";
    let storm: Vec<_> = (0..number).map(|_| shell_in(cgroups, script, &[]).spawn().unwrap()).collect();
    let ended: Vec<_> = storm.into_iter().map(|mut child| child.wait().unwrap()).collect();
    assert!(ended.iter().all(|status| !status.success()), "64 MiB do not fit into 16");
}

/// How many kills of that cgroup were said, and how many were not for either limit.
fn said(probe: &Probe, name: &str) -> [f64; 3] {
    let lost = |limit| probe.value("collector_ebpf_lost_total", &[("probe", "oom"), ("limit", limit)]);
    let said = probe.value("collector_cgroup_oom_kills_total", &[("cgroup", &format!("/{name}"))]);
    [said, lost("kills_a_second"), lost("ring_buffer")]
}

#[test]
fn every_kill_of_a_storm_is_said_or_counted() {
    const AT_ONCE: usize = 60;
    let test = "every_kill_of_a_storm_is_said_or_counted";
    let _alone = alone();
    if !root_or_skip(test) {
        return;
    }
    let Some(mut probe) = Probe::named_or_skip(test, "oom") else { return };
    let name = format!("collector-storm-{}", std::process::id());
    let before = probe.before(&[("collector_oom_kills_total", vec![])]);
    let Some(cgroups) = Cgroup::limited_or_skip(test, &name, "16M") else { return };
    kill_at_once(&cgroups, AT_ONCE);
    let grown = probe.grown(&before);
    let [said, too_many, overrun] = said(&probe, &name);
    eprintln!("{test}: {} kills, {said} said, {too_many} not", grown[0]);
    // A shell may be killed before it is the program.
    assert!(grown[0] >= AT_ONCE as f64 && said >= 32.0, "{grown:?}, {said} said");
    assert_eq!(said + too_many, grown[0], "each kill is said, or counted as unsaid");
    assert_eq!(overrun, 0.0, "one second's kills fit into the buffer");
}

#[test]
fn a_ring_buffer_that_nobody_empties_costs_what_does_not_fit() {
    /// More than fit, and in more seconds than it takes to say them.
    const KILLS: usize = 180;
    const AT_ONCE: usize = 30;
    let test = "a_ring_buffer_that_nobody_empties_costs_what_does_not_fit";
    let _alone = alone();
    if !root_or_skip(test) {
        return;
    }
    let probes = ["oom", "process"].map(str::to_owned).into();
    let options = EbpfOptions { probes, ..EbpfOptions::default() };
    let Some(mut probe) = Probe::start_or_skip(test, &options) else { return };
    let name = format!("collector-overrun-{}", std::process::id());
    let wanted =
        [("collector_oom_kills_total", vec![]), ("collector_process_killed_total", vec![("signal", "9")])];
    let before = probe.before(&wanted);
    let Some(cgroups) = Cgroup::limited_or_skip(test, &name, "16M") else { return };
    for _ in 0..KILLS / AT_ONCE {
        let second = std::time::Instant::now() + std::time::Duration::from_secs(1);
        kill_at_once(&cgroups, AT_ONCE);
        std::thread::sleep(second.saturating_duration_since(std::time::Instant::now()));
    }
    let grown = probe.grown(&before);
    let [first, too_many, overrun] = said(&probe, &name);
    eprintln!("{test}: {grown:?}, {first} said, {too_many} too many, {overrun} did not fit");
    // The buffer has room for 106.
    assert!(grown[0] >= KILLS as f64 && overrun > 0.0 && first > 90.0, "{first} said, {overrun} did not fit");
    assert_eq!(
        first + too_many + overrun,
        grown[0],
        "each kill is said, or counted by the limit that it met"
    );
    assert!(grown[1] >= KILLS as f64, "another probe lost nothing: {grown:?}");
    // What comes after the buffer was emptied is said again.
    kill_at_once(&cgroups, 1);
    probe.tick();
    assert!(said(&probe, &name)[0] > first, "the next kill is said");
}
