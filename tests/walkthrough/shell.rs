//! One `sh` for all blocks, like a reader's terminal: later blocks see variables and background jobs of earlier ones.

use std::{
    env, fs, io,
    io::Write,
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tempfile::NamedTempFile;

/// How long a block may take. The first build of an image takes longest.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How long processes that still run at the end may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);
/// The mark after a block's output, which no command prints.
const END: &str = "--- end of block, status ";

pub(crate) struct Shell {
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Shell {
    /// Starts the shell. [`Processes`] ends it and all that runs in it.
    pub(crate) fn start() -> io::Result<(Self, Processes)> {
        // its own process group, so that all of its processes can be ended
        let mut command = Command::new("sh");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn()?;
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("no pipes"));
        };
        writeln!(input, "exec 2>&1")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in io::BufRead::lines(io::BufReader::new(output)).map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok((Self { input, lines }, Processes(child)))
    }

    /// Runs a script, and returns its output. The output is an error if a command fails in a way that `set -e` notices.
    pub(crate) fn run(&mut self, script: &str) -> Result<String, String> {
        // -e stops at the first failure; the trap prints the status also then
        let block =
            format!("set -e\ntrap 'echo \"{END}$?\"' EXIT\n{script}trap - EXIT\nset +e\necho '{END}0'\n");
        self.input.write_all(block.as_bytes()).map_err(|error| format!("the shell is gone: {error}"))?;
        let deadline = Instant::now() + PATIENCE;
        let mut output = String::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => match line.strip_prefix(END) {
                    Some("0") => return Ok(output),
                    Some(status) => return Err(format!("{output}(exit status {status})")),
                    None => output += &(line + "\n"),
                },
                Err(RecvTimeoutError::Timeout) => return Err(output + "(no further output in time)"),
                Err(RecvTimeoutError::Disconnected) => return Err(output + "(the shell has ended)"),
            }
        }
    }

    /// What a command prints to its standard output, without what background jobs print meanwhile.
    pub(crate) fn read(&mut self, command: &str) -> Result<String, String> {
        let file = NamedTempFile::new().map_err(|error| error.to_string())?;
        self.run(&format!("{{ {command}\n}} >'{}'\n", file.path().display()))?;
        fs::read_to_string(file.path()).map_err(|error| error.to_string())
    }

    /// The value of a variable.
    pub(crate) fn variable(&mut self, name: &str) -> Result<String, String> {
        self.read(&format!("echo \"${name}\"")).map(|value| value.trim().to_owned())
    }

    /// Runs the command of the environment variable `name` with these arguments, if there is one.
    pub(crate) fn run_hook(&mut self, name: &str, arguments: &str) -> Result<Option<String>, String> {
        match env::var(name) {
            Ok(command) if !command.is_empty() => self.run(&format!("{command} {arguments}\n")).map(Some),
            _ => Ok(None),
        }
    }
}

/// The shell and all processes that it has started. They are ended when this is dropped.
pub(crate) struct Processes(Child);

impl Drop for Processes {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.0);
        let deadline = Instant::now() + GRACE;
        let _ = kill_process_group(group, Signal::TERM);
        // the shell itself stays in the group until `try_wait` has reaped it
        while self.0.try_wait().is_ok() && test_kill_process_group(group).is_ok() {
            if Instant::now() > deadline {
                let _ = kill_process_group(group, Signal::KILL);
                let _ = self.0.wait();
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}
