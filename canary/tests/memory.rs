//! The memory of `canary serve` with the worst service and the worst clients, within a limit as in its manifest.

mod common;

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use common::serving::Serving;
use serde_json::Value;
use testkit::eventually_within;

/// The limit of the container, as in `deployment/judge/serve.yaml`.
const LIMIT: u64 = 128 << 20;
/// The most that it may use itself.
const MOST: u64 = 64 << 20;

/// How long a busy machine may need for what it has to do here: it is more than elsewhere.
const PATIENCE: Duration = Duration::from_secs(600);

static GROUPS: AtomicU64 = AtomicU64::new(0);

/// A control group with a memory limit. Removed when dropped.
struct Group(PathBuf);

impl Group {
    /// `None` where this process may not make one.
    fn new() -> Option<Self> {
        let name = format!("canary-memory-{}-{}", process::id(), GROUPS.fetch_add(1, Ordering::Relaxed));
        let versions = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        versions.into_iter().find_map(|(root, limit)| {
            let folder = PathBuf::from(root).join(&name);
            fs::create_dir(&folder).ok()?;
            let new = Self(folder);
            fs::write(new.0.join(limit), LIMIT.to_string()).ok()?;
            Some(new)
        })
    }

    fn add(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("it runs");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0); // its process has ended before
    }
}

/// The bytes that belong to the process alone. Its program's pages do not count: they are those of a debug build.
fn own_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a number");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Letters of hashes, from a number.
fn hash(number: u64) -> String {
    let letters = b"456789bcdf";
    format!("{number:09}").bytes().map(|digit| char::from(letters[usize::from(digit - b'0')])).collect()
}

/// The answer number `number` of the worst service: names that change all the time, and as many labels as there is room.
fn answer(number: u64) -> String {
    let release = match number % 4 {
        0 => "stable".to_owned(),
        1 => format!("release-{number}-{}", "r".repeat(10_000)),
        _ => "canary".to_owned(),
    };
    let pod = format!(
        "{}-{}-{}",
        "p".repeat(2000 * usize::from(number.is_multiple_of(3))),
        hash(number / 7),
        "bcdfg"
    );
    let (count, length) = [(10, 100), (60, 1000), (1100, 1000)][usize::try_from(number % 3).expect("small")];
    let labels: Vec<_> =
        (0..count).map(|n| format!("\"k{n}-{}\":\"{}\"", number % 5, "v".repeat(length))).collect();
    let body = format!(
        r#"{{"PodName":"","AppName":"a","Namespace":"{}","Release":"","Labels":{{{}}}}}"#,
        "n".repeat(1000),
        labels.join(",")
    );
    let status = if number.is_multiple_of(5) { "500 Oh" } else { "200 OK" };
    format!(
        "HTTP/1.1 {status}\r\nx-release: {release}\r\nx-served-by: {pod}\r\ncontent-length: {}\r\n\r\n{body}",
        // some bodies never end
        body.len() + usize::from(number.is_multiple_of(11))
    )
}

/// Starts that service.
fn worst_service() -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let url = format!("http://{}/x", listener.local_addr().expect("its address"));
    let answers = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&answers);
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let number = counter.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || serve(client, number));
        }
    });
    (url, answers)
}

fn serve(mut client: TcpStream, number: u64) {
    let mut head = [0; 1000];
    let _ = client.read(&mut head);
    let _ = client.write_all(answer(number).as_bytes()); // the client may give up
    let _ = client.read(&mut head);
}

#[test]
fn with_the_worst_service_and_the_worst_clients_it_needs_less_than_half_of_its_limit() {
    let Some(group) = Group::new() else {
        println!("skipped: this user may not make a control group");
        return;
    };
    let (url, answers) = worst_service();
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let serving = Serving::start(&url, &["--rate=100", &format!("--state={}", state.display())]);
    group.add(serving.child.id());
    let mut most = own_memory(serving.child.id());
    let mut idle = Vec::new();
    let began = Instant::now();
    let mut number = 0;
    eventually_within(PATIENCE, "2000 answers", || {
        number += 1;
        // each viewer of another trial, who reads nothing
        if idle.len() < 250 {
            let mut viewer = serving.connect();
            let request =
                format!("GET /v1/events?trial=x{number} HTTP/1.1\r\nhost: {}\r\n\r\n", serving.address);
            viewer.write_all(request.as_bytes()).expect("it reads");
            idle.push(viewer);
        }
        let call = format!(
            r#"{{"name":"{}","namespace":"b","checksum":"{number}","metadata":{{"a":"{}"}}}}"#,
            "n".repeat(300),
            "m".repeat(60_000)
        );
        serving.post("/flagger/step", &call);
        serving.get(&format!("/v1/verdict?trial={}{number}", "t".repeat(350)));
        serving.get(&format!("/v1/verdict?version={}", hash(number)));
        most = most.max(own_memory(serving.child.id()));
        answers.load(Ordering::Relaxed) >= 2000 && began.elapsed() > Duration::from_secs(20)
    });
    assert_eq!(serving.get("/v1/verdict").status, 200, "it runs");
    println!(
        "at most {:.1} MiB after {} answers; the state has {} KiB",
        most as f64 / f64::from(1 << 20),
        answers.load(Ordering::Relaxed),
        fs::metadata(&state).expect("it was written").len() >> 10,
    );
    assert!(most < MOST, "{most} bytes");
    drop(serving);
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

/// The series of the worst Prometheus in round `round`: all labels, targets and versions change all the time.
fn worst_series(round: u64, release: &str) -> String {
    let now = now();
    let (count, labels, long) = match round % 12 {
        0 => (100_000, 1, 1),   // too many
        1 => (20, 3, 200_000),  // too long
        2 | 3 => (1500, 8, 20), // as many as there is room for
        4 | 5 => (250, 100, 20),
        6 | 7 => (8, 3, 50_000),
        _ => (2200, 3, 10),
    };
    let series = (0..count).map(|number: u32| {
        let labels: String = (0..labels).fold(String::new(), |all, n| all + &format!("\"l{n}\":\"{}\",", "v".repeat(long)));
        let samples = if round.is_multiple_of(5) { 12 } else { 2 };
        let values: Vec<_> = (0..samples).map(|age| {
            let time = now - f64::from(samples - age) - 0.001 * f64::from(number % 40);
            format!("[{time:.3},\"{:.0}\"]", (time % 1e6).floor())
        }).collect();
        let hash = hash(round % 100);
        format!(
            "{{\"metric\":{{{labels}\"instance\":\"{release}{}\",\"status\":\"500\",\"pod_template_hash\":\"{hash}\",\"n\":\"{number}{}\"}},\"values\":[{}]}}",
            if round.is_multiple_of(2) { u64::from(number % 40) } else { round },
            if round.is_multiple_of(3) { round } else { 0 },
            values.join(","),
        )
    });
    let series: Vec<_> = series.collect();
    format!("[{}]", series.join(","))
}

/// A Prometheus whose answers are as large as they may be, or larger.
fn worst_prometheus() -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let rounds = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&rounds);
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let counter = Arc::clone(&counter);
            thread::spawn(move || {
                let mut head = [0; 4000];
                let read = client.read(&mut head).unwrap_or_default();
                let question = String::from_utf8_lossy(&head[..read]).into_owned();
                let (kind, result) = if question.contains("query=time") {
                    counter.fetch_add(1, Ordering::Relaxed);
                    ("scalar", format!("[{0},\"{0}\"]", now()))
                } else {
                    let release = if question.contains("stable") { "s" } else { "c" };
                    ("matrix", worst_series(counter.load(Ordering::Relaxed), release))
                };
                let body = if question.contains("metadata") {
                    r#"{"status":"success","data":{}}"#.to_owned()
                } else {
                    format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#)
                };
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                let _ = client.write_all((head + &body).as_bytes()); // it may be refused
            });
        }
    });
    (url, rounds)
}

#[test]
fn with_the_worst_prometheus_it_needs_less_than_half_of_its_limit() {
    let Some(group) = Group::new() else {
        println!("skipped: this user may not make a control group");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let (url, rounds) = worst_prometheus();
    let serving = Serving::start(
        &format!("--prometheus={url}"),
        &["--interval=100ms", "--by=n", &format!("--state={}", state.display())],
    );
    group.add(serving.child.id());
    let mut most = 0;
    let mut heard = BTreeSet::new();
    // it reads most answers, and finds the versions in them
    eventually_within(PATIENCE, "24 rounds with more than five trials", || {
        most = most.max(own_memory(serving.child.id()));
        let verdict: Value = serde_json::from_str(&serving.get("/v1/verdict").body).expect("JSON");
        heard.insert(verdict["trial"].to_string());
        rounds.load(Ordering::Relaxed) >= 24 && heard.len() > 5
    });
    assert_eq!(serving.get("/v1/verdict").status, 200, "it runs");
    eventually_within(PATIENCE, "the state is written", || state.exists());
    let kept = fs::metadata(&state).expect("it was written").len() >> 10;
    println!("at most {:.1} MiB; the state has {kept} KiB", most as f64 / f64::from(1 << 20));
    assert!(most < MOST, "{most} bytes");
    drop(serving);
}
