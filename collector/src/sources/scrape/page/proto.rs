//! The protobuf wire format, as far as pages need it: fields of a message, one after the other.

use super::error::Flaw;

/// The content of a field.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Field<'b> {
    Number(u64),
    Fixed(u64),
    Bytes(&'b [u8]),
    /// Four bytes: nothing in a page has them.
    Short,
}

/// What is left of a message.
#[derive(Clone, Copy)]
pub(super) struct Message<'b>(pub &'b [u8]);

pub(super) fn cut_short() -> Flaw {
    Flaw::syntax("a message is cut short, or is none")
}

impl<'b> Message<'b> {
    pub(super) fn varint(&mut self) -> Result<u64, Flaw> {
        let mut number = 0u64;
        for (at, &byte) in self.0.iter().enumerate().take(10) {
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.0 = &self.0[at + 1..];
                return Ok(number);
            }
        }
        Err(cut_short())
    }

    pub(super) fn bytes(&mut self, length: u64) -> Result<&'b [u8], Flaw> {
        let length = usize::try_from(length).map_err(|_| cut_short())?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or_else(cut_short)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn fixed(&mut self) -> Result<u64, Flaw> {
        let (bytes, rest) = self.0.split_first_chunk::<8>().ok_or_else(cut_short)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// The number of the next field, and what it holds; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Field<'b>)>, Flaw> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Number(self.varint()?),
            1 => Field::Fixed(self.fixed()?),
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.bytes(length)?)
            }
            5 => {
                self.bytes(4)?;
                Field::Short
            }
            _ => return Err(cut_short()),
        };
        let number = u32::try_from(key >> 3).ok().filter(|&number| number > 0).ok_or_else(cut_short)?;
        Ok(Some((number, field)))
    }
}

/// Calls `each` for every field.
pub(super) fn fields<'b>(
    bytes: &'b [u8],
    mut each: impl FnMut(u32, Field<'b>) -> Result<(), Flaw>,
) -> Result<(), Flaw> {
    let mut message = Message(bytes);
    while let Some((number, field)) = message.next()? {
        each(number, field)?;
    }
    Ok(())
}

impl<'b> Field<'b> {
    pub(super) fn number(self) -> Result<u64, Flaw> {
        if let Field::Number(number) = self { Ok(number) } else { Err(cut_short()) }
    }

    pub(super) fn double(self) -> Result<f64, Flaw> {
        if let Field::Fixed(bits) = self { Ok(f64::from_bits(bits)) } else { Err(cut_short()) }
    }

    pub(super) fn message(self) -> Result<&'b [u8], Flaw> {
        if let Field::Bytes(bytes) = self { Ok(bytes) } else { Err(cut_short()) }
    }

    pub(super) fn text(self) -> Result<&'b str, Flaw> {
        std::str::from_utf8(self.message()?).map_err(|_| Flaw::syntax("a text is not UTF-8"))
    }

    /// Appends what a repeated number holds, packed or one by one.
    pub(super) fn numbers(self, mut each: impl FnMut(u64)) -> Result<(), Flaw> {
        match self {
            Field::Number(number) => each(number),
            Field::Bytes(bytes) => {
                let mut message = Message(bytes);
                while !message.0.is_empty() {
                    each(message.varint()?);
                }
            }
            _ => return Err(cut_short()),
        }
        Ok(())
    }

    /// The same for doubles, as their bits.
    pub(super) fn doubles(self, mut each: impl FnMut(u64)) -> Result<(), Flaw> {
        match self {
            Field::Fixed(bits) => each(bits),
            Field::Bytes(bytes) if bytes.len() % 8 == 0 => {
                bytes
                    .chunks_exact(8)
                    .for_each(|chunk| each(u64::from_le_bytes(chunk.try_into().unwrap_or_default())));
            }
            _ => return Err(cut_short()),
        }
        Ok(())
    }
}

pub(super) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}
