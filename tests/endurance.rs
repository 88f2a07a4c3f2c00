//! Long tests: thousands of slow clients, thousands of label changes, and a million requests. They print the figures of
//! docs/measurements.md.
//!
//! They run only by name, with the release build: `cargo test --release --test endurance`.

mod common;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use common::{
    LABELS,
    process::{Process, appinfo},
    swaps,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testkit::{PATIENCE, eventually, http::Client, labels::LabelDir};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

/// Makes the tests run one after the other: each takes the whole machine.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start(labels: &LabelDir) -> Process {
    let mut command = appinfo();
    command.env("MY_POD_NAME", "pod-1").arg("--log-filter=appinfo::http=off,info");
    Process::start(command.arg("--labels-file").arg(labels.file()))
}

/// The 99th percentile of the response times of sequential requests on one connection, measured for `time`.
fn p99(server: SocketAddr, time: Duration) -> Duration {
    let mut client = Client::connect(server).expect("a connection");
    let mut times = Vec::new();
    let end = Instant::now() + time;
    while Instant::now() < end {
        let start = Instant::now();
        assert_eq!(client.get("/v1/appinfo").expect("an answer").status, 200);
        times.push(start.elapsed());
    }
    times.sort();
    times[times.len() * 99 / 100]
}

/// Sends one byte of a request head per second. Returns the time until the server closes the connection.
async fn slow_head(server: SocketAddr, begin_after: Duration) -> io::Result<Duration> {
    sleep(begin_after).await;
    let mut stream = TcpStream::connect(server).await?;
    let opened = Instant::now();
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut from_server, mut to_server) = stream.split();
    loop {
        let mut nothing = [0];
        tokio::select! {
            closed = from_server.read(&mut nothing) => {
                assert_eq!(closed.unwrap_or(0), 0, "an incomplete head has no answer");
                return Ok(opened.elapsed());
            }
            _ = second.tick() => if to_server.write_all(b"x").await.is_err() {
                return Ok(opened.elapsed());
            }
        }
    }
}

#[test]
fn five_thousand_slow_heads_do_not_delay_other_clients_and_are_cut_off_in_time() {
    const CROWD: u32 = 5000;
    let _turn = one_at_a_time();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .expect("as many files as allowed");
    let labels = LabelDir::new(LABELS);
    let process = start(&labels);
    let alone = p99(process.public, Duration::from_secs(3));

    let address = process.public;
    let crowd = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let nth = |number| Duration::from_secs(1) * number / CROWD;
            let crowd: Vec<_> =
                (0..CROWD).map(|number| tokio::spawn(slow_head(address, nth(number)))).collect();
            let mut cut_off = Vec::new();
            for slow in crowd {
                let slow = timeout(PATIENCE, slow).await.expect("it is cut off").expect("no panic");
                cut_off.push(slow.expect("a connection"));
            }
            cut_off.sort();
            cut_off
        })
    });
    thread::sleep(Duration::from_secs(2)); // until all slow clients are connected
    // the fastest of three, since the machine may be busy with something else for a while
    let beside = (0..3).map(|_| p99(process.public, Duration::from_secs(2))).min().expect("three");
    let cut_off = crowd.join().expect("no panic");
    let again_alone = p99(process.public, Duration::from_secs(3));

    let (first, last) = (cut_off[0], cut_off[cut_off.len() - 1]);
    println!("p99 beside {CROWD} slow heads: {beside:?}; before {alone:?}, after {again_alone:?}");
    println!("slow heads cut off after {first:.1?} to {last:.1?}");
    assert!(first > Duration::from_secs(9), "{first:?}: a head has 10 s");
    // tolerances for other load on the machine
    assert!(last < Duration::from_secs(30), "{last:?}: a head has 10 s");
    let noise = Duration::from_millis(20);
    assert!(
        beside < 2 * alone.max(again_alone) + noise,
        "{beside:?}, {alone:?} before, {again_alone:?} after"
    );
}

#[test]
fn with_a_thousand_swaps_per_second_every_answer_is_current_and_consistent() {
    const SWAPS: usize = 20_000;
    const CALM_SWAPS: usize = 50;
    let _turn = one_at_a_time();
    let labels = LabelDir::new(LABELS);
    let process = start(&labels);
    let began = Instant::now();
    let answers = swaps::under_load(process.public, &labels, 8, SWAPS + CALM_SWAPS, |round| {
        if round <= SWAPS {
            let next = began + Duration::from_millis(1) * u32::try_from(round).expect("few");
            thread::sleep(next.saturating_duration_since(Instant::now()));
        } else {
            thread::sleep(Duration::from_millis(150)); // long enough for labels to be cached in between
        }
        if round == SWAPS {
            println!("{SWAPS} swaps in {:.1?}", began.elapsed());
        }
    });
    println!("and {CALM_SWAPS} slow ones: {answers} answers, all current and consistent");
    assert!(answers > SWAPS, "there was load");
}

#[test]
fn a_million_mixed_requests_do_not_increase_memory() {
    const CLIENTS: usize = 4;
    const EACH: usize = 250_000;
    const KINDS: [(&str, u16); 8] = [
        ("GET /v1/appinfo HTTP/1.1\r\nhost: x\r\n\r\n", 200),
        ("GET /v1/appinfo?a=b HTTP/1.1\r\nhost: x\r\ncookie: a=b\r\n\r\n", 200),
        ("GET /v1/appinfo HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", 200),
        ("GET /favicon.ico HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        ("DELETE /v1/appinfo HTTP/1.1\r\nhost: x\r\n\r\n", 405),
        ("BREW /%00/../x HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        ("POST /v1/appinfo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello", 405),
        ("no request at all\r\n\r\n", 400),
    ];
    let _turn = one_at_a_time();
    let labels = LabelDir::new(LABELS);
    let process = start(&labels);
    let asked = AtomicUsize::new(0);
    let began = Instant::now();
    let early = thread::scope(|scope| {
        for number in 0..CLIENTS {
            let asked = &asked;
            scope.spawn(move || {
                let mut client = Client::connect(process.public).expect("a connection");
                for round in 0..EACH {
                    // only one request in 40 ends its connection; more would exhaust the kernel's ports
                    let kind = if round % 40 == number { round / 40 % KINDS.len() } else { round % 2 * 3 };
                    let (request, status) = KINDS[kind];
                    client.send(request).expect("sent");
                    let answer = client.answer().expect("an answer");
                    assert_eq!(answer.status, status, "{request}");
                    if answer.says_close() || status == 400 {
                        client = Client::connect(process.public).expect("a connection");
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        eventually("a tenth of the requests is answered", || {
            asked.load(Ordering::Relaxed) >= CLIENTS * EACH / 10
        });
        process.resident_kib()
    });
    let late = process.resident_kib();
    println!(
        "{} mixed requests in {:.0?}: {early} KiB resident after a tenth, {late} KiB at the end",
        CLIENTS * EACH,
        began.elapsed()
    );
    assert!(late <= early + 512, "{early} KiB have become {late} KiB");
}
