//! Types that the kernel programs and the collector share.
#![no_std]
