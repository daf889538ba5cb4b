//! Plans of small layouts, where one can see what they should be.
