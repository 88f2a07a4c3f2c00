//! `canary serve`, as a process, against real appinfo servers.

mod common;

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use common::{
    Fleet, Version, run,
    serving::{PATIENT, Serving},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{eventually, free_port, http::get};

const FAST: &str = "--rate=200";

fn decision(serving: &Serving, path: &str) -> String {
    serving.get(path).json()["decision"].as_str().expect("a decision").to_owned()
}

#[test]
fn the_verdict_is_served_as_json_from_the_start() {
    let mut fleet = Fleet::new();
    let serving = Serving::start(&fleet.url(), &[FAST, PATIENT]);
    let first = serving.get("/v1/verdict");
    assert_eq!((first.status, first.header("content-type")), (200, Some("application/json")), "{first:?}");
    assert_eq!(first.json()["decision"], "not_yet");
    assert_eq!(first.json()["trial"], "no-canary-yet");
    assert_eq!(first.json()["sentence"].as_str().map(|text| &text[..7]), Some("Not yet"));
    assert_eq!(first.json()["price"], Value::Null);

    for number in 1..=3 {
        fleet.add(&format!("appinfo-{number}"), "release=\"stable\"", Version::Baseline);
    }
    fleet.add("appinfo-canary-broken-c66665c44-x2z4v", "release=\"canary\"", Version::Broken);
    eventually("a roll-back", || decision(&serving, "/v1/verdict") == "roll_back");
    let verdict = serving.get("/v1/verdict").json();
    assert_eq!(verdict["trial"], "c66665c44");
    assert!(verdict["sentence"].as_str().expect("a text").starts_with("Roll back: the canary is worse"));
    assert!(verdict["price_sentence"].as_str().expect("a text").starts_with("The canary has cost about"));
    let (canary, stable) = (&verdict["canary"], &verdict["stable"]);
    assert_eq!(canary["failures"], canary["answers"]);
    assert_eq!((&stable["failures"], &verdict["unattributed"]), (&json!(0), &json!(0)));
    for side in [canary, stable] {
        assert!(side["lower"].as_f64() < side["upper"].as_f64(), "{side}");
    }
    assert!(canary["lower"].as_f64() > Some(0.0), "{canary}");
    let counted = canary["answers"].as_u64().zip(stable["answers"].as_u64()).map(|(one, other)| one + other);
    assert!(counted.is_some() && verdict["requests"].as_u64() >= counted, "{verdict}");
    assert!(verdict["p_value"].as_f64() <= Some(0.05), "{verdict}");
}

/// The paths of all keys in it.
fn keys(value: &Value) -> BTreeSet<String> {
    let Value::Object(object) = value else { return BTreeSet::new() };
    let below = |(key, value): (&String, &Value)| {
        keys(value).into_iter().map(|below| format!("{key}.{below}")).chain([key.clone()]).collect::<Vec<_>>()
    };
    object.iter().flat_map(below).collect()
}

#[test]
fn the_sample_of_a_verdict_in_the_documents_has_the_keys_of_a_real_one() {
    let document = include_str!("../../docs/serve.md");
    let (_, after) = document.split_once("/v1/verdict | jq\n").expect("the command");
    let (sample, _) = after.split_once("```").expect("its end");
    let sample: Value = serde_json::from_str(sample).expect("JSON");
    let fleet = Fleet::with_canary(Version::Broken);
    let serving = Serving::start(&fleet.url(), &[FAST, PATIENT]);
    eventually("a roll-back", || decision(&serving, "/v1/verdict") == "roll_back");
    assert_eq!(keys(&sample), keys(&serving.get("/v1/verdict").json()));
    assert_eq!(sample["decision"], "roll_back");
}

#[test]
fn each_canary_has_its_own_trial_and_keeps_it_while_it_is_absent() {
    let mut fleet = Fleet::new();
    let serving = Serving::start(&fleet.url(), &["--rate=400", PATIENT]);
    fleet.add("appinfo-567b989978-vvzlg", "release=\"stable\"", Version::Baseline);
    fleet.add("appinfo-canary-broken-c66665c44-x2z4v", "release=\"canary\"", Version::Broken);
    eventually("a roll-back", || decision(&serving, "/v1/verdict") == "roll_back");
    let labels = "release=\"canary\"\npod-template-hash=\"744f96dc75\"";
    fleet.add("appinfo-canary-fixed-744f96dc75-x2z4v", labels, Version::WithNamespace);
    eventually("a promotion beside the broken canary", || {
        decision(&serving, "/v1/verdict?version=744f96dc75") == "promote"
    });
    let both = serving.get("/v1/verdict").json();
    assert_eq!((&both["trial"], &both["decision"]), (&json!("c66665c44"), &json!("roll_back")), "{both}");
    assert_eq!(both["others"], json!([{"trial": "744f96dc75", "decision": "promote"}]));
    assert!(both["sentence"].as_str().expect("a text").ends_with("at the same time: 744f96dc75 (promote)."));
    fleet.remove("appinfo-canary-broken-c66665c44-x2z4v");
    eventually("the fixed canary alone", || {
        let verdict = serving.get("/v1/verdict").json();
        verdict["trial"] == "744f96dc75" && verdict["decision"] == "promote" && verdict["others"] == json!([])
    });
    assert_eq!(decision(&serving, "/v1/verdict?trial=c66665c44"), "roll_back");
    assert_eq!(serving.get("/v1/verdict?trial=744f96dc75").json()["canary"]["failures"], 0);
}

#[test]
fn a_callers_trial_begins_when_it_is_named_and_keeps_its_name() {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    let serving = Serving::start(&fleet.url(), &[FAST, PATIENT]);
    eventually("answers", || serving.get("/v1/verdict").json()["requests"].as_u64() > Some(20));
    let new = serving.get("/v1/verdict?trial=build%207&other=1").json();
    assert_eq!((&new["trial"], &new["requests"]), (&json!("build 7"), &json!(0)));
    eventually("a promotion", || decision(&serving, "/v1/verdict?trial=build+7") == "promote");
}

#[test]
fn sixty_four_trials_are_kept_and_the_next_one_is_refused() {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    let serving = Serving::start(&fleet.url(), &["--rate=50"]);
    eventually("a canary", || serving.get("/v1/verdict").json()["trial"] == "appinfo-canary");
    for number in 1..64 {
        assert_eq!(serving.get(&format!("/v1/verdict?trial={number}")).status, 200);
    }
    let refused = serving.get("/v1/verdict?trial=64");
    assert_eq!(refused.status, 429);
    assert_eq!(
        refused.json()["error"],
        "there are 64 trials, and all of them were asked for within the hour"
    );
    assert_eq!(serving.get("/v1/events?trial=64").status, 429);
    assert_eq!(serving.get("/v1/verdict?trial=63").status, 200);
}

#[test]
fn a_version_that_answers_finds_a_place_and_a_rollout_too_however_many_names_there_are() {
    let mut fleet = Fleet::with_canary(Version::WithNamespace);
    let serving = Serving::start(&fleet.url(), &[FAST, PATIENT]);
    eventually("a promotion", || decision(&serving, "/v1/verdict") == "promote");
    for number in 0..70 {
        serving.get(&format!("/v1/verdict?trial=x{number}"));
    }
    fleet.remove("appinfo-canary-1");
    fleet.add("appinfo-c66665c44-x2z4v", "release=\"canary\"", Version::Broken);
    eventually("the new version", || decision(&serving, "/v1/verdict") == "roll_back");
    let call = r#"{"name":"appinfo","namespace":"flag","checksum":"6669b9d759"}"#;
    assert_eq!(serving.post("/flagger/step", call).status, 200);
    let metrics = serving.get("/metrics").body;
    let value =
        |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    assert_eq!(value("canary_trials_refused_total "), Some(7), "{metrics}");
    assert_eq!(value("canary_trials_replaced_total "), Some(2), "{metrics}");
}

#[test]
fn pods_with_names_of_any_form_are_one_canary() {
    let mut fleet = Fleet::with_canary(Version::Broken);
    let serving = Serving::start(&fleet.url(), &[FAST, PATIENT]);
    for name in ["3f4e9c8ab1d2", "10.0.0.5:8080", "cache-lhr6316-LHR", "550e8400-e29b-41d4-a716-446655440000"]
    {
        fleet.add(name, "release=\"canary\"", Version::Broken);
    }
    eventually("a roll-back", || decision(&serving, "/v1/verdict") == "roll_back");
    assert!(serving.get("/metrics").body.contains("\ncanary_trials 1\n"));
}

#[test]
fn bad_requests_get_an_error_with_the_reason() {
    let serving = Serving::start(&Fleet::new().url(), &["--rate=1"]);
    let error = |answer: testkit::http::Answer| {
        let text = answer.json()["error"].as_str().expect("an error").to_owned();
        (answer.status, text)
    };
    for (path, status, text) in [
        ("/v1/verdict?trial=", 400, "the trial's name is empty"),
        ("/v1/verdict?trial=a&trial=b", 400, "trial occurs twice: want one name"),
        ("/v1/verdict?trial=a&version=b", 400, "want a trial or a version, not both"),
        ("/v1/verdict?trial=a%E2%80%AEb", 400, "the trial's name has invisible characters"),
        ("/v1/verdict?trial=%00", 400, "the trial's name has control characters"),
        ("/v2", 404, "not found"),
        ("/v1/reset", 405, "method not allowed"),
        ("/flagger/rollback", 405, "method not allowed"),
    ] {
        assert_eq!(error(serving.get(path)), (status, text.to_owned()), "{path}");
    }
    let long = error(serving.get(&format!("/v1/verdict?trial={}", "a".repeat(401))));
    assert_eq!(long, (400, "the trial's name has 401 bytes: want at most 400".to_owned()));
    for (path, body, status, text) in [
        ("/v1/reset", "{", 400, "the body: EOF while parsing an object at line 1 column 1"),
        ("/v1/reset", r#"{"trial":"a"}"#, 404, "there is no trial \"a\""),
        ("/v1/reset", r#"{"namespace":"a","name":"b"}"#, 404, "there is no trial \"flagger/a/b\""),
        ("/v1/reset", r#"{"name":"b"}"#, 400, "want a trial, or a namespace and a name, or {}"),
        ("/v1/reset", r#" ["a"]"#, 400, "the body: want an object, not a list"),
        ("/flagger/rollback", r#"["appinfo","default","abc"]"#, 400, "the body: want an object, not a list"),
        ("/v1/verdict", "{}", 405, "method not allowed"),
        ("/", "{}", 405, "method not allowed"),
        ("/flagger/rollback", "{}", 400, "the body: missing field `name` at line 1 column 2"),
    ] {
        assert_eq!(error(serving.post(path, body)), (status, text.to_owned()), "{path} {body}");
    }
    let (status, text) = error(serving.post("/v1/reset", r#"{"trail":"a"}"#));
    assert_eq!(status, 400);
    assert!(text.starts_with("the body: unknown field `trail`, expected one of "), "{text}");
    let (status, text) = error(serving.post("/v1/reset", &" ".repeat((64 << 10) + 1)));
    assert_eq!((status, text.as_str()), (413, "the body is longer than 65536 bytes"));
}

#[test]
fn an_event_shows_the_whole_state_and_several_come_in_a_second() {
    let fleet = Fleet::with_canary(Version::Broken);
    let serving = Serving::start(&fleet.url(), &["--rate=100", PATIENT]);
    eventually("a roll-back", || decision(&serving, "/v1/verdict") == "roll_back");
    let is_known = |state: &Value| !state["failing"]["last"].is_null();
    serving.events("/v1/events").find(is_known).expect("the last failure is known");
    let mut events = serving.events("/v1/events");
    let first = events.next().expect("a state at once");
    assert!(events.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", events.head);
    assert!(events.head.contains("content-type: text/event-stream\r\n"), "{}", events.head);
    assert!(events.head.contains("event: state\n"), "{}", events.head);
    assert!(events.head.contains("x-accel-buffering: no\r\n"), "{}", events.head);
    assert!(
        events.head.contains("event: rights\ndata: {\"step\":false,\"reset\":true}\n"),
        "{}",
        events.head
    );
    assert_eq!(first["trial"], "appinfo-canary");
    assert_eq!(first["title"], format!("{}/v1/appinfo", fleet.url()));
    assert_eq!(
        (&first["limit"], &first["alpha"], &first["paused"]),
        (&json!(0.01), &json!(0.05), &json!(false))
    );
    assert_eq!((&first["decision"], &first["rehearsal"]), (&json!("roll_back"), &Value::Null));
    let threshold = first["evidence"]["ln_threshold"].as_f64().expect("a number");
    assert!(
        (threshold - 20_f64.ln()).abs() < 1e-9 && first["evidence"]["ln_e_value"].as_f64() >= Some(threshold)
    );
    let canary = &first["sides"]["canary"];
    assert_eq!((&canary["success"], &canary["expected_share"]), (&json!(0), &json!(0.25)), "{canary}");
    assert!(canary["failure"].as_u64() > Some(3) && canary["p50_ms"].as_f64() > Some(0.0), "{canary}");
    let dots = first["dots"]["outcomes"].as_str().expect("dots");
    assert!(dots.contains('s') && dots.contains('C') && !dots.contains('c'), "{dots}");
    assert!(
        first["history"]
            .as_array()
            .expect("points")
            .iter()
            .all(|point| point.as_array().is_some_and(|it| it.len() == 9))
    );
    let pod = first["pods"].as_array().expect("pods").iter().find(|pod| pod["name"] == "appinfo-canary-1");
    let pod = pod.expect("the canary's");
    let (failing, last) = (&first["failing"]["statuses"], &first["failing"]["last"]);
    assert_eq!(
        (failing.as_object().map(serde_json::Map::len), failing["500"].as_u64() > Some(3)),
        (Some(1), true)
    );
    assert_eq!((&last["status"], &last["pod"]), (&json!(500), &json!("appinfo-canary-1")), "{last}");
    assert_eq!(
        (&last["release"], &last["body"]),
        (&json!("canary"), &json!("{\"error\":\"something went wrong\"}"))
    );
    let said = &first["rules"]["list"];
    assert!(
        said[0]["said"].as_f64().is_some_and(|seconds| Some(seconds) <= said[4]["said"].as_f64()),
        "{said}"
    );
    assert_eq!((&first["standing"], &first["outage"]), (&json!("roll_back"), &Value::Null));
    assert_eq!(
        (&pod["release"], &pod["present"], &pod["success"]),
        (&json!("canary"), &json!(true), &json!(0))
    );

    // by the server's clock: what it sends while this thread is not running arrives at once
    let seconds: Vec<_> = events.take(8).map(|state| state["seconds"].as_f64().expect("a number")).collect();
    assert!(seconds.windows(2).all(|pair| pair[0] < pair[1]), "each is newer: {seconds:?}");
    assert!(seconds[7] - seconds[0] >= 1.5, "at most four a second: {seconds:?}");
}

#[test]
fn labels_of_strangers_are_shown_escaped_and_cut() {
    let mut fleet = Fleet::new();
    let labels = format!("release=\"stable\"\nevil=\"\u{1b}[2J\u{202e}\"\nlong=\"{}\"", "a".repeat(40_000));
    fleet.add("appinfo-1", &labels, Version::Baseline);
    let serving = Serving::start(&fleet.url(), &[FAST, PATIENT]);
    let pod = |state: Value| Some(state["pods"].as_array()?.first()?["labels"].clone());
    let labels = serving.events("/v1/events").find_map(pod).expect("a pod");
    assert_eq!(labels["evil"], "\\u{1b}[2J\\u{202e}");
    assert_eq!(labels["long"], format!("{}…", "a".repeat(60)));
}

#[test]
fn a_share_that_is_given_is_the_expected_one() {
    let fleet = Fleet::with_canary(Version::Baseline);
    let serving = Serving::start(&fleet.url(), &["--rate=10", "--share=1%"]);
    let state = serving.events("/v1/events").next().expect("a state");
    let expected = ["canary", "stable"].map(|side| state["sides"][side]["expected_share"].clone());
    assert_eq!((expected, &state["share_given"]), ([json!(0.01), json!(0.99)], &json!(true)));
}

#[test]
fn a_stream_follows_the_trial_that_it_names_or_the_current_one() {
    let mut fleet = Fleet::new();
    let serving = Serving::start(&fleet.url(), &[FAST, PATIENT]);
    let mut current = serving.events("/v1/events");
    assert_eq!(current.next().expect("a state")["trial"], "no-canary-yet");
    let mut named = serving.events("/v1/events?trial=mine");
    assert_eq!(named.next().expect("a state")["trial"], "mine");
    fleet.add("appinfo-1", "release=\"stable\"", Version::Baseline);
    fleet.add("appinfo-canary-1", "release=\"canary\"", Version::Baseline);
    assert!(current.any(|state| state["trial"] == "appinfo-canary" && state["requests"].as_u64() > Some(10)));
    assert!(named.any(|state| {
        assert_eq!(state["trial"], "mine");
        state["sides"]["canary"]["success"].as_u64() > Some(10)
    }));
}

#[test]
fn a_viewer_who_is_slow_gets_the_newest_state() {
    const MISSED: usize = 40;
    let mut fleet = Fleet::new();
    let serving = Serving::start(&fleet.url(), &["--rate=100"]);
    // each state has 40 kilobytes, so the buffers on the way hold few
    let labels: Vec<_> = (0..12).map(|n| format!("label-{n}=\"{}\"\n", "a".repeat(60))).collect();
    let labels = labels.concat();
    for number in 0..50 {
        fleet.add(&format!("appinfo-{number}"), &format!("release=\"stable\"\n{labels}"), Version::Baseline);
    }
    eventually("the labels are seen", || {
        serving.events("/v1/events").next().is_some_and(|state| state.to_string().len() > 40_000)
    });
    let mut slow = serving.events_with_small_buffers("/v1/events");
    let requests = |state: Value| state["requests"].as_u64().expect("a number");
    requests(slow.next().expect("a state"));
    let seen_by_others = requests(serving.events("/v1/events").nth(MISSED).expect("a state"));
    let old = slow.take_while(|state| state["requests"].as_u64() < Some(seen_by_others)).count();
    assert!(old < MISSED / 4, "{old} of {MISSED} old states");
}

#[test]
fn at_most_256_viewers_are_served_and_the_next_one_gets_an_error() {
    let fleet = Fleet::with_canary(Version::Baseline);
    let serving = Serving::start(&fleet.url(), &["--rate=20"]);
    let mut viewers: Vec<_> = (0..256).map(|_| serving.events("/v1/events")).collect();
    for viewer in &mut viewers {
        viewer.next().expect("a state");
    }
    let refused = serving.get("/v1/events");
    assert_eq!((refused.status, refused.header("content-type")), (503, Some("application/json")));
    assert_eq!(refused.json()["error"], "there are 256 viewers, and no more are served");
    for viewer in &mut viewers {
        viewer.next().expect("one more state");
    }
    assert_eq!(serving.get("/v1/verdict").status, 200);
    assert_eq!(serving.get("/").status, 200);
    viewers.pop();
    eventually("there is a place again", || serving.get("/metrics").body.contains("\ncanary_viewers 255\n"));
    serving.events("/v1/events").next().expect("a state");
}

#[test]
fn other_hosts_and_other_origins_are_refused_on_every_path() {
    let fleet = Fleet::with_canary(Version::Baseline);
    let serving = Serving::start(&fleet.url(), &["--rate=1", "--allow-host=judge.example"]);
    let ask = |method: &str, path: &str, headers: &str| {
        serving.send(&format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n"))
    };
    for path in ["/", "/v1/verdict", "/v1/events", "/healthz", "/readyz", "/metrics", "/none"] {
        let refused = ask("GET", path, "host: evil.example\r\n");
        assert_eq!(refused.status, 421, "{path}");
        assert!(refused.json()["error"].as_str().expect("a text").contains("--allow-host evil.example"));
    }
    let json = "content-type: application/json\r\n";
    for path in ["/v1/reset", "/flagger/rollback"] {
        assert_eq!(ask("POST", path, &format!("host: evil.example\r\n{json}")).status, 421, "{path}");
        let evil = format!("host: 127.0.0.1\r\norigin: http://evil.example\r\n{json}");
        assert_eq!(ask("POST", path, &evil).status, 403, "{path}");
        assert_eq!(ask("POST", path, "host: 127.0.0.1\r\n").status, 415, "{path}");
    }
    for path in ["/v1/verdict?trial=1", "/v1/events"] {
        for site in ["cross-site", "same-site"] {
            let other = format!("host: 127.0.0.1\r\nsec-fetch-site: {site}\r\n");
            assert_eq!(ask("GET", path, &other).status, 403, "{path} {site}");
        }
    }
    assert_eq!(
        ask("GET", "/v1/verdict?trial=1", "host: localhost\r\nsec-fetch-site: same-origin\r\n").status,
        200
    );
    assert_eq!(ask("GET", "/v1/verdict", "host: Judge.example:8090\r\n").status, 200);
    assert_eq!(ask("GET", "/v1/verdict", "host: localhost\r\n").status, 200);
    assert_eq!(
        ask("POST", "/v1/reset", "host: judge.example\r\norigin: http://judge.example\r\n").status,
        200
    );
}

#[test]
fn the_page_may_not_be_framed_and_may_not_load_from_other_sites() {
    let serving = Serving::start(&Fleet::new().url(), &["--rate=1"]);
    let page = serving.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    for answer in [page, serving.get("/v1/verdict"), serving.get("/none")] {
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(
            policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

#[test]
fn a_reset_restarts_the_trial_and_warns_of_its_cost() {
    let mut fleet = Fleet::with_canary(Version::Broken);
    let serving = Serving::start(&fleet.url(), &[FAST, PATIENT]);
    eventually("a roll-back", || decision(&serving, "/v1/verdict") == "roll_back");
    fleet = Fleet::new(); // the service is gone: its answers would bring the roll-back back
    let reset = serving.post("/v1/reset", "{}");
    assert_eq!((reset.status, &reset.json()["trial"]), (200, &json!("appinfo-canary")), "{reset:?}");
    assert!(reset.json()["sentence"].as_str().expect("a text").contains("another chance to err"));
    drop(fleet);
}

#[test]
fn metrics_contain_counts_evidence_and_the_decision() {
    let fleet = Fleet::with_canary(Version::Broken);
    let serving = Serving::start(&fleet.url(), &[FAST, PATIENT]);
    let mut viewer = serving.events("/v1/events");
    viewer.next().expect("a state");
    let count = |body: &str, outcome: &str, release: &str| -> u64 {
        let name = format!("canary_requests_total{{outcome=\"{outcome}\",release=\"{release}\"}} ");
        body.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).expect("the metric")
    };
    let mut metrics = serving.get("/metrics");
    eventually("80 requests, of which each fourth is the canary's, and a roll-back", || {
        metrics = serving.get("/metrics");
        let (stable, canary) =
            (count(&metrics.body, "success", "stable"), count(&metrics.body, "failure", "canary"));
        let is_fourth = stable.abs_diff(3 * canary) <= 40; // some are under way
        // the judge waits for those that were sent before
        let is_decided = metrics.body.contains("\ncanary_decision{decision=\"roll_back\"} 1\n");
        stable + canary >= 80 && is_fourth && is_decided
    });
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4"));
    for line in [
        "canary_requests_total{outcome=\"slow\",release=\"canary\"} 0",
        "canary_requests_total{outcome=\"failure\",release=\"no_answer\"} 0",
        "canary_decision{decision=\"roll_back\"} 1",
        "canary_decision{decision=\"promote\"} 0",
        "canary_trials 1",
        "canary_trials_replaced_total 0",
        "canary_trials_refused_total 0",
        "canary_viewers 1",
    ] {
        assert!(metrics.body.lines().any(|it| it == line), "{line}\n{}", metrics.body);
    }
    let value = |name: &str| {
        let line = metrics.body.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse::<f64>().ok()).unwrap_or_else(|| panic!("{name}"))
    };
    assert!(value("canary_ln_e_value ") >= value("canary_ln_threshold "));
    assert!(value("canary_failure_rate_lower{release=\"canary\"}") > 0.1);
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs_f64();
    let began = value("canary_trial_began_timestamp_seconds ");
    let since = value("canary_counting_since_timestamp_seconds ");
    assert!(since <= began && began <= now && now - since < 600.0, "{since} {began} {now}");
    assert!((value("process_start_time_seconds ") - since).abs() < 1.0);
    let verdict = serving.get("/v1/verdict").json();
    let times = ["process_started", "counting_since", "trial_began"]
        .map(|key| verdict[key].as_str().expect("a time"));
    assert!(times.is_sorted() && times[0].ends_with('Z'), "{times:?}");
    drop(viewer);
    eventually("the viewer is gone", || serving.get("/metrics").body.contains("\ncanary_viewers 0\n"));
}

#[test]
fn after_sigterm_it_is_not_ready_still_answers_and_exits_with_0() {
    let fleet = Fleet::with_canary(Version::Baseline);
    let mut serving = Serving::start(&fleet.url(), &["--rate=20"]);
    assert_eq!((serving.get("/healthz").status, serving.get("/readyz").status), (200, 200));
    let mut events = serving.events("/v1/events");
    events.next().expect("a state");
    let mut kept = serving.connect();
    serving.signal(Signal::TERM);
    eventually("not ready", || serving.get("/readyz").status == 503);
    assert!(events.by_ref().take(100).count() < 100, "streams end");
    let request = format!("GET /v1/verdict HTTP/1.1\r\nhost: {}\r\n\r\n", serving.address);
    kept.write_all(request.as_bytes()).expect("still open");
    let mut answer = String::new();
    kept.read_to_string(&mut answer).expect("it is answered, and closed");
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("connection: close\r\n"),
        "{answer}"
    );
    assert_eq!(serving.get("/v1/events").status, 503);
    assert_eq!(serving.end(), Some(0));
}

#[test]
fn ctrl_c_ends_it_without_delay() {
    let mut serving = Serving::start(&Fleet::new().url(), &["--rate=1"]);
    let _idle = serving.connect();
    serving.signal(Signal::INT);
    assert_eq!(serving.end(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut serving = Serving::start(&Fleet::new().url(), &["--rate=1"]);
        serving.signal(Signal::TERM);
        eventually("it drains", || serving.get("/readyz").status == 503);
        serving.signal(signal);
        assert_eq!(serving.end(), Some(code));
    }
}

/// Waits at most five seconds. The kubelet waits one, on a machine with less to do. A silent connection stays for ten.
fn probe(address: SocketAddr, path: &str) -> io::Result<u16> {
    let patience = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData.into())
}

#[test]
fn with_512_silent_connections_clients_and_probes_are_answered_and_probes_at_once() {
    let admin = free_port();
    let admin_listen = format!("--admin-listen={admin}");
    let serving = Serving::start(&Fleet::new().url(), &["--rate=1", &admin_listen]);
    for round in 0..3 {
        let silent: Vec<_> = (0..600).map(|_| serving.connect()).collect();
        for path in ["/healthz", "/readyz"] {
            assert_eq!(probe(admin, path).expect("on time"), 200, "{path} in round {round}");
        }
        assert_eq!(serving.get("/healthz").status, 200, "a client waits until there is a place");
        thread::sleep(Duration::from_millis(1100)); // silent for longer than a second
        for number in 0..12 {
            let answer = probe(serving.address, "/healthz");
            assert_eq!(answer.expect("on time"), 200, "probe {number} on the port of clients");
        }
        drop(silent);
    }
}

#[test]
fn the_port_for_probes_has_their_paths_alone() {
    let admin = free_port();
    let admin_listen = format!("--admin-listen={admin}");
    let mut serving = Serving::start(&Fleet::new().url(), &["--rate=1", &admin_listen]);
    let status = |path: &str| get(admin, path).expect("an answer").status;
    assert_eq!(
        ["/healthz", "/readyz", "/metrics", "/", "/v1/verdict"].map(status),
        [200, 200, 200, 404, 404]
    );
    serving.signal(Signal::TERM);
    eventually("not ready", || status("/readyz") == 503);
    assert_eq!(status("/healthz"), 200, "it is alive until it has drained");
    assert_eq!(serving.end(), Some(0));
}

#[test]
fn idle_connections_leave_files_for_the_requests_of_the_prober() {
    let fleet = Fleet::with_canary(Version::Baseline);
    let serving = Serving::start_with_files(256, &fleet.url(), &["--rate=50"]);
    let idle: Vec<_> = (0..300).map(|_| serving.connect()).collect();
    let counted = || {
        let verdict = serving.get("/v1/verdict").json();
        (verdict["requests"].as_u64().expect("a count"), verdict["unattributed"].as_u64())
    };
    let (before, _) = counted();
    eventually("the prober goes on", || counted().0 > before + 50);
    let metrics = serving.get("/metrics").body;
    assert!(metrics.contains("\ncanary_unsent_total 0\n"), "{metrics}");
    drop(idle);
}

#[test]
fn a_record_can_be_judged_again() {
    let fleet = Fleet::with_canary(Version::Broken);
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("UTF-8");
    let mut serving = Serving::start(&fleet.url(), &[FAST, PATIENT, &format!("--record={path}")]);
    eventually("a roll-back", || decision(&serving, "/v1/verdict") == "roll_back");
    serving.signal(Signal::INT);
    assert_eq!(serving.end(), Some(0));
    let (code, output, messages) = run(&["judge", "--input", path]);
    assert_eq!(code, Some(1), "{output}{messages}");
}

#[test]
fn unusable_flags_and_ports_are_reported() {
    let (code, _, messages) = run(&["serve", "--allow-host=http://a"]);
    assert_eq!(code, Some(3));
    assert!(messages.contains("want a name alone, as in judge.example.com"), "{messages}");
    let serving = Serving::start(&Fleet::new().url(), &["--rate=1"]);
    let (code, _, messages) = run(&["serve", &format!("--listen={}", serving.address)]);
    assert_eq!(code, Some(6));
    assert!(messages.starts_with(&format!("canary: cannot listen on {}: ", serving.address)), "{messages}");
    assert!(messages.contains("; --listen 127.0.0.1:PORT sets another port"), "{messages}");
}

/// The processor time of a process: user and system time together.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(')').expect("the name ends");
    let ticks: Vec<u64> =
        fields.split_whitespace().skip(11).take(2).filter_map(|it| it.parse().ok()).collect();
    Duration::from_secs_f64(ticks.iter().sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// `cargo test --release -p canary --test serve a_hundred_viewers -- --ignored --nocapture`
#[test]
#[ignore = "takes two minutes, and is meant for a release build"]
fn a_hundred_viewers_cost_less_than_a_fifth_of_a_core() {
    const TIME: Duration = Duration::from_secs(10);
    const ROUNDS: usize = 5;
    let fleet = Fleet::with_canary(Version::WithNamespace);
    let serving = Serving::start(&fleet.url(), &["--rate=50"]);
    let cost = || {
        let before = processor_time(serving.child.id());
        thread::sleep(TIME);
        processor_time(serving.child.id()).saturating_sub(before).as_secs_f64() / TIME.as_secs_f64()
    };
    eventually("300 marks", || serving.get("/v1/verdict").json()["requests"].as_u64() > Some(300));
    let (mut alone, mut with_viewers) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(cost());
        let mut viewers: Vec<_> = (0..100).map(|_| serving.events("/v1/events")).collect();
        for viewer in &mut viewers {
            viewer.next().expect("a state");
        }
        let until = Instant::now() + TIME;
        let readers: Vec<_> = viewers
            .into_iter()
            .map(|viewer| thread::spawn(move || viewer.take_while(|_| Instant::now() < until).count()))
            .collect();
        with_viewers.push(cost());
        let states: usize = readers.into_iter().map(|reader| reader.join().expect("no panic")).sum();
        assert!(states > 100 * 30, "{states}: four a second");
    }
    println!(
        "of a core in each of {ROUNDS} rounds without a viewer {alone:.3?}, with 100 {with_viewers:.3?}"
    );
    let [alone, with_viewers] = [alone, with_viewers].map(median);
    println!(
        "medians: {:.1} % and {:.1} %, {:.2} times as much",
        100.0 * alone,
        100.0 * with_viewers,
        with_viewers / alone
    );
    assert!(with_viewers < 0.2, "{with_viewers}");
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
