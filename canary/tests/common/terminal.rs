//! A real terminal, in tmux.

use std::process::Command;

use tempfile::TempDir;
use testkit::{PATIENCE, eventually};

/// A terminal. Dropping it ends its programs.
pub struct Terminal {
    /// The directory with the socket of its tmux server.
    directory: TempDir,
}

impl Terminal {
    /// Opens a terminal in which `sh` runs `script`. Without tmux, prints a message and returns `None`.
    pub fn open(columns: u16, rows: u16, script: &str) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            eprintln!("SKIPPED: tmux is not installed, so there is no terminal to test the picture in");
            return None;
        }
        let new = Self { directory: tempfile::tempdir().expect("a directory") };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        new.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &rows, "sh", "-c", script]);
        Some(new)
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).output().expect("tmux runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tmux {arguments:?}: {errors}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn command(&self) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(self.directory.path().join("socket")).env_remove("TMUX").env("LC_ALL", "C.UTF-8");
        tmux
    }

    /// The text on the screen, one line for each row.
    pub fn screen(&self) -> Vec<String> {
        self.tmux(&["capture-pane", "-p"]).lines().map(str::to_owned).collect()
    }

    /// The same with escape sequences.
    pub fn screen_with_styles(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// The value of a tmux format, such as `#{cursor_flag}`.
    pub fn value(&self, format: &str) -> String {
        self.tmux(&["display-message", "-p", format]).trim().to_owned()
    }

    pub fn keys(&self, keys: &str) {
        self.tmux(&["send-keys", keys]);
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// Waits until the screen meets the condition, and returns it.
    pub fn until(&self, what: &str, condition: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut screen = Vec::new();
        let mut seen = || {
            screen = self.screen();
            condition(&screen)
        };
        let deadline = std::time::Instant::now() + PATIENCE;
        while !seen() {
            assert!(
                std::time::Instant::now() < deadline,
                "timed out waiting for: {what}\n{}",
                self.screen().join("\n")
            );
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        screen
    }

    /// Waits until a line contains `text`, and returns the screen.
    pub fn until_shows(&self, text: &str) -> Vec<String> {
        self.until(text, |screen| screen.iter().any(|line| line.contains(text)))
    }

    /// Asserts that the terminal is ready for a shell: it shows the main screen and a cursor.
    pub fn assert_restored(&self) {
        eventually("the main screen", || self.value("#{alternate_on}") == "0");
        assert_eq!(self.value("#{cursor_flag}"), "1", "the cursor is visible");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.command().arg("kill-server").output();
    }
}
