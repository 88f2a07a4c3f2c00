//! The vote of a class in a rehearsal, as phones see it, and whoever else is in the room's network.

mod common;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{run, serving::Serving, start};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use testkit::{
    PATIENCE, eventually,
    http::{self, Answer},
};

/// A phone that votes.
struct Phone {
    to: SocketAddr,
    cookie: String,
}

impl Phone {
    /// A phone that has loaded the page.
    fn new(to: SocketAddr) -> Self {
        let page = http::get(to, "/").expect("the page");
        let set = page.header("set-cookie").expect("a cookie").to_owned();
        let (cookie, terms) = set.split_once(';').expect("its terms");
        assert_eq!(terms, " Path=/; HttpOnly; SameSite=Lax", "it is gone with the browser");
        Self { to, cookie: cookie.to_owned() }
    }

    /// A phone with a made-up cookie.
    fn made_up(to: SocketAddr, number: u32) -> Self {
        Self { to, cookie: format!("canary-phone={number:032x}") }
    }

    fn asks(&self) -> Value {
        ask(self.to, &format!("GET /v1/vote HTTP/1.1\r\ncookie: {}", self.cookie), "").json()
    }

    fn says(&self, body: &Value) -> Answer {
        let head = "POST /v1/vote HTTP/1.1\r\ncontent-type: application/json\r\ncookie: other=1; ";
        ask(self.to, &format!("{head}{}", self.cookie), &body.to_string())
    }

    fn votes(&self, round: u64, choice: &str) -> (u16, String) {
        let answer = self.says(&json!({"round": round, "choice": choice}));
        (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned())
    }
}

/// Sends a request with this head, which has no host yet.
fn ask(to: SocketAddr, head: &str, body: &str) -> Answer {
    let length = body.len();
    let host = if head.contains("\r\nhost: ") { String::new() } else { format!("host: {to}\r\n") };
    let request = format!("{head}\r\n{host}content-length: {length}\r\nconnection: close\r\n\r\n{body}");
    http::send(to, request).expect("an answer")
}

fn hide(rehearsal: &Serving, hidden: bool) {
    assert_eq!(rehearsal.post("/v1/rehearsal", &json!({"curtain": hidden}).to_string()).status, 200);
}

/// The round that viewers see: its number, whether it is open, and the votes for promote, wait and roll back.
fn round(rehearsal: &Serving) -> Option<(u64, bool, [u64; 3])> {
    let state = rehearsal.events("/v1/events").next().expect("a state");
    let round = &state["rehearsal"]["vote"]["round"];
    let sum = |choice: &str| round[choice].as_u64().expect("a sum");
    Some((round["number"].as_u64()?, round["open"] == true, ["promote", "wait", "roll_back"].map(sum)))
}

fn until_round(rehearsal: &Serving, wanted: Option<(u64, bool, [u64; 3])>) {
    eventually(&format!("{wanted:?}"), || round(rehearsal) == wanted);
}

fn take_step(rehearsal: &Serving, step: u32) {
    eventually("the step before has ended", || {
        rehearsal.post("/v1/step", &json!({"step": step}).to_string()).status == 200
    });
}

#[test]
fn a_round_lasts_from_the_curtain_to_the_judge_and_a_phone_has_one_vote_in_it() {
    let (rehearsal, to) = Serving::rehearse_with_vote(0, &[]);
    let (one, other) = (Phone::new(to), Phone::new(to));
    assert_ne!(one.cookie, other.cookie);
    assert_eq!(one.asks()["round"], Value::Null, "the judge is to be seen, so there is nothing to guess");
    let closed = "there is no vote at the moment: wait for the teacher's next question";
    assert_eq!(one.votes(1, "wait"), (409, closed.to_owned()));

    hide(&rehearsal, true);
    assert_eq!(
        one.asks(),
        json!({
            "round": 1, "step": 0, "title": "A rehearsal with no cluster", "yours": null,
            "canary": {"answers": 0, "failures": 0, "slow": 0}
        })
    );
    assert_eq!(one.votes(1, "wait"), (200, String::new()));
    assert_eq!(one.votes(1, "wait"), (200, String::new()), "a double tap");
    assert_eq!(other.votes(1, "roll_back"), (200, String::new()));
    until_round(&rehearsal, Some((1, true, [0, 1, 1])));
    assert_eq!(one.asks()["yours"], "wait");
    let soon = "wait a second before you change your vote again";
    // each change that counts begins another second, so a busy machine has another try
    let mut choices = ["promote", "wait"].into_iter().cycle();
    eventually("votes are not changed faster than once a second", || {
        let told = one.votes(1, choices.next().expect("a cycle"));
        if told != (429, soon.to_owned()) {
            assert_eq!(told, (200, String::new()));
            return false;
        }
        true
    });
    eventually("the second is over", || one.votes(1, "promote") == (200, String::new()));
    until_round(&rehearsal, Some((1, true, [1, 0, 1])));

    hide(&rehearsal, true); // again, from a second viewer
    until_round(&rehearsal, Some((1, true, [1, 0, 1])));
    hide(&rehearsal, false);
    until_round(&rehearsal, Some((1, false, [1, 0, 1])));
    assert_eq!(one.votes(1, "wait"), (409, closed.to_owned()));
    assert_eq!((one.asks()["round"].clone(), one.asks()["yours"].clone()), (Value::Null, json!("promote")));

    take_step(&rehearsal, 1);
    until_round(&rehearsal, None);
    hide(&rehearsal, true);
    until_round(&rehearsal, Some((2, true, [0, 0, 0])));
    let over = "this vote is for round 1, which is over: it is round 2 now";
    assert_eq!(one.votes(1, "wait"), (409, over.to_owned()), "a tap that comes late");
    assert_eq!(one.votes(2, "wait").0, 200);
    take_step(&rehearsal, 2);
    until_round(&rehearsal, Some((3, true, [0, 0, 0])));
    assert_eq!(one.votes(3, "wait").0, 200);
    assert_eq!(rehearsal.post("/v1/reset", "{}").status, 200);
    until_round(&rehearsal, Some((4, true, [0, 0, 0])));
}

#[test]
fn two_hundred_phones_vote_and_the_next_one_is_told_why_not() {
    let (rehearsal, to) = Serving::rehearse_with_vote(0, &[]);
    hide(&rehearsal, true);
    for number in 0..200 {
        assert_eq!(Phone::made_up(to, number).votes(1, "wait"), (200, String::new()), "{number}");
    }
    let told = "200 phones have voted in this round, and no more are counted";
    assert_eq!(Phone::made_up(to, 200).votes(1, "wait"), (403, told.to_owned()));
    until_round(&rehearsal, Some((1, true, [0, 200, 0])));
    hide(&rehearsal, false);
    hide(&rehearsal, true);
    assert_eq!(Phone::made_up(to, 200).votes(2, "wait").0, 200, "each round has room anew");
}

#[test]
fn a_phone_can_do_nothing_but_vote() {
    let (rehearsal, to) = Serving::rehearse_with_vote(0, &["--allow-host=school.example"]);
    take_step(&rehearsal, 1);
    hide(&rehearsal, true);
    let json = "content-type: application/json";
    for (path, body) in [
        ("/v1/step", json!({"step": 2})),
        ("/v1/rehearsal", json!({"curtain": false})),
        ("/v1/reset", json!({})),
        ("/flagger/rollout", json!({"name": "a", "namespace": "b"})),
    ] {
        let answer = ask(to, &format!("POST {path} HTTP/1.1\r\n{json}"), &body.to_string());
        assert_eq!((answer.status, answer.json()), (404, json!({"error": "not found"})), "{path}");
    }
    for path in [
        "/v1/verdict",
        "/v1/events",
        "/metrics",
        "/page.js",
        "/page.css",
        "/v1/vote.svg",
        "/readyz",
        "/index.html",
    ] {
        let answer = ask(to, &format!("GET {path} HTTP/1.1"), "");
        assert_eq!((answer.status, answer.json()), (404, json!({"error": "not found"})), "{path}");
    }
    assert_eq!(ask(to, "POST / HTTP/1.1", "").status, 405);
    assert_eq!(ask(to, "DELETE /v1/vote HTTP/1.1", "").status, 405);
    let state = rehearsal.events("/v1/events").next().expect("a state");
    assert_eq!((&state["rehearsal"]["number"], &state["rehearsal"]["curtain"]), (&json!(1), &json!(true)));

    let policy = "default-src 'none'; script-src 'self'";
    for path in ["/", "/vote.css", "/vote.js", "/v1/vote", "/else"] {
        let answer = http::get(to, path).expect("an answer");
        assert!(answer.header("content-security-policy").is_some_and(|it| it.starts_with(policy)), "{path}");
    }
    assert!(
        http::get(to, "/v1/vote").expect("an answer").header("set-cookie").is_none(),
        "only the page names a phone"
    );
}

#[test]
fn what_may_not_be_a_phones_vote_is_refused_with_the_reason() {
    let (rehearsal, to) = Serving::rehearse_with_vote(0, &["--allow-host=school.example"]);
    hide(&rehearsal, true);
    let phone = Phone::new(to);
    let vote = json!({"round": 1, "choice": "wait"}).to_string();
    let head = format!("POST /v1/vote HTTP/1.1\r\ncookie: {}", phone.cookie);
    let json = "content-type: application/json";
    let status = |head: &str, body: &str| ask(to, head, body).status;
    assert_eq!(status(&format!("{head}\r\n{json}\r\nhost: evil.example"), &vote), 421);
    assert_eq!(status("GET / HTTP/1.1\r\nhost: evil.example", ""), 421);
    assert_eq!(
        status(&format!("{head}\r\n{json}\r\nhost: 127.0.0.1\r\norigin: http://evil.example"), &vote),
        403
    );
    assert_eq!(status(&head, &vote), 415, "a form of another page");
    assert_eq!(status(&format!("POST /v1/vote HTTP/1.1\r\n{json}"), &vote), 400, "without a cookie");
    for (body, told) in [
        (json!({"round": 1, "choice": "maybe"}), "unknown variant `maybe`"),
        (json!({"round": 1}), "missing field `choice`"),
        (json!({"round": -1, "choice": "wait"}), "invalid value"),
        (json!({"round": 1, "choice": "wait", "name": "Ann"}), "unknown field `name`"),
    ] {
        let answer = phone.says(&body);
        let error = answer.json()["error"].as_str().expect("an error").to_owned();
        assert!(answer.status == 400 && error.contains(told), "{body}: {error}");
    }
    let long = phone.says(&json!({"round": 1, "choice": "a".repeat(70_000)}));
    assert_eq!(long.status, 413);
    assert_eq!(status(&format!("GET / HTTP/1.1\r\ncookie: {}", "a".repeat(20_000)), ""), 431);
    until_round(&rehearsal, Some((1, true, [0, 0, 0])));
    assert_eq!(
        status(&format!("{head}\r\nhost: school.example\r\norigin: http://school.example"), &vote),
        200
    );
    until_round(&rehearsal, Some((1, true, [0, 1, 0])));
}

#[test]
fn the_votes_address_is_printed_with_a_code_and_flags_that_do_not_fit_are_told() {
    let flags = ["rehearse", "--page=127.0.0.1:0", "--listen=127.0.0.1:0", "--vote=127.0.0.1:0"];
    let mut rehearsal = start(&flags);
    let mut messages = BufReader::new(rehearsal.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    let told = messages.find(|line| line.contains("phones vote on http://127.0.0.1:")).expect("the address");
    assert!(told.contains("which only this machine reaches"), "{told}");
    let code: Vec<_> = messages.by_ref().take(17).collect();
    assert!(code.iter().all(|line| line.chars().count() == 33 && line.contains(['█', '▀'])), "{code:#?}");
    rehearsal.kill().expect("it runs");
    rehearsal.wait().expect("it ends");

    let (status, _, messages) = run(&["rehearse", "--page", "--vote=room"]);
    assert!(status == Some(3) && messages.contains("invalid value 'room' for '--vote"), "{messages}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let vote = format!("--vote={}", taken.local_addr().expect("its address"));
    let (status, _, messages) = run(&["rehearse", "--page=127.0.0.1:0", "--listen=127.0.0.1:0", &vote]);
    assert!(
        status == Some(6) && messages.contains("; --vote=127.0.0.1:PORT sets another port"),
        "{messages}"
    );
    let without = Serving::rehearse(&[]);
    assert_eq!(without.get("/v1/vote.svg").status, 404);
}

/// A connection to this address from another one of this machine, as a phone has it. `None` where there is no other one.
fn connect_from(number: u8, to: SocketAddr) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, number], 0)).into()).ok()?;
    socket.connect(&to.into()).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    Some(socket.into())
}

#[test]
fn a_phone_whose_requests_do_not_end_has_64_of_them_and_the_others_still_vote() {
    let (rehearsal, to) = Serving::rehearse_with_vote(0, &[]);
    hide(&rehearsal, true);
    let head = format!("POST /v1/vote HTTP/1.1\r\nhost: {to}\r\ncontent-type: application/json\r\n");
    let slow = || {
        let mut stream = connect_from(2, to)?;
        stream.write_all(format!("{head}content-length: 40\r\n\r\n").as_bytes()).expect("it reads");
        stream.set_nonblocking(true).expect("a socket");
        Some(stream)
    };
    if slow().is_none() {
        eprintln!("SKIPPED: this machine has no address 127.0.0.2");
        return;
    }
    let answer = |stream: &TcpStream| {
        let mut status = [0; 12];
        stream.peek(&mut status).ok().filter(|bytes| *bytes > 0).map(|_| status)
    };
    let mut open: Vec<TcpStream> = Vec::new();
    eventually("one of 65 is refused", || {
        // at first, and after an attempt that took too long: a body has 10 s
        if open.iter().all(|stream| answer(stream).is_some()) {
            open = (0..65).filter_map(|_| slow()).collect();
        }
        open.iter().any(|stream| answer(stream) == Some(*b"HTTP/1.1 429"))
    });
    assert_eq!(Phone::new(to).votes(1, "wait"), (200, String::new()));
    let asked = |host| {
        let mut stream = connect_from(host, to).expect("an address");
        let request = format!("GET / HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut page = String::new();
        let _ = stream.read_to_string(&mut page);
        page.starts_with("HTTP/1.1 200 OK\r\n")
    };
    assert!(asked(3), "another address is served");
    open.clear();
    eventually("there is room again", || asked(2));
}

#[test]
fn a_phone_that_sends_many_requests_waits_for_each_answer_on_both_ports() {
    let (rehearsal, phones) = Serving::rehearse_with_vote(0, &[]);
    for (to, path) in [(phones, "/v1/vote"), (rehearsal.address, "/healthz")] {
        let Some(mut stream) = connect_from(2, to) else {
            eprintln!("SKIPPED: this machine has no address 127.0.0.2");
            return;
        };
        let begin = Instant::now();
        let head = format!("GET {path} HTTP/1.1\r\nhost: {to}\r\n");
        let all = format!("{head}\r\n").repeat(200) + &head + "connection: close\r\n\r\n";
        let mut writer = stream.try_clone().expect("a socket");
        let writing = thread::spawn(move || writer.write_all(all.as_bytes()));
        let mut answers = String::new();
        stream.read_to_string(&mut answers).expect("answers");
        writing.join().expect("no panic").expect("it reads");
        assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 201, "{path}");
        assert!(begin.elapsed() >= Duration::from_secs(2), "100 a second: {:?}, {path}", begin.elapsed());
    }
}

/// What it says in a network namespace with a network of each name and address, until it tells where phones vote, or ends. `None`
/// where no such namespace can be made.
fn in_a_machine_with(networks: &[(&str, &str)], route: &str) -> Option<String> {
    use std::fmt::Write;
    let mut script = "set -e; ip link set lo up; ".to_owned();
    for (name, address) in networks {
        write!(
            script,
            "ip link add {name} type veth peer name {name}-end; ip addr add {address}/24 dev {name}; \
             ip link set {name} up; ip link set {name}-end up; \
             until ip -br link show {name} | grep -qw UP; do :; done; "
        )
        .expect("a string");
    }
    let program = env!("CARGO_BIN_EXE_canary");
    write!(script, "{route} exec {program} rehearse --page=127.0.0.1:0 --listen=127.0.0.1:0 --vote")
        .expect("a string");
    let mut command = Command::new("unshare");
    command.args(["--net", "--map-root-user", "sh", "-c", &script]).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().ok()?;
    let messages = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    let told = messages.filter(|line| line.starts_with("canary: ")).find(|line| line.contains("vote"));
    child.kill().expect("it runs, or has ended");
    child.wait().expect("it ends");
    told
}

#[test]
fn the_address_is_that_of_the_rooms_network_and_without_one_there_is_a_clear_error() {
    let Some(alone) = in_a_machine_with(&[], "") else {
        eprintln!("SKIPPED: no network namespace can be made here");
        return;
    };
    assert!(alone.contains("--vote: this machine has no network in which phones could reach it"), "{alone}");
    let room = ("room", "10.5.0.7");
    let told = in_a_machine_with(&[room], "").expect("it runs");
    assert!(told.contains("phones vote on http://10.5.0.7:8091; "), "without a way out: {told}");
    let both = [room, ("home", "192.168.1.20")];
    let told = in_a_machine_with(&both, "ip route add default via 192.168.1.1;").expect("it runs");
    let all =
        "phones vote on http://192.168.1.20:8091 (other addresses of this machine: http://10.5.0.7:8091); ";
    assert!(told.contains(all), "that of the default route first: {told}");
}
