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

/// Runs programs of what the compiler gives: what they store and hand to helpers, and their result.
struct Machine {
    registers: [u64; 16],
    seen: Vec<u64>,
}

/// Where the read-only data lies.
const BASE: u64 = 1 << 40;

/// A number that stands for what lies at an address.
fn mixed(number: u64) -> u64 {
    (number ^ number >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

impl Machine {
    fn read(address: u64, size: u8) -> u64 {
        let length = [4, 2, 1, 8][usize::from(size >> 3)];
        let mut bytes = mixed(address).to_le_bytes();
        let at = usize::try_from(address.wrapping_sub(BASE)).unwrap();
        if let Some(found) = at.checked_add(length).and_then(|end| DATA.get(at..end)) {
            bytes[..length].copy_from_slice(found);
        }
        bytes[length..].fill(0);
        u64::from_le_bytes(bytes)
    }

    fn operand(&self, one: &bpf_insn) -> u64 {
        let register = self.registers[usize::from(one.src_reg())];
        if one.code & REGISTER == 0 { i64::from(one.imm).cast_unsigned() } else { register }
    }

    fn compute(operation: u8, a: u64, b: u64, bits: u32) -> u64 {
        let shift = b as u32 & (bits - 1);
        match operation {
            ADD => a.wrapping_add(b),
            0x10 => a.wrapping_sub(b),
            0x20 => a.wrapping_mul(b),
            0x40 => a | b,
            0x50 => a & b,
            0x60 => a << shift,
            0x70 => a >> shift,
            0xa0 => a ^ b,
            MOV => b,
            _ => unreachable!("{operation:x}"),
        }
    }

    fn holds(operation: u8, a: u64, b: u64, signed: (i64, i64)) -> bool {
        match operation {
            ALWAYS => true,
            0x10 => a == b,
            0x20 => a > b,
            0x30 => a >= b,
            0x40 => a & b != 0,
            0x50 => a != b,
            0x60 => signed.0 > signed.1,
            0x70 => signed.0 >= signed.1,
            0xa0 => a < b,
            0xb0 => a <= b,
            0xc0 => signed.0 < signed.1,
            0xd0 => signed.0 <= signed.1,
            _ => unreachable!("{operation:x}"),
        }
    }

    /// Programs have no way back, so they end.
    fn run(program: &[bpf_insn], registers: [u64; 16]) -> (Vec<u64>, u64) {
        let mut machine = Machine { registers, seen: Vec::new() };
        let mut at = 0;
        while program[at].code != JMP | EXIT {
            at = machine.step(program, at);
        }
        (machine.seen, machine.registers[0])
    }

    fn step(&mut self, program: &[bpf_insn], at: usize) -> usize {
        let one = &program[at];
        let (to, from) = (usize::from(one.dst_reg()), usize::from(one.src_reg()));
        let (a, b) = (self.registers[to], self.operand(one));
        let offset = i64::from(one.off).cast_unsigned();
        let operation = one.code & OPERATION;
        match one.code & CLASS {
            _ if is_wide(one) => {
                self.registers[to] = BASE + u64::from(program[at + 1].imm.cast_unsigned());
                return at + 2;
            }
            LDX => {
                let address = self.registers[from].wrapping_add(offset);
                self.registers[to] = Self::read(address, one.code & SIZE);
            }
            STX => self.seen.extend([a.wrapping_add(offset), self.registers[from]]),
            ALU64 => self.registers[to] = Self::compute(operation, a, b, 64),
            ALU => {
                let (a, b) = (a & 0xffff_ffff, b & 0xffff_ffff);
                self.registers[to] = Self::compute(operation, a, b, 32) & 0xffff_ffff;
            }
            JMP if operation == CALL => {
                let arguments: [u64; 5] = std::array::from_fn(|n| self.registers[n + 1]);
                self.seen.extend(arguments);
                (0..6).for_each(|n| self.registers[n] = mixed(arguments[0].wrapping_add(n as u64)));
            }
            JMP => {
                let signed = (a.cast_signed(), b.cast_signed());
                return if Self::holds(operation, a, b, signed) { target(at, one).unwrap() } else { at + 1 };
            }
            _ => {
                let (a, b) = (a as u32, b as u32);
                let signed = (i64::from(a.cast_signed()), i64::from(b.cast_signed()));
                let holds = Self::holds(operation, a.into(), b.into(), signed);
                return if holds { target(at, one).unwrap() } else { at + 1 };
            }
        }
        at + 1
    }
}

/// Numbers that look like chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 = mixed(self.0.wrapping_add(1));
        usize::try_from(self.0 >> 33).unwrap() % most
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn instruction(&mut self) -> Vec<bpf_insn> {
        const ARITHMETIC: [u8; 9] = [ADD, 0x10, 0x20, 0x40, 0x50, 0x60, 0x70, 0xa0, MOV];
        let (to, from) = (self.below(6) as u8, self.below(6) as u8);
        let form = self.one_of(&[0, REGISTER, REGISTER]);
        let number = self.one_of(&[0, 1, 7, 8, 0x1234, -1, i32::MAX, i32::MIN]);
        let offset = self.one_of(&[0, 0, 4, 8, -4, i16::MAX]);
        match self.below(16) {
            0..3 => address(to, self.one_of(&[0, 4, 8, 12])).to_vec(),
            3..7 => vec![load(self.one_of(&[WORD, LONG, 0x08, 0x10]), to, from, offset)],
            7..9 => vec![copy(to, from)],
            9 => vec![
                copy(to, from),
                instruction(ALU64 | ADD | form, to, from, 0, number),
                load(LONG, from, to, offset),
            ],
            10 => vec![instruction(STX | PLAIN | LONG, to, from, offset, 0)],
            11 => vec![instruction(JMP | CALL, 0, 0, 0, 5)],
            12 => vec![instruction(ALU | self.one_of(&ARITHMETIC) | form, to, from, 0, number)],
            _ => vec![instruction(ALU64 | self.one_of(&ARITHMETIC) | form, to, from, 0, number)],
        }
    }

    /// A program with jumps forward, none of them into the middle of an instruction.
    fn program(&mut self) -> Vec<bpf_insn> {
        const COMPARES: [u8; 12] = [ALWAYS, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xa0, 0xb0, 0xc0, 0xd0];
        let mut parts: Vec<Vec<bpf_insn>> = (0..4 + self.below(24)).map(|_| self.instruction()).collect();
        parts.push(vec![exit()]);
        for at in (0..parts.len() - 1).rev() {
            if self.below(5) == 0 {
                let over = 1 + self.below((parts.len() - 1 - at).min(6));
                let length: usize = parts[at + 1..at + over].iter().map(Vec::len).sum();
                let operation = self.one_of(&COMPARES);
                let form = if operation == ALWAYS { 0 } else { self.one_of(&[0, REGISTER]) };
                let class = if operation == ALWAYS { JMP } else { self.one_of(&[JMP, JMP32]) };
                let (to, from) = (self.below(6) as u8, self.below(6) as u8);
                let number = self.one_of(&[0, 7, 0x1234, -1]);
                parts[at] = vec![instruction(class | operation | form, to, from, length as i16, number)];
            }
        }
        parts.concat()
    }
}

#[test]
fn programs_do_what_they_did() {
    let mut chance = Chance(0x5eed);
    let mut settled_some = 0;
    for number in 0..50_000 {
        let program = chance.program();
        let mut after = program.clone();
        settle(&mut after, &[(FD, DATA)]);
        settled_some += usize::from(after.iter().any(|one| one.code == JMP | ALWAYS && one.off == 0));
        let registers: [u64; 16] =
            std::array::from_fn(|_| chance.one_of(&[0, 7, 0x1234, u64::MAX, BASE, BASE + 4]));
        let (before, now) = (Machine::run(&program, registers), Machine::run(&after, registers));
        assert_eq!(before, now, "program {number}: {program:?}\n{after:?}");
    }
    assert!(settled_some > 25_000, "{settled_some} had anything to settle");
}
