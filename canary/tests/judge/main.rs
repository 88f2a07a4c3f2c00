//! `canary judge`, as a process.

mod aa;
#[path = "../common/mod.rs"]
mod common;
mod episodes;
mod input;
mod limits;
mod order;
mod record;
mod service;

use common::{json_lines, run};
use serde_json::Value;

/// The result of `canary judge`.
#[derive(Debug)]
struct Judged {
    code: i32,
    /// The summary line.
    summary: Value,
    messages: String,
}

impl Judged {
    fn new((code, output, messages): (Option<i32>, String, String)) -> Self {
        let summary = json_lines(&output).pop().unwrap_or_else(|| panic!("a summary; {messages}"));
        Self { code: code.expect("it was not killed"), summary, messages }
    }

    /// Runs `canary judge` on the service at `url`, with output in JSON.
    fn of_service(url: &str, arguments: &[&str]) -> Self {
        Self::new(run(&[&["judge", url, "--output=json"], arguments].concat()))
    }

    fn decision(&self) -> &str {
        self.summary["verdict"]["decision"].as_str().expect("a decision")
    }

    fn text(&self) -> &str {
        self.summary["verdict_text"].as_str().expect("a text")
    }

    /// Asserts that exit code, decision and sentence agree. Returns the exit code and the decision.
    #[track_caller]
    fn agreed(&self) -> (i32, &str) {
        let (decision, sentence) = match self.code {
            0 => ("promote", "Promote: "),
            1 => ("roll_back", "Roll back: "),
            2 => ("not_yet", "Not yet: "),
            7 => ("hold", "Hold: "),
            code => panic!("exit code {code}: {self:?}"),
        };
        assert_eq!(self.decision(), decision, "{self:?}");
        assert!(self.text().starts_with(sentence), "{self:?}");
        (self.code, decision)
    }
}

#[test]
fn help_names_the_exit_codes() {
    let (code, help, _) = run(&["judge", "--help"]);
    assert_eq!(code, Some(0));
    for line in [
        "0    promote",
        "1    roll back",
        "2    not yet",
        "3    a mistake in the command line",
        "4    no request was answered",
        "5    no answer named",
        "6    the input cannot be read, the output cannot be written, or there are too few open files",
        "7    hold",
    ] {
        assert!(help.contains(line), "{line}: {help}");
    }
}
