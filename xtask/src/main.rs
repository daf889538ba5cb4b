//! `cargo xtask <command>`: everything that is done to the project beside editing it. One file a command; a new one is
//! a file and a row of the table.

mod bench;
mod build_ebpf;
mod ebpf_toolchain;
mod run;
mod setup;
mod test;
mod tidy;
mod vm;

use std::path::Path;
use std::process::ExitCode;

/// A row of the table.
struct Command {
    name: &'static str,
    help: &'static str,
    /// Gets what follows the name. An error's text is printed, and the exit status is 1.
    run: fn(&[String]) -> anyhow::Result<()>,
}

const COMMANDS: &[Command] = &[
    run::COMMAND,
    test::COMMAND,
    bench::COMMAND,
    tidy::COMMAND,
    build_ebpf::COMMAND,
    setup::COMMAND,
    vm::COMMAND,
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        return usage();
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return usage();
    };
    match (command.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: cargo xtask <command>\n");
    for command in COMMANDS {
        eprintln!("  {:<12} {}", command.name, command.help);
    }
    ExitCode::from(2)
}

/// The root of the checkout.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// Runs cargo in the checkout, with the toolchain that runs this program.
fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = std::process::Command::new(cargo).args(arguments).current_dir(workspace()).status()?;
    anyhow::ensure!(status.success(), "`cargo {}` ended with {status}", arguments.join(" "));
    Ok(())
}
