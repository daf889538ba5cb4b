//! A kernel made of a handful of types, its bytes cut and spoilt, and the running kernel where it shows its types.

use std::io::Write;

use super::*;

/// Writes BTF as a kernel would.
#[derive(Default)]
struct Writer {
    types: Vec<u8>,
    strings: Vec<u8>,
    last: u32,
}

impl Writer {
    fn name(&mut self, name: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if name.is_empty() {
            return 0;
        }
        let at = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend(name.bytes().chain([0]));
        at
    }

    fn add(&mut self, name: &str, info: u32, size_or_type: u32, tail: &[u32]) -> u32 {
        let name = self.name(name);
        for word in [name, info, size_or_type].iter().chain(tail) {
            self.types.extend(word.to_ne_bytes());
        }
        self.last += 1;
        self.last
    }

    fn structure(&mut self, kind: u32, name: &str, members: &[(&str, u32, u32)]) -> u32 {
        let mut tail = Vec::new();
        for &(member, type_id, bits) in members {
            tail.extend([self.name(member), type_id, bits]);
        }
        self.add(name, kind << 24 | u32::try_from(members.len()).unwrap(), 64, &tail)
    }

    fn bytes(&self) -> Vec<u8> {
        let lengths = [self.types.len(), self.strings.len()].map(|n| u32::try_from(n).unwrap());
        let mut out = MAGIC.to_ne_bytes().to_vec();
        out.extend([1, 0]);
        for word in [24, 0, lengths[0], lengths[0], lengths[1]] {
            out.extend(u32::to_ne_bytes(word));
        }
        out.extend(&self.types);
        out.extend(&self.strings);
        out
    }
}

/// `struct task { int pid; struct { union { long long a; struct rq *queue; }; int inner; }; struct info info; .. }`
fn kernel() -> Writer {
    let mut w = Writer::default();
    let int = w.add("int", INT << 24, 4, &[32]);
    let long = w.add("long long", INT << 24, 8, &[64]);
    let forward = w.add("rq", FWD << 24, 0, &[]);
    let to_queue = w.add("", PTR << 24, forward, &[]);
    let union = w.structure(UNION, "", &[("a", long, 0), ("queue", to_queue, 0)]);
    let unnamed = w.structure(STRUCT, "", &[("", union, 0), ("inner", int, 64)]);
    let volatile = w.add("", VOLATILE << 24, long, &[]);
    let alias = w.add("u64_alias", TYPEDEF << 24, volatile, &[]);
    let info = w.structure(STRUCT, "info", &[("pcount", alias, 0), ("run_delay", alias, 64)]);
    let constant = w.add("", CONST << 24, info, &[]);
    let task = w.structure(
        STRUCT,
        "task",
        &[("pid", int, 32), ("", unnamed, 128), ("info", constant, 256), ("odd", int, 3)],
    );
    w.structure(STRUCT, "rq", &[("clock", alias, 512)]);
    w.structure(STRUCT | 1 << 7, "flags", &[("bits", int, 3 << 24 | 8), ("whole", int, 32)]);
    w.add("", ENUM << 24 | 1, 4, &[0, 7]);
    w.add("", ARRAY << 24, 0, &[int, int, 9]);
    let to_task = w.add("", PTR << 24, task, &[]);
    let to_task = w.add("", CONST << 24, to_task, &[]);
    let function = w.add("", FUNC_PROTO << 24 | 3, 0, &[0, 0, 0, int, 0, to_task]);
    let to_function = w.add("", PTR << 24, function, &[]);
    w.add("btf_trace_switch", TYPEDEF << 24, to_function, &[]);
    w.add("", ENUM64 << 24 | 1, 8, &[0, 1, 2]);
    w
}

#[test]
fn members_are_found_where_they_are() {
    let bytes = kernel().bytes();
    let btf = Btf::parse(&bytes).unwrap();
    let task = btf.structure("task").unwrap();
    let offset = |path| btf.member(task, path).map(|member| member.offset);
    assert_eq!(offset("pid"), Ok(4));
    assert_eq!(offset("inner"), Ok(24), "inside an unnamed struct");
    assert_eq!(offset("queue"), Ok(16), "inside an unnamed union in it");
    assert_eq!(offset("info.run_delay"), Ok(40));
    assert_eq!(btf.size(btf.member(task, "info.run_delay").unwrap().type_id), Some(8));
    for absent in ["none", "pid.x", "info.none", "odd"] {
        assert_eq!(offset(absent), Err(BtfError::NoMember("task".into(), absent.into())));
    }
    assert_eq!(btf.structure("none"), Err(BtfError::NoType("struct none".into())));
    let flags = btf.structure("flags").unwrap();
    assert!(btf.member(flags, "bits").is_err(), "a bit field has no offset in bytes");
    assert_eq!(btf.member(flags, "whole").unwrap().offset, 4);
}

#[test]
fn pointers_lead_to_structs_that_are_only_declared_at_first() {
    let bytes = kernel().bytes();
    let btf = Btf::parse(&bytes).unwrap();
    let task = btf.structure("task").unwrap();
    let queue = btf.pointee(btf.member(task, "queue").unwrap().type_id).unwrap();
    assert_eq!((btf.name(queue).as_str(), btf.member(queue, "clock").unwrap().offset), ("rq", 64));
    assert_eq!(btf.pointee(btf.member(task, "pid").unwrap().type_id), None);
    let arguments = btf.tracepoint("switch").unwrap();
    assert_eq!(arguments.len(), 2);
    assert_eq!(btf.pointee(arguments[1]), Some(task));
    assert!(btf.tracepoint("none").is_err());
}

#[test]
fn cut_or_spoilt_bytes_are_refused_and_never_panic() {
    let bytes = kernel().bytes();
    for length in 0..bytes.len() {
        assert!(Btf::parse(&bytes[..length]).is_err(), "cut at {length}");
    }
    for at in 0..bytes.len() {
        for wrong in [0, 1, 0x7f, 0xff] {
            let mut spoilt = bytes.clone();
            spoilt[at] = wrong;
            let Ok(btf) = Btf::parse(&spoilt) else { continue };
            if let Ok(task) = btf.structure("task") {
                for path in ["pid", "inner", "queue", "info.run_delay"] {
                    let _ = btf
                        .member(task, path)
                        .map(|member| (btf.size(member.type_id), btf.pointee(member.type_id)));
                }
            }
            let _ = btf.tracepoint("switch");
        }
    }
}

#[test]
fn types_that_name_themselves_end() {
    let mut w = Writer::default();
    let long = w.add("long", INT << 24, 8, &[64]);
    w.add("loop", TYPEDEF << 24, 2, &[]);
    w.structure(STRUCT, "s", &[("", 3, 0), ("l", 2, 0), ("x", long, 64)]);
    let bytes = w.bytes();
    let btf = Btf::parse(&bytes).unwrap();
    let looped = btf.structure("s").unwrap();
    assert!(btf.member(looped, "none").is_err());
    assert_eq!(btf.size(2), None);
}

#[test]
fn the_running_kernel_is_understood() {
    let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
        // Not by eprintln!, which the test runner swallows.
        let _ =
            writeln!(std::io::stderr(), "SKIPPED the_running_kernel_is_understood: this kernel shows no BTF");
        return;
    };
    let btf = Btf::parse(&bytes).unwrap();
    let task = btf.structure("task_struct").unwrap();
    let pid = btf.member(task, "pid").unwrap();
    let tgid = btf.member(task, "tgid").unwrap();
    assert_eq!((tgid.offset - pid.offset, btf.size(pid.type_id)), (4, Some(4)));
    let arguments = btf.tracepoint("sched_switch").unwrap();
    assert_eq!(btf.pointee(arguments[1]), Some(task));
}
