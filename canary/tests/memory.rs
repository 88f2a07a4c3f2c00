//! The memory of `canary serve` with the worst service and the worst clients, within a limit as in its manifest.

mod common;

use std::{
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
    time::{Duration, Instant},
};

use common::serving::Serving;
use testkit::eventually;

/// The limit of the container, as in `deployment/judge/serve.yaml`.
const LIMIT: u64 = 128 << 20;
/// The most that it may use itself.
const MOST: u64 = 64 << 20;

/// A control group with a memory limit. Removed when dropped.
struct Group(PathBuf);

impl Group {
    /// `None` where this process may not make one.
    fn new() -> Option<Self> {
        let name = format!("canary-memory-{}", process::id());
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
    let serving = Serving::start(&url, &["--rate=100"]);
    group.add(serving.child.id());
    let mut most = own_memory(serving.child.id());
    let mut idle = Vec::new();
    let began = Instant::now();
    let mut number = 0;
    eventually("2000 answers", || {
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
        "at most {:.1} MiB after {} answers",
        most as f64 / f64::from(1 << 20),
        answers.load(Ordering::Relaxed)
    );
    assert!(most < MOST, "{most} bytes");
    drop(serving);
}
