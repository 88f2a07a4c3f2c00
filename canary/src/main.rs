//! The `canary` binary: flags, command, exit code.

use std::{io, process::ExitCode};

use canary::{
    cli::{Cli, Command},
    commands,
    exit::Exit,
    messages::message,
    output,
    source::shortage::{has_room_for_runtime, shortage_in},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn main() -> ExitCode {
    let cli = match Cli::from_arguments() {
        Ok(cli) => cli,
        Err(error) => {
            let printed = error.print();
            return if error.use_stderr() {
                Exit::Usage
            } else {
                exit(printed.map(|()| Exit::Done).map_err(|error| output::unwritable(&error)))
            }
            .into();
        }
    };
    open_as_many_files_as_allowed();
    exit(run(&cli.command)).into()
}

/// The exit code of a command, or of the I/O error that ended it.
fn exit(ended: io::Result<Exit>) -> Exit {
    ended.unwrap_or_else(|error| {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Exit::OutputClosed;
        }
        let error = error.to_string();
        message(shortage_in(&error).unwrap_or(error));
        Exit::Failed
    })
}

fn run(command: &Command) -> io::Result<Exit> {
    has_room_for_runtime()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let exit = runtime.block_on(async {
        match command {
            Command::Watch(flags) => commands::watch::run(flags).await,
            Command::Judge(flags) => commands::judge::run(flags).await,
            Command::Serve(flags) => commands::serve::run(flags).await,
            Command::Rehearse(flags) => commands::rehearse::run(flags).await,
        }
    });
    runtime.shutdown_background(); // does not wait for open requests
    exit
}

/// Raises the soft limit of open files to the hard limit: each request has a connection, which is an open file.
fn open_as_many_files_as_allowed() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }); // works with fewer files, too
}
