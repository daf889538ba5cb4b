//! placeholder until the log is merged
use crate::{
    model::{Batch, Numbered, SeriesTable},
    self_metrics::Counters,
};
use std::{path::Path, sync::Arc, time::Duration};
#[derive(Clone, Copy)]
pub struct Limits {
    pub max_bytes: u64,
    pub max_age: Duration,
}
pub struct Log;
pub enum Journal {}
pub enum Backlog {}
impl Journal {
    pub fn next(&self) -> u64 {
        match *self {}
    }
    pub fn append(&mut self, _: u64, _: &Batch, _: &Counters) {
        match *self {}
    }
    pub fn maintain(&mut self, _: u64, _: &Counters) {
        match *self {}
    }
}
impl Backlog {
    pub fn position(&self) -> u64 {
        match *self {}
    }
    pub fn acknowledge(&mut self, _: u64) {
        match *self {}
    }
    pub fn fetch(&mut self, _: u64, _: u64, _: usize, _: &mut Vec<Numbered>) -> bool {
        match *self {}
    }
}
impl Log {
    pub fn open(_: &Path, _: Limits, _: &Arc<SeriesTable>) -> Result<(Self, Journal), String> {
        Err("no log yet".into())
    }
    pub fn backlog(&self, _: &str) -> Backlog {
        unreachable!()
    }
    pub fn forget_all_but(&self, _: &[&str]) {}
}
