//! `canary serve` behind nginx with nginx's own defaults. Skipped, with a message, where there is no nginx.

mod common;

use std::{
    io::{BufRead, BufReader},
    time::Duration,
};

use common::{Fleet, Version, nginx::Nginx, serving::Serving};
use serde_json::Value;
use testkit::eventually;

#[test]
fn a_state_arrives_at_once_behind_nginx_with_its_defaults() {
    let fleet = Fleet::with_canary(Version::Broken);
    // so few requests that no further state pushes the first one out of nginx's buffers
    let direct = Serving::start(&fleet.url(), &["--rate=0.01"]);
    let server = direct.address;
    let nginx = Nginx::start(|address| {
        format!("gzip on; server {{ listen {address}; location / {{ proxy_pass http://{server}; }} }}")
    });
    let Some(nginx) = nginx else { return };
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(30))).build().into();
    // a state also changes when the last requests are some seconds old, so a busy reader may find two at first
    eventually("it comes alone, not with later ones", || {
        let answer = agent.get(format!("http://{}/v1/events", nginx.address)).call().expect("it answers");
        let mut reader = BufReader::with_capacity(1 << 20, answer.into_body().into_reader());
        let state = loop {
            let mut line = String::new();
            assert!(reader.read_line(&mut line).expect("a state within thirty seconds") > 0, "it goes on");
            let state = line.strip_prefix("data: ").and_then(|data| serde_json::from_str::<Value>(data).ok());
            if let Some(state) = state.filter(|state| state.get("decision").is_some()) {
                break state;
            }
        };
        assert_eq!(state["decision"], "not_yet");
        !String::from_utf8_lossy(reader.buffer()).contains("event: state")
    });
}
