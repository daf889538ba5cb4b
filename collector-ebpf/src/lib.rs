//! What the kernel programs and the collector share: one module a probe, types and tables alone.
//!
//! It builds on the host and for the BPF target, allocates nothing, and knows neither aya nor the kernel; but for
//! `kernel`, which only the programs see.
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod block;
pub mod cgroups;
pub mod drops;
pub mod filesystem;
pub mod irq;
#[cfg(target_arch = "bpf")]
pub mod kernel;
pub mod listen;
pub mod maps;
pub mod network;
pub mod oom;
pub mod process;
pub mod reclaim;
pub mod runqueue;
pub mod scale;
pub mod syscalls;
pub mod tcp;
pub mod throttle;
