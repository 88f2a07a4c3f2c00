//! Standard output and standard error that cannot be written: the exit code stands.

mod common;

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use common::{Fleet, Version, canary, eventually};

/// A device that is always full.
fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").expect("Linux has it")
}

/// A pipe whose reader has closed it.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

fn code(arguments: &[&str], stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Option<i32> {
    canary(arguments).stdout(stdout).stderr(stderr).status().expect("it runs").code()
}

/// Each of these writes messages, and ends with this code.
fn commands_with_messages(url: &str) -> Vec<(Vec<&str>, i32)> {
    let nowhere = "http://127.0.0.1:1";
    vec![
        (vec!["watch", url, "--for=1200ms", "--output=json"], 0),
        (vec!["watch", nowhere, "--count=3", "--output=json"], 4),
        // long enough for progress, after 5 s
        (vec!["judge", url, "--for=5500ms"], 2),
        (vec!["judge", url, "--count=120", "--rate=100"], 2), // long enough for a forecast
        (vec!["judge", nowhere, "--timeout=100ms", "--for=1s"], 4),
        (vec!["judge", "--input=/dev/null"], 5),
        (vec!["judge", "--input=/no/such/file"], 3),
        (vec!["judge", "ftp://127.0.0.1"], 3),
        (vec!["dance"], 3),
    ]
}

#[test]
fn the_exit_code_stands_where_messages_cannot_be_written() {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    for (arguments, expected) in commands_with_messages(&fleet.url()) {
        assert_eq!(code(&arguments, Stdio::null(), full()), Some(expected), "{arguments:?} 2>/dev/full");
        assert_eq!(code(&arguments, Stdio::null(), closed()), Some(expected), "{arguments:?}, 2> closed");
    }
}

#[test]
fn the_exit_code_stands_where_the_reader_goes_after_one_line() {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut judge = canary(&["judge", &fleet.url(), "--for=12s", "--alpha=1e-9"]);
    let output = writer.try_clone().expect("a handle");
    let mut judge: Child = judge.stdout(output).stderr(writer).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).expect("a message"); // and closes the pipe
    assert!(line.starts_with("canary: "), "{line}");
    assert_eq!(judge.wait().expect("its end").code(), Some(2));
}

#[test]
fn output_that_cannot_be_written_has_codes_of_its_own() {
    let fleet = Fleet::with_canary(Version::Broken);
    let url = fleet.url();
    for (arguments, of_closed) in [
        (&["watch", &url, "--for=1s", "--output=json"][..], 141),
        // the code is the verdict, whether its sentences are read or not
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
        assert_eq!(code(arguments, closed(), Stdio::null()), Some(of_closed), "{arguments:?} > closed");
    }
}

#[test]
fn a_reader_that_goes_later_ends_it_too() {
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
