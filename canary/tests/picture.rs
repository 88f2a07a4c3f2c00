//! The live picture in a real terminal. Without tmux, these tests are skipped with a message.

mod common;

use std::{fs, mem, path::PathBuf};

use canary::view::terminal::Screen;
use common::{Fleet, Version, terminal::Terminal};
use rustix::process::{Pid, Signal, kill_process};
use testkit::eventually;

const BINARY: &str = env!("CARGO_BIN_EXE_canary");

/// Runs `canary watch` between two lines of output, and compares the terminal's settings before and after.
fn watch(fleet: &Fleet, columns: u16, rows: u16, environment: &str) -> Option<Terminal> {
    let url = fleet.url();
    let script = format!(
        "settings=$(stty -g); echo before; \
         {environment} sh -c 'echo $$ >{pid}; exec {BINARY} watch {url} --rate 50'; echo after $?; \
         [ \"$(stty -g)\" = \"$settings\" ] && echo same settings; exec sleep 600",
        pid = pid_file(fleet).display(),
    );
    Terminal::open(columns, rows, &script)
}

/// The file with the id of the process that draws.
fn pid_file(fleet: &Fleet) -> PathBuf {
    fleet.directory().join("pid")
}

/// Asserts that the screen shows only the output of the shell, and the totals and the verdict at the end.
fn assert_clean(terminal: &Terminal, code: &str) {
    let screen = terminal.until_shows("same settings");
    let lines: Vec<_> = screen.iter().map(String::as_str).filter(|line| !line.is_empty()).collect();
    assert_eq!(lines[0], "before", "{lines:#?}");
    assert!(lines[1].starts_with("http://127.0.0.1:") && lines[1].contains(" requests, "), "{lines:#?}");
    let verdict = ["Not yet: ", "Roll back: ", "Promote: "].iter().any(|start| lines[2].starts_with(start));
    assert!(verdict && lines.len() < 12, "{lines:#?}");
    assert_eq!(lines[lines.len() - 2..], [&format!("after {code}"), "same settings"]);
    terminal.assert_restored();
}

fn column_of(screen: &[String], row: &str, text: &str) -> Option<usize> {
    screen.iter().find(|line| line.starts_with(row)).and_then(|line| line.find(text))
}

#[test]
fn the_picture_fits_80x24_and_q_leaves_a_clean_screen() {
    let fleet = Fleet::with_canary(Version::Broken);
    let Some(terminal) = watch(&fleet, 80, 24, "") else { return };
    terminal.until("the last answers fill two rows", |screen| {
        screen.iter().filter(|line| line.len() == 80 && line.contains("sssX")).count() == 2
    });
    let screen = terminal.until_shows("Roll back: ");
    assert_eq!(screen.len(), 24);
    let text = screen.join("\n");
    assert!(screen[0].contains(&fleet.url()) && screen[0].contains(" requests in 0:"), "{text}");
    for part in ["stable ", "canary ", "no answer ", " 75.0 %", " 25.0 %", "100.0 %", "p50 ", "p99 "] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for pod in ["appinfo-1", "appinfo-2", "appinfo-3", "appinfo-canary-1"] {
        assert!(text.contains(pod), "{pod}: {text}");
    }
    assert!(screen[23].starts_with("q quit   p pause   r reset"), "{text}");
    terminal.keys("q");
    assert_clean(&terminal, "0");
}

#[test]
fn the_picture_follows_a_larger_and_a_smaller_terminal() {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    let Some(terminal) = watch(&fleet, 80, 24, "") else { return };
    let keys_in =
        |screen: &[String], row: usize| screen.get(row - 1).is_some_and(|line| line.starts_with("q quit"));
    let narrow = terminal.until("24 rows", |screen| keys_in(screen, 24) && screen.len() == 24);
    let failing = column_of(&narrow, "  ", "failing").expect("the last column's head");
    terminal.resize(200, 50);
    terminal.until("50 rows, 200 columns", |screen| {
        keys_in(screen, 50)
            && column_of(screen, "  ", "failing").is_some_and(|column| column == failing + 120)
    });
    terminal.resize(80, 24);
    terminal.until("24 rows, 80 columns", |screen| {
        keys_in(screen, 24) && column_of(screen, "  ", "failing") == Some(failing)
    });
    terminal.keys("q");
    assert_clean(&terminal, "0");
}

#[test]
fn the_totals_and_the_verdict_stay_on_the_screen_at_the_end() {
    let fleet = Fleet::with_canary(Version::Broken);
    let script = format!(
        "{BINARY} watch {} --count 40 --rate 100 --timeout 1m; echo after $?; exec sleep 600",
        fleet.url()
    );
    let Some(terminal) = Terminal::open(80, 24, &script) else { return };
    let screen = terminal.until_shows("after 0");
    assert_eq!(screen[0], format!("{}/v1/appinfo: 40 requests, 10 failed", fleet.url()));
    assert!(screen[1].starts_with("Roll back: "), "{screen:?}");
    terminal.assert_restored();
}

fn requests(screen: &[String]) -> Option<u64> {
    let words: Vec<_> = screen.first()?.split_whitespace().collect();
    let number = words.iter().position(|word| *word == "requests")?.checked_sub(1)?;
    words[number].parse().ok()
}

fn time(screen: &[String]) -> Option<&str> {
    screen.first()?.split(" in ").nth(1)?.split_whitespace().next()
}

/// The shell ignores SIGHUP, and so does what it starts. So only the terminal itself tells that it is gone.
#[test]
fn a_terminal_whose_window_was_closed_is_no_panic() {
    for command in ["watch", "rehearse"] {
        let fleet = Fleet::with_canary(Version::WithNamespace);
        let code = fleet.directory().join("code");
        let arguments = if command == "watch" { fleet.url() } else { "--listen=127.0.0.1:0".to_owned() };
        let script = format!("trap '' HUP; {BINARY} {command} {arguments}; echo $? >{}", code.display());
        let Some(terminal) = Terminal::open(80, 24, &script) else { return };
        terminal.until_shows("q quit");
        drop(terminal);
        eventually("it ends", || fs::read_to_string(&code).is_ok_and(|code| code.ends_with('\n')));
        assert_eq!(fs::read_to_string(&code).expect("a code"), "129\n", "{command}");
    }
}

#[test]
fn p_pauses_and_r_resets() {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    let Some(terminal) = watch(&fleet, 80, 24, "") else { return };
    terminal.until("50 requests", |screen| requests(screen) >= Some(50));
    terminal.keys("p");
    terminal.until_shows("PAUSED");
    let next_second = || {
        let now = terminal.screen();
        terminal.until("time passes", |screen| time(screen) != time(&now))
    };
    let mut paused = next_second();
    eventually("open requests have ended, and no other is sent", || {
        let before = mem::replace(&mut paused, next_second());
        requests(&paused) == requests(&before)
    });
    terminal.keys("r");
    terminal.until("no requests", |screen| requests(screen) == Some(0));
    terminal.keys("p");
    terminal.until("requests again", |screen| requests(screen) > Some(0));
    assert!(!terminal.screen()[0].contains("PAUSED"));
    terminal.keys("C-c");
    assert_clean(&terminal, "0");
}

#[test]
fn changed_labels_and_failures_are_highlighted_without_colours() {
    let fleet = Fleet::with_canary(Version::Broken);
    let Some(terminal) = watch(&fleet, 80, 24, "NO_COLOR=1") else { return };
    terminal.until_shows("appinfo-2");
    fleet.relabel("appinfo-2", "release=\"stable\"\nnewlabel=\"realtime\"");
    terminal.until_shows("*newlabel=realtime");
    terminal.until_shows("sssX");
    let styled = terminal.screen_with_styles();
    let colours =
        |code: &str| ["30", "31", "32", "33", "34", "35", "36", "37", "38", "90", "91"].contains(&code);
    let codes = styled.split("\x1b[").skip(1).filter_map(|rest| rest.split_once('m')).map(|(codes, _)| codes);
    let coloured: Vec<_> = codes.clone().filter(|codes| codes.split(';').any(colours)).collect();
    assert_eq!(coloured, [""; 0], "NO_COLOR");
    assert!(
        codes.clone().any(|codes| codes.split(';').any(|code| code == "7")),
        "failures are reversed: {styled:?}"
    );
    terminal.keys("q");
    assert_clean(&terminal, "0");
}

#[test]
fn signals_restore_the_terminal() {
    for (signal, code) in
        [(Signal::INT, "0"), (Signal::TERM, "143"), (Signal::HUP, "129"), (Signal::QUIT, "131")]
    {
        let fleet = Fleet::with_canary(Version::Baseline);
        let Some(terminal) = watch(&fleet, 80, 24, "") else { return };
        terminal.until_shows("appinfo-canary-1");
        let pid = fs::read_to_string(pid_file(&fleet)).expect("an id").trim().parse().expect("a number");
        kill_process(Pid::from_raw(pid).expect("a process"), signal).expect("it runs");
        assert_clean(&terminal, code);
    }
}

#[test]
fn a_panic_restores_the_terminal_and_prints_its_message() {
    let this = std::env::current_exe().expect("this test");
    let script = format!(
        "{} --ignored --exact draws_and_panics --nocapture; echo after $?; exec sleep 600",
        this.display()
    );
    let Some(terminal) = Terminal::open(80, 24, &script) else { return };
    let screen = terminal.until_shows("after 101").join("\n");
    assert!(screen.contains("a panic beside the picture"), "{screen}");
    assert!(!screen.contains("a picture in the terminal"), "{screen}");
    terminal.assert_restored();
}

#[test]
#[ignore = "run in a terminal by a_panic_restores_the_terminal_and_prints_its_message"]
fn draws_and_panics() {
    let mut screen = Screen::open().expect("a terminal");
    screen.draw(|frame| frame.render_widget("a picture in the terminal", frame.area())).expect("drawn");
    let panicked = std::thread::spawn(|| panic!("a panic beside the picture")).join();
    unreachable!("a panic ends the program: {panicked:?}");
}
