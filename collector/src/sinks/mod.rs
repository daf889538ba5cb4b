//! Where samples go. A sink knows nothing of sources.

pub mod remote_write;
