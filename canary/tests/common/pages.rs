//! The commands of a page of docs.

use std::{
    os::unix::fs::symlink,
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
            goes_on = line.ends_with('\\');
        }
    }
    commands
}

/// Starts a command of a page with more flags. Its output goes to pipes.
pub fn start_line(line: &str, flags: &str) -> Child {
    let path = tempfile::tempdir().expect("a directory").keep();
    symlink(env!("CARGO_BIN_EXE_canary"), path.join("canary")).expect("the program on the PATH");
    Command::new("/bin/sh")
        .args(["-c", &format!("exec {line} {flags}")])
        .env("PATH", path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a shell")
}
