//! Inbound HTTP: the page of metrics, health, reload, and a landing page.

mod listen;
mod metrics;
mod routes;

pub use listen::{Address, parse_address, serve};
pub use routes::{Parts, Reload, Server};
