//! A real browser: Debian's chromium, driven by its chromedriver.
//!
//! <https://www.w3.org/TR/webdriver2/> has the protocol, and chromedriver's own commands begin with `goog/`.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Instant,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{PATIENCE, eventually};

/// Keys as `WebDriver` names them.
pub const TAB: &str = "\u{E004}";
pub const ENTER: &str = "\u{E007}";
pub const ARROW_RIGHT: &str = "\u{E014}";
pub const PAGE_DOWN: &str = "\u{E00F}";
pub const ESCAPE: &str = "\u{E00C}";

/// A browser with one window; it ends when it is dropped.
pub struct Browser {
    driver: Child,
    /// The URL for its commands.
    session: String,
    agent: ureq::Agent,
    profile: TempDir,
}

fn tempdir() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

impl Browser {
    /// A window of that size in CSS pixels; none, and a message, where there is no browser.
    pub fn open(width: u32, height: u32) -> Option<Self> {
        let Some((driver, port)) = driver() else {
            eprintln!(
                "SKIPPED: chromium-driver is not installed, so there is no browser to test the page in"
            );
            return None;
        };
        let agent =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build();
        let session = format!("http://127.0.0.1:{port}/session");
        let mut new = Self { driver, session, agent: agent.into(), profile: tempdir() };
        let mut id = None;
        eventually("the browser starts", || {
            new.profile = tempdir(); // one that did not start may have left a lock
            let created = new.ask("", &new.wanted());
            if let Err(why) = &created {
                eprintln!("the browser has not started, and is started again: {why}");
            }
            id = created.ok().and_then(|created| created["sessionId"].as_str().map(str::to_owned));
            id.is_some()
        });
        new.session = format!("{}/{}", new.session, id.expect("just seen"));
        new.resize(width, height);
        Some(new)
    }

    /// What is wanted of a session.
    fn wanted(&self) -> Value {
        let options = json!({"args": [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-lcd-text", // grey edges make smaller pictures
            format!("--user-data-dir={}", self.profile.path().display()),
        ]});
        json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"script": PATIENCE.as_secs() * 1000}, // 30 s are too few for axe on a busy machine
        }}})
    }

    /// The value of the answer to a command.
    fn post(&self, command: &str, body: &Value) -> Value {
        self.ask(command, body).unwrap_or_else(|error| panic!("{command} {body}: {error}"))
    }

    /// The value of the answer to a command, or the whole answer if it is an error.
    fn ask(&self, command: &str, body: &Value) -> Result<Value, Value> {
        let url = format!("{}{command}", self.session);
        let answer = self.agent.post(&url).send_json(body).expect("chromedriver answers");
        let status = answer.status();
        let mut answer: Value = answer.into_body().read_json().expect("JSON");
        if status.is_success() { Ok(answer["value"].take()) } else { Err(answer) }
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    pub fn resize(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Sets light or dark colours, and turns motion off, so that a picture shows the final state.
    pub fn prefers(&self, scheme: &str) {
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// Uses the system's own few colours, as for people who need a high contrast.
    pub fn forces_colours(&self) {
        let features = json!([{"name": "forced-colors", "value": "active"}]);
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    pub fn go(&self, url: &str) {
        self.post("/url", &json!({"url": url}));
    }

    /// What a script returns in the page.
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// What a script passes to the function `done`.
    pub fn run_until_done(&self, script: &str) -> Value {
        let script = format!("const done = arguments[0]; {script}");
        self.post("/execute/async", &json!({"script": script, "args": []}))
    }

    /// The text of the first element that a selector finds; empty where it is not to be seen.
    pub fn text(&self, selector: &str) -> String {
        let script = format!(
            "const found = document.querySelector({}); return found?.checkVisibility() ? found.innerText : ''",
            json!(selector)
        );
        self.run(&script).as_str().expect("text").to_owned()
    }

    pub fn count(&self, selector: &str) -> u64 {
        self.run(&format!("return document.querySelectorAll({}).length", json!(selector)))
            .as_u64()
            .expect("a count")
    }

    pub fn until_shows(&self, selector: &str, text: &str) {
        let what = format!("{selector} shows {text}");
        eventually(&what, || self.text(selector).contains(text));
    }

    /// Clicks like a mouse: an element that covers it would get the click.
    pub fn click(&self, selector: &str) {
        let found = self.post("/element", &json!({"using": "css selector", "value": selector}));
        let id = found.as_object().and_then(|found| found.values().next()?.as_str()).expect("an element");
        self.post(&format!("/element/{id}/click"), &json!({}));
    }

    pub fn press(&self, key: &str) {
        let press = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        self.post("/actions", &json!({"actions": [{"type": "key", "id": "keyboard", "actions": press}]}));
    }

    /// The browser's log since the last call, such as violations of the page's policy.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({"type": "browser"}));
        let entries = log.as_array().expect("entries").iter();
        entries.map(|entry| entry["message"].as_str().expect("a message").to_owned()).collect()
    }

    /// A picture of the window in the format PNG, in base 64.
    pub fn picture(&self) -> String {
        let picture = self.devtools("Page.captureScreenshot", &json!({"format": "png"}));
        picture["data"].as_str().expect("a picture").to_owned()
    }
}

/// A chromedriver and the port that it has chosen; none where it is not installed.
fn driver() -> Option<(Child, u16)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut driver = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).spawn().ok()?;
        if let Some(port) = port_of(&mut driver) {
            return Some((driver, port));
        }
        // it chooses a port that is free for IPv4, and exits if the port is in use for IPv6
        let status = driver.wait().expect("it ended");
        assert!(Instant::now() < deadline, "chromedriver ends again and again: {status}");
    }
}

/// The port that a chromedriver has chosen; none if it ends.
fn port_of(driver: &mut Child) -> Option<u16> {
    let mut lines = BufReader::new(driver.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let started = "ChromeDriver was started successfully on port ";
    let port = lines.find_map(|line| line.strip_prefix(started).map(str::to_owned))?;
    Some(port.trim_end_matches('.').parse().expect("a port"))
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.agent.delete(&self.session).call(); // ends the browser
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
