//! `canary judge --record`, and `--input` of a record.

use std::{fs, process::Command};

use rustix::process::Signal;
use tempfile::NamedTempFile;
use testkit::eventually;

use crate::common::{Fleet, Version, run, start};

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().expect("UTF-8")
}

/// The record of a trial of a real service says the same again.
#[test]
fn a_record_says_the_same_again_word_for_word() {
    for (version, flags) in [
        (Version::Broken, &["--rate=100"][..]),
        (Version::WithNamespace, &["--rate=500", "--max-failure-rate=5%", "--alpha=0.01", "--traffic=90"]),
        (Version::WithNamespace, &["--rate=100", "--count=60"]),
        (Version::WithNamespace, &["--rate=500", "--slower-by=50%"]),
        (Version::Broken, &["--rate=100", "--episodes=200ms"]),
    ] {
        let fleet = Fleet::with_canary(version);
        let file = tempfile::NamedTempFile::new().expect("a file");
        let record = format!("--record={}", file.path().display());
        let url = fleet.url();
        let judge = ["judge", &url, &record, "--timeout=60s"];
        let (code, said, messages) = run(&[&judge[..], flags].concat());
        assert!(said.len() > 50, "{messages}");
        let (again, said_again, messages) = run(&["judge", "--input", file.path().to_str().expect("UTF-8")]);
        assert_eq!((again, said_again), (code, said), "{messages}");
    }
}

/// A record of a trial without a decision.
fn record(flags: &[&str]) -> (NamedTempFile, Option<i32>, String) {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    let file = NamedTempFile::new().expect("a file");
    let to = format!("--record={}", path(&file));
    let (code, said, messages) =
        run(&[&["judge", &fleet.url(), &to, "--rate=100", "--count=60"], flags].concat());
    assert!(said.len() > 50, "{messages}");
    (file, code, said)
}

#[test]
fn a_record_that_cannot_be_written_any_more_is_named_once_and_the_verdict_comes() {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    let file = NamedTempFile::new().expect("a file");
    let to = format!("--record={}", path(&file));
    // a limit of 2 KiB, in units of 512 bytes, and the record has about 9; without the signal, a write beyond it fails
    let script = "trap '' XFSZ; ulimit -f 4; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args([
        "-c",
        script,
        "sh",
        env!("CARGO_BIN_EXE_canary"),
        "judge",
        &fleet.url(),
        &to,
        "--rate=100",
        "--count=60",
    ]);
    let output = command.output().expect("it runs");
    let [said, messages] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8"));
    assert_eq!(output.status.code(), Some(2), "{said}{messages}");
    assert!(said.starts_with("Not yet: "), "{said}{messages}");
    let told = format!("canary: the record in {} ends here: ", path(&file));
    assert_eq!(messages.matches(&told).count(), 1, "{messages}");
    assert!(messages.contains("File too large"), "{messages}");
}

#[test]
fn a_record_that_ends_within_a_line_is_judged_without_it() {
    let (file, code, _) = record(&[]);
    let whole = fs::read_to_string(file.path()).expect("a record");
    let lines: Vec<_> = whole.lines().collect();
    // the end, and half of the last request
    let kept = lines[..lines.len() - 2].join("\n");
    fs::write(file.path(), format!("{kept}\n{}", &lines[lines.len() - 2][..40])).expect("a file");
    let (again, said, messages) = run(&["judge", "--input", path(&file)]);
    assert_eq!(again, code, "{said}{messages}");
    let told = format!(
        "{}, line {}: the record ends within this line, which is left out",
        path(&file),
        lines.len() - 1
    );
    assert!(messages.contains(&told), "{messages}");
    fs::write(file.path(), &kept).expect("a file");
    let (_, said_without, messages) = run(&["judge", "--input", path(&file)]);
    assert_eq!((said_without.as_str(), messages.as_str()), (said.as_str(), ""));
    let (code, _, messages) = run(&["judge", "--input", path(&file), "--aa"]);
    assert!(code.is_some_and(|code| code != 3), "{messages}");
}

#[test]
fn only_a_record_is_replaced_and_none_that_another_process_writes() {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    let file = NamedTempFile::new().expect("a file");
    let to = format!("--record={}", path(&file));
    let once = || run(&["judge", &fleet.url(), &to, "--rate=100", "--count=5"]);
    let served = || run(&["serve", &fleet.url(), &to, "--listen=127.0.0.1:0"]);
    fs::write(file.path(), "[package]\n").expect("a file");
    for (code, _, messages) in [once(), served()] {
        assert_eq!(code, Some(3), "{messages}");
        let told =
            format!("canary: --record {}: this file is not a record, so it is not replaced", path(&file));
        assert!(messages.contains(&told), "{messages}");
        assert_eq!(fs::read_to_string(file.path()).expect("a file"), "[package]\n");
    }
    fs::write(file.path(), "").expect("a file");
    let mut first = start(&["judge", &fleet.url(), &to, "--rate=1"]);
    eventually("a record", || fs::metadata(file.path()).is_ok_and(|file| file.len() > 0));
    for (code, _, messages) in [once(), served()] {
        assert_eq!(code, Some(3), "{messages}");
        let told = format!("canary: --record {}: another canary writes this file", path(&file));
        assert!(messages.contains(&told), "{messages}");
    }
    testkit::signal(&first, Signal::KILL);
    first.wait().expect("it ran");
    let (code, _, messages) = once();
    assert!(
        code != Some(3) && fs::read_to_string(file.path()).is_ok_and(|text| text.ends_with("}\n")),
        "{messages}"
    );
}

#[test]
fn flags_that_the_settings_of_a_record_override_are_named() {
    let (file, _, said) = record(&["--alpha=0.01"]);
    let again = |flags: &[&str]| run(&[&["judge", "--input", path(&file)], flags].concat());
    assert_eq!(again(&["--count=1000"]).2, "", "no flag is ignored");
    let (_, said_again, messages) = again(&["--max-failure-rate=0.1%", "--alpha=5%", "--soak=1m"]);
    assert_eq!(said_again, said);
    let told = "is a record with settings of its own, so these flags are ignored: ";
    let (_, named) = messages.split_once(told).unwrap_or_else(|| panic!("{messages}"));
    assert_eq!(named, "--max-failure-rate, --alpha, --soak\n");
    let (_, _, messages) = again(&["--aa", "--alpha=1%"]);
    assert!(!messages.contains(told), "it decides how the halves are compared: {messages}");
    let (_, _, messages) = again(&["--aa", "--alpha=1%", "--max-latency=1s"]);
    assert!(messages.contains(&format!("{told}--max-latency\n")), "{messages}");
    let without = fs::read_to_string(file.path()).expect("a record");
    let (_, rest) = without.split_once('\n').expect("lines");
    fs::write(file.path(), rest).expect("a file");
    let (_, _, messages) = again(&["--alpha=1%"]);
    assert!(!messages.contains(told), "without its first line, the flags count: {messages}");
}
