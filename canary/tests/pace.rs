//! The timing of requests: after a stop of the process, and with times beyond the range of the clock.

mod common;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::Child,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use common::{json_lines, run, start};
use rustix::process::Signal;
use testkit::{eventually, signal};

/// A server that answers at once. Returns its URL, and the time of each connection.
fn server() -> (String, Arc<Mutex<Vec<Instant>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let log = Arc::clone(&times);
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            log.lock().expect("no panic").push(Instant::now());
            thread::spawn(move || {
                let _ = client.read(&mut [0; 1024]);
                let _ =
                    client.write_all(b"HTTP/1.1 200 OK\r\nx-release: stable\r\ncontent-length: 0\r\n\r\n");
            });
        }
    });
    (url, times)
}

/// Waits until the process has sent some requests, then stops it for `time`. Returns the time at which it
/// continued.
fn freeze(process: &Child, sent: &Mutex<Vec<Instant>>, time: Duration) -> Instant {
    eventually("some requests", || sent.lock().expect("no panic").len() >= 20);
    signal(process, Signal::STOP);
    thread::sleep(time);
    let end = Instant::now();
    signal(process, Signal::CONT);
    end
}

#[test]
fn requests_missed_during_a_stop_are_not_sent_later() {
    let (url, sent) = server();
    let mut watch = start(&["watch", &url, "--rate=50", "--for=1h", "--output=json"]);
    let stop = Duration::from_secs(4);
    let end = freeze(&watch, &sent, stop);
    let after = |limit: Duration| {
        let sent = sent.lock().expect("no panic");
        sent.iter().filter(|at| **at >= end && **at < end + limit).count()
    };
    eventually("requests again", || after(Duration::MAX / 4) >= 60);
    let in_a_second = after(Duration::from_secs(1));
    assert!(in_a_second <= 80, "{in_a_second} requests in the second after 4 s of 50 a second");

    signal(&watch, Signal::INT);
    let lines = BufReader::new(watch.stdout.take().expect("its output")).lines();
    let lines: Vec<_> = lines.map(|line| line.expect("text")).collect();
    watch.wait().expect("its end");
    let mut seconds = vec![0.0];
    let lines = json_lines(&lines.join("\n"));
    let of_seconds = lines.iter().filter(|line| line["type"] == "second");
    seconds.extend(of_seconds.map(|line| line["seconds"].as_f64().expect("a number")));
    let late = seconds.windows(2).find(|pair| pair[1] - pair[0] > 2.5).expect("a line for the whole stop")[1];
    let at_once = seconds.iter().filter(|at| (late..late + 0.5).contains(*at)).count();
    assert!(at_once <= 2, "at most the line of the stop and the next line: {seconds:?}");
}

#[test]
fn no_request_is_sent_after_the_end() {
    for command in ["watch", "judge"] {
        let (url, sent) = server();
        let mut process = start(&[command, &url, "--rate=50", "--for=3s", "--timeout=1s", "--output=json"]);
        let end = freeze(&process, &sent, Duration::from_secs(4));
        process.wait().expect("its end");
        let late = sent.lock().expect("no panic").iter().filter(|at| **at >= end).count();
        assert_eq!(late, 0, "{command}: requests after --for was over");
    }
}

#[test]
fn a_very_long_time_means_no_limit_and_an_invalid_time_is_refused() {
    let (url, _) = server();
    let longest = u64::MAX.to_string();
    for time in [longest.as_str(), "9223372036854775807s", "500000000000y"] {
        let times = ["--for", "--timeout", "--max-latency"].map(|flag| format!("{flag}={time}"));
        let [whole, timeout, latency] = &times;
        for command in ["watch", "judge"] {
            let arguments =
                [command, &url, whole, timeout, latency, "--count=5", "--rate=100", "--output=json"];
            let (code, output, messages) = run(&arguments);
            let summary = json_lines(&output).pop().expect("a summary");
            assert_eq!(summary["success"], 5, "{time}: {summary}{messages}");
            assert_eq!(code, Some(if command == "watch" { 0 } else { 5 }), "{time}: {messages}");
        }
    }
    for time in ["18446744073709551616", "99999999999999999999999s", "1e400", "-1", "inf"] {
        let (code, output, messages) = run(&["watch", &url, &format!("--for={time}")]);
        assert_eq!((code, output.as_str()), (Some(3), ""), "{time}: {messages}");
        assert!(messages.contains(time), "the message names the value: {messages}");
    }
}

#[test]
fn times_may_have_decimals() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port"); // connects, and never answers
    let url = format!("http://{}", silent.local_addr().expect("its address"));
    for time in ["0.5", "0.5s", "500ms", ".5m"] {
        let (code, output, messages) = run(&["watch", &url, "--count=1", "--timeout", time, "--output=json"]);
        if time == ".5m" {
            assert_eq!(code, Some(3), "{messages}");
            continue;
        }
        let summary = json_lines(&output).pop().expect("a summary");
        assert_eq!(summary["trouble"], "no answer within 500ms", "{time}: {summary}{messages}");
    }
}
