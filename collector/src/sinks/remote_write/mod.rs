//! Remote write 1.0 and 2.0: one independent sender an endpoint, so that a dead one slows no other.

mod backoff;
mod client;
mod feed;
mod sender;

pub use feed::Feed;
pub use sender::{Command, Sender, SenderHandle};
