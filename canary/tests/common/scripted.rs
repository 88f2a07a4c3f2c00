//! A server that sends the page, and then the states that a test sets.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
};

use serde_json::Value;

/// The headers that the real server sends with each file.
const POLICY: &str = "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
    x-content-type-options: nosniff\r\nreferrer-policy: no-referrer\r\ncache-control: no-store\r\n";

#[derive(Default)]
struct Script {
    state: Value,
    /// The number of changes of the state.
    version: u64,
    /// What the viewer may do: take steps, and reset trials.
    rights: (bool, bool),
    /// Whether to close all connections, including new ones.
    unreachable: bool,
    /// The POST requests: path and body.
    posted: Vec<(String, Value)>,
    /// The paths of requests for events.
    asked: Vec<String>,
    /// The error that POST requests are answered with, if any.
    refusal: Option<String>,
}

/// The server. It runs until the test ends.
#[derive(Clone)]
pub struct Scripted {
    script: Arc<(Mutex<Script>, Condvar)>,
    pub url: String,
}

impl Scripted {
    pub fn new(state: Value) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("its address"));
        let new = Self { script: Arc::default(), url };
        new.show(state);
        let server = new.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = server.clone();
                thread::spawn(move || server.answer(client)); // a client that disconnects is no error
            }
        });
        new
    }

    fn change<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        let (script, changed) = &*self.script;
        let result = change(&mut script.lock().expect("no panic"));
        changed.notify_all();
        result
    }

    pub fn show(&self, state: Value) {
        self.change(|script| {
            script.state = state;
            script.version += 1;
        });
    }

    /// Changes the state that is shown.
    pub fn edit(&self, edit: impl FnOnce(&mut Value)) {
        self.change(|script| {
            edit(&mut script.state);
            script.version += 1;
        });
    }

    pub fn set_reachable(&self, reachable: bool) {
        self.change(|script| script.unreachable = !reachable);
    }

    /// Tells all viewers that they may take steps and reset trials, or not.
    pub fn tell_rights(&self, step: bool, reset: bool) {
        self.change(|script| {
            script.rights = (step, reset);
            script.version += 1;
        });
    }

    pub fn refuse(&self, error: &str) {
        self.change(|script| script.refusal = Some(error.to_owned()));
    }

    /// Refuses nothing any more.
    pub fn accept(&self) {
        self.change(|script| script.refusal = None);
    }

    pub fn posted(&self) -> Vec<(String, Value)> {
        self.change(|script| script.posted.clone())
    }

    pub fn asked(&self) -> Vec<String> {
        self.change(|script| script.asked.clone())
    }

    fn answer(&self, mut client: TcpStream) -> io::Result<()> {
        if self.change(|script| script.unreachable) {
            return Ok(());
        }
        let (method, path, body) = read_request(&client)?;
        let file = |kind: &str, text: &str| {
            format!("HTTP/1.1 200 OK\r\n{POLICY}content-type: {kind}\r\nconnection: close\r\n\r\n{text}")
        };
        match (method.as_str(), path.split('?').next().expect("a path")) {
            ("GET", "/") => {
                client.write_all(file("text/html", include_str!("../../src/view/page/index.html")).as_bytes())
            }
            ("GET", "/page.css") => {
                client.write_all(file("text/css", include_str!("../../src/view/page/page.css")).as_bytes())
            }
            ("GET", "/page.js") => client
                .write_all(file("text/javascript", include_str!("../../src/view/page/page.js")).as_bytes()),
            ("GET", "/v1/vote.svg") => {
                let picture =
                    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'><path d='M1 1h7v7H1z'/></svg>";
                client.write_all(file("image/svg+xml", picture).as_bytes())
            }
            ("GET", "/v1/events") => {
                self.change(|script| script.asked.push(path.clone()));
                client.write_all(file("text/event-stream", "").as_bytes())?;
                self.send_states(&mut client)
            }
            ("POST", _) => {
                let refusal = self.change(|script| {
                    script.posted.push((path, serde_json::from_slice(&body).unwrap_or(Value::Null)));
                    script.refusal.clone()
                });
                let answer = match refusal {
                    None => "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".to_owned(),
                    Some(error) => format!(
                        "HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n{}",
                        serde_json::json!({"error": error})
                    ),
                };
                client.write_all(answer.as_bytes())
            }
            // what the page asks after some time without a state
            ("GET", "/healthz") => client.write_all(file("text/plain", "ok\n").as_bytes()),
            _ => client.write_all(b"HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n"),
        }
    }

    /// Sends the state now and after each change, until the server becomes unreachable.
    fn send_states(&self, client: &mut TcpStream) -> io::Result<()> {
        let (script, changed) = &*self.script;
        let mut sent = 0;
        loop {
            let script = script.lock().expect("no panic");
            let script = changed
                .wait_while(script, |script| script.version == sent && !script.unreachable)
                .expect("no panic");
            if script.unreachable {
                return Ok(());
            }
            sent = script.version;
            let (step, reset) = script.rights;
            let rights = serde_json::json!({"step": step, "reset": reset});
            let event = format!("event: rights\ndata: {rights}\n\nevent: state\ndata: {}\n\n", script.state);
            drop(script);
            client.write_all(event.as_bytes())?;
        }
    }
}

/// Reads method, path and body. A body must have the content type of JSON, as for the real server.
fn read_request(client: &TcpStream) -> io::Result<(String, String, Vec<u8>)> {
    let mut client = BufReader::new(client);
    let mut line = String::new();
    client.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (mut length, mut is_json) = (0, false);
    loop {
        line.clear();
        client.read_line(&mut line)?;
        match line.trim().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().expect("a number"),
            Some(("content-type", value)) => is_json = value == "application/json",
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; if is_json { length } else { 0 }];
    client.read_exact(&mut body)?;
    Ok((method, path, body))
}
