//! Scraping: who is to be scraped ([`discovery`], [`target`]), what their pages say ([`page`]), and the loops
//! that fetch them ([`engine`]).

pub mod discovery;
pub mod engine;
pub mod page;
pub mod posted;
pub mod shard;
pub mod target;
