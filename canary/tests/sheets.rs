//! The commands of docs/lab-sheet.md, run unedited on a rehearsal.

mod common;

use std::{net::SocketAddr, process::Command};

use common::serving::Serving;
use testkit::eventually;

/// The blocks of `sh` on the sheet, in order.
fn blocks() -> Vec<String> {
    let sheet = include_str!("../../docs/lab-sheet.md");
    let after = sheet.split("```sh\n").skip(1);
    after.map(|rest| rest.split("```").next().expect("its end").to_owned()).collect()
}

/// Runs a block, with the rehearsal's Service in place of the usual one.
fn run(block: &str, service: SocketAddr) -> String {
    let usual = "http://127.0.0.1:8080";
    assert!(block.contains(usual), "{block}");
    let script = block.replace(usual, &format!("http://{service}"));
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_canary")).parent().expect("its directory");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").expect("PATH"));
    let output = Command::new("sh").args(["-c", &script]).env("PATH", path).output().expect("it runs");
    let messages = String::from_utf8_lossy(&output.stderr);
    // what the traffic can show; and if chance or a busy machine delays the verdict, a forecast and the progress
    let usual = ["canary: at 40 requests a second", "canary: a promotion takes about ", "canary: after "];
    assert!(
        messages.lines().all(|line| usual.iter().any(|start| line.starts_with(start))),
        "{block}: {messages}"
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The number in front of such a line of `uniq -c`; 0 without one.
fn number_of(counts: &str, what: &str) -> u32 {
    let line = counts.lines().find_map(|line| line.trim().split_once(' ').filter(|(_, rest)| *rest == what));
    line.and_then(|(number, _)| number.parse().ok()).unwrap_or(0)
}

#[test]
fn the_commands_of_the_lab_sheet_show_what_its_marks_say() {
    let [count, break_it, judge] = <[String; 3]>::try_from(blocks()).expect("three blocks");
    let rehearsal = Serving::rehearse(&["--rate=20", "--fault-percent=50"]);
    let state = || rehearsal.events("/v1/events").next().expect("a state");
    let title = state()["title"].as_str().expect("its title").to_owned();
    let service = title.trim_start_matches("http://").split('/').next().and_then(|it| it.parse().ok());
    let service: SocketAddr = service.expect("an address");
    let step = |number: u64| {
        assert_eq!(rehearsal.post("/v1/step", &format!("{{\"step\":{number}}}")).status, 200);
        eventually(&format!("step {number} is done"), || {
            let rehearsal = &state()["rehearsal"];
            rehearsal["number"] == number && rehearsal["under_way"] == false
        });
    };
    (1..=6).for_each(&step);

    let counts = run(&count, service);
    let (stable, canary) = (number_of(&counts, "200 stable"), number_of(&counts, "200 canary"));
    assert_eq!(stable + canary, 200, "{counts}");
    // 50 expected; further away with a probability of 1 in 10^8
    assert!((16..=86).contains(&canary), "{counts}");
    assert_eq!(run(&break_it, service), "404\n");

    step(7);
    let counts = run(&count, service);
    assert!(number_of(&counts, "500 canary") > 0 && number_of(&counts, "500 stable") == 0, "{counts}");
    let told = run(&judge, service);
    assert!(told.contains("Roll back: the canary is worse than stable"), "{told}");
    assert!(told.ends_with("exit code 1\n"), "{told}");
}
