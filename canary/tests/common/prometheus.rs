//! A real Prometheus, from Debian's package.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use serde_json::Value;

use super::eventually;

/// A Prometheus that runs in a folder, killed when dropped.
pub struct Prometheus {
    child: Child,
    pub url: String,
}

impl Prometheus {
    /// Starts it with this configuration.
    pub fn start(folder: &Path, configuration: &str) -> Self {
        fs::write(folder.join("prometheus.yml"), configuration).expect("a file");
        let mut child = Command::new("prometheus")
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .args(["--web.listen-address=127.0.0.1:0", "--log.format=json"])
            .current_dir(folder)
            .stderr(Stdio::piped())
            .spawn()
            .expect("prometheus is installed");
        let log = BufReader::new(child.stderr.take().expect("its log"));
        let (sender, listening) = mpsc::channel();
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let entry: Value = serde_json::from_str(&line).unwrap_or_default();
                if entry["msg"] == "Listening on" {
                    let _ = sender.send(format!("http://{}", entry["address"].as_str().expect("an address")));
                }
            }
        });
        let url = listening.recv_timeout(super::PATIENCE).expect("Prometheus listens");
        let new = Self { child, url };
        eventually("Prometheus is ready", || ureq::get(format!("{}/-/ready", new.url)).call().is_ok());
        new
    }

    /// The number of series that a query selects.
    pub fn count(&self, query: &str) -> usize {
        let answer = ureq::get(format!("{}/api/v1/query", self.url)).query("query", query).call();
        let answer: Value = answer.expect("an answer").body_mut().read_json().expect("JSON");
        answer["data"]["result"].as_array().expect("series").len()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
