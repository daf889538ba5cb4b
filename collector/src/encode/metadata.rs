//! Metadata of families as remote write 1.0 carries it (`prometheus.WriteRequest.metadata`).

use super::protobuf::{encode_bytes, encode_number};
use crate::model::Kind;

/// What is said of a family.
pub struct FamilyMetadata<'a> {
    pub name: &'a str,
    pub kind: Kind,
    pub help: &'a str,
    pub unit: &'a str,
}

/// Appends a request body with nothing but this metadata (snappy block format).
pub fn encode_metadata<'a>(families: impl Iterator<Item = FamilyMetadata<'a>>, out: &mut Vec<u8>) {
    let (mut plain, mut message) = (Vec::new(), Vec::new());
    for family in families {
        message.clear();
        // The numbers of types are those of 2.0.
        encode_number(0x08, family.kind as u64, &mut message);
        encode_bytes(0x12, family.name.as_bytes(), &mut message);
        encode_bytes(0x22, family.help.as_bytes(), &mut message);
        encode_bytes(0x2a, family.unit.as_bytes(), &mut message);
        encode_bytes(0x1a, &message, &mut plain);
    }
    let packed = snap::raw::Encoder::new().compress_vec(&plain).expect("metadata is below 4 GiB");
    out.extend_from_slice(&packed);
}
