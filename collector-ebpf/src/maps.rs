//! How user space is to make a map, where its definition alone does not say it.

/// A flag of an array that is made as one value, with all its elements side by side. Programs then reach them by address,
/// without a lookup. The kernel does not know it, and is not told.
pub const WHOLE: u32 = 1 << 31;
