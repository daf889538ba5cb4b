//! Generates the messages of remote write and of the protobuf exposition from the published .proto files, without a protoc on the machine.

fn main() {
    let files = [
        "proto/remote.proto",
        "proto/io/prometheus/write/v2/types.proto",
        "proto/io/prometheus/client/metrics.proto",
    ];
    for file in files.iter().chain(&["proto/types.proto"]) {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["proto"]).expect("the .proto files are valid");
    prost_build::Config::new().compile_fds(descriptors).expect("the messages can be generated");
}
