//! Command line -> daemon -> exit status.

use std::process::ExitCode;

use collector::cli::{self, Command, Look};
use collector::sources::ebpf::list::Whose;
use collector::{daemon, doctor};

fn main() -> ExitCode {
    let fail = |message: &dyn std::fmt::Display| {
        eprintln!("collector: error: {message}");
        ExitCode::FAILURE
    };
    match cli::parse(std::env::args().skip(1).collect()) {
        Ok(Command::Run(options)) => daemon::run(&options),
        Ok(Command::Print(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Ok(Command::Look(Look::Probes, _)) => {
            print!("{}", collector::sources::ebpf::list::text(Whose::Everybody));
            ExitCode::SUCCESS
        }
        Ok(Command::Look(Look::Host, options)) => {
            print!("{}", doctor::report(&options));
            ExitCode::SUCCESS
        }
        Ok(Command::Check(file)) => match daemon::check(&file) {
            Ok(config) => {
                println!("{}: right, with {} remote_write endpoints", file.display(), config.endpoints.len());
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error),
        },
        Ok(Command::Health(address)) => match daemon::ask(&address) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
        Err(error) => fail(&error),
    }
}
