//! The real binary: environment, label changes, log, signals, invalid requests, overload.

mod common;

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    io::{self, BufRead, BufReader, Read},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Stdio,
    sync::{
        Arc, Barrier, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use appinfo::service;
use common::{
    KIB_PER_CONNECTION, LABELS,
    process::{Process, appinfo, command},
    swaps,
};
use rustix::process::Signal;
use testkit::{
    PATIENCE, eventually, free_port,
    http::{Answer, Client, get},
    labels::LabelDir,
    signal,
};

/// The process of the pod `pod-1` in the namespace `space`, with these labels.
fn start(labels: &LabelDir, flags: &[&str]) -> Process {
    let mut command = appinfo();
    command.env("MY_POD_NAME", "pod-1").env("MY_POD_NAMESPACE", "space");
    Process::start(command.arg("--labels-file").arg(labels.file()).args(flags))
}

/// A path that every implementation answers with 404, even the broken one.
const ANSWERED: &str = "/nothing";

#[test]
fn the_answer_comes_from_the_environment_and_the_label_file() {
    let labels = LabelDir::new(LABELS);
    let process = start(&labels, &[]);
    let answer = get(process.public, "/v1/appinfo").expect("an answer");
    let expected = |namespace: &str| {
        format!(
            "{{\"PodName\":\"pod-1\",\"AppName\":\"appinfo\",\"Namespace\":\"{namespace}\",\
             \"Release\":\"stable\",\"Labels\":{{\"pod-template-hash\":\"1236545534\"}}}}\n"
        )
    };
    let (status, body) = match service::selected().name() {
        "baseline" => (200, expected("")),
        "with-namespace" => (200, expected("space")),
        _ => (500, "{\"error\":\"something went wrong\"}\n".to_owned()),
    };
    assert_eq!((answer.status, answer.body.as_str()), (status, body.as_str()));
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(answer.header("x-served-by"), Some("pod-1"));
    assert_eq!(answer.header("x-release"), Some("stable"));
    assert_eq!(get(process.admin, "/healthz").expect("an answer").status, 200);
    assert_eq!(get(process.admin, "/readyz").expect("an answer").status, 200, "even the broken one is ready");
}

#[test]
fn every_flag_has_a_variable() {
    let labels = LabelDir::new("release=\"by-variable\"");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_appinfo"));
    command.env_clear().env("APPINFO_LISTEN", "127.0.0.1:0").env("APPINFO_ADMIN_LISTEN", "127.0.0.1:0");
    command
        .env("APPINFO_LABELS_FILE", labels.file())
        .env("APPINFO_LOG_FORMAT", "json")
        .env("RUST_LOG", "info");
    command
        .env("APPINFO_DRAIN_DELAY", "0")
        .env("APPINFO_DRAIN_TIMEOUT", "7s")
        .env("APPINFO_MAX_CONNECTIONS", "9")
        .env("APPINFO_IDLE_TIMEOUT", "1s");
    let mut process = Process::start(&mut command);
    let mut idle = Client::connect(process.public).expect("a connection");
    idle.get(ANSWERED).expect("an answer");
    let start = Instant::now();
    assert_eq!(idle.until_closed().expect("no reset"), b"");
    assert!(start.elapsed() < Duration::from_secs(60), "before the default of 620 s");
    let answer = get(process.public, ANSWERED).expect("an answer");
    assert_eq!(answer.header("x-release"), Some("by-variable"));
    assert_eq!(answer.header("x-served-by"), None, "the pod's name is not known");
    process.signal(Signal::TERM);
    assert_eq!(process.ended().code(), Some(0));
    assert_eq!(process.wait_for("no new connections")["timeout"], "7s");
}

/// Every flag's variable, with an invalid value if there is one.
const VARIABLES: [(&str, Option<&str>); 9] = [
    ("APPINFO_LISTEN", Some("localhost:8080")),
    ("APPINFO_ADMIN_LISTEN", Some("8081")),
    ("APPINFO_LABELS_FILE", None),
    ("APPINFO_LOG_FORMAT", Some("xml")),
    ("APPINFO_DRAIN_DELAY", Some("soon")),
    ("APPINFO_DRAIN_TIMEOUT", Some("-1")),
    ("RUST_LOG", Some("a=b=c")),
    ("APPINFO_MAX_CONNECTIONS", Some("0")),
    ("APPINFO_IDLE_TIMEOUT", Some("0")),
];

/// The output of `--help` with these variables.
fn help(variables: &[(&str, &str)]) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_appinfo"));
    let output = command.env_clear().envs(variables.iter().copied()).arg("--help").output().expect("it runs");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn the_help_shows_every_variable_even_if_it_is_empty() {
    let expected = help(&[]);
    let words = expected.split_whitespace().collect::<Vec<_>>().join(" ");
    let named: BTreeSet<_> =
        words.split("[env: ").skip(1).map(|rest| rest.split('=').next().expect("a name")).collect();
    assert_eq!(named, VARIABLES.map(|(name, _)| name).into());
    assert_eq!(help(&VARIABLES.map(|(name, _)| (name, ""))), expected);
    assert!(expected.lines().all(|line| line.len() <= 100), "{expected}");
    let (_, last) = expected.trim_end().rsplit_once("\n\n").expect("paragraphs");
    assert_eq!(last.lines().count(), 2, "no word is alone on a line: {last}");
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let labels = LabelDir::new(LABELS);
    let mut command = appinfo();
    command.envs(VARIABLES.map(|(name, _)| (name, ""))).env("NO_COLOR", "");
    let process = Process::start(command.arg("--labels-file").arg(labels.file()));
    assert_eq!(get(process.public, ANSWERED).expect("an answer").header("x-release"), Some("stable"));
    // without the flag of the process above, the default applies
    let mut command = appinfo();
    let process = Process::start(command.envs(VARIABLES.map(|(name, _)| (name, ""))));
    assert_eq!(process.wait_for("serving")["labels_file"], "/etc/labels");
}

#[test]
fn the_error_for_an_invalid_variable_names_the_variable_and_the_cause() {
    for (name, value) in VARIABLES.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        let run = |value: &[u8], flags: &[&str]| {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_appinfo"));
            // the other variables are valid: a value, an empty one, and a path that is not UTF-8
            command.env_clear().env("APPINFO_DRAIN_DELAY", "1s").env("APPINFO_LOG_FORMAT", "");
            command.env("APPINFO_LABELS_FILE", OsStr::from_bytes(b"/nowhere/\xff"));
            let output = command.env(name, OsStr::from_bytes(value)).args(flags).output().expect("it runs");
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{name}: {message}");
            assert!(output.stdout.is_empty(), "nothing is served");
            message
        };
        let message = run(value.as_bytes(), &[]);
        assert!(message.starts_with(&format!("error: invalid value '{value}' for '{name}'")), "{message}");
        let message = run(b"\xff", &[]);
        let named =
            [format!("the variable {name} is not UTF-8"), format!("invalid value '\u{fffd}' for '{name}'")];
        assert!(named.iter().any(|named| message.starts_with(&format!("error: {named}"))), "{message}");
        // errors in the command line are reported first
        let message = run(value.as_bytes(), &["--listen=nowhere"]);
        assert!(message.starts_with("error: invalid value 'nowhere' for '--listen"), "{message}");
    }
}

/// All output of a process on a terminal; none, with a message, if no terminal is available.
fn written_to_a_terminal(variables: &[(&str, &str)]) -> Option<String> {
    if std::process::Command::new("script").arg("--version").output().is_err() {
        println!("SKIPPED: no terminal, since `script` (util-linux) is not installed");
        return None;
    }
    let labels = LabelDir::new(LABELS);
    let program = env!("CARGO_BIN_EXE_appinfo");
    let address = free_port();
    let script = format!(
        "exec {program} --listen {address} --admin-listen 127.0.0.1:0 --labels-file {}",
        labels.file().display()
    );
    let mut command = std::process::Command::new("script");
    command.args(["--quiet", "--return", "--command", &script, "/dev/null"]);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(variables.iter().copied());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
    eventually("it answers", || get(address, ANSWERED).is_ok());
    let pid = rustix::process::Pid::from_child(&child).as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("its children");
    let process = children.trim().parse().ok().and_then(rustix::process::Pid::from_raw).expect("one child");
    rustix::process::kill_process(process, Signal::INT).expect("it runs");
    let mut output = String::new();
    child.stdout.take().expect("output").read_to_string(&mut output).expect("UTF-8");
    assert_eq!(child.wait().expect("a status").code(), Some(0), "{output}");
    assert!(output.contains("serving") && output.contains("drained"), "{output}");
    Some(output)
}

#[test]
fn the_log_on_a_terminal_has_colours_unless_they_are_disabled() {
    for (variables, coloured) in [
        (&[("TERM", "xterm-256color")][..], true),
        (&[("TERM", "xterm-256color"), ("NO_COLOR", "")], true),
        (&[("TERM", "xterm-256color"), ("NO_COLOR", "1")], false),
        (&[("NO_COLOR", "0")], false),
        (&[("TERM", "dumb")], false),
    ] {
        let Some(output) = written_to_a_terminal(variables) else { return };
        assert_eq!(output.contains('\u{1b}'), coloured, "{variables:?}: {}", output.escape_debug());
    }
}

#[test]
fn the_version_includes_the_implementation() {
    let output = appinfo().arg("--version").output().expect("it runs");
    let expected = format!("appinfo {} ({})\n", env!("CARGO_PKG_VERSION"), service::selected().name());
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn the_error_for_an_invalid_flag_names_the_flag_and_the_cause() {
    for (flag, value, cause) in [
        ("--listen", "localhost:8080", "want an IP address and a port"),
        ("--admin-listen", "8081", "want an IP address and a port"),
        ("--log-format", "xml", "text"),
        ("--drain-delay", "soon", "expected number"),
        ("--drain-timeout", "-1", "unexpected argument"),
        ("--max-connections", "0", "not in 1.."),
        ("--idle-timeout", "0s", "want more than 0"),
        ("--idle-timeout", "long", "expected number"),
        ("--listen", "", "want an IP address and a port"),
        ("--log-filter", "a=b=c", "invalid filter directive"),
        ("--log-filter", "warn,appinfo=loud", "error parsing level filter"),
        ("--log-filter", "warn,[span]=debug", "[span]=debug has a span"),
        ("--no-such-flag", "", "unexpected argument"),
    ] {
        let output = appinfo().args([flag, value]).output().expect("it runs");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flag} {value}: {message}");
        assert!(
            message.contains(flag.split('=').next().expect("a flag")) || message.contains(value),
            "{message}"
        );
        assert!(message.contains(cause), "{flag} {value}: {message}");
        assert!(output.stdout.is_empty(), "nothing is served");
    }
}

#[test]
fn the_error_for_a_port_in_use_is_one_line_with_the_address() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    for flag in ["--listen", "--admin-listen"] {
        let output = appinfo().args([flag, &address]).output().expect("it runs");
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            format!("appinfo: cannot listen on {address}: Address already in use (os error 98)\n")
        );
        assert!(output.stdout.is_empty(), "nothing is served");
    }
}

#[test]
fn a_port_alone_means_ipv6_and_ipv4() {
    let process = Process::start(appinfo().args(["--listen=:0", "--admin-listen=:0"]));
    let port = process.public.port();
    assert_eq!(get(SocketAddr::from(([127, 0, 0, 1], port)), ANSWERED).expect("IPv4").status, 404);
    eventually("the client's IPv4 address is logged without an IPv6 prefix", || {
        process
            .messages("request")
            .iter()
            .any(|line| line["remote"].as_str().is_some_and(|r| r.starts_with("127.0.0.1:")))
    });
    if TcpListener::bind("[::1]:0").is_ok() {
        assert_eq!(process.public.ip().to_string(), "::");
        let address: SocketAddr = format!("[::1]:{port}").parse().expect("an address");
        assert_eq!(get(address, ANSWERED).expect("IPv6").status, 404);
    }
}

#[test]
fn the_log_has_requests_and_failures_but_neither_probes_nor_secrets() {
    let labels = LabelDir::new(LABELS);
    let mut command = appinfo();
    command
        .env("MY_POD_NAME", "pod-1")
        .env("DATABASE_PASSWORD", "hunter2")
        .arg("--labels-file")
        .arg(labels.file());
    let mut process = Process::start(command.args(["--drain-delay=0"]));

    let serving = process.wait_for("serving");
    assert_eq!(serving["implementation"], service::selected().name());
    assert_eq!(serving["labels_file"], labels.file().to_str().expect("UTF-8"));

    get(process.admin, "/healthz").expect("an answer");
    get(process.admin, "/readyz").expect("an answer");
    get(process.admin, "/nothing").expect("an answer");
    get(process.public, "/first?token=hunter2").expect("an answer");
    fs::remove_file(labels.file()).expect("removed");
    let failed = get(process.public, "/v1/appinfo").expect("an answer");
    assert_eq!(failed.status, 500);
    eventually("both requests are logged", || process.messages("request").len() == 2);

    let requests = process.messages("request");
    let (first, failure) = (&requests[0], &requests[1]);
    assert_eq!(
        (&first["level"], &first["method"], &first["path"]),
        (&"INFO".into(), &"GET".into(), &"/first".into())
    );
    assert_eq!((&first["status"], &first["pod"]), (&404.into(), &"pod-1".into()));
    assert!(first["microseconds"].as_u64().is_some_and(|time| time < 60_000_000), "{first}");
    assert!(first["remote"].as_str().is_some_and(|remote| remote.starts_with("127.0.0.1:")), "{first}");
    assert_eq!((&failure["level"], &failure["status"]), (&"ERROR".into(), &500.into()));
    assert_eq!(failed.body, format!("{{\"error\":{}}}\n", failure["error"]), "the log has the cause");

    process.signal(Signal::TERM);
    assert_eq!(process.ended().code(), Some(0));
    assert!(process.find("drained").is_some());
    assert!(!process.log().concat().contains("hunter2"), "no secret is logged");
    assert_eq!(process.messages("request").len(), 2, "probes are not logged");
}

#[test]
fn rust_log_filters_log_lines() {
    let labels = LabelDir::new(LABELS);
    // the filter hides the log line with the address, so choose the port here
    let free = free_port();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_appinfo"));
    command.env("RUST_LOG", "warn").args(["--listen", &free.to_string(), "--admin-listen=127.0.0.1:0"]);
    let mut child =
        command.arg("--labels-file").arg(labels.file()).stdout(Stdio::piped()).spawn().expect("it starts");
    eventually("it answers", || get(free, ANSWERED).is_ok());
    fs::remove_file(labels.file()).expect("removed");
    assert_eq!(get(free, "/v1/appinfo").expect("an answer").status, 500);
    signal(&child, Signal::INT);
    let mut output = String::new();
    child.stdout.take().expect("output").read_to_string(&mut output).expect("UTF-8");
    assert_eq!(child.wait().expect("a status").code(), Some(0));
    assert_eq!(output.lines().count(), 1, "{output}");
    assert!(
        output.contains("ERROR") && output.contains("status=500") && !output.contains('\u{1b}'),
        "{output}"
    );
}

#[test]
fn rust_log_may_name_the_modules_of_other_programs() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    for filter in
        ["my_crate", "my_crate,warn", "my_crate::module=5,info", "my-crate=TRACE,off", "my_crate=debug,"]
    {
        let output =
            appinfo().env("RUST_LOG", filter).args(["--listen", &address]).output().expect("it runs");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{filter}: {message}");
        assert!(message.contains("cannot listen"), "the filter is accepted: {message}");
    }
}

#[test]
fn each_log_line_is_written_or_counted_as_lost() {
    const REQUESTS: u64 = 4000;
    let labels = LabelDir::new(LABELS);
    let address = free_port();
    let mut child = appinfo()
        .args(["--listen", &address.to_string(), "--drain-delay=0", "--labels-file"])
        .arg(labels.file())
        .args(["--log-format=json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    eventually("it answers", || TcpStream::connect(address).is_ok());
    let mut client = Client::connect(address).expect("a connection");
    let long = format!("/{}", "x".repeat(7000));
    for _ in 0..REQUESTS {
        assert_eq!(client.get(&long).expect("an answer").status, 404); // the log is not read meanwhile
    }
    let output = BufReader::new(child.stdout.take().expect("output"));
    let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let counting = Arc::clone(&counts);
    let reader = thread::spawn(move || {
        for line in output.lines() {
            let line: serde_json::Value =
                serde_json::from_str(&line.expect("UTF-8")).expect("whole lines of JSON");
            let is_request = line["message"] == "request";
            counting[0].fetch_add(u64::from(is_request), Ordering::Relaxed);
            counting[1].fetch_add(line["lost"].as_u64().unwrap_or(0), Ordering::Relaxed);
        }
    });
    let counted = || counts.each_ref().map(|count| count.load(Ordering::Relaxed));
    // at its end, the process waits only a second for the reader
    eventually("each line is written or counted", || counted().iter().sum::<u64>() >= REQUESTS);
    signal(&child, Signal::INT);
    assert_eq!(child.wait().expect("a status").code(), Some(0));
    reader.join().expect("no panic");
    let [written, lost] = counted();
    assert!(lost > 0, "{written} lines are written");
    assert_eq!(written + lost, REQUESTS, "{written} written, {lost} lost");
}

#[test]
fn many_clients_leave_file_descriptors_for_the_label_file_and_for_probes() {
    let labels = LabelDir::new(LABELS);
    let binary = Path::new(env!("CARGO_BIN_EXE_appinfo"));
    let mut command = command(binary, &["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"]);
    let process = Process::start(command.arg("--log-filter=info").arg("--labels-file").arg(labels.file()));
    let (answered, done) = ([AtomicUsize::new(0), AtomicUsize::new(0)], AtomicBool::new(false));
    thread::scope(|scope| {
        for number in 0..80 {
            let (process, answered, done) = (&process, &answered[usize::from(number >= 60)], &done);
            scope.spawn(move || {
                let (address, path, status) = if number < 60 {
                    (process.public, ANSWERED, 404)
                } else {
                    (process.admin, "/readyz", 200)
                };
                while !done.load(Ordering::Relaxed) {
                    // when all slots are in use, the server may close a connection before its request arrives
                    let Ok(answer) = get(address, path) else { continue };
                    assert_eq!(answer.status, status, "{answer:?}");
                    assert!(status == 200 || answer.header("x-release").is_some(), "the labels are not read");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let (start, enough) = (Instant::now(), || answered.iter().all(|it| it.load(Ordering::Relaxed) > 80));
        while start.elapsed() < Duration::from_secs(3) || (!enough() && start.elapsed() < PATIENCE) {
            labels.swap(LABELS); // so that the cache is often invalid and the file is read
            thread::sleep(Duration::from_millis(20));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(answered.iter().all(|answers| answers.load(Ordering::Relaxed) > 80), "{answered:?}");
    assert_eq!(process.messages("cannot accept").len(), 0);
}

#[test]
fn requests_are_answered_when_the_log_is_not_read_or_cannot_be_written() {
    let labels = LabelDir::new(LABELS);
    // standard output is a pipe without a reader, a full disk, or closed
    for redirection in ["", ">/dev/full 2>/dev/full", ">&- 2>&-"] {
        let address = free_port();
        let script = format!("exec \"$@\" {redirection}");
        let mut child = command(Path::new(env!("CARGO_BIN_EXE_appinfo")), &["sh", "-c", &script, "sh"])
            .args(["--listen", &address.to_string(), "--drain-delay=0", "--labels-file"])
            .arg(labels.file())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        eventually("it answers", || get(address, ANSWERED).is_ok());
        let mut client = Client::connect(address).expect("a connection");
        let long = format!("/{}", "x".repeat(7000)); // 2,000 of these exceed the capacity of pipe and queue by far
        for _ in 0..2000 {
            assert_eq!(client.get(&long).expect("an answer").status, 404);
        }
        let pid = rustix::process::Pid::from_child(&child);
        let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
        println!("{peak} KiB at most with {redirection:?}");
        assert!(peak < 32 << 10, "{peak} KiB with {redirection:?}");
        rustix::process::kill_process(pid, Signal::TERM).expect("it runs");
        let start = Instant::now();
        eventually("it ends", || child.try_wait().expect("a status").is_some());
        // before the drain timeout
        assert!(start.elapsed() < Duration::from_secs(20), "{:?} with {redirection:?}", start.elapsed());
        assert_eq!(child.wait().expect("a status").code(), Some(0));
    }
}

#[test]
fn under_load_new_labels_are_in_the_next_answer_and_versions_are_never_mixed() {
    if service::selected().name() == "broken" {
        return; // its answers have no labels
    }
    let labels = LabelDir::new(LABELS);
    let process = start(&labels, &[]);
    let mut client = Client::connect(process.public).expect("a connection");
    swaps::under_load(process.public, &labels, 4, 1000, |round| {
        let answer = client.get("/v1/appinfo").expect("an answer");
        let release = answer.header("x-release");
        assert_eq!(release, Some(round.to_string().as_str()), "the first request after the swap");
    });
}

#[test]
fn sigterm_starts_a_drain() {
    let labels = LabelDir::new(LABELS);
    let mut process = start(&labels, &["--drain-delay=8s", "--drain-timeout=60s"]);
    let mut kept = Client::connect(process.public).expect("a connection");
    assert!(!kept.get(ANSWERED).expect("an answer").says_close());

    let start = Instant::now();
    process.signal(Signal::TERM);
    process.wait_for("draining: not ready");
    assert_eq!(get(process.admin, "/readyz").expect("an answer").status, 503);
    assert_eq!(get(process.admin, "/healthz").expect("an answer").status, 200);
    assert!(get(process.public, ANSWERED).expect("a new connection is served").says_close());
    let last = kept.get(ANSWERED).expect("an old one too");
    assert!(last.says_close());
    assert_eq!(kept.until_closed().expect("no reset"), b"");

    assert_eq!(process.ended().code(), Some(0));
    assert!(start.elapsed() >= Duration::from_secs(8), "it ends after the drain delay");
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "it ends before the timeout, as no request was in flight"
    );
    assert!(get(process.public, ANSWERED).is_err(), "the port is closed");
}

#[test]
fn sigint_ends_without_the_delay() {
    let labels = LabelDir::new(LABELS);
    let mut process = start(&labels, &["--drain-delay=1h"]);
    process.signal(Signal::INT);
    assert_eq!(process.ended().code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    for (first, second, code) in
        [(Signal::TERM, Signal::TERM, 143), (Signal::TERM, Signal::INT, 130), (Signal::INT, Signal::INT, 130)]
    {
        let labels = LabelDir::new(LABELS);
        // the longest possible times
        let flags = ["drain-delay", "drain-timeout", "idle-timeout"].map(|f| format!("--{f}={}s", u64::MAX));
        let mut process = start(&labels, &flags.each_ref().map(String::as_str));
        let mut idle = Client::connect(process.public).expect("a connection");
        idle.get(ANSWERED).expect("an answer");
        thread::sleep(Duration::from_millis(100)); // long enough to become idle
        idle.get(ANSWERED).expect("an answer after idle time");
        let mut unfinished = Client::connect(process.public).expect("a connection");
        unfinished.send("GET / HTT").expect("sent");
        eventually("the head has begun to arrive", || get(process.public, ANSWERED).is_ok());
        process.signal(first);
        process.wait_for("draining");
        process.signal(second);
        assert_eq!(process.ended().code(), Some(code));
    }
}

#[test]
fn a_request_that_does_not_end_is_cut_off_at_the_drain_timeout() {
    let labels = LabelDir::new(LABELS);
    let mut process = start(&labels, &["--drain-delay=0", "--drain-timeout=1500ms"]);
    let mut unfinished = Client::connect(process.public).expect("a connection");
    unfinished.get(ANSWERED).expect("an answer");
    unfinished.send("GET / HTT").expect("sent");
    // once another connection is answered, the server has read these bytes, or reads them within the second for
    // which idle connections stay open
    get(process.public, ANSWERED).expect("an answer");
    let start = Instant::now();
    process.signal(Signal::TERM);
    assert_eq!(process.ended().code(), Some(0));
    assert!(start.elapsed() >= Duration::from_millis(1500), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}: before the head's own limit", start.elapsed());
    assert_eq!(process.wait_for("drain timeout")["connections"], 1);
}

#[test]
fn a_request_in_flight_is_answered_after_the_delay() {
    let labels = LabelDir::new(LABELS);
    let mut process = start(&labels, &["--drain-delay=0"]);
    let mut client = Client::connect(process.public).expect("a connection");
    client.get(ANSWERED).expect("an answer");
    client.send("GET /nothing HTTP/1.1\r\n").expect("sent");
    process.signal(Signal::TERM);
    process.wait_for("no new connections");
    thread::sleep(Duration::from_millis(1500)); // longer than an idle connection stays open
    client.send("host: x\r\n\r\n").expect("still open");
    let answer = client.answer().expect("an answer");
    assert_eq!(answer.status, 404);
    assert!(answer.says_close());
    assert_eq!(process.ended().code(), Some(0));
}

#[test]
fn connections_that_wait_for_a_slot_when_the_drain_begins_are_answered() {
    const WAITING: usize = 5;
    let labels = LabelDir::new("fault-delay-ms=\"5000\"");
    let mut process = start(&labels, &["--max-connections=1"]);
    let mut in_flight = Client::connect(process.public).expect("a connection");
    in_flight.send("GET /v1/appinfo HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    eventually("its answer is delayed", || {
        get(process.admin, "/metrics").expect("an answer").body.contains("http_requests_in_flight 1\n")
    });
    let request = format!("GET {ANSWERED} HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut waiting: Vec<_> =
        (0..WAITING).map(|_| Client::connect(process.public).expect("at least queued")).collect();
    for client in &mut waiting {
        client.send(&request).expect("sent");
    }
    process.wait_for("--max-connections reached"); // one is accepted and waits, the others wait in the kernel
    process.signal(Signal::INT); // without the drain delay
    process.wait_for("no new connections");
    in_flight.answer().expect("an answer");
    for (number, client) in waiting.iter_mut().enumerate() {
        let answer = client.answer().unwrap_or_else(|error| panic!("{number} of {WAITING}: {error}"));
        assert_eq!(answer.status, 404);
    }
    assert_eq!(process.ended().code(), Some(0));
}

#[test]
fn no_request_is_lost_while_draining_under_load() {
    const DELAY: Duration = Duration::from_secs(1);
    // At the end, the server waits for a second for a request that may be on its way. On a busy machine, a client may not
    // run for so long. This is half of it.
    const ON_ITS_WAY: Duration = Duration::from_millis(500);
    let labels = LabelDir::new(LABELS);
    let mut process = start(&labels, &["--drain-delay=1s"]);
    let (address, answered, signalled) = (process.public, AtomicUsize::new(0), OnceLock::new());
    // A connection that is opened after the delay may be reset when the port closes.
    let ask = |client: &mut Client, opened: Instant, could_send: Instant| {
        let sent = client.send(format!("GET {ANSWERED} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
        let waited = could_send.elapsed();
        match sent.and_then(|()| client.answer()) {
            Ok(answer) => {
                assert_eq!(answer.status, 404);
                answered.fetch_add(1, Ordering::Relaxed);
                Some(answer)
            }
            Err(error) => {
                let signalled = signalled.get().expect("no request is lost before");
                let late = opened >= *signalled + DELAY && error.kind() == io::ErrorKind::ConnectionReset;
                let slow = waited >= ON_ITS_WAY;
                assert!(late || slow, "a request is lost, sent after {waited:?}: {error}");
                None
            }
        }
    };
    // A client stops only when a new connection is refused: it then knows that its request was not received.
    let client = |keeps_its_connection: bool| loop {
        let Ok(mut client) = Client::connect(address) else { break };
        let opened = Instant::now();
        let mut could_send = opened;
        while let Some(answer) = ask(&mut client, opened, could_send)
            && keeps_its_connection
            && !answer.says_close()
        {
            could_send = Instant::now();
        }
    };
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| client(false));
            scope.spawn(|| client(true));
        }
        eventually("there is load", || answered.load(Ordering::Relaxed) > 1000);
        signalled.get_or_init(Instant::now);
        process.signal(Signal::TERM);
        assert_eq!(process.ended().code(), Some(0));
    });
    process.wait_for("drained");
    println!("{answered:?} requests answered, none lost");
}

#[test]
fn pid_1_drains_too() {
    let labels = LabelDir::new(LABELS);
    let unshare = ["unshare", "--map-root-user", "--user", "--pid", "--fork"];
    if !std::process::Command::new("unshare")
        .args(&unshare[1..])
        .arg("true")
        .status()
        .is_ok_and(|s| s.success())
    {
        println!("SKIPPED: process namespaces are not available");
        return;
    }
    for (signal, flag) in [(Signal::TERM, "--drain-delay=100ms"), (Signal::INT, "--drain-delay=1h")] {
        let mut command = command(Path::new(env!("CARGO_BIN_EXE_appinfo")), &unshare);
        let mut process = Process::start(command.arg("--labels-file").arg(labels.file()).arg(flag));
        process.follow_child();
        process.signal(signal);
        assert_eq!(process.ended().code(), Some(0));
        process.wait_for("drained");
    }
}

#[test]
fn without_permission_for_the_label_file_the_pod_is_not_ready_and_errors_name_the_file() {
    let labels = LabelDir::new(LABELS);
    let directory = tempfile::tempdir().expect("a directory");
    let binary = directory.path().join("appinfo");
    fs::copy(env!("CARGO_BIN_EXE_appinfo"), &binary).expect("a copy that any user may run");
    for path in [directory.path(), labels.file().parent().expect("its directory")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("readable");
    }
    let mut command = command(&binary, &[]);
    if rustix::process::geteuid().is_root() {
        command.uid(65532).gid(65532); // root may read everything
    }
    let process = Process::start(command.arg("--labels-file").arg(labels.file()));
    assert_eq!(get(process.admin, "/readyz").expect("an answer").status, 200);

    fs::set_permissions(labels.file(), fs::Permissions::from_mode(0o000)).expect("unreadable");
    let cause =
        format!("cannot read labels from {}: Permission denied (os error 13)", labels.file().display());
    let readyz = get(process.admin, "/readyz").expect("an answer");
    assert_eq!((readyz.status, readyz.body), (503, format!("{cause}\n")));
    if service::selected().name() != "broken" {
        let answer = get(process.public, "/v1/appinfo").expect("an answer");
        assert_eq!((answer.status, answer.body), (500, format!("{{\"error\":\"{cause}\"}}\n")));
    }
    let answer = get(process.public, ANSWERED).expect("an answer");
    assert_eq!((answer.status, answer.header("x-release")), (404, None));
}

#[test]
fn after_invalid_requests_are_refused_other_requests_are_answered() {
    let labels = LabelDir::new(LABELS);
    let process = start(&labels, &[]);
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(1000));
    let cases: &[(&[u8], u16)] = &[
        (b"\0\0\0\0\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /\x01 HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400), // a TLS client hello
        (long.as_bytes(), 431),
        (many.as_bytes(), 431),
        (b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        (b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        (b"GET http://other/nothing HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        (b"GET /nothing HTTP/1.0\r\n\r\n", 404),
        (b"\r\n\r\nGET /nothing HTTP/1.1\nhost: x\n\n", 404),
    ];
    for (bytes, status) in cases {
        let mut client = Client::connect(process.public).expect("a connection");
        client.send(bytes).expect("sent");
        let start = &bytes[..bytes.len().min(40)];
        let answer = client.answer().unwrap_or_else(|error| panic!("{}: {error}", start.escape_ascii()));
        assert_eq!(answer.status, *status, "{}", start.escape_ascii());
    }
    assert_eq!(get(process.public, ANSWERED).expect("an answer").status, 404);
}

/// The answer to a request on a new connection, which the server closes afterwards.
fn last_answer(server: SocketAddr, request: &str) -> Answer {
    let mut client = Client::connect(server).expect("a connection");
    client.send(request).expect("sent");
    let answer = client.answer().unwrap_or_else(|error| panic!("{request:?}: {error}"));
    assert!(answer.says_close(), "{request:?}: {answer:?}");
    assert_eq!(client.until_closed().expect("no reset"), b"", "{request:?}");
    answer
}

#[test]
fn http_1_1_without_exactly_one_host_is_refused_on_both_ports_with_the_reason() {
    let labels = LabelDir::new(LABELS);
    let process = start(&labels, &[]);
    let (missing, repeated) = ("no Host header: HTTP/1.1 needs one", "more than one Host header");
    let invalid = "the Host header is not a valid host with an optional port";
    for port in [process.public, process.admin] {
        for (request, reason) in [
            ("GET /readyz HTTP/1.1\r\n\r\n", missing),
            ("GET http://x/readyz HTTP/1.1\r\n\r\n", missing),
            ("POST /readyz HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc", missing),
            ("GET /readyz HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", repeated),
            ("GET /readyz HTTP/1.1\r\nhost: x\r\nHost: x\r\n\r\n", repeated),
            ("GET http://x/readyz HTTP/1.1\r\nhost: x\r\nhost: x\r\n\r\n", repeated),
            ("GET /readyz HTTP/1.0\r\nhost: x\r\nhost: x\r\n\r\n", repeated),
            ("GET /readyz HTTP/1.1\r\nhost: a b/c\r\n\r\n", invalid),
            ("GET /readyz HTTP/1.1\r\nhost: x:y\r\n\r\n", invalid),
            ("GET http://x/readyz HTTP/1.1\r\nhost: a b/c\r\n\r\n", invalid),
            ("GET /readyz HTTP/1.0\r\nhost: a b/c\r\n\r\n", invalid),
        ] {
            let answer = last_answer(port, request);
            let expected = (400, format!("{{\"error\":\"{reason}\"}}\n"));
            assert_eq!((answer.status, answer.body.clone()), expected, "{request:?}");
            assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
            assert_eq!((answer.header("x-served-by"), answer.header("x-release")), (None, None));
        }
        for target in ["/readyz", "http://other:1/readyz"] {
            for rest in
                ["1.1\r\nhost:", "1.1\r\nhost: x:80", "1.1\r\nhost: [::1]:80", "1.0", "1.0\r\nhost: x"]
            {
                let mut client = Client::connect(port).expect("a connection");
                client.send(format!("GET {target} HTTP/{rest}\r\n\r\n")).expect("sent");
                let status = client.answer().expect("an answer").status;
                assert_eq!(status, if port == process.admin { 200 } else { 404 }, "{target} {rest:?}");
            }
        }
    }
    eventually("the answered requests are logged", || process.messages("request").len() >= 10);
    assert_eq!(process.messages("request").len(), 10, "refused requests do not reach the router");
}

#[test]
fn an_absolute_target_is_answered_like_its_path() {
    let labels = LabelDir::new(LABELS);
    let process = start(&labels, &[]);
    let answer_to = |target: &str| {
        let mut client = Client::connect(process.public).expect("a connection");
        client.send(format!("GET {target} HTTP/1.1\r\nhost: y\r\n\r\n")).expect("sent");
        client.answer().expect("an answer")
    };
    let (absolute, path) = (answer_to("http://x:80/v1/appinfo?a=b"), answer_to("/v1/appinfo"));
    assert_eq!((absolute.status, absolute.body), (path.status, path.body));
    assert_eq!(answer_to("http://x").status, 404);
}

#[test]
fn the_connection_preface_of_http_2_is_answered_with_400_on_both_ports() {
    let labels = LabelDir::new(LABELS);
    let process = start(&labels, &[]);
    let settings = "\0\0\0\x04\0\0\0\0\0";
    for port in [process.public, process.admin] {
        for frames in ["", settings, &settings.repeat(1000)] {
            let answer = last_answer(port, &format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{frames}"));
            assert_eq!((answer.status, answer.body.as_str()), (400, ""));
        }
    }
}

#[test]
fn a_request_with_a_large_body_is_answered_without_storing_the_body() {
    let labels = LabelDir::new(LABELS);
    let process = start(&labels, &[]);
    let megabyte = vec![b'x'; 1 << 20];
    let upgrade = "content-length: 67108864\r\nconnection: upgrade\r\nupgrade: h2c";
    for head in ["content-length: 67108864", "transfer-encoding: chunked", upgrade] {
        let mut client = Client::connect(process.public).expect("a connection");
        client.send(format!("POST /v1/appinfo HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n")).expect("sent");
        for _ in 0..64 {
            if head.starts_with("transfer") {
                client.send("100000\r\n").expect("received");
            }
            client.send(&megabyte).expect("received");
            if head.starts_with("transfer") {
                client.send("\r\n").expect("received");
            }
        }
        let answer = client.answer().expect("an answer");
        assert_eq!(answer.status, 405);
        assert!(answer.says_close());
    }
    assert!(process.peak_kib() < 32 << 10, "{} KiB", process.peak_kib());
}

#[test]
fn a_slow_head_is_cut_off_and_an_idle_connection_is_not() {
    let labels = LabelDir::new(LABELS);
    let process = start(&labels, &[]);
    let mut idle = Client::connect(process.public).expect("a connection");
    idle.get(ANSWERED).expect("an answer");
    let mut slow = Client::connect(process.public).expect("a connection");
    let start = Instant::now();
    for byte in "GET /nothing HTTP/1.1".bytes().cycle() {
        if slow.send([byte]).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(250));
        assert!(start.elapsed() < PATIENCE, "it is never cut off");
    }
    let cut_off_after = start.elapsed();
    assert!(cut_off_after > Duration::from_secs(9), "{cut_off_after:?}");
    thread::sleep(Duration::from_secs(13).saturating_sub(start.elapsed()));
    assert_eq!(idle.get(ANSWERED).expect("an answer").status, 404);
}

#[test]
fn connections_above_the_limit_wait_and_are_then_answered() {
    let labels = LabelDir::new(LABELS);
    let process = start(&labels, &["--max-connections=2"]);
    let (together, answered) = (Barrier::new(20), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                together.wait();
                // no client closes its connection, so the server must
                let mut client = Client::connect(process.public).expect("a connection");
                assert_eq!(client.get(ANSWERED).expect("an answer").status, 404);
                answered.fetch_add(1, Ordering::Relaxed);
                eventually("all are answered", || answered.load(Ordering::Relaxed) == 20);
            });
        }
    });
    process.wait_for("--max-connections reached");
    let logged = process.messages("--max-connections reached").len();
    assert!(logged < 5, "logged at most every 10 s, not for each connection: {logged} times");
}

#[test]
fn the_memory_of_a_connection_is_within_the_limit_that_the_manifests_assume() {
    let labels = LabelDir::new(LABELS);
    let process = start(&labels, &["--log-filter=info"]);
    let head = format!("GET /nothing HTTP/1.1\r\nhost: x\r\nx: {}", "a".repeat(7900));
    let before = process.peak_kib();
    let crowd: Vec<_> = (0..400)
        .map(|_| {
            let mut client = Client::connect(process.public).expect("a connection");
            client.send(format!("{head}\r\n\r\n")).expect("sent");
            client.answer().expect("an answer");
            client.send(&head).expect("sent");
            client
        })
        .collect();
    // by the time of this answer, the server has read all bytes that were sent before
    get(process.public, ANSWERED).expect("an answer");
    let each = (process.peak_kib() - before) / crowd.len() as u64;
    assert!(each <= KIB_PER_CONNECTION, "{each} KiB for a connection");
}

#[test]
fn an_idle_connection_takes_little_memory_and_is_served_again() {
    let labels = LabelDir::new(LABELS);
    let process = start(&labels, &["--log-filter=info"]);
    let before = process.peak_kib();
    let idle: Vec<_> = (0..400)
        .map(|_| {
            let mut client = Client::connect(process.public).expect("a connection");
            client.get(ANSWERED).expect("an answer");
            client
        })
        .collect();
    let each = (process.peak_kib() - before) / idle.len() as u64;
    assert!(each <= 16, "{each} KiB for an idle connection");
    for mut client in idle {
        assert_eq!(client.get(ANSWERED).expect("an answer after idle time").status, 404);
    }
}

#[test]
fn the_server_recovers_after_running_out_of_file_descriptors() {
    let labels = LabelDir::new(LABELS);
    let binary = Path::new(env!("CARGO_BIN_EXE_appinfo"));
    let mut command = command(binary, &["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"]);
    let process = Process::start(command.arg("--labels-file").arg(labels.file()));
    let mut early = Client::connect(process.public).expect("a connection");
    early.get(ANSWERED).expect("an answer");

    let mut crowd: Vec<_> =
        (0..500).map(|_| TcpStream::connect(process.public).expect("at least queued")).collect();
    process.wait_for("out of file descriptors");
    let (start, cpu) = (Instant::now(), process.cpu_seconds());
    let mut answers = BTreeSet::new();
    while start.elapsed() < Duration::from_secs(3) {
        answers.insert(get(process.admin, "/readyz").expect("probes are still answered").status);
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(answers, BTreeSet::from([200]));
    let spent = process.cpu_seconds() - cpu;
    println!("{spent} s of CPU time in 3 s");
    assert!(spent < 1.5, "{spent} s of CPU time in 3 s: it spins");
    assert!(process.messages("out of file descriptors").len() < 3, "logged at most every 10 s");

    // connections without a request are closed, so that other clients are answered
    assert_eq!(get(process.public, ANSWERED).expect("an answer despite the crowd").status, 404);
    crowd.clear();
    eventually("connections are kept alive again", || {
        let mut client = Client::connect(process.public).expect("a connection");
        client.get(ANSWERED).is_ok_and(|answer| !answer.says_close()) && client.get(ANSWERED).is_ok()
    });
}
