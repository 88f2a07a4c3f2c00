//! The lines of docs/others.md, taken from the page, on servers that answer as the services of other people do:
//!
//! - hello-app: `quickstarts/hello-app/main.go` of GoogleCloudPlatform/kubernetes-engine-samples
//! - podinfo: `pkg/api/http/` of stefanprodan/podinfo: `info.go`, `version.go`, `http.go`, `fault_injection.go`
//! - rollouts-demo: `main.go` of argoproj/rollouts-demo
//!
//! Only the URLs and the pace differ from the page. The outputs are compared with the page, but for their numbers.

mod common;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::symlink,
    process::Command,
    thread,
};

use common::{json_lines, pages::commands, run, serving::Serving};
use regex_lite::Regex;
use testkit::eventually;

const DOCUMENT: &str = include_str!("../../docs/others.md");
/// The body of podinfo's injected faults.
const FAULT: &str = "{\"status\":\"fault injection enabled\"}\n";

/// The answer to the n-th request: status, content type and body.
type Answer = (u16, &'static str, String);

/// A server that answers like a service. Two pods answer in turn: stable, then the canary.
fn server(answer: impl Fn(usize, &str) -> Answer + Send + 'static) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let host = listener.local_addr().expect("its address").to_string();
    thread::spawn(move || {
        for (turn, client) in listener.incoming().map_while(Result::ok).enumerate() {
            let mut lines = BufReader::new(&client).lines().map_while(Result::ok);
            let request = lines.next().unwrap_or_default();
            let _ = lines.find(String::is_empty);
            let path = request.split(' ').nth(1).unwrap_or_default();
            let (status, kind, body) = answer(turn, path);
            let length = body.len();
            let _ = (&client).write_all(
                format!(
                    "HTTP/1.1 {status} S\r\ncontent-type: {kind}\r\nx-content-type-options: nosniff\r\n\
                     content-length: {length}\r\nconnection: close\r\n\r\n{body}"
                )
                .as_bytes(),
            );
        }
    });
    host
}

fn hello_app(turn: usize, _: &str) -> Answer {
    let canary = turn % 2;
    let body = format!("Hello, world!\nVersion: {}.0.0\nHostname: hello-app-{canary}\n", canary + 1);
    (200, "text/plain; charset=utf-8", body)
}

fn podinfo(turn: usize, path: &str) -> Answer {
    const JSON: &str = "application/json; charset=utf-8";
    let canary = turn % 2;
    let version = format!("6.{canary}.0");
    match path {
        "/version" => {
            (200, JSON, format!("{{\n  \"commit\": \"unknown\",\n  \"version\": \"{version}\"\n}}"))
        }
        "/" | "/api/info" => {
            let body = format!(
                "{{\n  \"hostname\": \"podinfo-{canary}\",\n  \"version\": \"{version}\",\n  \"revision\": \"unknown\",\n  \
                 \"color\": \"#34577c\",\n  \"num_cpu\": \"2\"\n}}"
            );
            (200, JSON, body)
        }
        // every other request to the canary gets an injected fault
        "/version?faults" if turn % 4 == 3 => (500, "text/plain; charset=utf-8", FAULT.to_owned()),
        "/version?faults" => podinfo(turn, "/version"),
        _ => (404, "text/plain; charset=utf-8", "404 page not found\n".to_owned()),
    }
}

/// The canary is yellow. It fails every other request.
fn rollouts_demo(turn: usize, path: &str) -> Answer {
    match (path, turn % 4) {
        ("/color", 0 | 2) => (200, "text/plain; charset=utf-8", "\"blue\"".to_owned()),
        ("/color", 1) => (200, "text/plain; charset=utf-8", "\"yellow\"".to_owned()),
        ("/color", _) => (500, "text/plain; charset=utf-8", "\"yellow\"".to_owned()),
        _ => (404, "text/plain; charset=utf-8", "404 page not found\n".to_owned()),
    }
}

#[test]
fn each_line_of_the_page_does_what_the_page_says() {
    let hosts = [
        ("hello.example", server(hello_app)),
        ("podinfo.example:9898", server(podinfo)),
        ("rollouts-demo.example", server(rollouts_demo)),
    ];
    let path = tempfile::tempdir().expect("a directory");
    symlink(env!("CARGO_BIN_EXE_canary"), path.path().join("canary")).expect("the program on the PATH");
    let number = Regex::new(r"[0-9][0-9,.]*").expect("a pattern");
    // chance decides whether these are said
    let by_chance = [
        r" Its latency decides nothing\.",
        r" Slower: .* This decides nothing\.",
        " # more answers? of the canary waits? for requests that were sent at the same time.*",
    ];
    let by_chance = Regex::new(&by_chance.join("|")).expect("a pattern");
    let without = |text: &str| by_chance.replace_all(&number.replace_all(text, "#"), "").into_owned();
    let mut used = BTreeSet::new();
    let commands = commands(DOCUMENT);
    assert_eq!(commands.len(), 6, "{commands:#?}");
    for (command, wanted) in commands {
        let (mut line, mut place) = (command.clone(), String::new());
        for (name, host) in &hosts {
            if line.contains(name) {
                used.insert(*name);
                line = line.replace(name, host);
                place = format!("http://{host}");
            }
        }
        let output = Command::new("/bin/sh")
            .args(["-c", &format!("exec 2>&1; {line} --rate 400 --count 1200 --timeout 60s")])
            .env("PATH", path.path())
            .output()
            .expect("a shell");
        let output = String::from_utf8_lossy(&output.stdout).replace(&place, "PLACE");
        let mut lines = output.lines().map(without);
        for wanted in wanted {
            let (name, _) = hosts.iter().find(|(name, _)| command.contains(name)).expect("its host");
            let wanted = wanted.replace(&format!("http://{name}"), "PLACE");
            let wanted = without(&wanted);
            assert!(lines.any(|line| line == wanted), "{command}\nwants\n{wanted}\nin\n{output}");
        }
    }
    assert_eq!(used.len(), hosts.len(), "each service has a line: {used:?}");
}

/// The summary of `canary watch` with these flags.
fn watched(url: &str, flags: &[&str]) -> serde_json::Value {
    let (code, output, messages) =
        run(&[&["watch", url, "--count=40", "--rate=200", "--timeout=60s", "--output=json"][..], flags]
            .concat());
    assert_eq!(code, Some(0), "{messages}");
    json_lines(&output).pop().expect("a summary")
}

#[test]
fn each_service_is_watched_with_its_releases_and_its_pods() {
    let host = server(hello_app);
    let sides = ["--stable-value=1.0.0", "--canary-value=2.0.0"];
    let from = [r"--release-from=body~Version: (\S+)", r"--pod-from=body~Hostname: (\S+)"];
    let seen = watched(&format!("http://{host}"), &[&sides[..], &from].concat());
    assert_eq!(
        (&seen["releases"]["stable"]["success"], &seen["releases"]["canary"]["success"]),
        (&20.into(), &20.into())
    );
    assert_eq!(seen["pods"]["hello-app-1"]["release"], "canary", "{seen}");
    let by_pod = ["--release-from=pod", "--stable-value=*-0", "--canary-value=*-1", from[1]];
    let seen = watched(&format!("http://{host}"), &by_pod);
    assert_eq!(
        (&seen["releases"]["stable"]["success"], &seen["releases"]["canary"]["success"]),
        (&20.into(), &20.into())
    );

    let host = server(podinfo);
    let flags = [
        "--release-from=body:/version",
        "--pod-from=body:/hostname",
        "--stable-value=6.0.*",
        "--canary-value=6.1.*",
    ];
    let seen = watched(&format!("http://{host}"), &flags);
    assert_eq!(seen["releases"]["canary"]["success"], 20, "/ is asked, not /v1/appinfo: {seen}");
    assert_eq!(seen["pods"]["podinfo-0"]["release"], "stable", "{seen}");
    let seen = watched(&format!("http://{host}/version?faults"), &flags);
    assert_eq!(
        (&seen["releases"]["canary"]["success"], &seen["unnamed"]["failure"]),
        (&10.into(), &10.into()),
        "{seen}"
    );

    let host = server(rollouts_demo);
    let flags = ["--release-from=body:", "--stable-value=blue", "--canary-value=yellow"];
    let seen = watched(&format!("http://{host}/color"), &flags);
    assert_eq!(seen["releases"]["canary"]["failure"], 10, "a 500 with a colour is the canary's: {seen}");
    assert_eq!(seen["releases"]["stable"]["success"], 20, "{seen}");
}

#[test]
fn serve_reads_the_names_in_the_same_way() {
    let url = format!("http://{}", server(podinfo));
    let flags =
        ["--rate=100", "--release-from=body:/version", "--stable-value=6.0.0", "--canary-value=6.1.0"];
    let serving = Serving::start(&url, &flags);
    eventually("answers of both", || {
        let verdict = serving.get("/v1/verdict").json();
        ["stable", "canary"].iter().all(|side| verdict[side]["answers"].as_u64() > Some(0))
    });
}

#[test]
fn the_pages_of_docs_lead_here() {
    let read =
        |path: &str| fs::read_to_string(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).expect(path);
    assert!(read("README.md").contains("(docs/others.md"));
    assert!(read("docs/canary.md").contains("(others.md"));
}
