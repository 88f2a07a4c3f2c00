//! `canary serve` behind nginx with nginx's own defaults. Skipped, with a message, where there is no nginx.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use common::{Fleet, Version, serving::Serving};
use serde_json::Value;
use tempfile::TempDir;
use testkit::eventually;

/// An nginx in front of a server. It ends when it is dropped.
struct Nginx {
    process: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Nginx {
    /// None, and a message, where it is not installed.
    fn before(server: SocketAddr) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
        let address = port.expect("a free port");
        let place = directory.path().display();
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid {place}/pid;\nerror_log {place}/error.log;\nevents {{}}\n\
             http {{\n  access_log off;\n  client_body_temp_path {place};\n  proxy_temp_path {place};\n  \
             fastcgi_temp_path {place};\n  uwsgi_temp_path {place};\n  scgi_temp_path {place};\n  gzip on;\n  \
             server {{ listen {address}; location / {{ proxy_pass http://{server}; }} }}\n}}\n"
        );
        let file = directory.path().join("nginx.conf");
        fs::write(&file, configuration).expect("written");
        let nginx = ["nginx", "/usr/sbin/nginx"].into_iter().find_map(|program| {
            let mut command = Command::new(program);
            command.arg("-c").arg(&file).stderr(Stdio::null());
            command.spawn().ok()
        });
        let Some(process) = nginx else {
            eprintln!("SKIPPED: nginx is not installed, so there is no proxy to test the page behind");
            return None;
        };
        eventually("nginx listens", || TcpStream::connect(address).is_ok());
        Some(Self { process, address, _directory: directory })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_state_arrives_at_once_behind_nginx_with_its_defaults() {
    let fleet = Fleet::with_canary(Version::Broken);
    // so few requests that no further state pushes the first one out of nginx's buffers
    let direct = Serving::start(&fleet.url(), &["--rate=0.01"]);
    let Some(nginx) = Nginx::before(direct.address) else { return };
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10))).build().into();
    let answer = agent.get(format!("http://{}/v1/events", nginx.address)).call().expect("it answers");
    let mut reader = BufReader::with_capacity(1 << 20, answer.into_body().into_reader());
    let state = loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).expect("a state within ten seconds") > 0, "it goes on");
        let state = line.strip_prefix("data: ").and_then(|data| serde_json::from_str::<Value>(data).ok());
        if let Some(state) = state.filter(|state| state.get("decision").is_some()) {
            break state;
        }
    };
    assert_eq!(state["decision"], "not_yet");
    let more = String::from_utf8_lossy(reader.buffer());
    assert!(!more.contains("event: state"), "it came alone, not with later ones: {more}");
}
