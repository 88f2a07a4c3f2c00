//! Outcomes that are compared within their path, from outside: lines, probes, records, and a server.

mod common;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Write as _},
    net::{Ipv4Addr, TcpListener},
    thread,
};

use common::{json_lines, run, run_with_input, serving::Serving};
use fastrand::Rng;
use rustix::process::Signal;
use serde_json::Value;
use testkit::eventually;

/// Lines of random outcomes. `of` says the path, the canary's share of it, and the failure rates of stable and the canary.
fn lines(requests: usize, of: impl Fn(&mut Rng) -> (&'static str, f64, [f64; 2])) -> String {
    let (mut rng, mut lines) = (Rng::with_seed(4), String::new());
    for _ in 0..requests {
        let (path, share, rates) = of(&mut rng);
        let is_canary = rng.f64() < share;
        let release = if is_canary { "canary" } else { "stable" };
        let failed = rng.f64() < rates[usize::from(is_canary)];
        let line = format!(
            r#"{{"release":"{release}","failed":{failed},"request":{{"path":1}},"path":"{path}","method":"GET"}}"#
        );
        writeln!(lines, "{line}").expect("a string");
    }
    lines
}

fn judged(input: &str, arguments: &[&str]) -> (i32, String) {
    let (code, output, messages) =
        run_with_input(&[&["judge", "--input=-"], arguments].concat(), input.as_bytes());
    assert_eq!(messages, "", "{output}");
    (code.expect("an exit code"), output)
}

#[test]
fn a_canary_whose_clients_use_the_bad_path_more_is_not_rolled_back_if_paths_are_compared() {
    let lines =
        lines(8_000, |rng| if rng.f64() < 0.2 { ("/bad", 0.5, [0.1; 2]) } else { ("/", 0.2, [0.001; 2]) });
    assert_eq!(judged(&lines, &[]).0, 1);
    let (code, sentences) = judged(&lines, &["--by=path"]);
    assert_ne!(code, 1, "{sentences}");
    assert!(!sentences.contains("worse than stable on"), "{sentences}");
}

#[test]
fn the_path_on_which_the_canary_is_worse_is_named() {
    let paths = ["/", "/cart", "/checkout", "/search"];
    let lines = lines(2_000, |rng| {
        let path = paths[rng.usize(..4)];
        (path, 0.25, [0.0, if path == "/checkout" { 1.0 } else { 0.0 }])
    });
    for (by, name) in [(&["--by=path"][..], "/checkout"), (&["--by=method", "--by=path"], "GET /checkout")] {
        let (code, sentences) = judged(&lines, by);
        assert_eq!(code, 1);
        assert!(
            sentences
                .starts_with(&format!("Roll back: the canary is worse than stable on {name} (clear after ")),
            "{sentences}"
        );
        assert!(sentences.contains("Elsewhere they are alike: it has failed 0 of "), "{sentences}");
        let (code, json) = judged(&lines, &[by, &["--output=json"]].concat());
        assert_eq!(code, 1);
        let verdict = &json_lines(&json)[0]["verdict"];
        let strata = verdict["strata"].as_array().expect("the strata");
        let worse: Vec<_> =
            strata.iter().filter(|one| one["worse"] == true).map(|one| &one["name"]).collect();
        assert_eq!(worse, [name]);
        let sum: u64 = strata.iter().filter_map(|one| one["canary"]["answers"].as_u64()).sum();
        assert_eq!(Some(sum), verdict["canary"]["answers"].as_u64(), "{verdict}");
    }
    assert!(judged(&lines, &["--output=json"]).1.contains(r#""decision":"roll_back""#));
    assert!(!judged(&lines, &["--output=json"]).1.contains("strata"), "there are none without --by");
}

#[test]
fn a_promotion_names_the_path_that_it_does_not_cover_and_min_answers_makes_it_a_condition() {
    let mut lines = lines(4_000, |_| ("/", 0.25, [0.0; 2]));
    lines.insert_str(0, "{\"release\":\"stable\",\"failed\":false,\"path\":\"/checkout\"}\n");
    let (code, sentences) = judged(&lines, &["--by=path"]);
    assert_eq!(code, 0);
    assert!(
        sentences.contains(" It says nothing of /checkout, which the canary has not answered: "),
        "{sentences}"
    );
    let (code, sentences) = judged(&lines, &["--by=path", "--min-answers=10"]);
    assert_eq!(code, 2);
    assert!(sentences.contains(": 10 on /checkout are missing."), "{sentences}");
}

#[test]
fn counters_of_intervals_are_compared_within_their_path() {
    let line = |stable: (u32, u32), canary: (u32, u32), path: &str| {
        let counter = |(requests, failed)| format!(r#"{{"requests":{requests},"failed":{failed}}}"#);
        format!("{{\"stable\":{},\"canary\":{},\"path\":\"{path}\"}}\n", counter(stable), counter(canary))
    };
    let by_path = line((300, 0), (100, 0), "/") + &line((10, 1), (30, 3), "/bad");
    assert_eq!(judged(&line((310, 1), (130, 3), "all").repeat(40), &[]).0, 1);
    let (code, sentences) = judged(&by_path.repeat(40), &["--by=path", "--count=17600"]);
    assert_ne!(code, 1, "{sentences}");
    assert!(sentences.contains(" of 5,200 requests"), "{sentences}");
}

#[test]
fn what_divides_requests_goes_with_what_has_it() {
    for (arguments, text) in [
        (&["judge", "--by=path"][..], "required arguments"),
        (&["judge", "--min-answers=3"], "required arguments"),
        (&["judge", "--input=-", "--path=/a"], "cannot be used with"),
        (&["judge", "--prometheus=http://127.0.0.1:1", "--path=/a"], "cannot be used with"),
        (&["judge", "http://127.0.0.1:1/x", "--path=/a"], "--path cannot be used with a path in the URL"),
        (&["judge", "http://127.0.0.1:1", "--path=/a", "--path=/a:3"], "--path /a is given twice"),
    ] {
        let (code, _, messages) = run(arguments);
        assert_eq!(code, Some(3), "{arguments:?}: {messages}");
        assert!(messages.contains(text), "{arguments:?}: {messages}");
    }
    let line = "{\"release\":\"stable\",\"failed\":false,\"path\":[]}\n";
    let (code, _, messages) = run_with_input(&["judge", "--input=-", "--by=path"], line.as_bytes());
    assert_eq!(code, Some(3));
    assert!(messages.contains("line 1: ") && messages.contains("for the key \"path\" of --by"), "{messages}");
}

/// Who answers a request, and how.
struct Answer {
    release: &'static str,
    pod: &'static str,
    failed: bool,
}

/// A service with all its pods behind one address. `answer` says who answers a request for a path. Returns its URL.
fn service(answer: impl Fn(&mut Rng, &str) -> Answer + Send + 'static) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        let mut rng = Rng::with_seed(3);
        for client in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(client);
            let mut first = String::new();
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                if first.is_empty() {
                    first.clone_from(&line);
                }
                line.clear();
            }
            let Answer { release, pod, failed } =
                answer(&mut rng, first.split(' ').nth(1).unwrap_or_default());
            let status = if failed { "500 Oh" } else { "200 OK" };
            let answer = format!(
                "HTTP/1.1 {status}\r\nx-release: {release}\r\nx-served-by: {pod}\r\ncontent-length: 0\r\n\
                 connection: close\r\n\r\n"
            );
            let _ = reader.get_mut().write_all(answer.as_bytes()); // the client may have gone
        }
    });
    format!("http://{address}")
}

const STABLE: &str = "shop-567b989978-vvzlg";
const BROKEN: &str = "shop-canary-c66665c44-x2z4v";
const GOOD: &str = "shop-canary-744f96dc75-x2z4v";

/// A shop whose canary fails all requests for /checkout.
fn shop() -> String {
    service(|rng, path| {
        let (release, pod) = if rng.f64() < 0.4 { ("canary", BROKEN) } else { ("stable", STABLE) };
        Answer { release, pod, failed: pod == BROKEN && path == "/checkout" }
    })
}

/// A shop with two versions of the canary. Only the broken one answers /checkout, and fails it. Only the good one answers /cart.
fn shop_with_two_canaries() -> String {
    service(|rng, path| {
        let is_broken = path == "/checkout" || path == "/" && rng.bool();
        let canary = if is_broken { BROKEN } else { GOOD };
        let (release, pod) = if rng.bool() { ("canary", canary) } else { ("stable", STABLE) };
        Answer { release, pod, failed: pod == BROKEN && path == "/checkout" }
    })
}

#[test]
fn each_request_of_a_probe_has_one_of_the_paths_and_a_record_says_the_same_again() {
    let url = shop();
    let folder = tempfile::tempdir().expect("a folder");
    let record = folder.path().join("record.jsonl");
    let to_record = format!("--record={}", record.display());
    // with so small an α, each path was asked before the verdict
    let flags = [
        "judge",
        &url,
        "--path=/",
        "--path=/cart?id=S3CRET:2",
        "--path=/checkout",
        "--rate=200",
        "--alpha=1e-6",
        "--timeout=60s",
        &to_record,
    ];
    let (code, sentences, messages) = run(&flags);
    assert_eq!(code, Some(1), "{sentences}{messages}");
    assert!(
        // on /checkout, or on all paths together if chance has sent few requests there
        sentences.starts_with("Roll back: the canary is worse than stable "),
        "{sentences}"
    );
    assert!(!format!("{sentences}{messages}").contains("S3CRET"));

    let input = format!("--input={}", record.display());
    let (code, again, _) = run(&["judge", &input]);
    assert_eq!((code, &again), (Some(1), &sentences), "word for word");
    let (code, json, _) = run(&["judge", &input, "--output=json"]);
    assert_eq!(code, Some(1));
    let lines: Vec<Value> = json_lines(&json);
    let mut names: Vec<_> = lines[0]["verdict"]["strata"]
        .as_array()
        .expect("strata")
        .iter()
        .map(|one| one["name"].clone())
        .collect();
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, ["/", "/cart?id=***", "/checkout"]);
}

/// Of both releases in each stratum: answers and failures.
type ByName = BTreeMap<String, [(u64, u64); 2]>;

/// The strata of a verdict, or of a state of the page, whose sides are `sides`. Their sums are what is judged.
fn strata(of: &Value, sides: &Value) -> ByName {
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("a number: {of}"));
    let counts = |of: &Value| {
        ["stable", "canary"].map(|side| (number(&of[side]["answers"]), number(&of[side]["failures"])))
    };
    let all = of["strata"].as_array().unwrap_or_else(|| panic!("strata: {of}")).iter();
    let all: ByName =
        all.map(|one| (one["name"].as_str().expect("a name").to_owned(), counts(one))).collect();
    let sum = |side: usize| {
        all.values().fold((0, 0), |(answers, failures), one| (answers + one[side].0, failures + one[side].1))
    };
    assert_eq!([sum(0), sum(1)], counts(sides), "{of}");
    all
}

#[test]
fn a_server_keeps_the_paths_of_each_version_apart_and_over_a_restart() {
    let url = shop_with_two_canaries();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    let flags = [
        "--path=/",
        "--path=/cart?token=S3CRET",
        "--path=/checkout:2",
        "--max-failure-rate=5%",
        "--timeout=60s",
        &format!("--state={}", path.display()),
    ];
    let start = |rate: &str| Serving::start(&url, &[&flags[..], &[rate]].concat());
    let verdict =
        |serving: &Serving, version: &str| serving.get(&format!("/v1/verdict?version={version}")).json();
    let says = |verdict: &Value, text: &str| verdict["sentence"].as_str().expect("a text").contains(text);
    let [broken, good] = ["c66665c44", "744f96dc75"];

    let mut serving = start("--rate=200");
    let is_worse = "Roll back: the canary is worse than stable on /checkout (clear after ";
    eventually("the path is named", || says(&verdict(&serving, broken), is_worse));
    let is_not_covered = " It says nothing of /checkout, which the canary has not answered: ";
    eventually("what is not covered is named", || {
        let of_good = verdict(&serving, good);
        of_good["decision"] == "promote" && says(&of_good, is_not_covered)
    });
    let before = [broken, good].map(|version| verdict(&serving, version));
    let [of_broken, of_good] = before.each_ref().map(|verdict| strata(verdict, verdict));
    for (all, other) in [(&of_broken, "/cart?token=***"), (&of_good, "/checkout")] {
        assert_eq!(all.keys().collect::<Vec<_>>(), ["/", "/cart?token=***", "/checkout"]);
        let [stable, canary] = all[other];
        assert!(stable.0 > 0 && canary == (0, 0), "the other version's answers are not its own: {all:?}");
    }
    let [_, (answers, failures)] = of_broken["/checkout"];
    assert!(answers > 0 && failures == answers, "{of_broken:?}");
    let current = serving.get("/v1/verdict").json();
    assert_eq!((&current["trial"], &current["decision"]), (&broken.into(), &"roll_back".into()));

    for (version, decision) in [(broken, "roll_back"), (good, "promote")] {
        let state = serving.events(&format!("/v1/events?version={version}")).next().expect("a state");
        assert_eq!(state["decision"], decision);
        assert_eq!(strata(&state, &state["judged"]).len(), 3);
    }
    let metrics = serving.get("/metrics").body;
    assert!(metrics.contains("canary_decision{decision=\"roll_back\"} 1"), "{metrics}");
    assert!(!metrics.contains("checkout") && !metrics.contains("cart"), "paths add no series: {metrics}");

    serving.signal(Signal::TERM);
    assert_eq!(serving.end(), Some(0));
    assert!(!String::from_utf8_lossy(&fs::read(&path).expect("a file")).contains("S3CRET"));
    let serving = start("--rate=0.01");
    for (version, before) in [broken, good].into_iter().zip(before) {
        let after = verdict(&serving, version);
        assert_eq!(after["decision"], before["decision"], "{after}");
        assert_eq!(after["clear_after"], before["clear_after"], "the same answers have decided");
        let [was, is] = [&before, &after].map(|verdict| strata(verdict, verdict));
        assert_eq!(was.keys().collect::<Vec<_>>(), is.keys().collect::<Vec<_>>());
        for (name, was) in &was {
            let kept = was.iter().zip(is[name]).all(|(was, is)| is.0 >= was.0 && is.1 >= was.1);
            assert!(kept, "{name}: {was:?}, {is:?}");
        }
        let sides = [&after, &after["waiting"]];
        let of =
            |side: &str| sides.map(|of| of[side]["answers"].as_u64().expect("a number")).iter().sum::<u64>();
        let unattributed = sides.map(|of| of["unattributed"].as_u64().expect("a number")).iter().sum::<u64>();
        assert_eq!(after["requests"].as_u64(), Some(of("stable") + of("canary") + unattributed), "{after}");
    }
    assert!(says(&verdict(&serving, broken), is_worse));
    assert!(says(&verdict(&serving, good), is_not_covered));
}
