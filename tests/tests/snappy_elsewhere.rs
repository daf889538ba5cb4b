//! Requests as they are written from plans, read by a decoder that shares nothing with ours or with the crate that the
//! other tests use: Google's own, in C++ (Debian: libsnappy-dev), over random shapes and values.
//!
//! What it reads must be, byte for byte, what a plain encoder writes.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use collector::encode::{Encoder, Options, Protocol};
use collector::model::{Batch, SeriesTable};
use collector_tests::made;
use collector_tests::random::{batch, histogram, made_shape};
use collector_tests::skip::{program_or_skip, skip};
use collector_tests::wire;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};

const NAME: &str = "google_s_decoder_reads_what_was_meant";
const NOW: i64 = 1_790_000_000_000;
const CASES: usize = 200;
/// The second request of the same shapes gets a quick plan, the ninth the best.
const TICKS: usize = 12;

/// Reads blocks, each behind its length in four bytes, and writes what they hold in the same way.
const DECODER: &str = r#"
#include <snappy-c.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
int main(void) {
    uint32_t size;
    while (fread(&size, sizeof size, 1, stdin) == 1) {
        char *block = malloc(size + 1), *plain;
        size_t length;
        uint32_t written;
        if (fread(block, 1, size, stdin) != size) return 1;
        if (snappy_uncompressed_length(block, size, &length) != SNAPPY_OK) return 2;
        plain = malloc(length + 1);
        if (snappy_uncompress(block, size, plain, &length) != SNAPPY_OK) return 3;
        written = length;
        if (fwrite(&written, sizeof written, 1, stdout) != 1) return 4;
        if (fwrite(plain, 1, length, stdout) != length) return 5;
        free(block);
        free(plain);
    }
    return 0;
}
"#;

/// Builds the decoder in `folder`.
fn build(folder: &Path) -> Option<std::path::PathBuf> {
    let compiler = program_or_skip(NAME, &["gcc", "cc"])?;
    let (source, program) = (folder.join("decoder.c"), folder.join("decoder"));
    std::fs::write(&source, DECODER).unwrap();
    let mut command = Command::new(compiler);
    let output = command.arg("-o").arg(&program).arg(&source).arg("-lsnappy").output().unwrap();
    if !output.status.success() {
        skip(NAME, &format!("libsnappy-dev is not installed: {}", String::from_utf8_lossy(&output.stderr)));
        return None;
    }
    Some(program)
}

/// What the decoder reads in each of `blocks`.
fn decode(program: &Path, blocks: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            for block in blocks {
                input.write_all(&(block.len() as u32).to_le_bytes()).unwrap();
                input.write_all(block).unwrap();
            }
        });
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "the decoder refused a block: {}", output.status);
    let (mut rest, mut all) = (&output.stdout[..], Vec::new());
    while let Some((length, after)) = rest.split_first_chunk() {
        let (plain, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        all.push(plain.to_vec());
        rest = after;
    }
    all
}

/// The requests of some ticks of random sources, and how many floats of them were written from a plan.
fn requests(runner: &mut TestRunner, blocks: &mut Vec<Vec<u8>>) -> usize {
    let mades = prop::collection::vec(made_shape(), 1..5).new_tree(runner).unwrap().current();
    let pool = prop::collection::vec(histogram(), 1..4).new_tree(runner).unwrap().current();
    let (v2, native, exemplars) = any::<(bool, bool, bool)>().new_tree(runner).unwrap().current();
    let table = Arc::new(SeriesTable::default());
    let shapes: Vec<_> =
        mades.iter().enumerate().map(|(n, made)| made.shape(&table, &n.to_string())).collect();
    let protocol = if v2 { Protocol::V2 } else { Protocol::V1 };
    let external_labels = made::owned(&[("cluster", "eu")]);
    let mut encoder = Encoder::new(Options {
        protocol,
        external_labels,
        native_histograms: native,
        exemplars,
        help: false,
        rewrite: None,
    });
    let mut planned = 0;
    for tick in 0..TICKS {
        let time = NOW + tick as i64 * 7919;
        let batches: Vec<Batch> =
            shapes.iter().zip(&mades).map(|(shape, made)| batch(shape, made, time, tick, &pool)).collect();
        let batches: Vec<&Batch> = batches.iter().collect();
        let mut body = Vec::new();
        planned += encoder.encode(&batches, &mut body).planned;
        wire::check(&body, &batches, encoder.options());
        blocks.push(body);
    }
    planned
}

#[test]
fn google_s_decoder_reads_what_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = build(folder.path()) else { return };
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let (mut blocks, mut planned) = (Vec::new(), 0);
    (0..CASES).for_each(|_| planned += requests(&mut runner, &mut blocks));
    assert!(planned > CASES * TICKS, "{planned} floats came from plans");
    let read = decode(&program, &blocks);
    assert_eq!(read.len(), blocks.len());
    for (block, read) in blocks.iter().zip(&read) {
        // The check above has held this against a plain encoder's bytes.
        assert!(*read == wire::decompress(block), "the decoders differ");
    }
    let mut broken = blocks[0].clone();
    broken.truncate(broken.len() - 1);
    let refused = std::panic::catch_unwind(|| decode(&program, &[broken])).is_err();
    assert!(refused, "a block that lacks its end is refused");
}
