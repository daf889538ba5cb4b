//! Remote write 1.0 and 2.0: one independent sender an endpoint, so that a dead one slows no other.

mod accord;
mod answer;
mod backoff;
mod blocks;
mod client;
mod complaints;
mod dispatch;
mod encoders;
mod feed;
mod feeds;
mod flight;
mod lanes;
mod metadata;
mod pace;
mod resumed;
mod sender;
mod sigv4;
mod sigv4_role;
mod split;

pub use feed::Feed;
pub use lanes::{LaneSet, lane_of};
pub use sender::{Accords, Command, Sender, SenderHandle};
