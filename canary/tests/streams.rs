//! The exit code when standard output or standard error cannot be written.

mod common;

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use common::{Fleet, Version, canary};
use testkit::eventually;

/// A device that is always full.
fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").expect("Linux has it")
}

/// A pipe without a reader.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

fn code(arguments: &[&str], stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Option<i32> {
    canary(arguments).stdout(stdout).stderr(stderr).status().expect("it runs").code()
}

/// Commands that write messages, each with its exit code.
fn commands_with_messages(url: &str) -> Vec<(Vec<&str>, i32)> {
    let unreachable = "http://127.0.0.1:1";
    vec![
        (vec!["watch", url, "--for=3s", "--timeout=60s", "--output=json"], 0),
        (vec!["watch", unreachable, "--count=3", "--output=json"], 4),
        // long enough for a progress message, after 5 s
        (vec!["judge", url, "--for=5500ms"], 2),
        (vec!["judge", url, "--count=120", "--rate=100"], 2), // long enough for a forecast
        (vec!["judge", unreachable, "--timeout=100ms", "--for=1s"], 4),
        (vec!["judge", "--input=/dev/null"], 5),
        (vec!["judge", "--input=/no/such/file"], 6),
        (vec!["judge", "ftp://127.0.0.1"], 3),
        (vec!["dance"], 3),
    ]
}

#[test]
fn the_exit_code_is_the_same_if_messages_cannot_be_written() {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    for (arguments, expected) in commands_with_messages(&fleet.url()) {
        assert_eq!(code(&arguments, Stdio::null(), full()), Some(expected), "{arguments:?} 2>/dev/full");
        assert_eq!(code(&arguments, Stdio::null(), closed()), Some(expected), "{arguments:?}, 2> closed");
    }
}

#[test]
fn the_exit_code_is_the_same_if_the_reader_closes_after_one_line() {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut judge = canary(&["judge", &fleet.url(), "--for=12s", "--alpha=1e-9"]);
    let output = writer.try_clone().expect("a handle");
    let mut judge: Child = judge.stdout(output).stderr(writer).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).expect("a message"); // then closes the pipe
    assert!(line.starts_with("canary: "), "{line}");
    assert_eq!(judge.wait().expect("its end").code(), Some(2));
}

#[test]
fn there_are_exit_codes_for_output_that_cannot_be_written() {
    let fleet = Fleet::with_canary(Version::Broken);
    let url = fleet.url();
    for (arguments, expected) in [
        (&["watch", &url, "--for=1s", "--output=json"][..], 141),
        // the exit code is the verdict, even if its sentences cannot be written
        (&["judge", &url, "--rate=100"], 1),
        (&["judge", "http://127.0.0.1:1", "--count=3", "--rate=100", "--output=json"], 4),
        (&["judge", &url, "--output=json", "--max-failure-rate=99%", "--alpha=1e-12", "--rate=1"], 141),
        (&["judge", "--input=/dev/null", "--output=json"], 5),
        (&["rehearse", "--script", "--listen=127.0.0.1:0"], 141),
        (&["--help"], 141),
        (&["judge", "--help"], 141),
        (&["--version"], 141),
    ] {
        assert_eq!(code(arguments, full(), Stdio::null()), Some(6), "{arguments:?} >/dev/full");
        assert_eq!(code(arguments, closed(), Stdio::null()), Some(expected), "{arguments:?} > closed");
    }
}

#[test]
fn watch_ends_if_the_reader_closes_later() {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    let mut watch = common::start(&["watch", &fleet.url(), "--output=json"]);
    let mut lines = BufReader::new(watch.stdout.take().expect("its output")).lines();
    lines.next().expect("a line").expect("text");
    drop(lines);
    let mut ended = None;
    eventually("it ends", || {
        ended = watch.try_wait().expect("its state");
        ended.is_some()
    });
    assert_eq!(ended.and_then(|status| status.code()), Some(141));
}
