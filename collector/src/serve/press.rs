//! Makes pages: encodes and compresses into memory that stays, since to ask the kernel for new pages for every scrape
//! would cost as much as to fill them.

use bytes::Bytes;
use libdeflater::{CompressionLvl, Compressor};

use super::negotiate::Coding;
use crate::encode::exposition::{Conflicts, Exposition, Format};
use crate::model::Batch;

/// Room that is kept between pages; a larger page gives its room back.
const MOST_KEPT: usize = 4 << 20;
/// Prometheus is near, and its time dearer than a few bytes.
const GZIP_LEVEL: i32 = 1;
const ZSTD_LEVEL: i32 = 1;

#[derive(Default)]
pub(super) struct Press {
    exposition: Exposition,
    page: Vec<u8>,
    packed: Vec<u8>,
    gzip: Option<Compressor>,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Press {
    /// The page of these batches, as [`Exposition::encode`] makes it, in that coding.
    pub(super) fn print(
        &mut self,
        batches: &[Batch],
        format: Format,
        only: &[String],
        coding: Coding,
    ) -> (Bytes, Conflicts) {
        self.page.clear();
        let conflicts = self.exposition.encode(batches, format, only, &mut self.page);
        let body = Bytes::copy_from_slice(match coding {
            Coding::Identity => &self.page,
            Coding::Gzip => self.gzip(),
            Coding::Zstd => self.zstd(),
        });
        for kept in [&mut self.page, &mut self.packed] {
            if kept.capacity() > MOST_KEPT {
                *kept = Vec::new();
            }
        }
        (body, conflicts)
    }

    fn gzip(&mut self) -> &[u8] {
        self.packed.clear();
        if self.exposition.gzip(&self.page, &mut self.packed) {
            return &self.packed;
        }
        let level =
            || Compressor::new(CompressionLvl::new(GZIP_LEVEL).expect("the level is one of libdeflate's"));
        let gzip = self.gzip.get_or_insert_with(level);
        self.packed.resize(gzip.gzip_compress_bound(self.page.len()), 0);
        let length = gzip.gzip_compress(&self.page, &mut self.packed).expect("there is room for the worst");
        &self.packed[..length]
    }

    fn zstd(&mut self) -> &[u8] {
        let level = || zstd::bulk::Compressor::new(ZSTD_LEVEL).expect("the level is one of zstd's");
        let zstd = self.zstd.get_or_insert_with(level);
        self.packed.resize(zstd::zstd_safe::compress_bound(self.page.len()), 0);
        let length =
            zstd.compress_to_buffer(&self.page, &mut self.packed).expect("there is room for the worst");
        &self.packed[..length]
    }
}
