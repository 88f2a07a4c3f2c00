//! The real binary in a process of its own.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testkit::eventually;

/// A running `appinfo`, killed when dropped.
pub struct Process {
    child: Child,
    /// The process of `appinfo` itself. It differs from the child if a wrapper started `appinfo`.
    pid: Pid,
    log: Arc<Mutex<Vec<String>>>,
    /// Reads the log, until the process has closed it.
    reader: Option<JoinHandle<()>>,
    pub public: SocketAddr,
    pub admin: SocketAddr,
}

/// The binary, on ports that the system chooses, with an environment that has only `PATH`.
pub fn appinfo() -> Command {
    command(Path::new(env!("CARGO_BIN_EXE_appinfo")), &[])
}

/// A command like that of `appinfo()`, but started by a wrapper such as `setpriv …`.
pub fn command(binary: &Path, wrapper: &[&str]) -> Command {
    // a shell starts background jobs with SIGINT ignored, and child processes inherit that
    let words = wrapper.iter().chain(&["env", "--default-signal=INT"]).map(Path::new);
    let words: Vec<_> = words.chain([binary]).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.args(["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-format=json"]);
    command
}

impl Process {
    /// Starts the process and waits until it has logged its addresses.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        let reader = thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                lines.lock().expect("no panic").push(line);
            }
        });
        let pid = Pid::from_child(&child);
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let mut new = Self { child, pid, log, reader: Some(reader), public: nowhere, admin: nowhere };
        let mut serving = None;
        eventually("the process logs its addresses", || {
            serving = new.find("serving");
            serving.is_some()
        });
        let serving = serving.expect("found");
        let address = |key| serving[key].as_str().and_then(|text| text.parse().ok()).expect("an address");
        (new.public, new.admin) = (address("address"), address("admin_address"));
        new
    }

    /// All log lines so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("no panic").clone()
    }

    /// The log lines so far whose message contains this text.
    pub fn messages(&self, message: &str) -> Vec<Value> {
        let lines =
            self.log().into_iter().map(|line| serde_json::from_str::<Value>(&line).expect("JSON lines"));
        lines.filter(|line| line["message"].as_str().is_some_and(|text| text.contains(message))).collect()
    }

    /// The first log line whose message contains this text, if there is one yet.
    pub fn find(&self, message: &str) -> Option<Value> {
        self.messages(message).into_iter().next()
    }

    /// Waits for a log line whose message contains this text.
    pub fn wait_for(&self, message: &str) -> Value {
        eventually(message, || self.find(message).is_some());
        self.find(message).expect("just seen")
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("it still runs");
    }

    /// Sends signals to the wrapper's child from now on. For wrappers that fork.
    pub fn follow_child(&mut self) {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).expect("its children");
        let pid = children.trim().parse().ok().and_then(Pid::from_raw).expect("one child");
        self.pid = pid;
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a status").is_some()
    }

    /// Waits until the process ends, and its whole log is read.
    pub fn ended(&mut self) -> ExitStatus {
        eventually("the process ends", || self.has_ended());
        if let Some(reader) = self.reader.take() {
            reader.join().expect("no panic");
        }
        self.child.wait().expect("a status")
    }

    /// The CPU time used so far, in seconds (`/proc/<pid>/stat`: utime and stime, in ticks of 10 ms).
    pub fn cpu_seconds(&self) -> f64 {
        let stat = self.proc("stat");
        let fields: Vec<_> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
        let ticks = |index: usize| fields[index].parse::<f64>().expect("ticks");
        (ticks(11) + ticks(12)) / 100.0
    }

    /// The peak resident memory, in KiB (`VmHWM`).
    pub fn peak_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    /// The current resident memory, in KiB (`VmRSS`).
    pub fn resident_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    fn status_kib(&self, key: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("the line");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.pid.as_raw_nonzero())).expect("it still runs")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.has_ended() {
            let _ = kill_process(self.pid, Signal::KILL);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
