//! Each kernel probe against a load of known shape, and against what the kernel itself says elsewhere.
//!
//! Needs root and a kernel that takes the probes; where something is missing a test says so on stderr and passes.

#[path = "probes/block.rs"]
mod block;
#[path = "probes/cost.rs"]
mod cost;
#[path = "probes/faults.rs"]
mod faults;
#[path = "probes/filesystem.rs"]
mod filesystem;
#[path = "probes/irq.rs"]
mod irq;
#[path = "probes/listen.rs"]
mod listen;
#[path = "probes/memory.rs"]
mod memory;
#[path = "probes/network.rs"]
mod network;
#[path = "probes/privileges.rs"]
mod privileges;
#[path = "probes/processes.rs"]
mod processes;
#[path = "probes/programs.rs"]
mod programs;
#[path = "probes/scheduler.rs"]
mod scheduler;
#[path = "probes/slowdown.rs"]
mod slowdown;
#[path = "probes/suite.rs"]
mod suite;
#[path = "probes/syscalls.rs"]
mod syscalls;
#[path = "probes/throttle.rs"]
mod throttle;
#[path = "probes/traffic.rs"]
mod traffic;

/// Two counts that may differ by so much.
fn near(what: &str, seen: f64, truth: f64, by: f64) {
    assert!((seen - truth).abs() <= by, "{what}: the probe saw {seen}, in truth there were {truth}");
}
