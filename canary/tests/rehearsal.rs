//! `canary rehearse`, the README's first command, unattended and in a terminal.

mod common;

use common::{run, terminal::Terminal};

#[test]
fn each_step_shows_unattended_what_the_readme_says() {
    let (code, output, messages) = run(&["rehearse", "--script", "--listen=127.0.0.1:0"]);
    assert_eq!(code, Some(0), "{output}{messages}");
    let steps = output.lines().filter(|line| line.starts_with("== ")).count();
    assert_eq!(steps, 8, "{output}");
    assert_eq!(output.matches("not one was lost").count(), 3, "roll-back, promotion, clean-up: {output}");
    for told in [
        "Left out: the kubelet",
        "$ kubectl create -f deployment/canary-broken.yaml",
        "judge: Roll back",
        "judge: Promote",
    ] {
        assert!(output.contains(told), "{told}: {output}");
    }
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
        ("step 1 of 8: Deploy", "n: Scale", "pods: 1"),
        ("step 2 of 8: Scale", "n: Change a label", "pods: 3"),
        ("step 3 of 8: Change a label", "n: Deploy the broken canary", "*newlabel=realtime"),
        ("step 4 of 8: Deploy the broken canary", "n: Roll back", "Roll back: "),
    ] {
        terminal.until_shows(title);
        terminal.until_shows(next);
        let screen = terminal.until_shows(seen);
        assert!(screen.iter().any(|line| line.starts_with("$ kubectl ")), "{screen:?}");
        terminal.keys("n");
    }
    terminal.until_shows("step 5 of 8: Roll back");
    terminal.until_shows("n: Deploy the fixed canary");
    terminal.keys("q");
    let screen = terminal.until_shows("after 0");
    let told: Vec<_> = screen.iter().map(String::as_str).filter(|line| !line.is_empty()).collect();
    assert_eq!(told, ["before", "after 0"]);
    terminal.is_restored();
}
