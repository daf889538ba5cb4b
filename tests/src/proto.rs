//! Remote write as a receiver sees it, and the protobuf page as a scraper does: messages generated from the published .proto files by `build.rs`.

#![allow(missing_docs, unreachable_pub, clippy::all)]

/// Remote write 1.0.
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/prometheus.rs"));
}

/// Remote write 2.0.
pub mod v2 {
    include!(concat!(env!("OUT_DIR"), "/io.prometheus.write.v2.rs"));
}

/// The protobuf exposition.
pub mod client {
    include!(concat!(env!("OUT_DIR"), "/io.prometheus.client.rs"));
}
