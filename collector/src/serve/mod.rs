//! Inbound HTTP: the page of metrics, health, reload, and a landing page; with TLS and users where they are asked for.

mod connections;
mod guard;
mod listen;
mod metrics;
mod negotiate;
mod press;
mod routes;
mod scraper_metrics;
mod target_api;
mod targets;
mod targets_page;
mod tls;
mod web_config;

pub use connections::{Listen, serve};
pub use listen::{Address, parse_address};
pub use routes::{Parts, Reload, Server};
pub use scraper_metrics::serve_scraper_metrics;
