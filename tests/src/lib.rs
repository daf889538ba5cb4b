//! Support for the end-to-end tests.

pub mod logged;
pub mod made;
pub mod proto;
pub mod random;
pub mod wire;
