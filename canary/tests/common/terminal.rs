//! A real terminal, by tmux.

use std::process::Command;

use tempfile::TempDir;

use super::eventually;

/// A terminal of its own; its programs end when it is dropped.
pub struct Terminal {
    /// Where its tmux server listens.
    directory: TempDir,
}

impl Terminal {
    /// A terminal in which `sh` runs that script; none, and a message, where there is no tmux.
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

    /// What is to be seen, a line a row.
    pub fn screen(&self) -> Vec<String> {
        self.tmux(&["capture-pane", "-p"]).lines().map(str::to_owned).collect()
    }

    /// The same with its escape sequences.
    pub fn screen_with_styles(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// What tmux knows of it, such as `#{cursor_flag}`.
    pub fn tells(&self, format: &str) -> String {
        self.tmux(&["display-message", "-p", format]).trim().to_owned()
    }

    pub fn keys(&self, keys: &str) {
        self.tmux(&["send-keys", keys]);
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// Waits until the screen is as wanted, and tells it.
    pub fn until(&self, what: &str, condition: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut screen = Vec::new();
        let mut seen = || {
            screen = self.screen();
            condition(&screen)
        };
        let deadline = std::time::Instant::now() + super::PATIENCE;
        while !seen() {
            assert!(
                std::time::Instant::now() < deadline,
                "waited in vain: {what}\n{}",
                self.screen().join("\n")
            );
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        screen
    }

    /// Waits until some line holds that text.
    pub fn until_shows(&self, text: &str) -> Vec<String> {
        self.until(text, |screen| screen.iter().any(|line| line.contains(text)))
    }

    /// The terminal must be as a shell wants it: no alternate screen, a cursor, lines edited and echoed.
    pub fn is_restored(&self) {
        eventually("the alternate screen is left", || self.tells("#{alternate_on}") == "0");
        assert_eq!(self.tells("#{cursor_flag}"), "1", "the cursor is to be seen");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.command().arg("kill-server").output();
    }
}
