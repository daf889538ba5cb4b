//! Where targets come from: each provider gives groups of targets, and gives them again when they change.
