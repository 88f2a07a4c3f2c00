//! `canary rehearse`, the README's first command, unattended and in a terminal.

mod common;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
};

use common::{Fleet, run, serving::Serving, start, terminal::Terminal};
use serde_json::{Value, json};
use testkit::eventually;

#[test]
fn each_step_has_the_result_of_the_documents_in_unattended_mode() {
    let (code, output, messages) = run(&["rehearse", "--script", "--listen=127.0.0.1:0"]);
    assert_eq!(code, Some(0), "{output}{messages}");
    let steps = output.lines().filter(|line| line.starts_with("== ")).count();
    assert_eq!(steps, 11, "{output}");
    assert_eq!(output.matches("not one was lost").count(), 3, "roll-back, promotion, clean-up: {output}");
    for text in [
        "Left out: the kubelet",
        "$ kubectl create -f deployment/canary-broken.yaml",
        "judge: Roll back",
        "$ kubectl label pods -l canary=fixed fault-percent=5\n",
        "$ kubectl label pods -l canary=fixed fault-percent-\n",
        "judge: Promote",
        "then its share was 1 %, ",
        "after it 400 requests: 400 good from canary, 0 without an answer",
    ] {
        assert!(output.contains(text), "{text}: {output}");
    }
}

#[test]
fn the_fault_has_the_values_of_the_flags() {
    let mut process = start(&[
        "rehearse",
        "--script",
        "--listen=127.0.0.1:0",
        "--fault-percent=12.5",
        "--fault-delay-ms=20",
    ]);
    let lines = BufReader::new(process.stdout.take().expect("its output")).lines().map_while(Result::ok);
    let shown: Vec<_> = lines.take_while(|line| line != "== End the fault").collect();
    let command = "   $ kubectl label pods -l canary=fixed fault-percent=12.5 fault-delay-ms=20".to_owned();
    assert!(shown.contains(&command), "{shown:#?}");
    assert!(shown.last().is_some_and(String::is_empty), "all checks of the step passed: {shown:#?}");
    process.kill().expect("it still runs");
    process.wait().expect("its end");
}

#[test]
fn too_few_open_files_are_a_failure_of_this_machine_not_of_a_step() {
    let binary = env!("CARGO_BIN_EXE_canary");
    // with 256, clients of a step lack files; with 15, a pod does
    for limit in [256, 15] {
        let script = format!("ulimit -n {limit} && exec {binary} rehearse --script --listen=127.0.0.1:0");
        let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("it runs");
        let messages = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(6), "{messages}");
        let told =
            format!("Too many open files (os error 24): the limit of this process is {limit} (ulimit -n)");
        assert!(messages.contains(&told), "{messages}");
    }
}

#[test]
fn a_port_in_use_gives_a_one_line_message() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let (code, output, messages) = run(&["rehearse", "--script", "--listen", &address]);
    assert_eq!((code, output.as_str()), (Some(6), ""));
    assert_eq!(
        messages,
        format!(
            "canary: cannot listen on {address}: Address already in use (os error 98); --listen 127.0.0.1:PORT sets \
             another port\n"
        )
    );
}

#[test]
fn a_step_is_taken_once_by_its_number_and_only_when_it_is_next() {
    let rehearsal = Serving::rehearse(&[]);
    let step = |number: u64| {
        let answer = rehearsal.post("/v1/step", &format!("{{\"step\":{number}}}"));
        let told = answer.json();
        (answer.status, told["number"].as_u64(), told["error"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(step(2), (409, None, "step 2 is not the next one: that is step 1".to_owned()));
    assert_eq!(step(1), (200, Some(1), String::new()));
    assert_eq!(step(1), (200, Some(1), String::new()), "by a double click, or another viewer");
    // most steps take a second; on a machine that is slower, the next one is taken, and is another try
    let mut taken = 1;
    let refused = loop {
        match step(taken + 1) {
            (200, Some(number), _) if number == taken + 1 => taken = number,
            refused => break refused,
        }
    };
    assert_eq!(refused, (409, None, format!("step {taken} is under way: wait for its end")));
    let state = || rehearsal.events("/v1/events").next().expect("a state");
    eventually("it is done", || state()["rehearsal"]["under_way"] == false);
    assert_eq!(step(taken + 1), (200, Some(taken + 1), String::new()));
    assert_eq!(step(taken), (200, Some(taken + 1), String::new()), "a viewer who was late");
    eventually("requests", || state()["requests"].as_u64() > Some(0) && state()["paused"] == false);
    let refused = rehearsal.post("/v1/step", "{}");
    assert_eq!(
        (refused.status, refused.json()["error"].as_str()),
        (400, Some("the body: missing field `step` at line 1 column 2"))
    );
}

#[test]
fn a_step_is_not_taken_for_a_page_elsewhere_and_there_is_none_without_a_rehearsal() {
    let rehearsal = Serving::rehearse(&["--allow-host=school.example"]);
    let ask = |headers: &str| {
        let body = "{\"step\":1}";
        let length = body.len();
        rehearsal.send(
            &format!("POST /v1/step HTTP/1.1\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"),
        )
        .status
    };
    let json = "content-type: application/json\r\n";
    assert_eq!(ask(&format!("host: evil.example\r\n{json}")), 421);
    assert_eq!(ask(&format!("host: 127.0.0.1\r\norigin: http://evil.example\r\n{json}")), 403);
    assert_eq!(ask("host: 127.0.0.1\r\n"), 415);
    assert_eq!(rehearsal.events("/v1/events").next().expect("a state")["rehearsal"]["number"], 0);
    assert_eq!(ask("host: school.example\r\norigin: http://school.example\r\n"), 200);

    let watched = Serving::start(&Fleet::new().url(), &["--rate=1"]);
    let refused = watched.post("/v1/step", "{\"step\":1}");
    assert_eq!(refused.status, 404);
    assert_eq!(refused.json()["error"], "there are no steps: this is not canary rehearse --page");
}

#[test]
fn flags_of_the_page_that_cannot_be_used_are_told() {
    for (flags, told) in [
        (&["--page", "--script"][..], "'--page[=<[ADDRESS]:PORT>]' cannot be used with '--script'"),
        (&["--page=8090x"], "invalid value '8090x' for '--page"),
        (&["--allow-host=a"], "--page"),
        // what needs a page is not passed over without one
        (&["--script", "--mystery"], "cannot be used with"),
        (&["--script", "--vote"], "cannot be used with"),
        (&["--script", "--allow-host=a"], "cannot be used with"),
        (&["--page", "--mystery=soon"], "invalid value 'soon' for '--mystery [<SEED>]'"),
        (&["--page", "--mystery", "7", "--fault-percent=3"], "cannot be used with '--fault-percent"),
    ] {
        let (code, output, messages) = run(&[&["rehearse"], flags].concat());
        assert_eq!((code, output.as_str()), (Some(3), ""), "{messages}");
        assert!(messages.contains(told), "{told}: {messages}");
    }
    let taken = Serving::rehearse(&[]);
    let (code, _, messages) =
        run(&["rehearse", "--listen=127.0.0.1:0", &format!("--page={}", taken.address)]);
    assert_eq!(code, Some(6));
    assert!(messages.starts_with(&format!("canary: cannot listen on {}: ", taken.address)), "{messages}");
    assert!(messages.contains("; --page=127.0.0.1:PORT sets another port"), "{messages}");
}

#[test]
fn a_mystery_without_a_seed_draws_one_and_tells_it() {
    let flags = ["rehearse", "--page=127.0.0.1:0", "--listen=127.0.0.1:0", "--mystery"];
    let mut rehearsal = start(&flags);
    let mut messages = BufReader::new(rehearsal.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    let told = messages.find(|line| line.contains("--mystery")).expect("the seed");
    rehearsal.kill().expect("it runs");
    rehearsal.wait().expect("it ends");
    let seed = told.strip_prefix("canary: to play the same mystery again: canary rehearse --mystery ");
    let seed = seed.and_then(|seed| seed.parse::<u32>().ok());
    assert!(seed.is_some_and(|seed| (1..=9999).contains(&seed)), "short enough to type: {told}");
}

/// The canary's answers in the current trial, and its failures that are not late answers.
fn of_canary(state: &Value) -> (u64, u64) {
    let canary = &state["sides"]["canary"];
    let [success, failure, slow] =
        ["success", "failure", "slow"].map(|key| canary[key].as_u64().expect("a number"));
    (success + failure, failure - slow)
}

fn pods(state: &Value) -> BTreeSet<String> {
    let pods = state["pods"].as_array().expect("pods");
    pods.iter().map(|pod| pod["name"].as_str().expect("a name").to_owned()).collect()
}

/// docs/teaching.md, "A mystery". The first canary fails 40.9 % of the requests for one path, and the second one is good.
#[test]
fn of_the_first_mystery_nothing_is_left_in_the_second() {
    let (rehearsal, phones) = Serving::rehearse_with_vote(0, &["--mystery", "2", "--rate=100"]);
    let newest = || rehearsal.events("/v1/events").next().expect("a state");
    let ask = |step: u64| rehearsal.post("/v1/step", &format!("{{\"step\":{step}}}"));
    let take = |step: u64| {
        assert_eq!(ask(step).status, 200, "{step}");
        let mut done = None;
        eventually("the step has ended", || {
            let state = newest();
            let ended = state["rehearsal"]["number"] == step && state["rehearsal"]["under_way"] == false;
            done = ended.then_some(state);
            ended
        });
        done.expect("a state")
    };
    take(1);
    eventually("the first canary fails", || of_canary(&newest()).1 > 20);
    let round = |state: &Value| state["rehearsal"]["vote"]["round"].clone();
    let vote = "{\"round\":1,\"choice\":\"roll_back\"}";
    let cast = format!(
        "POST /v1/vote HTTP/1.1\r\nhost: {phones}\r\ncookie: canary-phone={:032x}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{vote}",
        1,
        vote.len()
    );
    assert_eq!(testkit::http::send(phones, cast).expect("an answer").status, 200);
    take(2);
    take(3);
    let first = take(4);
    assert_eq!(round(&first)["roll_back"], 1);
    assert_eq!(first["rehearsal"]["next"], "Another mystery");
    assert!(first["failing"]["statuses"]["500"].as_u64() > Some(20), "{first}");
    assert!(first["rules"]["list"][0]["said"].is_number());

    assert_eq!(
        rehearsal.post("/v1/rehearsal", "{\"paused\":true}").status,
        200,
        "the next step ends a pause"
    );
    let second = take(5);
    assert_eq!(ask(5).status, 200, "a double click begins one mystery");
    let progress = &second["rehearsal"];
    let shown = ["number", "before", "of", "title", "curtain", "held"].map(|key| progress[key].clone());
    assert_eq!(shown, [json!(5), json!(4), json!(8), json!("Deploy the mystery"), json!(true), json!(false)]);
    assert_eq!(progress["commands"], json!(["canary rehearse --mystery 3"]));
    assert_eq!(round(&second), json!({"number": 2, "open": true, "promote": 0, "wait": 0, "roll_back": 0}));
    let asked = testkit::http::get(phones, "/v1/vote").expect("an answer").json();
    assert_eq!((&asked["step"], &asked["round"]), (&json!(1), &json!(2)));
    eventually("the second canary answers", || of_canary(&newest()).0 > 20);
    let second = newest();
    assert_eq!(of_canary(&second).1, 0, "it has not failed: {}", second["sides"]);
    assert_eq!(second["failing"]["statuses"]["500"], Value::Null);
    assert_ne!(second["failing"]["last"]["status"], 500, "the last failure was of the first mystery");
    assert_eq!(second["others"], json!([]));
    let (before, now) = (pods(&first), pods(&second));
    assert!(!now.is_empty() && before.is_disjoint(&now), "{before:?} {now:?}");
    // an answer may be late on a busy machine, and then counts
    if second["sides"]["canary"]["failure"] == 0 {
        assert_eq!(second["rules"]["list"][0]["said"], Value::Null);
        let points = second["history"].as_array().expect("points");
        assert!(
            points.iter().all(|point| point[7].as_f64() < Some(1.0)),
            "evidence of the first: {points:?}"
        );
    }

    let bill = take(6)["rehearsal"]["text"].as_str().expect("a text").to_owned();
    let numbers: Vec<u64> =
        bill.split(|it: char| !it.is_ascii_digit()).filter_map(|it| it.parse().ok()).collect();
    let now = newest();
    assert!(
        matches!(numbers[..], [failed, of, ..] if failed <= now["sides"]["canary"]["slow"].as_u64().unwrap_or(0)
            && of <= of_canary(&now).0),
        "{bill}"
    );
    assert!(!now.to_string().contains("as good as stable"), "the truth is told last");
    take(7);
    let truth = "The truth: the canary is as good as stable. It never fails.";
    assert_eq!(take(8)["rehearsal"]["text"], truth);
    assert_eq!(take(9)["rehearsal"]["commands"], json!(["canary rehearse --mystery 4"]));
}

#[test]
fn a_pause_is_no_outage_and_none_goes_on_after_it() {
    let rehearsal = Serving::rehearse(&["--rate=5"]);
    let until = |what: &str, is_so: &dyn Fn(&Value) -> bool| {
        let mut found = None;
        eventually(what, || {
            let state = rehearsal.events("/v1/events").next().expect("a state");
            found = Some(state).filter(|state| is_so(state));
            found.is_some()
        });
        found.expect("a state")
    };
    let change = |body: &str| {
        assert_eq!(rehearsal.post("/v1/rehearsal", body).status, 200, "{body}");
    };
    for step in 1..=4 {
        assert_eq!(rehearsal.post("/v1/step", &format!("{{\"step\":{step}}}")).status, 200);
        until("the step ends", &|state| {
            state["rehearsal"]["number"] == step && state["rehearsal"]["under_way"] == false
        });
    }
    change("{\"conditions\":{\"share\":99}}"); // nearly all answers are the broken canary's
    let outage = until("an outage", &|state| state["outage"]["kind"] == "no_success")["outage"].clone();
    change("{\"paused\":true}");
    until("no banner in the pause", &|state| state["rehearsal"]["held"] == true && state["outage"].is_null());
    change("{\"paused\":false}");
    let again =
        until("an outage", &|state| state["rehearsal"]["held"] == false && !state["outage"].is_null());
    let since = |outage: &Value| outage["since"].as_str().map(str::to_owned);
    assert!(since(&again["outage"]) > since(&outage), "it begins after the pause: {outage} {again}");
}

#[test]
fn the_terminal_does_not_tell_the_verdict_either_while_the_judge_is_hidden() {
    let flags = ["rehearse", "--page=127.0.0.1:0", "--listen=127.0.0.1:0", "--mystery", "14", "--rate=100"];
    let mut child = start(&flags);
    let messages = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut lines = messages.lines().map_while(Result::ok);
    let told = lines.next().expect("the address");
    let address = told.split(" on http://").nth(1).and_then(|it| it.split(',').next()).expect("the address");
    let rehearsal = Serving { child, address: address.parse().expect("an address") };
    let until_decided = || {
        eventually("a decision", || {
            let state = rehearsal.events("/v1/events").next().expect("a state");
            ["roll_back", "hold", "promote"].iter().any(|decided| state["standing"] == *decided)
        });
    };
    assert_eq!(rehearsal.post("/v1/step", "{\"step\":1}").status, 200);
    until_decided();
    // the message of that moment would have been written before this one
    assert_eq!(rehearsal.post("/v1/reset", "{}").status, 200);
    let before: Vec<_> = lines.by_ref().take_while(|line| !line.contains("begins anew")).collect();
    assert!(!before.iter().any(|line| line.starts_with("canary: trial ")), "{before:#?}");
    until_decided();
    assert_eq!(rehearsal.post("/v1/rehearsal", "{\"curtain\":false}").status, 200);
    assert!(lines.any(|line| line.starts_with("canary: trial 5c8d7b6f9: ")), "the verdict");
}

#[test]
fn the_next_key_goes_through_the_steps() {
    let script = format!(
        "echo before; {} rehearse --listen 127.0.0.1:0; echo after $?; exec sleep 600",
        env!("CARGO_BIN_EXE_canary")
    );
    let Some(terminal) = Terminal::open(80, 24, &script) else { return };
    for (title, next, seen) in [
        ("step 1 of 11: Deploy", "n: Scale", "pods: 1"),
        ("step 2 of 11: Scale", "n: Change a label", "pods: 3"),
        ("step 3 of 11: Change a label", "n: Deploy the broken canary", "*newlabel=realtime"),
        ("step 4 of 11: Deploy the broken canary", "n: Roll back", "Roll back: "),
    ] {
        terminal.until_shows(title);
        terminal.until_shows(next);
        let screen = terminal.until_shows(seen);
        assert!(screen.iter().any(|line| line.starts_with("$ kubectl ")), "{screen:?}");
        terminal.keys("n");
    }
    for (title, next) in [
        ("step 5 of 11: Roll back", "n: Deploy the fixed canary"),
        ("step 6 of 11: Deploy the fixed canary", "n: Make some requests fail"),
        ("step 7 of 11: Make some requests fail", "n: End the fault"),
    ] {
        terminal.until_shows(title);
        terminal.until_shows(next);
        terminal.keys("n");
    }
    terminal.until_shows("$ kubectl label pods -l canary=fixed fault-percent-");
    terminal.until_shows("n: Follow the evidence");
    terminal.keys("n");
    terminal.until_shows("step 9 of 11: Follow the evidence");
    terminal.until_shows("$ follow fixed # a loop in docs/gateway.md");
    terminal.until_shows("n: Promote it");
    terminal.until("more than the first 1 %", |screen| {
        let share = |line: &String| line.contains("the canary now gets ") && !line.contains(" gets 1 % of ");
        screen.iter().any(share) // not each per cent is a step
    });
    terminal.keys("n");
    terminal.until_shows("step 10 of 11: Promote it");
    terminal.until_shows("n: Clean up the canary");
    terminal.keys("q");
    let screen = terminal.until_shows("after 0");
    let shown: Vec<_> = screen.iter().map(String::as_str).filter(|line| !line.is_empty()).collect();
    assert_eq!(shown, ["before", "after 0"]);
    terminal.assert_restored();
}
