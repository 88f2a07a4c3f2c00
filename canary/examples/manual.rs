//! Writes the completions for shells, and the man pages: `cargo run -p canary --example manual -- FOLDER`. It is an
//! example, because the program itself does not need them.

use std::{env, fs, io, path::Path, process::ExitCode};

use canary::cli::Cli;
use clap::{Arg, CommandFactory};
use clap_complete::{Shell, generate_to};

/// The shells that have completions.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// Writes `completions/` and `man/` into this folder.
///
/// # Errors
/// If a file cannot be written.
pub(crate) fn write(folder: &Path) -> io::Result<()> {
    let (completions, man) = (folder.join("completions"), folder.join("man"));
    fs::create_dir_all(&completions)?;
    fs::create_dir_all(&man)?;
    let mut for_shells = Cli::command().mut_subcommands(|command| command.mut_args(without_colons));
    for shell in SHELLS {
        generate_to(shell, &mut for_shells, "canary", &completions)?;
    }
    clap_mangen::generate_to(Cli::command(), man)
}

/// The same flag. For zsh, a colon would end the name of its value, such as `HOST:PORT`.
fn without_colons(flag: Arg) -> Arg {
    let name = flag
        .get_value_names()
        .and_then(|names| names.first())
        .map(|name| name.replace(": ", " ").replace(':', " "));
    match name {
        Some(name) if flag.get_num_args().is_none_or(|most| most.max_values() <= 1) => flag.value_name(name),
        _ => flag,
    }
}

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1) else {
        eprintln!("want a folder");
        return ExitCode::FAILURE;
    };
    if let Err(error) = write(Path::new(&folder)) {
        eprintln!("{}: {error}", Path::new(&folder).display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
