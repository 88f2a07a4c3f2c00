//! A `canary serve` process, and its clients.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    thread,
};

use rustix::process::Signal;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use testkit::{
    PATIENCE,
    http::{self, Answer},
};

use super::start;

/// For tests that take no request for lost: an answer of a busy machine is only late.
pub const PATIENT: &str = "--timeout=1m";

/// A `canary serve` process, or the page of a rehearsal. Dropping it ends the process.
pub struct Serving {
    pub child: Child,
    pub address: SocketAddr,
}

impl Serving {
    /// Starts a server on a free port that watches the service at `url`.
    pub fn start(url: &str, flags: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0", url, flags)
    }

    /// The same, on this address.
    pub fn start_on(listen: &str, url: &str, flags: &[&str]) -> Self {
        Self::of(start(&[&["serve", url, "--listen", listen], flags].concat()))
    }

    /// The same, with this limit of open files.
    pub fn start_with_files(files: u32, url: &str, flags: &[&str]) -> Self {
        let script = format!("ulimit -n {files}; exec \"$@\"");
        let mut command = Command::new("sh");
        command.args([
            "-c",
            &script,
            "sh",
            env!("CARGO_BIN_EXE_canary"),
            "serve",
            url,
            "--listen=127.0.0.1:0",
        ]);
        command.args(flags).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::of(command.spawn().expect("it starts"))
    }

    /// The page of a rehearsal, on a port of its own.
    pub fn rehearse(flags: &[&str]) -> Self {
        Self::of(start(&[&["rehearse", "--page=127.0.0.1:0", "--listen=127.0.0.1:0"], flags].concat()))
    }

    /// The same, with a vote, and where phones vote: at this port, or at a free one if it is 0.
    pub fn rehearse_with_vote(port: u16, flags: &[&str]) -> (Self, SocketAddr) {
        let vote = format!("--vote=127.0.0.1:{port}");
        let all = ["rehearse", "--page=127.0.0.1:0", "--listen=127.0.0.1:0", &vote];
        let mut child = start(&[&all, flags].concat());
        let mut messages = BufReader::new(child.stderr.take().expect("a pipe"));
        let (address, phones) = (address_in(&mut messages), address_in(&mut messages));
        thread::spawn(move || std::io::copy(&mut messages, &mut std::io::sink()));
        (Self { child, address }, phones)
    }

    /// What a process serves, by its first message.
    pub fn of(mut child: Child) -> Self {
        let mut messages = BufReader::new(child.stderr.take().expect("a pipe"));
        let address = address_in(&mut messages);
        thread::spawn(move || std::io::copy(&mut messages, &mut std::io::sink()));
        Self { child, address }
    }

    pub fn get(&self, path: &str) -> Answer {
        http::get(self.address, path).expect("an answer")
    }

    /// Sends these bytes, and reads the answer until the server closes.
    pub fn send(&self, request: &str) -> Answer {
        http::send(self.address, request).expect("an answer")
    }

    /// Sends JSON like Go's client.
    pub fn post(&self, path: &str, body: &str) -> Answer {
        let (address, length) = (self.address, body.len());
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: Go-http-client/1.1\r\n\
             Content-Length: {length}\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\
             Connection: close\r\n\r\n{body}"
        ))
    }

    /// A connection that has not sent anything yet.
    pub fn connect(&self) -> TcpStream {
        http::connect(self.address).expect("it listens")
    }

    pub fn signal(&self, signal: Signal) {
        testkit::signal(&self.child, signal);
    }

    /// Its exit code.
    pub fn end(&mut self) -> Option<i32> {
        self.child.wait().expect("it ran").code()
    }

    /// Opens the stream of events at `path`.
    pub fn events(&self, path: &str) -> Events {
        self.events_on(self.connect(), path)
    }

    /// The same on a connection for which this machine keeps few bytes.
    pub fn events_with_small_buffers(&self, path: &str) -> Events {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a size"); // before it connects, or TCP has promised more
        socket.connect(&self.address.into()).expect("it listens");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        self.events_on(stream, path)
    }

    fn events_on(&self, mut stream: TcpStream, path: &str) -> Events {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).expect("it reads");
        Events { lines: BufReader::new(stream), head: String::new() }
    }
}

/// The address in the next message that tells one.
fn address_in(messages: &mut impl BufRead) -> SocketAddr {
    let mut told = String::new();
    // a source may say first what it has found
    while !told.contains(" on http://") && messages.read_line(&mut told).expect("UTF-8") > 0 {}
    let after = told.split_once(" on http://");
    let address = after.and_then(|(_, after)| after.split_once(',')).map(|(address, _)| address);
    let address = address.and_then(|address| address.parse().ok());
    address.unwrap_or_else(|| panic!("it does not serve: {told}"))
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A stream of events.
pub struct Events {
    lines: BufReader<TcpStream>,
    /// The bytes before the first event.
    pub head: String,
}

impl Iterator for Events {
    type Item = Value;

    /// The next state; `None` after the end of the stream. (Each event is one chunk, so no line is split.)
    fn next(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).expect("it goes on, or ends") == 0 {
                return None;
            }
            match line.strip_prefix("data: ").filter(|_| !self.head.ends_with("event: rights\n")) {
                Some(state) => return Some(serde_json::from_str(state).expect("JSON")),
                None => self.head += &line,
            }
        }
    }
}
