//! Support for the end-to-end tests.

pub mod allocation;
pub mod bus;
pub mod certificates;
pub mod cgroup;
pub mod exposition;
pub mod fixtures;
pub mod fuse;
pub mod logged;
pub mod made;
pub mod mutate;
pub mod netns;
pub mod probe;
pub mod process;
pub mod proto;
pub mod random;
pub mod receiver;
pub mod recording;
pub mod scraped;
pub mod skip;
pub mod target;
pub mod wire;
