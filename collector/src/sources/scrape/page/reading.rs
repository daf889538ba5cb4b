//! One page under way.

use std::sync::Arc;

use super::layout::Layout;
use crate::model::Batch;

/// What is being read: how far a layout was followed, and what that gave.
pub(super) struct Reading {
    pub layout: Option<Arc<Layout>>,
    /// Positions of the layout that were found on the page.
    pub slot: usize,
    /// Where in the page the next one begins.
    pub at: usize,
    pub batch: Batch,
    /// Counts of a page that was refused.
    pub scraped: usize,
    pub kept: usize,
}

/// What the reading of the unknown came to.
pub(super) enum Step {
    Layout(Arc<Layout>),
    /// The page must be read again, the bare way.
    Bare,
}
