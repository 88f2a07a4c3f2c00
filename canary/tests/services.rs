//! Services other than appinfo: headers of requests, and headers that name the release and the pod.

mod common;

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

use common::{json_lines, run};
use serde_json::json;

/// A server that gives these answers in turn. Returns its URL, and the requests that it got.
fn server(answers: &'static [&'static str]) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&requests);
    thread::spawn(move || {
        for (mut client, answer) in listener.incoming().map_while(Result::ok).zip(answers.iter().cycle()) {
            let mut request = [0; 2048];
            let length = client.read(&mut request).unwrap_or(0);
            log.lock().expect("no panic").push(String::from_utf8_lossy(&request[..length]).into_owned());
            let _ = client.write_all(answer.as_bytes());
        }
    });
    (url, requests)
}

const PLAIN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

#[test]
fn other_headers_and_other_values_can_name_the_releases() {
    let (url, _) = server(&[
        "HTTP/1.1 200 OK\r\nx-version: v1\r\nx-pod: a\r\nx-release: canary\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 500 No\r\nX-Version: v2\r\nx-pod: b\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-version: canary\r\ncontent-length: 0\r\n\r\n",
    ]);
    let flags =
        ["--release-header=X-Version", "--pod-header=x-pod", "--stable-value=v1", "--canary-value=v2"];
    for command in ["watch", "judge"] {
        let mut arguments = vec![command, &url, "--count=30", "--rate=200", "--timeout=60s", "--output=json"];
        arguments.extend(flags);
        let (_, output, messages) = run(&arguments);
        let summary = json_lines(&output).pop().expect(&messages);
        let of = |release: &str| {
            let counts = &summary["releases"][release];
            (counts["success"].as_u64(), counts["failure"].as_u64())
        };
        assert_eq!(of("stable").1, Some(0), "{summary}");
        assert!(of("stable").0 > Some(0) && of("canary").1 > Some(0), "{summary}");
        assert_eq!(of("canary").0, Some(0), "{summary}");
        assert_eq!(summary["pods"]["b"]["release"], "canary", "{summary}");
        if command == "watch" {
            assert_eq!((of("stable").0, of("canary").1), (Some(10), Some(10)), "{summary}");
            assert_eq!(of("x-version=canary").0, Some(10), "a third release: {summary}");
        }
    }
}

#[test]
fn release_and_pod_do_not_come_from_the_body_of_another_service() {
    let (url, _) = server(&["HTTP/1.1 200 OK\r\ncontent-length: 76\r\n\r\n\
         {\"PodName\":\"a\",\"AppName\":\"b\",\"Namespace\":\"\",\"Release\":\"canary\",\"Labels\":{}}\n\n"]);
    for (flags, unnamed) in [(&[][..], 0), (&["--release-header=x-version", "--pod-header=x-pod"], 3)] {
        let mut arguments = vec!["watch", &url, "--count=3", "--rate=100", "--timeout=60s", "--output=json"];
        arguments.extend(flags);
        let (_, output, messages) = run(&arguments);
        let summary = json_lines(&output).pop().expect(&messages);
        assert_eq!(summary["unnamed"]["success"], unnamed, "{summary}");
        assert_eq!(summary["pods"].as_object().map(serde_json::Map::len), Some(usize::from(unnamed == 0)));
    }
}

#[test]
fn requests_have_the_given_headers() {
    let (url, requests) = server(&[PLAIN]);
    let headers = ["Host: shop.example", "Authorization: Bearer hush", "X-A: 1", "x-a:2", "user-agent: me"];
    let mut arguments = vec!["watch", &url, "--count=1", "--timeout=60s", "--output=json"];
    arguments.extend(headers.iter().flat_map(|header| ["--header", header]));
    let (_, output, messages) = run(&arguments);
    assert_eq!(json_lines(&output).pop().expect(&messages)["success"], json!(1));
    assert!(!output.contains("hush") && !messages.contains("hush"), "{output}{messages}");
    let request = requests.lock().expect("no panic")[0].to_lowercase();
    for line in ["host: shop.example", "authorization: bearer hush", "x-a: 1", "x-a: 2", "user-agent: me"] {
        assert_eq!(request.lines().filter(|it| *it == line).count(), 1, "{line}: {request}");
    }
    assert!(request.starts_with("get /v1/appinfo http/1.1\r\n"), "{request}");
    assert_eq!(request.matches("\r\nhost:").count(), 1, "{request}");
    assert_eq!(request.matches("\r\nuser-agent:").count(), 1, "{request}");
}

#[test]
fn a_query_without_a_path_uses_the_default_path() {
    let (url, requests) = server(&[PLAIN]);
    for query in ["?x=1", "/?x=1"] {
        run(&["watch", &format!("{url}{query}"), "--count=1", "--timeout=60s", "--output=json"]);
        let request = requests.lock().expect("no panic").pop().expect("a request");
        assert!(request.starts_with("GET /v1/appinfo?x=1 HTTP/1.1\r\n"), "{request}");
    }
}

#[test]
fn invalid_flags_are_refused_without_showing_a_secret() {
    for (arguments, cause) in [
        (&["--header", "Authorization hush"][..], "number 1 has no colon"),
        (&["--header", "a: b", "--header", "a b: hush"], "number 2"),
        (&["--header", "authorization: hu\nsh"], "--header authorization"),
        (&["--header", "Content-Length: 5"], "content-length"),
        (&["--header", "Connection: keep-alive"], "connection"),
        (&["--header", "Host: a", "--header", "Host: b"], "twice"),
        (&["--release-header", "a b"], "invalid HTTP header name"),
        (&["--pod-header", ""], "--pod-header"),
        (&["--canary-value", "stable"], "have the same value"),
        (&["--canary-value=a", "--canary-value=b", "--stable-value=b"], "have the same value"),
        (&["--stable-pods=a*", "--canary-pods=a*"], "have the same value"),
        (&["--release-from", "pod"], "--release-from pod needs --stable-value and --canary-value"),
        (&["--release-from", "pod", "--canary-value=a-*"], "--release-from pod needs"),
        (&["--release-from", "body:version"], "begins with a slash: body:/version"),
        (&["--pod-from", "body~Hostname"], "in a group, in parentheses"),
        (&["--release-from", "a", "--release-header", "b"], "cannot be used with"),
        (&["--pod-from", "a", "--pod-header", "b"], "cannot be used with"),
        (&["--release-from", "a", "--stable-pods", "b", "--canary-pods", "c"], "cannot be used with"),
        (&["--stable-value", ""], "must not be empty"),
        (&["--cacert", "a", "--insecure"], "cannot be used with"),
    ] {
        for command in ["watch", "judge"] {
            let (code, output, messages) = run(&[&[command, "--for=1s"], arguments].concat());
            assert_eq!((code, output.as_str()), (Some(3), ""), "{arguments:?}: {messages}");
            assert!(messages.contains(cause), "{arguments:?}: {messages}");
            assert!(!messages.contains("hush") && !messages.contains("sh\n"), "{messages}");
        }
    }
    for flag in ["--header=a: b", "--release-header=a", "--stable-value=a", "--resolve=a:1:::1", "--insecure"]
    {
        let (code, _, messages) = run(&["judge", "--input=-", flag]);
        assert_eq!(code, Some(3), "{messages}");
        assert!(messages.contains("cannot be used with"), "{messages}");
    }
}

#[test]
fn a_service_that_names_no_release_is_reported_after_20_answers_and_at_the_end() {
    let (url, _) = server(&[
        "HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 38\r\n\r\n{\"commit\": \"c\", \"version\": \"6.0.0\"}\n\n\n",
    ]);
    let told = |count: u32| {
        format!(
            "canary: {count} answers, none has x-release. An answer of {url}/v1/appinfo has JSON with /commit, \
             /version, and the headers server: try this URL with --release-from body:/version, and \
             its values by --stable-value and --canary-value\n"
        )
    };
    for command in ["watch", "judge"] {
        let (_, _, messages) = run(&[command, &url, "--count=60", "--rate=200", "--timeout=60s"]);
        assert_eq!(messages.matches(&told(20)).count(), 1, "{command}: {messages}");
    }
    // with few answers, too
    for count in [5, 60] {
        let (code, _, messages) =
            run(&["judge", &url, &format!("--count={count}"), "--rate=200", "--timeout=60s"]);
        let end = format!("named the release stable or canary\n{}", told(count));
        assert!(code == Some(5) && messages.ends_with(&end), "{messages}");
    }
    let tried =
        run(&["judge", &url, "--count=60", "--rate=200", "--timeout=60s", "--release-from=body:/version"]);
    let end = "canary: 60 answers name 6.0.0: say which is which by --stable-value and --canary-value\n";
    assert!(tried.0 == Some(5) && tried.2.ends_with(end), "{}", tried.2);
}

#[test]
fn a_body_that_cannot_be_read_names_nothing_and_the_message_says_why() {
    let long: &'static str = Box::leak(
        format!("HTTP/1.1 200 OK\r\ncontent-length: 70000\r\n\r\n\"{}\"", "a".repeat(69_998))
            .into_boxed_str(),
    );
    for (answer, why) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 6\r\n\r\n\"blue\"",
            "the body is compressed (gzip), and such a body is not read.",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nblue", "the body is not JSON."),
        (long, "the body has more than 64 KiB, and such a body is not read."),
    ] {
        let (url, _) = server(Box::leak(Box::new([answer])));
        let flags = [
            "--release-from=body:",
            "--stable-value=blue",
            "--count=30",
            "--rate=200",
            "--timeout=60s",
            "--output=json",
        ];
        let (_, output, messages) = run(&[&["watch", &url][..], &flags].concat());
        assert!(messages.contains(&format!("20 answers, none has a name at body:: {why}")), "{messages}");
        let summary = json_lines(&output).pop().expect(&messages);
        assert_eq!(summary["unnamed"]["success"], 30, "an outcome without a release: {summary}");
    }
}

#[test]
fn a_part_of_the_answers_that_cannot_be_read_is_told_too() {
    let (url, _) = server(&[
        "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n\"stable\"",
        "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n\"canary\"",
        "HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno",
        "HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 8\r\n\r\n\"canary\"",
    ]);
    let flags = ["--release-from=body:", "--count=40", "--rate=100", "--timeout=60s", "--output=json"];
    let (_, output, messages) = run(&[&["watch", &url][..], &flags].concat());
    let told = " of 20 answers name no release: the body is compressed (br), and such a body is not read\n";
    assert_eq!(messages.matches(told).count(), 1, "{messages}");
    let summary = json_lines(&output).pop().expect(&messages);
    assert_eq!(summary["unnamed"], json!({"success": 10, "failure": 10, "slow": 0}), "{summary}");
}

#[test]
fn values_are_patterns_and_may_be_repeated() {
    let (url, _) = server(&[
        "HTTP/1.1 200 OK\r\nv: 1.0.7\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nv: 1.1-rc2\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nv: 2.0\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nv: 0.9\r\ncontent-length: 0\r\n\r\n",
    ]);
    let flags = ["--release-from=V", "--stable-value=1.0*", "--canary-value=1.*", "--canary-value=2.0"];
    let arguments =
        [&["watch", &url, "--count=40", "--rate=200", "--timeout=60s", "--output=json"][..], &flags].concat();
    let (_, output, messages) = run(&arguments);
    let summary = json_lines(&output).pop().expect(&messages);
    for (release, count) in [("stable", 10), ("canary", 20), ("0.9", 10)] {
        assert_eq!(summary["releases"][release]["success"], count, "{summary}");
    }
}

#[test]
fn a_wrong_path_is_reported_with_the_status_codes() {
    let (url, _) = server(&["HTTP/1.1 404 Not Found\r\nx-release: stable\r\ncontent-length: 0\r\n\r\n"]);
    let (_, output, messages) = run(&["judge", &url, "--count=60", "--rate=200", "--timeout=60s"]);
    assert!(
        messages.contains("canary: 20 answers, all have the status 404 Not Found: is http"),
        "{messages}"
    );
    assert!(output.contains("\nStatus codes of the answers: 404 (60).\n"), "{output}");
    let (_, output, _) = run(&["judge", &url, "--count=60", "--rate=200", "--timeout=60s", "--output=json"]);
    let lines = json_lines(&output);
    let (summary, seconds) = lines.split_last().expect("a summary");
    assert_eq!(summary["statuses"], json!({"404": 60}), "{summary}");
    assert!(seconds.iter().all(|line| line["statuses"].is_object()), "{output}");
}
