//! Runs the project: build, test, bench, tidy.
fn main() {}
