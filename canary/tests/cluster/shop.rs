//! A server that names nothing in its answers: no release, no pod.
//!
//!     shop [fail SHARE] [hang] [crash EVERY] [slow-start SECONDS] [status-of-kubernetes CODE]
use std::{
    env,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

static REQUESTS: AtomicU64 = AtomicU64::new(0);

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let value = |name: &str| {
        let place = arguments.iter().position(|it| it == name)?;
        Some(arguments.get(place + 1).and_then(|text| text.parse::<u64>().ok()).unwrap_or(1))
    };
    let (fail, crash) = (value("fail").unwrap_or(0), value("crash").unwrap_or(u64::MAX));
    let (hang, slow, status) = (value("hang").is_some(), value("slow-start").unwrap_or(0), value("kubernetes"));
    let began = Instant::now();
    let listener = TcpListener::bind("[::]:8080").or_else(|_| TcpListener::bind("0.0.0.0:8080")).expect("a port");
    for stream in listener.incoming().flatten() {
        thread::spawn(move || answer(stream, began, fail, crash, hang, slow, status));
    }
}

fn answer(
    mut stream: TcpStream,
    began: Instant,
    fail: u64,
    crash: u64,
    hang: bool,
    slow: u64,
    status: Option<u64>,
) {
    let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => head.extend_from_slice(&buffer[..read]),
        }
    }
    let mut respond = |status: &str, body: &str| {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all((head + body).as_bytes());
    };
    if head.starts_with(b"GET /ready ") {
        let ready = began.elapsed() >= Duration::from_secs(slow);
        return respond(if ready { "200 OK" } else { "503 Service Unavailable" }, "");
    }
    let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
    if hang {
        thread::sleep(Duration::from_secs(600));
    }
    if number + 1 >= crash {
        std::process::exit(1);
    }
    if let Some(code) = status {
        // about this very pod, whose name is its host's
        let name = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        let name = name.trim();
        let (reason, message) = match code {
            403 => ("Forbidden", format!(r#"pods \"{name}:8080\" is forbidden: cannot get resource \"pods/proxy\""#)),
            404 => ("NotFound", format!(r#"pods \"{name}\" not found"#)),
            _ => ("Unauthorized", "Unauthorized".to_owned()),
        };
        let body = format!(
            r#"{{"kind":"Status","apiVersion":"v1","metadata":{{}},"status":"Failure","message":"{message}","reason":"{reason}","details":{{"name":"{name}","kind":"pods"}},"code":{code}}}"#
        );
        return respond(&format!("{code} Refused"), &body);
    }
    if number % 100 < fail {
        return respond("500 Internal Server Error", "broken\n");
    }
    respond("200 OK", "hello\n");
}
