//! Signals that the process was started to ignore.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use rustix::process::Signal;

#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let binary = env!("CARGO_BIN_EXE_appinfo");
    let ports = "--listen=127.0.0.1:0 --admin-listen=127.0.0.1:0";
    let script = format!(
        "trap '' INT HUP; exec {binary} {ports} --labels-file=/dev/null --drain-delay=0 --log-format=json"
    );
    let mut appinfo =
        Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(appinfo.stdout.take().expect("its output")).lines();
    let mut heard = lines.by_ref().map_while(Result::ok);
    assert!(heard.any(|line| line.contains("\"serving\"")), "it serves");
    for signal in [Signal::INT, Signal::HUP, Signal::TERM] {
        testkit::signal(&appinfo, signal);
    }
    let rest: Vec<_> = heard.collect();
    assert!(rest.iter().any(|line| line.contains("SIGTERM")), "{rest:?}");
    assert!(!rest.iter().any(|line| line.contains("SIGINT")), "{rest:?}");
    assert_eq!(appinfo.wait().expect("its end").code(), Some(0));
}
