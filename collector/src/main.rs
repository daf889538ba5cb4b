//! Command line -> daemon -> exit status.

fn main() {}
