//! The cost of the service, compared with a minimal server: bare hyper with a constant body of the same size.
//!
//! Every server is a process of its own on one CPU; the load, 32 kept-alive connections, comes from another CPU. The
//! figure is CPU time per request (user and system, `/proc/<pid>/stat`). Servers take turns in each round, so that a
//! change of the machine's speed affects all of them. The results are medians, as ratios.
//!
//! `cargo bench --bench comparison` runs it on Linux in less than three minutes. The variable `BINARY` names another
//! binary to measure, such as one from an image, instead of the one just built.

use std::{
    env,
    fmt::Write,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

use hyper::{Response, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use testkit::{free_port, labels::LabelVolume};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const CONNECTIONS: usize = 32;
const ROUNDS: usize = 5;
/// How long each server is under load in each round.
const TURN: Duration = Duration::from_millis(1200);
/// How long each server is under load before each measurement.
const WARM_UP: Duration = Duration::from_millis(200);
const IDLE_CONNECTIONS: usize = 10_000;
const REQUEST: &[u8] = b"GET /v1/appinfo HTTP/1.1\r\nhost: localhost\r\n\r\n";

fn main() {
    let arguments: Vec<_> = env::args().collect();
    match arguments.iter().position(|argument| argument == "bare-hyper") {
        Some(at) => serve_constant(&arguments[at + 1], arguments[at + 2].parse().expect("a body size")),
        None => compare(),
    }
}

/// The baseline: a server that answers every request with `size` bytes and does nothing else.
fn serve_constant(address: &str, size: usize) {
    let body: &'static [u8] = vec![b'x'; size].leak();
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let listener = TcpListener::bind(address).await.expect("a port");
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("a socket");
            let answer = service_fn(move |_| async move {
                Response::builder()
                    .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
                    .body(http_body_util::Full::new(hyper::body::Bytes::from_static(body)))
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
}

/// A server process on the first CPU.
struct Server {
    name: &'static str,
    child: Child,
    address: SocketAddr,
    /// CPU seconds per request, for each round.
    costs: Vec<f64>,
}

impl Server {
    fn start(name: &'static str, address: SocketAddr, command: &mut Command) -> Self {
        let [servers, load] = *CPUS;
        pin_to(servers);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        pin_to(load);
        // discard the log, so that the pipe does not fill up
        let mut output = child.stdout.take().expect("its output");
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "{name} does not listen");
            std::thread::sleep(Duration::from_micros(100));
        }
        Self { name, child, address, costs: Vec::new() }
    }

    fn bare_hyper(name: &'static str, size: usize) -> Self {
        let (this, address) = (env::current_exe().expect("this program"), free_port());
        let mut command = Command::new(this);
        Self::start(name, address, command.args(["bare-hyper", &address.to_string(), &size.to_string()]))
    }

    fn appinfo(name: &'static str, labels: &Path, log: &str) -> Self {
        let binary = env::var_os("BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_appinfo").into());
        let (mut command, address) = (Command::new(binary), free_port());
        command.env("MY_POD_NAME", "appinfo-567b989978-vvzlg").args(["--log-filter", log]);
        command.args(["--listen", &address.to_string(), "--admin-listen", "127.0.0.1:0", "--labels-file"]);
        Self::start(name, address, command.arg(labels))
    }

    /// CPU time used so far: the 14th and 15th field of `/proc/<pid>/stat`, in ticks of 10 ms.
    fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let fields: Vec<_> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
        let ticks = |index: usize| fields[index].parse::<f64>().expect("ticks");
        (ticks(11) + ticks(12)) / 100.0
    }

    /// A value from `/proc/<pid>/status`, in KiB.
    fn kib(&self, key: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("the line");
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
    }

    fn take_turn(&mut self) {
        load(self.address, WARM_UP);
        let before = self.cpu_seconds();
        let requests = load(self.address, TURN);
        self.costs.push((self.cpu_seconds() - before) / requests as f64);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The CPUs of servers and load: the first two that this program may use.
static CPUS: LazyLock<[usize; 2]> = LazyLock::new(|| {
    let allowed = sched_getaffinity(None).expect("the CPUs of this thread");
    let mut allowed = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    let mut next = || allowed.next().expect("two CPUs");
    [next(), next()]
});

/// Pins this thread, and the processes it starts from now on, to one CPU.
fn pin_to(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).expect("a CPU that this program may use");
}

/// Sends requests on 32 connections for `time`, each as soon as the last one is answered. Returns their number.
fn load(address: SocketAddr, time: Duration) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let end = Instant::now() + time;
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| tokio::spawn(client(address, end))).collect();
        let mut requests = 0;
        for client in clients {
            requests += client.await.expect("a client");
        }
        requests
    })
}

async fn client(address: SocketAddr, end: Instant) -> usize {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    let mut answer = vec![0; 1 << 18];
    let size = ask(&mut stream, &mut answer).await;
    let mut requests = 1;
    while Instant::now() < end {
        stream.write_all(REQUEST).await.expect("sent");
        stream.read_exact(&mut answer[..size]).await.expect("an answer");
        requests += 1;
    }
    requests
}

/// Sends one request. Returns the length of the answer, head and body. (All answers of a server have the same length.)
async fn ask(stream: &mut TcpStream, answer: &mut [u8]) -> usize {
    stream.write_all(REQUEST).await.expect("sent");
    let mut read = 0;
    loop {
        read += stream.read(&mut answer[read..]).await.expect("an answer");
        let text = String::from_utf8_lossy(&answer[..read]);
        if let Some(head) = text.find("\r\n\r\n") {
            assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
            let length = text[..head].to_lowercase();
            let length = length.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            let size = head + 4 + length.and_then(|length| length.parse::<usize>().ok()).expect("a length");
            if read >= size {
                return size;
            }
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The label file of a new volume with this number of labels.
fn label_file(directory: &Path, labels: usize) -> PathBuf {
    let directory = tempfile::tempdir_in(directory).expect("a directory").keep();
    let mut text = String::from("app=\"appinfo\"\nrelease=\"stable\"");
    for number in 2..labels {
        let _ = write!(text, "\nlabel-{number}.example.com/name=\"value-{number}\"");
    }
    LabelVolume::new(directory.join("volume"), text).expect("a volume").file()
}

fn body_size(address: SocketAddr) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let mut answer = vec![0; 1 << 18];
        let size = ask(&mut stream, &mut answer).await;
        size - answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") - 4
    })
}

fn compare() {
    let directory = tempfile::tempdir().expect("a directory");
    let few = label_file(directory.path(), 3);
    let mut servers = vec![
        Server::bare_hyper("bare hyper, constant body", 140),
        Server::appinfo("appinfo, as shipped: log at info to a pipe", &few, "info"),
        Server::appinfo("appinfo, log at warn", &few, "warn"),
    ];
    for _ in 0..ROUNDS {
        for server in &mut servers {
            server.take_turn();
        }
    }
    println!(
        "\nCPU time per request, {CONNECTIONS} connections, median of {ROUNDS} rounds (lowest to highest)\n"
    );
    println!("| server | times bare hyper | rounds | µs |\n|---|---|---|---|");
    for server in &servers {
        let ratios: Vec<_> =
            server.costs.iter().zip(&servers[0].costs).map(|(cost, limit)| cost / limit).collect();
        let (low, high) =
            ratios.iter().fold((f64::MAX, 0.0_f64), |(low, high), &r| (low.min(r), high.max(r)));
        let micros = median(&server.costs) * 1e6;
        println!("| {} | {:.2} | {low:.2} to {high:.2} | {micros:.1} |", server.name, median(&ratios));
    }
    println!(
        "\nPeak resident memory of appinfo as shipped, {CONNECTIONS} connections: {:.1} MiB",
        servers[1].kib("VmHWM") / 1024.0
    );
    drop(servers);

    println!(
        "\n| labels | body, bytes | µs per request | µs of bare hyper, same body | times bare hyper |\n|---|---|---|---|---|"
    );
    for labels in [3, 30, 300, 1000] {
        let file = label_file(directory.path(), labels);
        let mut service = Server::appinfo("appinfo", &file, "warn");
        let size = body_size(service.address);
        let mut limit = Server::bare_hyper("bare hyper", size);
        for _ in 0..3 {
            service.take_turn();
            limit.take_turn();
        }
        let (cost, bound) = (median(&service.costs) * 1e6, median(&limit.costs) * 1e6);
        println!("| {labels} | {size} | {cost:.1} | {bound:.1} | {:.2} |", cost / bound);
    }
    idle_connections(&few);
    start_to_first_answer(&few);
}

fn idle_connections(labels: &Path) {
    let server = Server::appinfo("appinfo", labels, "warn");
    let before = server.kib("VmRSS");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let connections = runtime.block_on(async {
        let mut connections = Vec::new();
        let mut answer = vec![0; 1 << 12];
        for _ in 0..IDLE_CONNECTIONS {
            // fails if this process runs out of file descriptors
            let Ok(mut stream) = TcpStream::connect(server.address).await else { break };
            ask(&mut stream, &mut answer).await;
            connections.push(stream);
        }
        connections
    });
    let each = (server.kib("VmRSS") - before) / connections.len() as f64;
    println!("\nResident memory of an idle kept-alive connection, of {}: {each:.1} KiB", connections.len());
}

fn start_to_first_answer(labels: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let times: Vec<_> = (0..21)
        .map(|_| {
            let start = Instant::now();
            let server = Server::appinfo("appinfo", labels, "info");
            runtime.block_on(async {
                let mut stream = TcpStream::connect(server.address).await.expect("a connection");
                ask(&mut stream, &mut vec![0; 1 << 12]).await;
            });
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    println!("From process start to the first answer: {:.1} ms (median of {})", median(&times), times.len());
}
