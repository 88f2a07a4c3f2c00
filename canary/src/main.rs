//! The `canary` binary: flags, command, exit code.

use std::{io, process::ExitCode};

use canary::{
    commands,
    config::{Command, Config},
    exit::Exit,
    rehearse, watch,
};
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn main() -> ExitCode {
    let config = match Config::try_parse() {
        Ok(config) => config,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    open_as_many_files_as_allowed();
    match run(&config.command) {
        Ok(exit) => exit.into(),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::NobodyReads.into(),
        Err(error) => {
            eprintln!("canary: {error}");
            Exit::Failed.into()
        }
    }
}

fn run(command: &Command) -> io::Result<Exit> {
    let runtime = tokio::runtime::Runtime::new()?;
    let exit = runtime.block_on(async {
        match command {
            Command::Watch(watch) => watch::run(watch).await,
            Command::Judge(judge) => commands::judge::run(judge).await,
            Command::Rehearse(rehearse) => rehearse::run(rehearse).await,
        }
    });
    runtime.shutdown_background(); // requests under way are nobody's concern any more
    exit
}

/// Each request is a connection, and a connection is an open file.
fn open_as_many_files_as_allowed() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }); // fewer will do
}
