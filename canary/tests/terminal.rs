//! The picture in a terminal with a shell: keys that arrive in parts, job control, unusual terminals. Without
//! tmux, these tests are skipped with a message.

mod common;

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use common::{Fleet, Version, run, terminal::Terminal};
use rustix::process::{Pid, Signal, kill_process};
use testkit::eventually;

const BINARY: &str = env!("CARGO_BIN_EXE_canary");

fn pid_file(fleet: &Fleet) -> PathBuf {
    fleet.directory().join("pid")
}

/// The shell command that watches the fleet. It writes the id of its process to a file.
fn watch(fleet: &Fleet) -> String {
    let (url, pid) = (fleet.url(), pid_file(fleet));
    format!("sh -c 'echo $$ >{}; exec {BINARY} watch {url} --rate 50'", pid.display())
}

/// The picture in an interactive shell, which has job control.
fn watch_in_a_shell(fleet: &Fleet) -> Option<Terminal> {
    let terminal = Terminal::open(80, 24, "PS1='ready> ' exec bash --norc --noprofile -i")?;
    terminal.until_shows("ready>");
    enter(&terminal, &watch(fleet));
    assert_draws(&terminal);
    Some(terminal)
}

fn enter(terminal: &Terminal, line: &str) {
    terminal.keys(line);
    terminal.keys("Enter");
}

/// Asserts that the picture is on the screen, and that keys work.
fn assert_draws(terminal: &Terminal) {
    terminal.until("the picture", |screen| screen[23].starts_with("q quit"));
    assert_eq!(terminal.value("#{alternate_on}"), "1");
    terminal.keys("p");
    terminal.until_shows("PAUSED");
    terminal.keys("p");
    terminal.until("it goes on", |screen| !screen[0].contains("PAUSED"));
}

fn signal(fleet: &Fleet, signal: Signal) {
    let pid = fs::read_to_string(pid_file(fleet)).expect("an id").trim().parse().expect("a number");
    kill_process(Pid::from_raw(pid).expect("a process"), signal).expect("it runs");
}

#[test]
fn sequences_that_arrive_in_parts_are_not_keys() {
    let fleet = Fleet::with_canary(Version::Baseline);
    // a part that comes a second later is a key: a machine that is so busy has another try
    eventually("all parts come within a second", || {
        let Some(terminal) = Terminal::open(80, 24, &format!("{}; exec sleep 600", watch(&fleet))) else {
            return true;
        };
        assert_draws(&terminal);
        // up, F2, the mouse wheel, the cursor position, a key with Alt
        for rest in ["[A", "OQ", "[<64;10;10M", "[1;5R", "q"] {
            let began = Instant::now();
            terminal.keys("Escape");
            thread::sleep(Duration::from_millis(2)); // a delay, as over a network
            terminal.keys(rest);
            if began.elapsed() >= Duration::from_secs(1) {
                return false;
            }
        }
        for whole in ["Up", "Down", "F1", "F2", "F3", "PPage", "DC", "M-q"] {
            terminal.keys(whole);
        }
        assert_draws(&terminal);
        terminal.keys("q");
        terminal.assert_restored();
        true
    });
}

#[test]
fn ctrl_z_restores_the_terminal_and_fg_draws_the_picture_again() {
    let fleet = Fleet::with_canary(Version::Baseline);
    let Some(terminal) = watch_in_a_shell(&fleet) else { return };
    for round in ["first", "second"] {
        terminal.keys("C-z");
        terminal.until_shows("Stopped");
        terminal.assert_restored();
        enter(&terminal, &format!("echo $((40 + 2)) {round}"));
        terminal.until_shows(&format!("42 {round}"));
        enter(&terminal, "clear; fg"); // so that the next "Stopped" is another one
        assert_draws(&terminal);
    }
    terminal.keys("q");
    terminal.assert_restored();
    // until the program has ended, it takes the keys
    terminal.until("the prompt", |screen| {
        screen.iter().rfind(|line| !line.is_empty()).is_some_and(|line| line.trim_end() == "ready>")
    });
    enter(&terminal, "echo code $?");
    terminal.until_shows("code 0");
}

#[test]
fn stop_signals_from_other_processes_work_like_ctrl_z() {
    let fleet = Fleet::with_canary(Version::Baseline);
    let Some(terminal) = watch_in_a_shell(&fleet) else { return };
    signal(&fleet, Signal::TSTP);
    terminal.until_shows("Stopped");
    terminal.assert_restored();
    enter(&terminal, "fg");
    assert_draws(&terminal);
    // SIGSTOP cannot be caught, so the terminal is not restored before fg
    signal(&fleet, Signal::STOP);
    terminal.until_shows("Stopped");
    enter(&terminal, "fg");
    assert_draws(&terminal);
    terminal.keys("q");
    terminal.assert_restored();
}

#[test]
fn ctrl_z_is_ignored_if_there_is_no_shell_to_continue_the_process() {
    let fleet = Fleet::with_canary(Version::Baseline);
    let Some(terminal) = Terminal::open(80, 24, &format!("exec {}", watch(&fleet))) else { return };
    assert_draws(&terminal);
    terminal.keys("C-z");
    signal(&fleet, Signal::TSTP);
    assert_draws(&terminal);
}

#[test]
fn a_terminal_without_a_size_gets_the_default_size() {
    let fleet = Fleet::with_canary(Version::Baseline);
    let script = format!("stty rows 0 cols 0; {}; echo after $?; exec sleep 600", watch(&fleet));
    let Some(terminal) = Terminal::open(80, 24, &script) else { return };
    assert_draws(&terminal);
    terminal.keys("q");
    terminal.until_shows("after 0");
}

#[test]
fn a_dumb_terminal_gets_lines_instead_of_a_picture() {
    let fleet = Fleet::with_canary(Version::Baseline);
    let url = fleet.url();
    for kind in ["dumb", ""] {
        let script = format!(
            "export TERM={kind}; {BINARY} watch {url} --count 20 --rate 50; echo lines $?; \
             {BINARY} watch {url} --output picture; echo picture $?; \
             {BINARY} rehearse --listen 127.0.0.1:0; echo rehearse $?; exec sleep 600"
        );
        let Some(terminal) = Terminal::open(200, 50, &script) else { return };
        let screen = terminal.until_shows("rehearse 6").join("\n");
        for part in
            ["{\"type\":\"summary\"", "lines 0", "canary: --output picture: ", "picture 6", "--script"]
        {
            assert!(screen.contains(part), "TERM={kind}: {part}: {screen}");
        }
        assert!(screen.contains(if kind == "dumb" { "TERM=dumb" } else { "variable TERM" }), "{screen}");
        assert!(!terminal.screen_with_styles().contains('\u{1b}'), "no escapes");
    }
}

#[test]
fn without_utf8_the_picture_is_ascii() {
    let fleet = Fleet::with_canary(Version::Broken);
    let script = format!("export LC_ALL=C; {}; exec sleep 600", watch(&fleet));
    let Some(terminal) = Terminal::open(80, 24, &script) else { return };
    let screen = terminal.until("bars", |screen| screen.iter().any(|line| line.contains("#####")));
    let text = screen.join("\n");
    assert!(text.is_ascii() && text.contains("| expected from the pods"), "{text}");
    terminal.keys("q");
    terminal.assert_restored();
}

#[test]
fn signals_that_are_ignored_at_the_start_stay_ignored() {
    let fleet = Fleet::with_canary(Version::Baseline);
    let script = format!("trap '' HUP INT; exec {BINARY} watch {} --output json", fleet.url());
    let mut command = std::process::Command::new("sh");
    let mut watch =
        command.args(["-c", &script]).stdout(std::process::Stdio::piped()).spawn().expect("it starts");
    let mut lines =
        std::io::BufRead::lines(std::io::BufReader::new(watch.stdout.take().expect("its output")));
    let mut next = || lines.next().expect("a line").expect("text");
    next();
    for ignored in [Signal::HUP, Signal::INT] {
        testkit::signal(&watch, ignored);
        for _ in 0..2 {
            assert!(next().starts_with("{\"type\":\"second\""), "{ignored:?}");
        }
    }
    testkit::signal(&watch, Signal::TERM);
    assert!(next().starts_with("{\"type\":\"s"), "the summary, or the line of a second before it");
    drop(lines);
    assert_eq!(watch.wait().expect("its end").code(), Some(143));
}

#[test]
fn judge_shows_its_progress_in_one_line_that_rewrites_itself() {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    let script = format!(
        "{BINARY} judge {} --count 400 --rate 40 --timeout 1m; echo code $?; exec sleep 600",
        fleet.url()
    );
    let Some(terminal) = Terminal::open(100, 24, &script) else { return };
    let lines = |screen: &[String]| screen.iter().filter(|line| line.contains(" left  ")).count();
    let promoted = |line: &String| -> Option<u8> {
        let (_, rest) = line.strip_prefix('[')?.split_once("  promote ")?;
        rest.split_once(" %, roll back 0 %")?.0.parse().ok()
    };
    for least in [2, 8] {
        let screen = terminal.until("progress", |screen| {
            screen.iter().any(|line| promoted(line) >= Some(least) && line.contains("canary failed 0 of "))
        });
        assert_eq!(lines(&screen), 1, "{screen:#?}");
    }
    let screen = terminal.until_shows("code 2");
    assert_eq!(lines(&screen), 0, "it is cleared: {screen:#?}");
    assert!(screen.iter().any(|line| line.starts_with("canary: a promotion takes about ")), "{screen:#?}");
    assert!(screen.iter().any(|line| line.starts_with("Not yet: ")), "{screen:#?}");
}

#[test]
fn the_help_lists_the_keys() {
    let (code, help, _) = run(&["watch", "--help"]);
    assert_eq!(code, Some(0));
    assert!(help.contains("q or Ctrl-C quit") && help.contains("Ctrl-Z suspend"), "{help}");
}
