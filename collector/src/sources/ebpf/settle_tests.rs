//! Small programs, and what is left of them.

use super::*;

/// The descriptor of the read-only data, and its bytes: 7 of four bytes, then 0x1234 of eight, then a negative one.
const FD: i32 = 42;
const DATA: &[u8] = &[7, 0, 0, 0, 0x34, 0x12, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];

fn instruction(code: u8, to: u8, from: u8, off: i16, imm: i32) -> bpf_insn {
    let mut one = bpf_insn { code, _bitfield_align_1: [], _bitfield_1: Default::default(), off, imm };
    one.set_dst_reg(to);
    one.set_src_reg(from);
    one
}

/// `r<to> = address of the data at that place`
fn address(to: u8, at: i32) -> [bpf_insn; 2] {
    [instruction(LD_ADDRESS, to, MAP_VALUE, 0, FD), instruction(0, 0, 0, 0, at)]
}

fn load(size: u8, to: u8, from: u8, off: i16) -> bpf_insn {
    instruction(LDX | PLAIN | size, to, from, off, 0)
}

fn add(to: u8, from: u8) -> bpf_insn {
    instruction(ALU64 | ADD | REGISTER, to, from, 0, 0)
}

fn copy(to: u8, from: u8) -> bpf_insn {
    instruction(ALU64 | MOV | REGISTER, to, from, 0, 0)
}

const WORD: u8 = 0x00;
const LONG: u8 = 0x18;

fn exit() -> bpf_insn {
    instruction(JMP | EXIT, 0, 0, 0, 0)
}

/// Settles a program, and says what is left of it: code, registers, offset and number of each instruction that does something.
fn settled(parts: &[&[bpf_insn]]) -> Vec<(u8, u8, u8, i16, i32)> {
    let mut program = parts.concat();
    settle(&mut program, &[(FD, DATA)]);
    let rest = program.iter().filter(|one| one.code != JMP | ALWAYS || one.off != 0);
    rest.map(|one| (one.code, one.dst_reg(), one.src_reg(), one.off, one.imm)).collect()
}

#[test]
fn an_offset_moves_into_the_load_that_it_is_for() {
    let left = settled(&[
        &address(1, 0),
        &[load(WORD, 2, 1, 0), copy(3, 9), add(3, 2), load(LONG, 0, 3, 4), exit()],
    ]);
    assert_eq!(left, [(LDX | PLAIN | LONG, 0, 9, 11, 0), (JMP | EXIT, 0, 0, 0, 0)]);
}

#[test]
fn a_pointer_that_is_needed_again_is_still_made() {
    let left = settled(&[
        &address(1, 4),
        &[load(LONG, 2, 1, 0), copy(3, 9), add(3, 2), load(LONG, 0, 3, 0), add(0, 3), exit()],
    ]);
    let kept =
        [copy(3, 9), instruction(ALU64 | ADD, 3, 0, 0, 0x1234), load(LONG, 0, 3, 0), add(0, 3), exit()];
    assert_eq!(left, settled(&[&kept]));
    assert_eq!(left.len(), 5);
}

#[test]
fn what_jumps_bring_is_not_known() {
    // The load is reached with another address too.
    let left = settled(&[
        &[copy(1, 8), instruction(JMP | 0x10, 7, 0, 2, 0)],
        &address(1, 0),
        &[load(WORD, 0, 1, 0), exit()],
    ]);
    assert_eq!(left.len(), 6);
    assert_eq!(left[4], (LDX | PLAIN | WORD, 0, 1, 0, 0));
}

#[test]
fn a_loop_keeps_what_its_next_round_needs() {
    let left = settled(&[&[
        instruction(ALU64 | MOV, 2, 0, 0, 3),
        instruction(ALU64 | ADD, 0, 0, 0, 1),
        instruction(ALU64 | ADD, 2, 0, 0, -1),
        instruction(JMP | 0x50, 2, 0, -3, 0),
        exit(),
    ]]);
    assert_eq!(left.len(), 5);
}

#[test]
fn compares_take_numbers_on_the_right() {
    let left = settled(&[
        &address(1, 0),
        &[load(WORD, 1, 1, 0), instruction(JMP | 0x20 | REGISTER, 1, 6, 1, 0), exit(), exit()],
    ]);
    // 7 > r6 is r6 < 7.
    assert_eq!(left[0], (JMP | 0xa0, 6, 0, 1, 7));
}

#[test]
fn numbers_that_do_not_fit_stay_where_they_are() {
    for (size, at) in [(WORD, 12), (LONG, 8), (LONG, 12)] {
        let left = settled(&[&address(1, at), &[load(size, 0, 1, 0), exit()]]);
        assert_eq!((left.len(), left[2]), (4, (LDX | PLAIN | size, 0, 1, 0, 0)), "{size} at {at}");
    }
}

#[test]
fn what_a_call_takes_and_gives_is_left() {
    let call = instruction(JMP | CALL, 0, 0, 0, 8);
    let left = settled(&[
        &address(1, 0),
        &[load(WORD, 1, 1, 0), call, copy(1, 6), load(WORD, 1, 1, 0), add(0, 1), exit()],
    ]);
    assert_eq!(left[0], (ALU64 | MOV, 1, 0, 0, 7));
    assert_eq!(left.len(), 6);
    // What a register held before a call is not what it holds after it.
    let left = settled(&[&address(1, 0), &[call, load(WORD, 0, 1, 0), exit()]]);
    assert_eq!(left[3], (LDX | PLAIN | WORD, 0, 1, 0, 0));
}
