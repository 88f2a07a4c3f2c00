//! A real Prometheus, for example from Debian's package.

use std::{
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;

use super::{
    eventually,
    http::{Answer, send},
};

/// A Prometheus with its configuration and its data in one folder, killed when dropped.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    address: SocketAddr,
    /// Its URL, without a path.
    pub url: String,
}

impl Prometheus {
    /// Starts it with the configuration `prometheus.yml` in `folder`, and waits until it is ready.
    pub fn start(folder: &Path) -> Self {
        let mut child = Command::new("prometheus")
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .args(["--web.listen-address=127.0.0.1:0", "--log.format=json"])
            .current_dir(folder)
            .stderr(Stdio::piped())
            .spawn()
            .expect("prometheus is installed");
        let lines = BufReader::new(child.stderr.take().expect("its log")).lines();
        let log = Arc::<Mutex<Vec<_>>>::default();
        let writer = Arc::clone(&log);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                writer.lock().expect("no panic").push(line);
            }
        });
        let mut new = Self { child, log, address: ([0, 0, 0, 0], 0).into(), url: String::new() };
        let mut address = None;
        eventually("Prometheus listens", || {
            let log = new.log();
            let ended = new.child.try_wait().expect("a status");
            assert!(ended.is_none(), "it ended: {log:#?}");
            address = log.iter().find_map(|line| listens_on(line));
            address.is_some()
        });
        new.address = address.expect("just seen");
        new.url = format!("http://{}", new.address);
        eventually("Prometheus is ready", || new.ask("/-/ready").is_ok_and(|answer| answer.status == 200));
        new
    }

    /// All lines of its log so far, each an object in JSON.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("no panic").clone()
    }

    /// Sends a request, by HTTP/1.0 so that the answer is not chunked.
    fn ask(&self, path: &str) -> io::Result<Answer> {
        send(self.address, format!("GET {path} HTTP/1.0\r\n\r\n"))
    }

    /// The field `data` of an answer of the API, with the path below `/api/v1/`.
    #[track_caller]
    pub fn api(&self, path: &str) -> Value {
        let answer = self.ask(&format!("/api/v1/{path}")).expect("an answer");
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()["data"].take()
    }

    /// The series of a query, with their values.
    #[track_caller]
    pub fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        let encoded = expression.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02X}"));
        let data = self.api(&format!("query?query={encoded}"));
        let series = data["result"].as_array().expect("a vector").iter();
        let number = |text: &Value| text.as_str().and_then(|text| text.parse().ok()).expect("a number");
        series.map(|one| (one["metric"].clone(), number(&one["value"][1]))).collect()
    }
}

/// The address in the line of the log that says where it listens.
fn listens_on(line: &str) -> Option<SocketAddr> {
    let entry: Value = serde_json::from_str(line).ok()?;
    (entry["msg"] == "Listening on").then(|| entry["address"].as_str()?.parse().ok())?
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
