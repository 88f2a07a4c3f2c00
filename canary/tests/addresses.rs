//! The choice of addresses, and the attribution of requests without an answer.

mod common;

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use common::{json_lines, run};
use serde_json::{Value, json};
use testkit::{eventually, free_port};

/// What a server does with a request.
#[derive(Clone, Copy)]
enum Pod {
    /// Answers with 200, and names this release.
    Good(&'static str),
    /// Gives this number of such answers, and never answers after that.
    Dies(&'static str, usize),
    /// A load balancer: each fourth request goes to the canary, which never answers each tenth of its requests.
    Balancer,
}

/// A server at this address and port (0: one that no other address of these tests has). Returns the port, and the
/// number of connections.
fn serve(address: &str, port: u16, pod: Pod) -> (u16, Arc<AtomicUsize>) {
    let ip: IpAddr = address.parse().expect("an address");
    let port = if port == 0 { free_port().port() } else { port };
    let listener = TcpListener::bind(SocketAddr::new(ip, port)).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    thread::spawn(move || {
        let mut kept = Vec::new(); // dropping a connection would close it
        for client in listener.incoming().map_while(Result::ok) {
            let before = count.fetch_add(1, Ordering::SeqCst);
            match pod {
                Pod::Dies(_, answers) if before >= answers => kept.push(client),
                Pod::Balancer if before % 40 == 39 => kept.push(client),
                Pod::Balancer => {
                    let release = if before % 4 == 3 { "canary" } else { "stable" };
                    thread::spawn(move || answer(client, release));
                }
                Pod::Good(release) | Pod::Dies(release, _) => {
                    thread::spawn(move || answer(client, release));
                }
            }
        }
    });
    (port, connections)
}

fn answer(mut client: TcpStream, release: &str) {
    let _ = client.read(&mut [0; 1024]);
    let head = format!("HTTP/1.1 200 OK\r\nx-release: {release}\r\ncontent-length: 0\r\n\r\n");
    let _ = client.write_all(head.as_bytes());
}

/// A port where connection attempts time out, because its queue of connections is full.
struct BlackHole {
    _listener: socket2::Socket,
    _queue: Vec<socket2::Socket>,
}

impl BlackHole {
    fn at(address: SocketAddr) -> Self {
        let socket = |address: SocketAddr| {
            socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)
        };
        let listener = socket(address).expect("a socket");
        listener.bind(&address.into()).expect("the address is free");
        listener.listen(0).expect("it listens");
        let queue = (0..4).map(|_| {
            let client = socket(address).expect("a socket");
            client.set_nonblocking(true).expect("not blocking");
            let _ = client.connect(&address.into()); // does not block
            client
        });
        let new = Self { _queue: queue.collect(), _listener: listener };
        // the kernel may not have taken in the queue yet
        eventually("attempts time out", || {
            let tried = TcpStream::connect_timeout(&address, Duration::from_millis(300));
            tried.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)
        });
        new
    }
}

/// The time-out of requests that a server answers, however busy the machine is.
const PATIENT: &str = "--timeout=60s";

fn summary(url: &str, resolve: &str, more: &[&str]) -> (Option<i32>, Value) {
    let mut arguments = vec!["watch", url, "--resolve", resolve, "--output=json"];
    arguments.extend(more);
    let (code, output, messages) = run(&arguments);
    assert!(!output.is_empty(), "{messages}");
    (code, json_lines(&output).pop().expect("a summary"))
}

#[test]
fn requests_go_to_all_addresses_of_a_name_at_random() {
    let (port, stable) = serve("127.0.0.7", 0, Pod::Good("stable"));
    let (_, canary) = serve("127.0.0.8", port, Pod::Good("canary"));
    let resolve = format!("pods:{port}:127.0.0.7,127.0.0.8");
    let more = ["--count=200", "--rate=200", PATIENT];
    let (code, summary) = summary(&format!("http://pods:{port}"), &resolve, &more);
    assert_eq!((code, &summary["success"]), (Some(0), &json!(200)), "{summary}");
    let (stable, canary) = (stable.load(Ordering::SeqCst), canary.load(Ordering::SeqCst));
    assert_eq!(stable + canary, 200, "a connection for each request");
    // fewer than 60 of 200 have a probability of 4 in 10^9
    assert!(stable >= 60 && canary >= 60, "{stable} and {canary}");
    assert_eq!(summary["releases"]["canary"]["success"], canary, "{summary}");
}

#[test]
fn a_dead_address_is_not_replaced_and_its_failures_count_for_its_release() {
    let (port, _) = serve("127.0.0.9", 0, Pod::Good("stable"));
    let answers = 20;
    let (_, canary) = serve("127.0.0.10", port, Pod::Dies("canary", answers));
    let resolve = format!("pods:{port}:127.0.0.9,127.0.0.10");
    let more = ["--count=200", "--rate=200", "--timeout=10s"];
    let (code, summary) = summary(&format!("http://pods:{port}"), &resolve, &more);
    assert_eq!(code, Some(0), "{summary}");
    let lost = canary.load(Ordering::SeqCst) - answers;
    assert!(lost > 0, "{summary}");
    let of_canary = &summary["releases"]["canary"];
    assert_eq!((&of_canary["success"], &of_canary["failure"]), (&json!(answers), &json!(lost)), "{summary}");
    assert_eq!(summary["no_answer"], json!({"count": lost, "causes": {"timed-out": lost}}), "{summary}");
    assert_eq!(summary["releases"]["stable"]["failure"], 0, "{summary}");
    assert_eq!(summary["requests"], 200, "each counts once: {summary}");
}

#[test]
fn judge_rolls_back_a_canary_that_dies_and_has_its_own_address() {
    let (port, _) = serve("127.0.0.11", 0, Pod::Good("stable"));
    serve("127.0.0.12", port, Pod::Dies("canary", 5));
    let resolve = format!("pods:{port}:127.0.0.11,127.0.0.12");
    let url = format!("http://pods:{port}");
    let (code, output, messages) =
        run(&["judge", &url, "--resolve", &resolve, "--rate=50", "--timeout=5s", "--for=90s"]);
    assert_eq!(code, Some(1), "{output}{messages}");
}

#[test]
fn a_request_without_an_answer_is_not_attributed_if_the_name_has_one_address() {
    let (port, _) = serve("127.0.0.13", 0, Pod::Dies("canary", 5));
    let resolve = format!("pods:{port}:127.0.0.13");
    let more = ["--count=20", "--rate=100", "--timeout=10s"];
    let (_, summary) = summary(&format!("http://pods:{port}"), &resolve, &more);
    assert_eq!(summary["releases"]["canary"]["failure"], 0, "{summary}");
    assert_eq!(summary["no_answer"]["count"], 15, "{summary}");
}

#[test]
fn a_canary_that_hangs_behind_the_two_addresses_of_a_load_balancer_is_not_promoted() {
    for (one, other) in [("127.0.0.17", "127.0.0.18"), ("127.0.0.19", "::1")] {
        let (port, _) = serve(one, 0, Pod::Balancer);
        serve(other, port, Pod::Balancer);
        let resolve = format!("shop:{port}:{one},{other}");
        let url = format!("http://shop:{port}");
        // without its hanging requests it would be promoted after 350 of its 750 answers
        let (code, output, messages) = run(&[
            "judge",
            &url,
            "--resolve",
            &resolve,
            "--rate=200",
            "--timeout=5s",
            "--count=3000",
            "--output=json",
        ]);
        let summary = json_lines(&output).pop().expect("a summary");
        assert_eq!(code, Some(2), "{one} and {other}: {summary}{messages}");
        let lost = summary["no_answer"]["count"].as_u64().expect("a count");
        let failed = |release: &str| summary["releases"][release]["failure"].as_u64().expect("a count");
        assert!(lost > 40 && failed("stable") + failed("canary") <= 2, "{one} and {other}: {summary}");
    }
}

#[test]
fn the_other_family_is_used_if_connections_of_one_family_time_out() {
    let (port, _) = serve("127.0.0.14", 0, Pod::Good("stable"));
    let _hole = BlackHole::at(format!("[::1]:{port}").parse().expect("an address"));
    let resolve = format!("pods:{port}:[::1],127.0.0.14");
    let more = ["--count=20", "--rate=20", PATIENT];
    let (code, summary) = summary(&format!("http://pods:{port}"), &resolve, &more);
    assert_eq!((code, &summary["success"]), (Some(0), &json!(20)), "{summary}");
}

#[test]
fn the_other_family_is_used_if_one_family_refuses_connections() {
    let (port, _) = serve("::1", 0, Pod::Good("stable"));
    let resolve = format!("pods:{port}:127.0.0.15,::1");
    let more = ["--count=20", "--rate=50", PATIENT];
    let (code, summary) = summary(&format!("http://pods:{port}"), &resolve, &more);
    assert_eq!((code, &summary["success"]), (Some(0), &json!(20)), "{summary}");
}

#[test]
fn all_requests_use_the_chosen_family() {
    let (port, ipv6) = serve("::1", 0, Pod::Good("stable"));
    let (_, ipv4) = serve("127.0.0.16", port, Pod::Good("canary"));
    let resolve = format!("pods:{port}:[::1],127.0.0.16");
    let more = ["--count=50", "--rate=100", PATIENT];
    let (_, summary) = summary(&format!("http://pods:{port}"), &resolve, &more);
    assert_eq!(summary["success"], 50, "{summary}");
    // the choice itself opens a connection without a request, and on a slow machine one to the other family, too
    let (ipv6, ipv4) = (ipv6.load(Ordering::SeqCst), ipv4.load(Ordering::SeqCst));
    let (more, fewer) = (ipv6.max(ipv4), ipv6.min(ipv4));
    assert!((50..=51).contains(&more) && fewer <= 1, "{ipv6} and {ipv4}: {summary}");
    assert_eq!(summary["releases"].as_object().expect("releases").len(), 1, "{summary}");
}

#[test]
fn addresses_for_another_name_are_refused() {
    for (resolve, cause) in [
        (
            "other:80:127.0.0.1",
            "--resolve is for other:80, but requests go to http://127.0.0.1:8080/v1/appinfo",
        ),
        ("pods:80", "want HOST:PORT:ADDRESS"),
        ("pods:80:somewhere", "is not an IP address"),
    ] {
        let (code, output, messages) = run(&["judge", "--resolve", resolve]);
        assert_eq!((code, output.as_str()), (Some(3), ""), "{messages}");
        assert!(messages.contains(cause), "{messages}");
    }
}
