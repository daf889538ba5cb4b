//! Puts constants into a program where it uses them, before the kernel has it.
//!
//! What user space writes into an object's read-only data the verifier knows; but the program still loads it, each time it
//! runs, by an address of ten bytes. Only here is everything known: the loads become numbers, the numbers move into the
//! instructions that use them, and the offset of a member of a kernel struct into the load of that member. A member then
//! costs one instruction, where it took four.
//!
//! Nothing is moved: what is no longer needed becomes a jump to the next instruction, which the kernel takes out.

use aya_obj::generated::bpf_insn;

/// Read-only data, by the descriptor of its map.
pub(super) type Data<'a> = (i32, &'a [u8]);

// Parts of an instruction's code: its class, the operation, and whether it takes a register.
const LD_ADDRESS: u8 = 0x18;
const LDX: u8 = 0x01;
const ST: u8 = 0x02;
const STX: u8 = 0x03;
const ALU: u8 = 0x04;
const JMP: u8 = 0x05;
const JMP32: u8 = 0x06;
const ALU64: u8 = 0x07;
const CLASS: u8 = 0x07;
const OPERATION: u8 = 0xf0;
const REGISTER: u8 = 0x08;
const MOV: u8 = 0xb0;
const ADD: u8 = 0x00;
const BYTE_SWAP: u8 = 0xd0;
const NEGATE: u8 = 0x80;
const ALWAYS: u8 = 0x00;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;
/// How a load or store addresses memory, and its size.
const MODE: u8 = 0xe0;
const PLAIN: u8 = 0x60;
const SIZE: u8 = 0x18;
/// What kind of address an instruction loads: a place in the value of a map.
const MAP_VALUE: u8 = 2;

/// What is known of a register.
#[derive(Clone, Copy, PartialEq)]
enum Known {
    Nothing,
    /// A number that fits into an instruction.
    Number(i32),
    /// A place in read-only data.
    Place {
        data: usize,
        at: usize,
    },
}

/// Settles the constants of a program. It may lie in parts, one after the other, that call each other.
pub(super) fn settle(program: &mut [bpf_insn], data: &[Data<'_>]) {
    put_numbers(program, data);
    let live = live_after(program);
    fold_offsets(program, &live);
    while take_out_unused(program) {}
}

/// Whether this is the first of two instructions that load an address, or a number of 64 bits.
fn is_wide(instruction: &bpf_insn) -> bool {
    instruction.code == LD_ADDRESS
}

fn is_arithmetic(instruction: &bpf_insn) -> bool {
    matches!(instruction.code & CLASS, ALU | ALU64)
}

/// Where a jump goes, if this is one; whatever else it is.
fn target(at: usize, instruction: &bpf_insn) -> Option<usize> {
    let is_jump = matches!(instruction.code & CLASS, JMP | JMP32)
        && !matches!(instruction.code & OPERATION, CALL | EXIT);
    let long = instruction.code == JMP32 | ALWAYS;
    let by = if long { instruction.imm } else { i32::from(instruction.off) };
    let to = i64::try_from(at).ok()? + 1 + i64::from(by);
    if is_jump { usize::try_from(to).ok() } else { None }
}

/// Whether what comes next is reached from here.
fn goes_on(instruction: &bpf_insn) -> bool {
    let jumps = matches!(instruction.code & CLASS, JMP | JMP32);
    !jumps || !matches!(instruction.code & OPERATION, ALWAYS | EXIT)
}

/// Which instructions are reached by jumps.
fn targets(program: &[bpf_insn]) -> Vec<bool> {
    let mut found = vec![false; program.len()];
    for (at, instruction) in program.iter().enumerate() {
        if let Some(place) = target(at, instruction).and_then(|to| found.get_mut(to)) {
            *place = true;
        }
    }
    found
}

/// The registers that an instruction reads, and those that it writes: a bit each. What is not known here reads all.
fn uses(instruction: &bpf_insn) -> (u16, u16) {
    const ARGUMENTS: u16 = 0b11_1110;
    let (to, from) = (1 << instruction.dst_reg(), 1 << instruction.src_reg());
    let operation = instruction.code & OPERATION;
    let by_register = instruction.code & REGISTER != 0;
    let operand = if by_register { from } else { 0 };
    match instruction.code & CLASS {
        _ if is_wide(instruction) => (0, to),
        LDX => (from, to),
        ST => (to, 0),
        STX if instruction.code & MODE == PLAIN => (to | from, 0),
        ALU | ALU64 if matches!(operation, BYTE_SWAP | NEGATE) => (to, to),
        ALU | ALU64 if operation == MOV => (operand, to),
        ALU | ALU64 => (to | operand, to),
        JMP if operation == CALL => (ARGUMENTS, ARGUMENTS | 1),
        JMP if operation == EXIT => (1, 0),
        JMP | JMP32 if operation == ALWAYS => (0, 0),
        JMP | JMP32 => (to | operand, 0),
        _ => (u16::MAX, 0),
    }
}

/// The number at a place, where it is one that fits.
fn number_at(data: &[u8], at: usize, size: u8) -> Option<i32> {
    let length = [4, 2, 1, 8][usize::from(size >> 3)];
    let mut bytes = [0; 8];
    bytes[..length].copy_from_slice(data.get(at..at.checked_add(length)?)?);
    i32::try_from(u64::from_le_bytes(bytes)).ok()
}

/// Replaces loads of constants by their numbers, and registers that hold a number by it.
fn put_numbers(program: &mut [bpf_insn], data: &[Data<'_>]) {
    let targets = targets(program);
    let mut known = [Known::Nothing; 16];
    let mut at = 0;
    while at < program.len() {
        if targets[at] {
            known = [Known::Nothing; 16];
        }
        let second = program.get(at + 1).map_or(0, |second| second.imm);
        let instruction = &mut program[at];
        let (to, from) = (usize::from(instruction.dst_reg()), usize::from(instruction.src_reg()));
        put_number(instruction, &known, data);
        let result = match instruction.code {
            LD_ADDRESS if instruction.src_reg() == MAP_VALUE => place(instruction.imm, second, data),
            code if code == ALU64 | MOV => Known::Number(instruction.imm),
            code if code == ALU64 | MOV | REGISTER => known[from],
            _ => Known::Nothing,
        };
        let (_, written) = uses(instruction);
        for register in (0..16).filter(|register| written & 1 << register != 0) {
            known[register] = Known::Nothing;
        }
        match instruction.code & CLASS {
            // Atomic ones may write to a register.
            STX if instruction.code & MODE != PLAIN => known = [Known::Nothing; 16],
            _ if !goes_on(instruction) => known = [Known::Nothing; 16],
            _ if written == 1 << to => known[to] = result,
            _ => {}
        }
        at += if is_wide(&program[at]) { 2 } else { 1 };
    }
}

/// What is known of a register into which that place of a map's value is loaded.
fn place(map: i32, at: i32, data: &[Data<'_>]) -> Known {
    match (data.iter().position(|(fd, _)| *fd == map), usize::try_from(at)) {
        (Some(data), Ok(at)) => Known::Place { data, at },
        _ => Known::Nothing,
    }
}

/// Makes use of what is known of the registers that an instruction takes.
fn put_number(instruction: &mut bpf_insn, known: &[Known; 16], data: &[Data<'_>]) {
    let operation = instruction.code & OPERATION;
    let by_register = instruction.code & REGISTER != 0;
    let is_jump = matches!(instruction.code & CLASS, JMP | JMP32);
    if is_jump && by_register && !matches!(operation, ALWAYS | CALL | EXIT) {
        swap_if_better(instruction, known);
    }
    let from = known[usize::from(instruction.src_reg())];
    match (instruction.code & CLASS, from) {
        (LDX, Known::Place { data: which, at }) if instruction.code & MODE == PLAIN => {
            let at = usize::try_from(instruction.off).ok().and_then(|offset| at.checked_add(offset));
            let size = instruction.code & SIZE;
            let Some(number) = at.and_then(|at| number_at(data[which].1, at, size)) else { return };
            instruction.code = ALU64 | MOV;
            instruction.off = 0;
            by_number(instruction, number);
        }
        (JMP | JMP32, Known::Number(number))
            if by_register && number >= 0 && !matches!(operation, ALWAYS | CALL | EXIT) =>
        {
            by_number(instruction, number);
        }
        // With an offset, the operation is another one.
        (ALU | ALU64, Known::Number(number))
            if by_register
                && number >= 0
                && instruction.off == 0
                && !matches!(operation, BYTE_SWAP | NEGATE) =>
        {
            by_number(instruction, number);
        }
        _ => {}
    }
}

/// Makes an instruction take a number, not a register. A negative one would be extended in one way by some, and in another
/// one by others: it stays in its register.
fn by_number(instruction: &mut bpf_insn, number: i32) {
    instruction.code &= !REGISTER;
    instruction.set_src_reg(0);
    instruction.imm = number;
}

/// Turns a compare around whose first register holds a number that is known.
fn swap_if_better(instruction: &mut bpf_insn, known: &[Known; 16]) {
    let (first, second) = (instruction.dst_reg(), instruction.src_reg());
    let is_number = |register: u8| matches!(known[usize::from(register)], Known::Number(_));
    let Some((_, turned)) = TURNED.iter().find(|(operation, _)| *operation == instruction.code & OPERATION)
    else {
        return;
    };
    if is_number(first) && !is_number(second) {
        instruction.code = instruction.code & !OPERATION | turned;
        instruction.set_dst_reg(second);
        instruction.set_src_reg(first);
    }
}

/// Compares, and what says the same of the two values the other way round: equal, unequal, above, at least, below, at most,
/// and the last four with signs.
const TURNED: [(u8, u8); 10] = [
    (0x10, 0x10),
    (0x50, 0x50),
    (0x20, 0xa0),
    (0x30, 0xb0),
    (0xa0, 0x20),
    (0xb0, 0x30),
    (0x60, 0xc0),
    (0x70, 0xd0),
    (0xc0, 0x60),
    (0xd0, 0x70),
];

/// For each instruction, the registers whose values are still needed after it.
fn live_after(program: &[bpf_insn]) -> Vec<u16> {
    let mut before = vec![0u16; program.len() + 1];
    let mut after = vec![0u16; program.len()];
    loop {
        let mut changed = false;
        for (at, instruction) in program.iter().enumerate().rev() {
            let mut needed = 0;
            if goes_on(instruction) {
                needed |= before[at + 1];
            }
            if let Some(to) = target(at, instruction) {
                needed |= before.get(to).copied().unwrap_or(u16::MAX);
            }
            let second = at > 0 && is_wide(&program[at - 1]);
            let (read, written) = if second { (0, 0) } else { uses(instruction) };
            let now = needed & !written | read;
            changed |= now != before[at];
            (before[at], after[at]) = (now, needed);
        }
        if !changed {
            return after;
        }
    }
}

/// Moves the offset that is added to a pointer, only to load from there, into the load.
fn fold_offsets(program: &mut [bpf_insn], live: &[u16]) {
    let targets = targets(program);
    for at in 1..program.len() {
        let (add, load) = (program[at - 1], program[at]);
        let pointer = add.dst_reg();
        let adds = add.code == ALU64 | ADD && !targets[at] && !(at > 1 && is_wide(&program[at - 2]));
        let loads = load.code & CLASS == LDX && load.code & MODE == PLAIN && load.src_reg() == pointer;
        let needed = live[at] & 1 << pointer != 0 && load.dst_reg() != pointer;
        let offset = i32::from(load.off).checked_add(add.imm).and_then(|offset| i16::try_from(offset).ok());
        let (true, true, false, Some(offset)) = (adds, loads, needed, offset) else { continue };
        program[at].off = offset;
        nothing(&mut program[at - 1]);
        // Where the pointer is a copy made for it, the load is from the first one.
        let Some(copy) = at.checked_sub(2).map(|copy| program[copy]) else { continue };
        let copies = copy.code == ALU64 | MOV | REGISTER && copy.off == 0 && copy.dst_reg() == pointer;
        if copies && !targets[at - 1] && !(at > 2 && is_wide(&program[at - 3])) {
            program[at].set_src_reg(copy.src_reg());
            nothing(&mut program[at - 2]);
        }
    }
}

/// Takes out what computes a value that nobody needs. Returns whether there was any.
fn take_out_unused(program: &mut [bpf_insn]) -> bool {
    let live = live_after(program);
    let mut any = false;
    let mut at = 0;
    while at < program.len() {
        let instruction = &mut program[at];
        let wide = is_wide(instruction);
        if (wide || is_arithmetic(instruction)) && live[at] & 1 << instruction.dst_reg() == 0 {
            any = true;
            nothing(instruction);
            if wide && let Some(second) = program.get_mut(at + 1) {
                nothing(second);
            }
        }
        at += if wide { 2 } else { 1 };
    }
    any
}

/// Makes an instruction one that does nothing.
fn nothing(instruction: &mut bpf_insn) {
    instruction.code = JMP | ALWAYS;
    instruction.set_dst_reg(0);
    instruction.set_src_reg(0);
    instruction.off = 0;
    instruction.imm = 0;
}

#[cfg(test)]
#[path = "settle_tests.rs"]
mod tests;
