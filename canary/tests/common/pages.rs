//! The commands of a page of docs.

use std::{
    env,
    path::Path,
    process::{Child, Command, Stdio},
};

/// The commands of the page in blocks of `console`, each with its output.
pub fn commands(document: &str) -> Vec<(String, Vec<&str>)> {
    let mut commands: Vec<(String, Vec<&str>)> = Vec::new();
    for block in document.split("```console\n").skip(1) {
        let block = block.split("```").next().expect("its end");
        let mut goes_on = false;
        for line in block.lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                commands.push((command.to_owned(), Vec::new()));
            } else {
                let (command, output) = commands.last_mut().expect("a command first");
                if goes_on { command.extend(["\n", line]) } else { output.push(line) }
            }
            let (command, _) = commands.last().expect("a command first");
            let is_in_quotes = command.matches('\'').count() % 2 == 1;
            goes_on = line.ends_with('\\') || is_in_quotes;
        }
    }
    commands
}

/// Starts a line of a page in a shell that finds canary. Its output goes to pipes.
pub fn start_line(line: &str) -> Child {
    let path = Path::new(env!("CARGO_BIN_EXE_canary")).parent().expect("a folder").display();
    let others = env::var("PATH").unwrap_or_default();
    Command::new("/bin/sh")
        .args(["-c", line])
        .env("PATH", format!("{path}:{others}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a shell")
}
