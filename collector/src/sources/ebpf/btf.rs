//! Where the running kernel keeps a member of a struct: a small reader of BTF, the kernel's own type description
//! (`/sys/kernel/btf/vmlinux`, Documentation/bpf/btf.rst).
//!
//! It borrows the file's bytes and keeps one number a type, so that all of it can be dropped after use. It refuses
//! bit fields, and data of the other byte order. Cost: once at start, some 5 ms for a kernel of 120,000 types.

use std::cell::RefCell;

use hashbrown::HashMap;

/// Why a question to BTF has no answer.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum BtfError {
    #[error("the BTF data is malformed: {0}")]
    Malformed(&'static str),
    #[error("the kernel has no type {0}")]
    NoType(String),
    #[error("the kernel's {0} has no member {1}")]
    NoMember(String, String),
}

const MAGIC: u16 = 0xeb9f;
/// Typedefs, qualifiers and nested members that one question may go through.
const MAX_DEPTH: usize = 32;

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FWD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const FLOAT: u32 = 16;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;
const LAST_KIND: u32 = ENUM64;

/// The type description of one kernel.
pub(super) struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where the type of that number begins in `types`; number 0 is `void` and begins nowhere.
    starts: Vec<u32>,
    /// What has been looked for by kind and name: the probes ask the same again and again, and a search looks at every type.
    found: RefCell<Found>,
}

/// A type's number.
pub(super) type TypeId = u32;
/// Types by their kind and name.
type Found = HashMap<(u32, Vec<u8>), Option<TypeId>>;

/// A member of a struct: its place in bytes, and its type without typedefs and qualifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) offset: u32,
    pub(super) type_id: TypeId,
}

/// The fixed part of a type.
struct Head {
    name: u32,
    kind: u32,
    entries: u32,
    /// Members carry the width of a bit field in the highest byte of their offset.
    wide_offsets: bool,
    size_or_type: u32,
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes)
}

impl<'a> Btf<'a> {
    /// Finds where each type begins.
    ///
    /// # Errors
    /// [`BtfError::Malformed`] when the bytes are no BTF of this byte order, are cut, or hold an unknown kind.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let malformed = BtfError::Malformed;
        if half(bytes, 0) != Some(MAGIC) {
            return Err(malformed("no magic number of this byte order"));
        }
        let field = |at| word(bytes, at).map(|n| n as usize).ok_or(malformed("the header is cut"));
        let start = field(4)?;
        let section = |offset: usize, length: usize| {
            let from = start.checked_add(offset)?;
            bytes.get(from..from.checked_add(length)?)
        };
        let types = section(field(8)?, field(12)?).ok_or(malformed("the types are cut"))?;
        let strings = section(field(16)?, field(20)?).ok_or(malformed("the strings are cut"))?;
        let mut btf = Btf { types, strings, starts: vec![u32::MAX], found: RefCell::default() };
        let mut at = 0;
        while at < types.len() {
            btf.starts.push(u32::try_from(at).map_err(|_| malformed("too large"))?);
            let head = btf.head_at(at).ok_or(malformed("a type is cut"))?;
            at += 12 + tail_length(&head).ok_or(malformed("a type of unknown kind"))?;
        }
        if at > types.len() {
            return Err(malformed("the last type is cut"));
        }
        Ok(btf)
    }

    fn head_at(&self, at: usize) -> Option<Head> {
        let info = word(self.types, at + 4)?;
        Some(Head {
            name: word(self.types, at)?,
            kind: (info >> 24) & 0x1f,
            entries: info & 0xffff,
            wide_offsets: info >> 31 != 0,
            size_or_type: word(self.types, at + 8)?,
        })
    }

    fn head(&self, id: TypeId) -> Option<Head> {
        let start = *self.starts.get(id as usize)? as usize;
        self.head_at(start)
    }

    fn text(&self, offset: u32) -> &'a [u8] {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        let end = rest.iter().position(|&b| b == 0).unwrap_or(rest.len());
        &rest[..end]
    }

    /// The type without typedefs and qualifiers.
    fn plain(&self, mut id: TypeId) -> Option<TypeId> {
        for _ in 0..MAX_DEPTH {
            match self.head(id)? {
                Head { kind: TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG, size_or_type, .. } => {
                    id = size_or_type;
                }
                _ => return Some(id),
            }
        }
        None
    }

    fn find(&self, kind: u32, name: &[u8]) -> Option<TypeId> {
        let key = (kind, name.to_vec());
        if let Some(&known) = self.found.borrow().get(&key) {
            return known;
        }
        let is_named = |offset: u32| {
            let rest = self.strings.get(offset as usize..).unwrap_or_default();
            rest.strip_prefix(name).is_some_and(|end| end.first().is_none_or(|&byte| byte == 0))
        };
        let last = u32::try_from(self.starts.len()).ok()?;
        let found =
            (1..last).find(|&id| self.head(id).is_some_and(|head| head.kind == kind && is_named(head.name)));
        self.found.borrow_mut().insert(key, found);
        found
    }

    /// The struct of that name.
    ///
    /// # Errors
    /// [`BtfError::NoType`]
    pub(super) fn structure(&self, name: &str) -> Result<TypeId, BtfError> {
        self.find(STRUCT, name.as_bytes()).ok_or_else(|| BtfError::NoType(format!("struct {name}")))
    }

    /// The struct that a pointer points to. One that is only declared is looked up by its name.
    pub(super) fn pointee(&self, pointer: TypeId) -> Option<TypeId> {
        let head = self.head(self.plain(pointer)?)?;
        if head.kind != PTR {
            return None;
        }
        let target = self.plain(head.size_or_type)?;
        match self.head(target)? {
            Head { kind: STRUCT, .. } => Some(target),
            Head { kind: FWD, name, .. } => self.find(STRUCT, self.text(name)),
            _ => None,
        }
    }

    /// The name of a type, empty where it has none.
    pub(super) fn name(&self, id: TypeId) -> String {
        let text = self.head(id).map(|head| self.text(head.name)).unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }

    /// The values of the enum of that name, each with the name it has there.
    ///
    /// # Errors
    /// [`BtfError::NoType`]
    pub(super) fn enumerators(&self, name: &str) -> Result<Vec<(u32, String)>, BtfError> {
        let missing = || BtfError::NoType(format!("enum {name}"));
        let id = self.find(ENUM, name.as_bytes()).ok_or_else(missing)?;
        let start = *self.starts.get(id as usize).ok_or_else(missing)? as usize;
        let entries = self.head_at(start).ok_or_else(missing)?.entries as usize;
        let one = |entry| {
            let at = start + 12 + entry * 8;
            let text = self.text(word(self.types, at)?);
            Some((word(self.types, at + 4)?, String::from_utf8_lossy(text).into_owned()))
        };
        (0..entries).map(one).collect::<Option<_>>().ok_or_else(missing)
    }

    /// How many bytes a value of the type takes.
    pub(super) fn size(&self, id: TypeId) -> Option<u32> {
        match self.head(self.plain(id)?)? {
            Head { kind: PTR, .. } => Some(8),
            Head { kind: INT | STRUCT | UNION | ENUM | FLOAT | ENUM64, size_or_type, .. } => {
                Some(size_or_type)
            }
            _ => None,
        }
    }

    /// The member at the end of `path` (`se.cfs_rq`), also inside unnamed structs and unions.
    ///
    /// # Errors
    /// [`BtfError::NoMember`], also where it is a bit field.
    pub(super) fn member(&self, structure: TypeId, path: &str) -> Result<Member, BtfError> {
        let missing = || BtfError::NoMember(self.name(structure), path.to_owned());
        let mut found = Member { offset: 0, type_id: structure };
        for name in path.split('.') {
            let inner = self.member_named(found.type_id, name.as_bytes(), 0).ok_or_else(missing)?;
            let offset = found.offset.checked_add(inner.offset).ok_or_else(missing)?;
            found = Member { offset, type_id: inner.type_id };
        }
        Ok(found)
    }

    fn member_named(&self, structure: TypeId, name: &[u8], depth: usize) -> Option<Member> {
        let start = *self.starts.get(structure as usize)? as usize;
        let head = self.head_at(start)?;
        if !matches!(head.kind, STRUCT | UNION) || depth == MAX_DEPTH {
            return None;
        }
        for entry in 0..head.entries as usize {
            let at = start + 12 + entry * 12;
            let text = self.text(word(self.types, at)?);
            let type_id = self.plain(word(self.types, at + 4)?)?;
            let bits = word(self.types, at + 8)?;
            let (bits, width) = if head.wide_offsets { (bits & 0xff_ffff, bits >> 24) } else { (bits, 0) };
            if text == name {
                return (width == 0 && bits % 8 == 0).then_some(Member { offset: bits / 8, type_id });
            }
            if text.is_empty()
                && let Some(inner) = self.member_named(type_id, name, depth + 1)
            {
                return Some(Member { offset: bits / 8 + inner.offset, ..inner });
            }
        }
        None
    }

    /// The type of a tracepoint.
    ///
    /// # Errors
    /// [`BtfError::NoType`]
    pub(super) fn tracepoint_type(&self, name: &str) -> Result<TypeId, BtfError> {
        let typedef = format!("btf_trace_{name}");
        self.find(TYPEDEF, typedef.as_bytes()).ok_or(BtfError::NoType(typedef))
    }

    /// The function of that name.
    ///
    /// # Errors
    /// [`BtfError::NoType`]
    pub(super) fn function(&self, name: &str) -> Result<TypeId, BtfError> {
        self.find(FUNC, name.as_bytes()).ok_or_else(|| BtfError::NoType(format!("function {name}")))
    }

    /// The types of a tracepoint's arguments, without the first, which is the tracer's own.
    ///
    /// # Errors
    /// [`BtfError::NoType`]
    pub(super) fn tracepoint(&self, name: &str) -> Result<Vec<TypeId>, BtfError> {
        let typedef = format!("btf_trace_{name}");
        self.arguments(typedef.as_bytes()).ok_or(BtfError::NoType(typedef))
    }

    fn arguments(&self, typedef: &[u8]) -> Option<Vec<TypeId>> {
        let pointer = self.head(self.plain(self.find(TYPEDEF, typedef)?)?)?;
        let function = self.plain(pointer.size_or_type)?;
        let start = *self.starts.get(function as usize)? as usize;
        let head = self.head_at(start)?;
        if pointer.kind != PTR || head.kind != FUNC_PROTO {
            return None;
        }
        (1..head.entries as usize).map(|entry| word(self.types, start + 12 + entry * 8 + 4)).collect()
    }
}

/// How many bytes follow the fixed part.
fn tail_length(head: &Head) -> Option<usize> {
    let entries = head.entries as usize;
    match head.kind {
        INT | VAR | DECL_TAG => Some(4),
        ARRAY => Some(12),
        STRUCT | UNION | DATASEC | ENUM64 => Some(entries * 12),
        ENUM | FUNC_PROTO => Some(entries * 8),
        1..=LAST_KIND => Some(0),
        _ => None,
    }
}

#[cfg(test)]
#[path = "btf_tests.rs"]
mod tests;
