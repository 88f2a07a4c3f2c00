//! The output of `canary --prometheus` on answers of a fake server.

mod common;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use canary::foreign;
use common::{json_lines, run, serving::Serving};
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{eventually, free_port};

/// The answers to the heads of requests: status and body; `None` for no answer. A body that begins with `HTTP/` is the
/// whole answer.
type Answers = Arc<dyn Fn(&str) -> Option<(u16, String)> + Send + Sync>;

/// A server that answers queries as the test defines, and records the requests' headers.
struct MadeUp {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl MadeUp {
    /// Answers by the request's first line.
    fn new(answers: impl Fn(&str) -> Option<(u16, String)> + Send + Sync + 'static) -> Self {
        Self::with_heads(move |head| answers(head.lines().next().expect("a line")))
    }

    /// Answers by the request's first line and its headers.
    fn with_heads(answers: impl Fn(&str) -> Option<(u16, String)> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let (answers, asked): (Answers, _) = (Arc::new(answers), Arc::new(Mutex::new(Vec::new())));
        let new = Self { url, asked: Arc::clone(&asked) };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (answers, asked) = (Arc::clone(&answers), Arc::clone(&asked));
                thread::spawn(move || answer(client, &answers, &asked));
            }
        });
        new
    }

    /// `canary judge` for five seconds, with more flags: exit code, standard output, standard error. A busy machine
    /// takes one or two of them for the first queries.
    fn judge(&self, flags: &[&str]) -> (Option<i32>, String, String) {
        let usual = ["judge", "--prometheus", &self.url, "--interval=200ms", "--for=5s"];
        run(&[&usual[..], flags].concat())
    }
}

fn answer(mut client: TcpStream, answers: &Answers, asked: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(client.try_clone().expect("a handle")).lines();
    while let Some(Ok(request)) = lines.next() {
        let mut head = vec![request.clone()];
        head.extend(lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()));
        let head = head.join("\n");
        asked.lock().expect("no panic").push(head.clone());
        let Some((status, body)) = answers(&head) else {
            // it never answers
            let _ = client.read_to_end(&mut Vec::new());
            return;
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} Made-up\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        let answer = if body.starts_with("HTTP/") { body } else { head + &body };
        if client.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

#[expect(clippy::unnecessary_wraps, reason = "as answers are given")]
fn success(kind: &str, result: &Value) -> Option<(u16, String)> {
    Some((200, json!({"status": "success", "data": {"resultType": kind, "result": result}}).to_string()))
}

fn time() -> Option<(u16, String)> {
    success("scalar", &json!([now(), now().to_string()]))
}

fn matrix(series: &Value) -> Option<(u16, String)> {
    success("matrix", series)
}

/// A series with a sample of each of the last seconds, which counts ten requests a second.
fn series(release: &str, more: &[(&str, &str)]) -> Value {
    let mut labels = json!({"instance": release, "job": "pods", "release": release});
    for (key, value) in more {
        labels[key] = json!(value);
    }
    let last = now().floor();
    let samples: Vec<_> = (0..100).map(|age| last - f64::from(100 - age)).collect();
    let values: Vec<_> = samples.iter().map(|at| json!([at, (at % 1e6 * 10.0).to_string()])).collect();
    json!({"metric": labels, "values": values})
}

/// Answers the queries for the time, for metadata, and for requests and failures of both releases.
fn usual(request: &str) -> Option<(u16, String)> {
    if request.contains("query=time") {
        time()
    } else if request.contains("metadata") {
        Some((200, json!({"status": "success", "data": {}}).to_string()))
    } else if request.contains("5..") {
        matrix(&json!([]))
    } else {
        let release = if request.contains("canary") { "canary" } else { "stable" };
        matrix(&json!([series(release, &[("status", "200")])]))
    }
}

#[test]
fn a_canary_without_failures_is_promoted() {
    let server = MadeUp::new(usual);
    let (code, said, told) = run(&[
        "judge",
        "--prometheus",
        &server.url,
        "--interval=300ms",
        "--for=90s",
        "--max-failure-rate=10%",
    ]);
    assert_eq!(code, Some(0), "{said}{told}");
}

/// The canary fails each request for /checkout.
#[test]
fn counters_are_compared_by_a_label() {
    let server = MadeUp::new(|request| {
        if !request.contains("query_range") && !request.contains("query=http_requests_total") {
            return usual(request);
        }
        let release = if request.contains("canary") { "canary" } else { "stable" };
        let is_of_failures = request.contains("5..");
        let paths = ["/", "/cart", "/checkout"].into_iter().filter_map(|path| {
            let fails = release == "canary" && path == "/checkout";
            let status = if fails { "500" } else { "200" };
            (fails || !is_of_failures).then(|| series(release, &[("status", status), ("path", path)]))
        });
        matrix(&paths.collect())
    });
    let flags = ["judge", "--prometheus", &server.url, "--interval=300ms", "--for=60s", "--by=path"];
    let (code, said, told) = run(&flags);
    assert_eq!(code, Some(1), "{said}{told}");
    assert!(
        said.starts_with("Roll back: the canary is worse than stable on /checkout (clear after "),
        "{said}"
    );
    assert!(said.contains("Elsewhere they are alike: it has failed 0 of "), "{said}");
    for (flag, told) in [
        ("--by=tenant", "no series of http_requests_total"),
        ("--by=a-b", "--by \"a-b\": want the name of a label"),
    ] {
        let (_, _, messages) = server.judge(&[flag]);
        assert!(messages.contains(told), "{flag}: {messages}");
    }
}

/// The names of the strata of a verdict with the answers and failures of both releases. Checks that all names are bounded
/// and safe, and that the sums are what is judged.
fn strata(of: &Value, sides: &Value) -> Vec<(Option<String>, [u64; 4])> {
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("a number: {of}"));
    let counts = |of: &Value| {
        let [stable, canary] = [&of["stable"], &of["canary"]];
        [&stable["answers"], &stable["failures"], &canary["answers"], &canary["failures"]].map(number)
    };
    let mut sum = [0; 4];
    let mut all = Vec::new();
    for one in of["strata"].as_array().unwrap_or_else(|| panic!("strata: {of}")) {
        let name = one["name"].as_str().map(str::to_owned);
        let is_shown = |name: &String| name.len() <= foreign::STRATUM && name.chars().all(foreign::is_safe);
        assert!(name.as_ref().is_none_or(is_shown), "{name:?}");
        let counts = counts(one);
        sum.iter_mut().zip(counts).for_each(|(sum, part)| *sum += part);
        all.push((name, counts));
    }
    assert_eq!(sum, counts(sides), "{of}");
    all
}

/// The canary fails each request for a path whose name a terminal would obey, and more.
#[test]
fn a_server_shows_hostile_values_of_a_label_safely_and_keeps_all_counts_over_a_restart() {
    const HOSTILE: &str = "/\u{1b}[2J\u{202e}<script>";
    let clock = Arc::new(Mutex::new(None));
    let of_server = Arc::clone(&clock);
    let server = MadeUp::new(move |request| {
        let now = of_server.lock().expect("no panic").unwrap_or_else(now);
        if request.contains("query=time") {
            return success("scalar", &json!([now, now.to_string()]));
        }
        if !request.contains("query_range") && !request.contains("query=http_requests_total") {
            return usual(request);
        }
        let release = if request.contains("canary") { "canary" } else { "stable" };
        let is_of_failures = request.contains("5..");
        let more = [HOSTILE.to_owned(), String::new(), "x".repeat(5000), "\"\\\n\u{0}".to_owned()];
        let paths = more.into_iter().chain((0..70).map(|number| format!("/x{number}")));
        let series = paths.filter_map(|path| {
            let fails = release == "canary" && path == HOSTILE;
            let mut labels = json!({"instance": release, "job": "pods", "release": release, "path": path});
            labels["status"] = json!(if fails { "500" } else { "200" });
            if release == "canary" {
                labels["pod_template_hash"] = json!("c66665c44");
            }
            let times = (1..=20).map(|age| now.floor() - f64::from(20 - age));
            let values: Vec<_> = times.map(|at| json!([at, (at % 1e6 * 10.0).to_string()])).collect();
            (fails || !is_of_failures).then(|| json!({"metric": labels, "values": values}))
        });
        matrix(&series.collect())
    });
    let folder = tempfile::tempdir().expect("a folder");
    let state = format!("--state={}", folder.path().join("state").display());
    let prometheus = format!("--prometheus={}", server.url);
    let start = || {
        let flags = ["serve", &prometheus, "--listen=127.0.0.1:0", "--interval=200ms", "--by=path", &state];
        Serving::of(common::start(&flags))
    };
    let asked =
        || server.asked.lock().expect("no panic").iter().filter(|it| it.contains("query=time")).count();

    let mut serving = start();
    let verdict = |serving: &Serving| serving.get("/v1/verdict?version=c66665c44").json();
    eventually("a roll-back", || verdict(&serving)["decision"] == "roll_back");
    *clock.lock().expect("no panic") = Some(now());
    let rounds = asked();
    eventually("all is counted", || asked() >= rounds + 3);
    let before = verdict(&serving);
    let sentence = before["sentence"].as_str().expect("a text");
    let is_worse = "Roll back: the canary is worse than stable on /\\u{1b}[2J\\u{202e}<script> (clear after ";
    assert!(sentence.starts_with(is_worse), "{sentence}");
    assert!(sentence.chars().all(foreign::is_safe), "{sentence}");
    let all = strata(&before, &before);
    assert_eq!(all.len(), 65);
    assert_eq!(all.iter().filter(|(name, _)| name.is_none()).count(), 1, "the rest together");
    for name in ["/\\u{1b}[2J\\u{202e}<script>", "(none)", "\"\\\\n\\u{0}"] {
        assert!(all.iter().any(|(known, _)| known.as_deref() == Some(name)), "{name}: {all:?}");
    }
    let page = serving.events("/v1/events?version=c66665c44").next().expect("a state");
    assert_eq!(strata(&page, &page["judged"]), all);
    let metrics = serving.get("/metrics").body;
    assert!(!metrics.contains("script") && metrics.len() < 10_000, "paths add no series: {metrics}");
    let sum = |release: &str| -> f64 {
        let of = format!("canary_requests_total{{outcome=\"{{}}\",release=\"{release}\"}} ");
        let counts = ["failure", "slow", "success"].map(|outcome| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(&of.replace("{}", outcome)));
            line.and_then(|value| value.parse::<f64>().ok()).expect("a counter")
        });
        counts.iter().sum()
    };
    // the trial of a version begins with its first answers
    let since_the_start = serving.get("/v1/verdict?trial=no-canary-yet").json();
    strata(&since_the_start, &since_the_start);
    for release in ["stable", "canary"] {
        assert_eq!(
            Some(sum(release)),
            since_the_start[release]["answers"].as_f64(),
            "of {release}: {metrics}"
        );
    }

    serving.signal(Signal::TERM);
    assert_eq!(serving.end(), Some(0));
    let serving = start();
    let rounds = asked();
    eventually("nothing is counted twice", || asked() >= rounds + 3);
    let after = verdict(&serving);
    assert_eq!(strata(&after, &after), all);
    for key in ["decision", "clear_after", "requests", "canary", "stable", "trial_began"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    assert!(after["sentence"].as_str().is_some_and(|said| said.starts_with(is_worse)), "{after}");
    *clock.lock().expect("no panic") = None;
    eventually("it goes on", || {
        let on = verdict(&serving);
        strata(&on, &on).len() == 65 && on["requests"].as_u64() > after["requests"].as_u64()
    });
}

#[test]
fn a_refused_query_is_reported_once_with_its_error_and_retried() {
    let refused = json!({"status": "error", "errorType": "execution", "error": "too many samples"});
    let refused = refused.to_string();
    let server =
        MadeUp::new(
            move |request| {
                if request.contains("query=time") { time() } else { Some((422, refused.clone())) }
            },
        );
    let (code, said, told) = server.judge(&[]);
    assert_eq!(code, Some(5), "{said}{told}");
    assert_eq!(told.matches("too many samples (HTTP 422").count(), 1, "{told}");
    assert!(server.asked.lock().expect("no panic").len() > 4, "it goes on to ask");
}

#[test]
fn a_refused_connection_is_reported_and_exits_with_4() {
    let url = format!("http://{}", free_port());
    let (code, said, told) = run(&["judge", "--prometheus", &url, "--interval=200ms", "--for=5s"]);
    assert_eq!(code, Some(4), "{said}{told}");
    let says = format!(
        "Prometheus does not answer: connection refused by {url}: does it run, and is that its port?"
    );
    assert!(told.contains(&says), "{told}");
    assert_eq!(said, "", "there is nothing to say");
}

#[test]
fn a_server_that_never_answers_is_waited_for() {
    let server = MadeUp::new(|_| None);
    let (code, said, told) = server.judge(&[]);
    assert_eq!(code, Some(4), "{said}{told}");
    assert!(told.contains("Prometheus does not answer"), "{told}");
}

#[test]
fn a_server_that_is_not_prometheus_is_reported() {
    for (status, says) in [
        (200, "this is not a Prometheus server"),
        (404, "HTTP 404 Not Found, at http://127.0.0.1:"),
        (503, "HTTP 503"),
        (401, "HTTP 401"),
    ] {
        let server = MadeUp::new(move |_| Some((status, "<html>".to_owned())));
        let (_, said, told) = server.judge(&[]);
        assert!(told.contains(says), "{status}: {said}{told}");
    }
}

#[test]
fn a_release_without_samples_is_named_and_gets_no_verdict() {
    let server =
        MadeUp::new(|request| if request.contains("canary") { matrix(&json!([])) } else { usual(request) });
    let (code, said, told) = server.judge(&[]);
    assert_eq!(code, Some(5), "{said}{told}");
    let missing = "Prometheus has no samples of http_requests_total{app=\"appinfo\",path=\"/v1/appinfo\",\
                   method=~\"GET|HEAD\",release=\"canary\"}";
    assert_eq!(told.matches(missing).count(), 1, "{told}");
    assert!(told.contains("named the release canary"), "{told}");
}

/// Both releases are counted at one address, as a gateway counts them.
#[test]
fn episodes_need_the_counters_of_each_pod() {
    let gateway = |request: &str| {
        let is_of_requests = !["query=time", "metadata", "5.."].iter().any(|it| request.contains(it));
        let release = if request.contains("canary") { "canary" } else { "stable" };
        let counted = [("status", "200"), ("instance", "gateway:8080")];
        if is_of_requests { matrix(&json!([series(release, &counted)])) } else { usual(request) }
    };
    let server = MadeUp::new(gateway);
    let (code, said, told) = server.judge(&["--episodes=2s"]);
    assert_eq!(code, Some(5), "nothing counts: {said}{told}");
    let why = "--episodes needs the counters of each pod, but gateway:8080 counts the requests of both releases, as a gateway does";
    assert_eq!(told.matches(why).count(), 1, "{told}");
    for (_, said, told) in [server.judge(&[]), MadeUp::new(usual).judge(&["--episodes=2s"])] {
        assert!(
            !told.contains("--episodes needs"),
            "without it, and with an address of each pod: {said}{told}"
        );
    }
}

#[test]
fn a_failure_label_that_no_series_has_gives_no_verdict() {
    let server = MadeUp::new(usual);
    let (code, said, told) = server.judge(&["--failed", "code=~\"5..\""]);
    assert_eq!(code, Some(5), "{said}{told}");
    assert!(told.contains("has the label code, which --failed uses"), "{told}");
}

#[test]
fn a_missing_bucket_gives_no_verdict() {
    let server =
        MadeUp::new(|request| if request.contains("_bucket") { matrix(&json!([])) } else { usual(request) });
    let (code, said, told) = server.judge(&["--slow", "a_bucket{le=\"0.3\"}"]);
    assert_eq!(code, Some(5), "{said}{told}");
    assert!(told.contains("le=\"0.3\"}: is there such a bucket?"), "{told}");
}

#[test]
fn a_missing_histogram_and_a_tolerance_without_one_give_no_verdict() {
    let server =
        MadeUp::new(|request| if request.contains("_bucket") { matrix(&json!([])) } else { usual(request) });
    let (code, said, told) = server.judge(&["--latency-metric=seconds"]);
    assert_eq!(code, Some(5), "{said}{told}");
    assert!(told.contains("Prometheus has no samples of seconds_bucket{"), "{told}");
    let (code, _, told) = server.judge(&["--slower-by=20%"]);
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("with --prometheus, --slower-by needs --latency-metric"), "{told}");
}

/// Nine of ten answers of stable take at most 100 ms, and one of ten of the canary.
#[test]
fn a_histogram_shows_how_much_slower_a_canary_is_and_decides_only_with_a_tolerance() {
    let server = MadeUp::new(|request| {
        if !request.contains("ms_bucket") {
            return usual(request);
        }
        assert!(!request.contains("le%3D"), "all buckets: {request}");
        let (release, within) = if request.contains("canary") { ("canary", 0.1) } else { ("stable", 0.9) };
        let bucket = |le: &str, part: f64| {
            let mut bucket = series(release, &[("le", le)]);
            for sample in bucket["values"].as_array_mut().expect("samples") {
                let count: f64 = sample[1].as_str().and_then(|count| count.parse().ok()).expect("a number");
                sample[1] = json!((count * part).floor().to_string());
            }
            bucket
        };
        matrix(&json!([
            bucket("50", within / 2.0),
            bucket("100", within),
            bucket("250", 1.0),
            bucket("+Inf", 1.0)
        ]))
    });
    let judge = |flags: &[&str]| {
        let usual = ["judge", "--prometheus", &server.url, "--interval=300ms", "--for=90s"];
        let more = ["--max-failure-rate=10%", "--latency-metric=took_ms", "--output=json"];
        let (code, said, told) = run(&[&usual[..], &more, flags].concat());
        (code, json_lines(&said).pop().unwrap_or_default(), told)
    };
    let (code, summary, told) = judge(&["--slower-by=50%"]);
    assert_eq!(code, Some(1), "{summary}{told}");
    let latency = &summary["verdict"]["latency"];
    assert_eq!((&latency["decides"], &latency["rolled_back"]), (&true.into(), &true.into()), "{summary}");
    let slower = &latency["slower"];
    assert_eq!((&slower["threshold_ms"], &slower["canary_threshold_ms"]), (&50.0.into(), &100.0.into()));
    assert!((slower["canary_share"].as_f64().expect("a share") - 0.9).abs() < 0.02, "{slower}");
    assert!((slower["stable_share"].as_f64().expect("a share") - 0.55).abs() < 0.02, "{slower}");
    let (code, summary, told) = judge(&[]);
    assert_eq!(code, Some(0), "{summary}{told}");
    let said = summary["verdict_text"].as_str().expect("a text");
    assert!(said.contains(" Slower: ") && said.contains(" This decides nothing."), "{said}");
}

/// The releases are alike on each path, but the canary's clients use the slow one more.
#[test]
fn histograms_are_compared_within_a_path() {
    let server = MadeUp::new(|request| {
        if request.contains("query=time") || request.contains("metadata") || request.contains("5..") {
            return usual(request);
        }
        let (release, slow) = if request.contains("canary") { ("canary", 0.8) } else { ("stable", 0.1) };
        let counter = |labels: &[(&str, &str)], part: f64| {
            let mut counter = series(release, labels);
            for sample in counter["values"].as_array_mut().expect("samples") {
                let count: f64 = sample[1].as_str().and_then(|count| count.parse().ok()).expect("a number");
                sample[1] = json!((count * part).floor().to_string());
            }
            counter
        };
        let paths = [("/", 1.0 - slow, 1.0), ("/report", slow, 0.0)];
        let found: Vec<_> = if request.contains("ms_bucket") {
            let bounds = [("50", 0.0), ("250", 1.0), ("+Inf", 1.0)];
            let of = |(path, part, fast): (&'static str, f64, f64)| {
                bounds.map(|(le, all)| counter(&[("path", path), ("le", le)], part * fast.max(all)))
            };
            paths.into_iter().flat_map(of).collect()
        } else {
            paths.map(|(path, part, _)| counter(&[("status", "200"), ("path", path)], part)).into()
        };
        matrix(&json!(found))
    });
    let judge = |flags: &[&str]| {
        let usual = ["judge", "--prometheus", &server.url, "--interval=300ms", "--for=90s", "--output=json"];
        let more = ["--max-failure-rate=10%", "--latency-metric=took_ms", "--slower-by=0"];
        let (code, said, told) = run(&[&usual[..], &more, flags].concat());
        (code, json_lines(&said).pop().unwrap_or_default(), told)
    };
    let (code, summary, told) = judge(&[]);
    assert_eq!(code, Some(1), "{summary}{told}");
    let (code, summary, told) = judge(&["--by=path"]);
    assert_eq!(code, Some(0), "{summary}{told}");
    assert!(summary["verdict"]["latency"]["compared"].as_u64() > Some(0), "{summary}");
}

#[test]
fn a_wrong_type_is_named() {
    let server =
        MadeUp::new(
            |request| {
                if request.contains("query=time") { time() } else { success("vector", &json!([])) }
            },
        );
    assert!(server.judge(&[]).2.contains("with a vector, and a matrix is wanted"));

    let gauge = json!({"status": "success", "data": {"http_requests_total": [{"type": "gauge", "help": "", "unit": ""}]}});
    let gauge = gauge.to_string();
    let server =
        MadeUp::new(
            move |request| {
                if request.contains("metadata") { Some((200, gauge.clone())) } else { usual(request) }
            },
        );
    let (code, said, told) = server.judge(&[]);
    assert_eq!(code, Some(5), "{said}{told}");
    assert!(told.contains("http_requests_total is a gauge; it must be a counter"), "{told}");
}

#[test]
fn a_series_that_matches_both_releases_is_named() {
    let server = MadeUp::new(|request| {
        if request.contains("query=") && !request.contains("time%28") {
            matrix(&json!([series("both", &[("status", "200")])]))
        } else {
            usual(request)
        }
    });
    let (_, said, told) = server.judge(&[]);
    assert!(told.contains("both --stable and --canary match the series"), "{said}{told}");
}

#[test]
fn credentials_are_sent_and_never_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "hush\n").expect("a file");
    let secret = secret.to_str().expect("a name");
    for (flags, sent) in [
        (vec!["--bearer-token-file", secret], "authorization: Bearer hush"),
        (vec!["--user", "me", "--password-file", secret], "authorization: Basic bWU6aHVzaA=="),
        (vec!["--prometheus-header", "X-Scope-OrgID: hush"], "x-scope-orgid: hush"),
    ] {
        let server = MadeUp::new(usual);
        let (_, said, told) = server.judge(&flags);
        let asked = server.asked.lock().expect("no panic");
        assert!(asked.iter().all(|head| head.contains(sent)), "{asked:?}");
        assert!(asked.iter().any(|head| head.contains("/api/v1/metadata?metric=http_requests_total ")));
        assert!(!(said + &told).contains("hush"));
    }
}

#[test]
fn invalid_options_are_refused_before_the_first_query() {
    let server = MadeUp::new(usual);
    for (flags, says) in [
        (&["--stable", "release=stable"][..], "must be in quotes"),
        (&["--canary", "release=\"stable\""], "--stable and --canary are the same"),
        (&["--metric", "rate(a[1m])"], "is not the name of a metric"),
        (&["--slow", "a_bucket"], "want one bucket of a histogram"),
        (&["--bearer-token-file", "/nowhere"], "cannot read /nowhere"),
        (&["--rate", "5"], "cannot be used with"),
        (&["--timeout", "5s"], "cannot be used with"),
        (&["--max-latency", "5s"], "cannot be used with"),
        (&["--input", "-"], "cannot be used with"),
        (&["--canary-value", "x"], "cannot be used with"),
        (&["http://127.0.0.1:1"], "cannot be used with"),
        (&["--user", "me"], "--password-file"),
        (&["--prometheus-header", "hush"], "--prometheus-header number 1 has no colon"),
        (&["--prometheus-header", "Content-Length: hush"], "canary sets this header itself"),
        (
            &["--prometheus-header", "Authorization: hush", "--bearer-token-file", "/dev/null"],
            "the other credentials set this header",
        ),
    ] {
        let (code, _, told) = server.judge(flags);
        assert_eq!(code, Some(3), "{flags:?}: {told}");
        assert!(told.contains(says) && !told.contains("hush"), "{flags:?}: {told}");
    }
    for url in ["127.0.0.1:9090", "ftp://127.0.0.1", "http://me:hush@127.0.0.1:9090"] {
        let (code, _, told) = run(&["judge", "--prometheus", url]);
        assert!(code == Some(3) && !told.contains("hush"), "{told}");
    }
    assert_eq!(server.asked.lock().expect("no panic").len(), 0);
    let (code, _, told) = run(&["judge", "--stable", "a=\"b\""]);
    assert!(code == Some(3) && told.contains("--prometheus"), "{told}");
}

#[test]
fn watch_prints_counters_as_lines_of_json() {
    let server = MadeUp::new(usual);
    let began = Instant::now();
    let (code, said, told) =
        run(&["watch", "--prometheus", &server.url, "--interval=300ms", "--for=8s", "--output=json"]);
    let seconds = began.elapsed().as_secs();
    assert_eq!(code, Some(0), "{told}");
    let lines = json_lines(&said);
    let summary = lines.last().expect("a summary");
    let of = |release: &str| summary["releases"][release]["success"].as_u64().unwrap_or_default();
    assert!(of("stable") >= 10 && of("canary") >= 10, "{summary}");
    assert!(of("stable") <= 10 * (seconds + 2), "ten a second, nothing twice: {seconds} s, {summary}");
    let share = summary["price"]["budget_share"].as_f64();
    assert_eq!(share, Some(0.0), "the traffic is measured: {summary}");
}

/// Answers as [`usual`], but with other series for one release. `of` tells the values of its counter at a time.
fn with_series(
    of: impl Fn(&str) -> Option<serde_json::Value> + Send + Sync + 'static,
) -> impl Fn(&str) -> Option<(u16, String)> + Send + Sync + 'static {
    move |request| {
        let is_requests = request.contains("http_requests_total") && !request.contains("5..");
        let release = if request.contains("canary") { "canary" } else { "stable" };
        match of(release).filter(|_| is_requests && !request.contains("metadata")) {
            Some(series) => matrix(&series),
            None => usual(request),
        }
    }
}

#[test]
fn an_endless_answer_is_refused_in_little_memory() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"status\":\"success\",\"data\":\"");
                while client.write_all(&[b'x'; 1 << 13]).is_ok() {}
            });
        }
    });
    let mut judge = common::start(&["judge", "--prometheus", &url, "--for=60s"]);
    let told = BufReader::new(judge.stderr.take().expect("its messages"));
    let says = "Prometheus answers time() with more than 8 MiB: select fewer series with --metric";
    assert!(told.lines().map_while(Result::ok).any(|line| line.contains(says)));
    let status = std::fs::read_to_string(format!("/proc/{}/status", judge.id())).expect("its status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak of memory");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak < 100 << 10, "{peak} kB");
    judge.kill().and_then(|()| judge.wait()).expect("it ends");
}

#[test]
fn a_redirect_is_reported_without_its_secrets_and_not_followed() {
    let elsewhere = MadeUp::new(usual);
    let answer = format!(
        "HTTP/1.1 302 Found\r\nlocation: {}/login?token=S3CRET\r\ncontent-length: 0\r\n\r\n",
        elsewhere.url
    );
    let server = MadeUp::new(move |_| Some((302, answer.clone())));
    let (code, _, told) = server.judge(&[]);
    assert_eq!(code, Some(4), "{told}");
    let says = format!(
        "HTTP 302 Found, a redirect to {}/login?token=***, which canary does not follow",
        elsewhere.url
    );
    assert!(told.contains(&says), "{told}");
    assert_eq!(elsewhere.asked.lock().expect("no panic").len(), 0);
}

#[test]
fn no_proxy_of_the_environment_is_used() {
    let server = MadeUp::new(usual);
    let mut judge = common::canary(&["judge", "--prometheus", &server.url, "--interval=200ms", "--for=5s"]);
    for variable in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        judge.env(variable, "http://127.0.0.1:1");
    }
    let output = judge.env_remove("no_proxy").env_remove("NO_PROXY").output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!told.contains("does not answer"), "{told}");
    assert!(server.asked.lock().expect("no panic").len() > 4);
}

#[test]
fn a_gauge_is_found_behind_credentials_and_refused_metadata_are_reported() {
    let gauge =
        json!({"status": "success", "data": {"http_requests_total": [{"type": "gauge"}]}}).to_string();
    let server = MadeUp::with_heads(move |head| {
        if !head.contains("authorization: Basic") {
            return Some((401, "Unauthorized".to_owned()));
        }
        if head.contains("metadata") { Some((200, gauge.clone())) } else { usual(head.lines().next()?) }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "hush").expect("a file");
    let (code, _, told) = server.judge(&["--user=me", "--password-file", secret.to_str().expect("a name")]);
    assert_eq!(code, Some(5), "{told}");
    assert!(told.contains("http_requests_total is a gauge; it must be a counter"), "{told}");

    for (status, body) in [
        (401, "no"),
        (403, r#"{"status":"error","error":"forbidden path"}"#),
        (422, r#"{"status":"error","error":"no"}"#),
    ] {
        let server = MadeUp::new(move |request| {
            if request.contains("metadata") { Some((status, body.to_owned())) } else { usual(request) }
        });
        let (code, _, told) = server.judge(&[]);
        assert_eq!(code, Some(5), "{status}: {told}");
        assert!(told.contains(&format!("HTTP {status}")), "{told}");
    }
    let refused =
        MadeUp::new(
            |request| {
                if request.contains("metadata") { Some((403, String::new())) } else { usual(request) }
            },
        );
    let told = refused.judge(&[]).2;
    let says =
        "Prometheus refuses /api/v1/metadata, which tells whether http_requests_total is a counter: HTTP 403";
    assert!(told.contains(says), "{told}");
}

#[test]
fn a_server_without_metadata_is_judged_but_not_a_gauge() {
    let without = |request: &str| {
        if request.contains("metadata") { Some((404, "not found".to_owned())) } else { usual(request) }
    };
    let server = MadeUp::new(without);
    let (code, said, told) = server.judge(&["--max-failure-rate=50%"]);
    assert!(code == Some(2) || code == Some(0), "{said}{told}");
    assert!(!told.contains("gauge"), "{told}");

    let server = MadeUp::new(with_series(|release| {
        let mut series = series(release, &[("status", "200")]);
        for sample in series["values"].as_array_mut().expect("samples") {
            let at = sample[0].as_f64().expect("a time");
            sample[1] = json!((50.0 + 40.0 * (at / 3.0).sin()).round().to_string());
        }
        Some(json!([series]))
    }));
    let (code, said, told) = server.judge(&[]);
    assert_eq!(code, Some(5), "{said}{told}");
    assert!(told.contains("the values of http_requests_total fall again and again"), "{told}");
}

#[test]
fn a_counter_that_two_replicas_have_is_refused_with_what_to_do() {
    let server = MadeUp::new(with_series(|release| {
        let mut replicas = ["a", "b"].map(|name| series(release, &[("status", "200"), ("replica", name)]));
        for sample in replicas[1]["values"].as_array_mut().expect("samples") {
            sample[0] = json!(sample[0].as_f64().expect("a time") - 0.4);
        }
        Some(json!(replicas))
    }));
    let (code, said, told) = server.judge(&[]);
    assert_eq!(code, Some(5), "{said}{told}");
    for says in [
        "Prometheus has the same counter twice",
        "differ only in replica. Select one of them by a matcher of --metric, such as replica=\"a\"",
    ] {
        assert!(told.contains(says), "{told}");
    }
}

#[test]
fn nothing_is_decided_on_an_answer_that_may_be_incomplete() {
    let incomplete = |more: serde_json::Value| {
        let mut answer = json!({"status": "success", "data": {"resultType": "matrix", "result": []}});
        answer.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        answer.to_string()
    };
    for (more, says) in [
        (json!({"warnings": ["no store matched\u{1b}[1m"]}), "(no store matched\\u{1b}[1m)"),
        (json!({"isPartial": true}), "(isPartial)"),
    ] {
        let body = incomplete(more);
        // a third of the answers about the canary has no series of it; it fails all requests
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let server = MadeUp::new(move |request| {
            if request.contains("canary") {
                let number = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                return if number.is_multiple_of(3) {
                    Some((200, body.clone()))
                } else {
                    matrix(&json!([series("canary", &[("status", "500")])]))
                };
            }
            usual(request)
        });
        let (code, said, told) =
            run(&["judge", "--prometheus", &server.url, "--interval=200ms", "--for=60s"]);
        assert_eq!(code, Some(1), "{said}{told}");
        assert!(told.contains("may be incomplete, so it does not count") && told.contains(says), "{told}");
    }
}

#[test]
fn a_time_in_a_vector_of_one_element_is_accepted() {
    let server = MadeUp::new(|request| {
        if request.contains("query=time") {
            success("vector", &json!([{"metric": {}, "value": [now(), now().to_string()]}]))
        } else {
            usual(request)
        }
    });
    let (code, said, told) = server.judge(&["--max-failure-rate=50%"]);
    assert!(code == Some(2) || code == Some(0), "{said}{told}");
}

#[test]
fn a_bucket_is_found_however_its_bound_is_spelled_and_counts_once() {
    // the answers in time are half of all: their bucket has another name since ten seconds ago
    let server = MadeUp::new(|request| {
        if !request.contains("a_bucket") && !request.contains("a_count") {
            return usual(request);
        }
        let release = if request.contains("canary") { "canary" } else { "stable" };
        let timed = series(release, &[]);
        if request.contains("a_count") {
            return matrix(&json!([timed]));
        }
        assert!(request.contains("le%3D%7E%22250%7C250%5C%5C.0%22"), "{request}");
        let values = timed["values"].as_array().expect("samples").iter().map(|sample| {
            let count: f64 = sample[1].as_str().and_then(|count| count.parse().ok()).expect("a number");
            json!([sample[0], (count / 2.0).to_string()])
        });
        let values: Vec<_> = values.collect();
        let before =
            json!({"metric": {"le": "250", "instance": release, "job": "pods"}, "values": values[..90]});
        let since =
            json!({"metric": {"le": "250.0", "instance": release, "job": "pods"}, "values": values[89..]});
        matrix(&json!([before, since]))
    });
    let (code, said, told) = run(&[
        "watch",
        "--prometheus",
        &server.url,
        "--interval=300ms",
        "--for=8s",
        "--output=json",
        "--slow=a_bucket{le=\"250\"}",
    ]);
    assert_eq!(code, Some(0), "{told}");
    let lines = json_lines(&said);
    let stable = &lines.last().expect("a summary")["releases"]["stable"];
    let of = |key: &str| stable[key].as_u64().expect("a count");
    assert!(of("failure") >= 10 && of("failure").abs_diff(of("success")) <= 2, "{stable}");
}

#[test]
fn no_secret_of_a_url_is_shown() {
    let server = MadeUp::new(usual);
    let with_password = server.url.replace("http://", "http://user:S3CRET@");
    let unused = format!("http://{}/path?token=S3CRET", free_port());
    for (arguments, expected) in [
        (vec!["judge", &with_password], 3),
        (vec!["judge", "user:S3CRET@127.0.0.1:80"], 3),
        (vec!["judge", "http://user:S3CRET/@127.0.0.1:80"], 3),
        (vec!["judge", "127.0.0.1:99999?S3CRET"], 3),
        (vec!["judge", "--prometheus", &with_password], 3),
        (vec!["judge", "--prometheus", "http://127.0.0.1:80?token=S3CRET"], 3),
        (vec!["judge", "--prometheus", "127.0.0.1?token=S3CRET"], 3),
        (vec!["judge", "http://127.0.0.1:80", "http://user:S3CRET@127.0.0.1:80"], 3),
        (vec!["judge", "http://127.0.0.1:80", "user:S3CRET@127.0.0.1:80"], 3),
        (vec!["http://user:S3CRET@127.0.0.1:80"], 3),
        (vec!["judge", "--rate", "http://user:S3CRET@127.0.0.1:80"], 3),
        (vec!["judge", "--path=/cart?token=S3CRET#there"], 3),
        (vec!["judge", "--path=/cart?token=S3CRET:0"], 3),
        (vec!["judge", "--path=/?token=S3CRET", "--path=/?token=S3CRET:2"], 3),
        (vec!["judge", &unused, "--resolve=a:80:127.0.0.1"], 3),
        (vec!["judge", &unused, "--for=200ms"], 4),
        (vec!["judge", &unused, "--for=200ms", "--output=json"], 4),
        (vec!["watch", &unused, "--for=200ms", "--output=json"], 4),
    ] {
        let (code, said, told) = run(&arguments);
        assert_eq!(code, Some(expected), "{arguments:?}: {told}");
        assert!(!(said.clone() + &told).contains("S3CRET"), "{arguments:?}: {said}{told}");
        assert!(!told.is_empty() || !said.is_empty(), "{arguments:?}");
    }
    let serve = Serving::start(&unused, &[]);
    for path in ["/", "/v1/verdict", "/metrics"] {
        let answer = serve.get(path);
        assert!(answer.status == 200 && !answer.body.contains("S3CRET"), "{path}: {}", answer.body);
    }
    let state = serve.events("/v1/events").next().expect("a state").to_string();
    assert!(state.contains("token=***") && !state.contains("S3CRET"), "{state}");
}
