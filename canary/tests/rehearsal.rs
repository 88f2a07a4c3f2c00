//! `canary rehearse`, the README's first command, unattended and in a terminal.

mod common;

use std::io::{BufRead, BufReader};

use common::{run, start, terminal::Terminal};

#[test]
fn each_step_shows_unattended_what_the_readme_says() {
    let (code, output, messages) = run(&["rehearse", "--script", "--listen=127.0.0.1:0"]);
    assert_eq!(code, Some(0), "{output}{messages}");
    let steps = output.lines().filter(|line| line.starts_with("== ")).count();
    assert_eq!(steps, 10, "{output}");
    assert_eq!(output.matches("not one was lost").count(), 3, "roll-back, promotion, clean-up: {output}");
    for told in [
        "Left out: the kubelet",
        "$ kubectl create -f deployment/canary-broken.yaml",
        "judge: Roll back",
        "$ kubectl label pods -l canary=fixed fault-percent=5\n",
        "$ kubectl label pods -l canary=fixed fault-percent-\n",
        "judge: Promote",
    ] {
        assert!(output.contains(told), "{told}: {output}");
    }
}

#[test]
fn the_dial_is_what_the_flags_say() {
    let mut process = start(&[
        "rehearse",
        "--script",
        "--listen=127.0.0.1:0",
        "--fault-percent=12.5",
        "--fault-delay-ms=20",
    ]);
    let lines = BufReader::new(process.stdout.take().expect("its output")).lines().map_while(Result::ok);
    let told: Vec<_> = lines.take_while(|line| line != "== End the fault").collect();
    let command = "   $ kubectl label pods -l canary=fixed fault-percent=12.5 fault-delay-ms=20".to_owned();
    assert!(told.contains(&command), "{told:#?}");
    assert!(told.last().is_some_and(String::is_empty), "the step's checks hold: {told:#?}");
    process.kill().expect("it still runs");
    process.wait().expect("its end");
}

#[test]
fn a_port_that_is_taken_is_one_clear_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let (code, output, messages) = run(&["rehearse", "--script", "--listen", &address]);
    assert_eq!((code, output.as_str()), (Some(6), ""));
    assert_eq!(
        messages,
        format!("canary: cannot listen on {address}: Address already in use (os error 98)\n")
    );
}

#[test]
fn keys_go_through_the_steps_above_the_picture() {
    let script = format!(
        "echo before; {} rehearse --listen 127.0.0.1:0; echo after $?; exec sleep 600",
        env!("CARGO_BIN_EXE_canary")
    );
    let Some(terminal) = Terminal::open(80, 24, &script) else { return };
    for (title, next, seen) in [
        ("step 1 of 10: Deploy", "n: Scale", "pods: 1"),
        ("step 2 of 10: Scale", "n: Change a label", "pods: 3"),
        ("step 3 of 10: Change a label", "n: Deploy the broken canary", "*newlabel=realtime"),
        ("step 4 of 10: Deploy the broken canary", "n: Roll back", "Roll back: "),
    ] {
        terminal.until_shows(title);
        terminal.until_shows(next);
        let screen = terminal.until_shows(seen);
        assert!(screen.iter().any(|line| line.starts_with("$ kubectl ")), "{screen:?}");
        terminal.keys("n");
    }
    for (title, next) in [
        ("step 5 of 10: Roll back", "n: Deploy the fixed canary"),
        ("step 6 of 10: Deploy the fixed canary", "n: Have it fail now and then"),
        ("step 7 of 10: Have it fail now and then", "n: End the fault"),
    ] {
        terminal.until_shows(title);
        terminal.until_shows(next);
        terminal.keys("n");
    }
    terminal.until_shows("$ kubectl label pods -l canary=fixed fault-percent-");
    terminal.until_shows("n: Promote it");
    terminal.keys("q");
    let screen = terminal.until_shows("after 0");
    let told: Vec<_> = screen.iter().map(String::as_str).filter(|line| !line.is_empty()).collect();
    assert_eq!(told, ["before", "after 0"]);
    terminal.is_restored();
}
