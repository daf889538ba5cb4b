//! Generic netlink: families of commands that the kernel numbers when they come, found by their name.
//!
//! Cost: a `send` and two or three `recv` a dump; the number of the family is asked for once. A family that the
//! kernel lacks costs nothing for a while: to look for it makes the kernel look for a module.

use std::io;

use super::netlink::{self, Messages, Netlink, Protocol, Request};

const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// `struct genlmsghdr`: command, version, and two bytes of nothing.
const HEADER: usize = 4;
/// Dumps that an absent family refuses before it is looked for again.
const REMEMBER_ABSENCE: u32 = 100;
const LONGEST_BODY: usize = 64;

/// One family.
#[derive(Debug)]
pub struct Family {
    name: &'static str,
    netlink: Netlink,
    number: Option<u16>,
    absent_for: u32,
}

impl Family {
    pub fn new(name: &'static str) -> Self {
        Family { name, netlink: Netlink::of(Protocol::Generic), number: None, absent_for: 0 }
    }

    /// Dumps what `command` gives, with these attributes (see [`push_attribute`]).
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where the kernel has no such family; else as [`Netlink::dump`].
    pub fn dump(&mut self, command: u8, attributes: &[u8]) -> io::Result<Messages<'_>> {
        let number = self.number()?;
        let mut body = [0; LONGEST_BODY];
        let length = HEADER + attributes.len();
        let Some(room) = body.get_mut(HEADER..length) else {
            return Err(io::Error::other("attributes that are too long"));
        };
        room.copy_from_slice(attributes);
        body[0] = command;
        body[1] = 1;
        let request = Request { kind: number, answer: number, header: HEADER, body: &body[..length] };
        self.number = None;
        let messages = self.netlink.dump_all(&request)?;
        // A family that was unloaded and came back has another number: it is kept only while it works.
        self.number = Some(number);
        Ok(messages)
    }

    fn number(&mut self) -> io::Result<u16> {
        if let Some(number) = self.number {
            return Ok(number);
        }
        if self.absent_for > 0 {
            self.absent_for -= 1;
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut body = Vec::from([CTRL_CMD_GETFAMILY, 1, 0, 0]);
        push_attribute(&mut body, CTRL_ATTR_FAMILY_NAME, &[self.name.as_bytes(), b"\0"].concat());
        let request = Request { kind: GENL_ID_CTRL, answer: GENL_ID_CTRL, header: HEADER, body: &body };
        let found = self.netlink.ask(&request).map(|mut messages| {
            let mut attributes = messages.next()?.1;
            attributes.find_map(|(kind, content)| match kind {
                CTRL_ATTR_FAMILY_ID => netlink::u16_at(content, 0),
                _ => None,
            })
        });
        match found {
            Ok(Some(number)) => {
                self.number = Some(number);
                Ok(number)
            }
            Ok(None) => Err(io::Error::other("the kernel names no number for the family")),
            Err(error) => {
                if error.kind() == io::ErrorKind::NotFound {
                    self.absent_for = REMEMBER_ABSENCE;
                }
                Err(error)
            }
        }
    }
}

/// Appends one attribute, padded.
pub fn push_attribute(body: &mut Vec<u8>, kind: u16, content: &[u8]) {
    let length = (4 + content.len()) as u16;
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(content);
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_found_by_its_name() {
        let mut control = Family::new("nlctrl");
        assert_eq!(control.number().unwrap(), GENL_ID_CTRL);
        let families = control.dump(CTRL_CMD_GETFAMILY, &[]).unwrap().count();
        assert!(families >= 1);
    }

    #[test]
    fn an_absent_family_is_not_looked_for_every_time() {
        let mut absent = Family::new("no_such_family");
        for _ in 0..REMEMBER_ABSENCE * 2 {
            assert_eq!(absent.dump(1, &[]).unwrap_err().kind(), io::ErrorKind::NotFound);
        }
        assert!(absent.absent_for > 0);
    }

    #[test]
    fn attributes_are_padded() {
        let mut body = Vec::new();
        push_attribute(&mut body, 7, b"abc");
        push_attribute(&mut body, 8, b"");
        let found: Vec<_> = netlink::Attributes::nested(&body).collect();
        assert_eq!(found, [(7, &b"abc"[..]), (8, b"")]);
        assert_eq!(body.len(), 12);
    }
}
