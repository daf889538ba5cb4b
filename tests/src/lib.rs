//! Support for the end-to-end tests.

pub mod made;
pub mod proto;
pub mod wire;
