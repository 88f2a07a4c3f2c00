//! The pods of workloads as a source, with stand-ins for `kubectl` and for the API server.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use common::{json_lines, serving::Serving};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::eventually;

/// An answer of a pod, or of the API server in its place: the status, the body, and whether the API server has marked it.
#[derive(Clone, Debug)]
struct Answer {
    status: u16,
    body: String,
    marked: bool,
}

impl Answer {
    fn of_pod(status: u16, body: &str) -> Self {
        Self { status, body: body.to_owned(), marked: true }
    }

    fn of_api(status: u16, reason: &str, message: &str, details: &Value) -> Self {
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "message": message, "reason": reason, "details": details, "code": status,
        });
        Self::of_pod(status, &body.to_string())
    }
}

/// What a pod does with the request of this number.
type Behaviour = Box<dyn Fn(usize, &str) -> Option<Answer> + Send>;

#[derive(Default)]
struct State {
    /// Objects by their path.
    objects: BTreeMap<String, Value>,
    /// What the API server answers to these paths of objects instead.
    refused: BTreeMap<String, Answer>,
    pods: Vec<Value>,
    /// The names of the pods that have changed. A watch that begins after the change is told, too.
    changed: BTreeSet<String>,
    behaviours: BTreeMap<String, Behaviour>,
    /// The pods of the requests, in the order of their arrival, with the whole head of each.
    asked: Vec<(String, String)>,
    /// What the API server answers to all that reads one pod, or asks whether it answers, if it refuses.
    refusal: Option<Answer>,
    /// What it answers to a watch, if it refuses.
    watch_refusal: Option<Answer>,
    /// Whether each watch ends at once.
    short_watches: bool,
    watches: Vec<UnixStream>,
    /// How many lists and watches were asked for.
    lists: usize,
    /// Ends the connections of pods that hang.
    cut: bool,
}

/// An API server behind a stand-in for `kubectl proxy`.
struct Cluster {
    state: Arc<Mutex<State>>,
    folder: TempDir,
}

impl Cluster {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &state));
            }
        });
        let script = format!(
            "#!/bin/sh\nfolder={folder}\nprintf '%s\\n' \"$*\" >>$folder/calls\necho $$ >>$folder/$1.pids\n[ ! -e $folder/before ] || . \
             $folder/before\ncase $1 in\nconfig) printf 'shop-space\\nhttps://api.example:6443' ;;\nproxy)\n  for a; do case $a in \
             --unix-socket=*) ln -s {socket} \"${{a#*=}}\" ;; esac; done\n  while [ ! -e $folder/stop ]; do sleep 0.1; done ;;\nesac\n",
            folder = folder.path().display(),
            socket = socket.display(),
        );
        let kubectl = folder.path().join("kubectl");
        fs::write(&kubectl, script).expect("a file");
        fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).expect("its mode");
        fs::create_dir(folder.path().join("tmp")).expect("a folder");
        Self { state, folder }
    }

    /// Two Deployments, `shop` and `shop-canary`, of which the selector of the first also selects the pods of the second.
    fn of_deployments() -> Self {
        let new = Self::new();
        for name in ["shop", "shop-canary"] {
            let path = format!("/apis/apps/v1/namespaces/shop-space/deployments/{name}");
            let labels = if name == "shop" {
                json!({"app": "shop"})
            } else {
                json!({"app": "shop", "track": "canary"})
            };
            new.add_object(&path, json!({"spec": {"selector": {"matchLabels": labels}}}));
        }
        new
    }

    fn add_object(&self, path: &str, object: Value) {
        self.lock().objects.insert(path.to_owned(), object);
    }

    /// What the stand-in for `kubectl` does first.
    fn before(self, script: &str) -> Self {
        fs::write(self.folder.path().join("before"), script).expect("a file");
        self
    }

    /// The processes of `kubectl`, in the order of their start.
    fn processes(&self, command: &str) -> Vec<Pid> {
        let pids = fs::read_to_string(self.folder.path().join(command).with_extension("pids"));
        let pids = pids.unwrap_or_default();
        pids.lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// Adds a pod of this `ReplicaSet`.
    fn add_pod(&self, name: &str, owner: &str, labels: &[(&str, &str)], behaviour: Behaviour) {
        let mut all: BTreeMap<_, _> = labels.iter().copied().collect();
        all.insert("app", "shop");
        let pod = json!({
            "metadata": {
                "name": name, "uid": name, "labels": all,
                "ownerReferences": [{"kind": "ReplicaSet", "name": owner, "controller": true}],
            },
            "spec": {"containers": [{"ports": [{"containerPort": 8080}]}]},
            "status": {
                "phase": "Running", "podIP": "10.0.0.1",
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"restartCount": 0}],
            },
        });
        let mut state = self.lock();
        state.pods.push(pod);
        state.behaviours.insert(name.to_owned(), behaviour);
    }

    /// A pod of each Deployment.
    fn with_pods(self, stable: Behaviour, canary: Behaviour) -> Self {
        self.add_pod("shop-a-1", "shop-a", &[("pod-template-hash", "a")], stable);
        let labels = [("pod-template-hash", "b"), ("track", "canary")];
        self.add_pod("shop-canary-b-1", "shop-canary-b", &labels, canary);
        self
    }

    /// Changes a pod, and tells the watches.
    fn change(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.lock();
        let pod = state.pods.iter_mut().find(|pod| pod["metadata"]["name"] == name).expect("a pod");
        change(pod);
        let chunk = modified(pod);
        state.changed.insert(name.to_owned());
        state.watches.retain_mut(|watch| watch.write_all(chunk.as_bytes()).is_ok());
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_canary"));
        let path = format!("{}:{}", self.folder.path().display(), std::env::var("PATH").expect("a PATH"));
        command.args(arguments).env("PATH", path).env("TMPDIR", self.folder.path().join("tmp"));
        command.env_remove("KUBECONFIG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs canary. Returns its exit code, its output and its messages.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command(arguments).output().expect("it runs");
        self.until_nothing_is_left();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// Watches both Deployments without a decision.
    fn watch(&self, arguments: &[&str]) -> Watched {
        let both = ["watch", "deployment/shop", "deployment/shop-canary", "--rate=50", "--output=json"];
        let (code, output, messages) = self.run(&[&both[..], arguments].concat());
        let summary = json_lines(&output).pop().unwrap_or_else(|| panic!("a summary, {code:?}: {messages}"));
        Watched { summary }
    }

    /// On a busy machine, canary may end before the guard of kubectl.
    fn until_nothing_is_left(&self) {
        eventually("nothing is left", || self.socket_folders().is_empty());
    }

    fn socket_folders(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path().join("tmp")).expect("a folder");
        entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
    }
}

#[derive(Debug)]
struct Watched {
    summary: Value,
}

impl Watched {
    fn number(&self, pointer: &str) -> u64 {
        self.summary.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer}: {self:?}"))
    }
}

/// The time-out of requests that a pod answers, however busy the machine is.
const PATIENT: &str = "--timeout=60s";

fn good() -> Behaviour {
    Box::new(|_, _| Some(Answer::of_pod(200, "hello")))
}

/// The event that a pod has changed, as a chunk of a watch.
fn modified(pod: &Value) -> String {
    let event = json!({"type": "MODIFIED", "object": pod}).to_string() + "\n";
    format!("{:x}\r\n{event}\r\n", event.len())
}

/// Serves one connection, which has one request.
fn serve(mut stream: UnixStream, state: &Mutex<State>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).expect("UTF-8");
    let path = head.split(' ').nth(1).expect("a path").to_owned();
    let (before, _) = path.split_once('?').unwrap_or((&path, ""));
    if let Some((_, rest)) = path.split_once("/pods/") {
        let (target, asked) = rest.split_once("/proxy").expect("a way to a pod");
        let (name, port) = target.rsplit_once(':').expect("a port");
        let pod = name.rsplit(':').next().expect("a name");
        let mut locked = state.lock().expect("no panic");
        if port == "99999" {
            let message = "error trying to reach service: dial tcp: address 99999: invalid port";
            let passes = Answer::of_api(500, "", message, &Value::Null);
            let answer = locked.refusal.clone().unwrap_or(passes);
            drop(locked);
            return respond(&mut stream, &answer);
        }
        let number = locked.asked.len();
        locked.asked.push((pod.to_owned(), head.clone()));
        let answer = locked.behaviours.get(pod).expect("a pod")(number, asked);
        drop(locked);
        match answer {
            Some(answer) => respond(&mut stream, &answer),
            None => {
                // hangs
                while !state.lock().expect("no panic").cut {
                    thread::sleep(Duration::from_millis(10));
                }
            }
        }
        return;
    }
    let mut state = state.lock().expect("no panic");
    if !before.ends_with("/pods") {
        let answer = match state.objects.get(before) {
            _ if state.refused.contains_key(before) => state.refused[before].clone(),
            Some(object) => Answer::of_pod(200, &object.to_string()),
            None => Answer::of_api(404, "NotFound", "it is not found", &json!({})),
        };
        respond(&mut stream, &answer);
        return;
    }
    state.lists += 1;
    let canary = path.contains("canary");
    let selected = |pod: &&Value| !canary || pod["metadata"]["labels"]["track"] == "canary";
    if path.contains("watch=1") {
        if let Some(refusal) = state.watch_refusal.clone() {
            return respond(&mut stream, &refusal);
        }
        let head =
            "HTTP/1.1 200 OK\r\nCache-Control: no-cache, private\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("it reads");
        let changed =
            |pod: &&Value| pod["metadata"]["name"].as_str().is_some_and(|it| state.changed.contains(it));
        let events: String = state.pods.iter().filter(selected).filter(changed).map(modified).collect();
        let _ = stream.write_all(events.as_bytes()); // it may have gone
        if !state.short_watches {
            state.watches.push(stream);
        }
    } else if let Some(refusal) = state.refusal.clone().filter(|_| path.ends_with("limit=1")) {
        respond(&mut stream, &refusal);
    } else {
        let number = |name: &str| {
            let (_, rest) = path.split_once(&format!("&{name}="))?;
            rest.split('&').next()?.parse::<usize>().ok()
        };
        let (from, most) = (number("continue").unwrap_or(0), number("limit").unwrap_or(usize::MAX));
        let items: Vec<_> = state.pods.iter().filter(selected).collect();
        let end = from.saturating_add(most).min(items.len());
        let next = if end < items.len() { end.to_string() } else { String::new() };
        let metadata = json!({"resourceVersion": "7", "continue": next});
        let list = json!({"metadata": metadata, "items": items[from..end]});
        respond(&mut stream, &Answer::of_pod(200, &list.to_string()));
    }
}

fn respond(stream: &mut UnixStream, Answer { status, body, marked }: &Answer) {
    let mark = if *marked { "Cache-Control: no-cache, private\r\n" } else { "" };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} Any\r\n{mark}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all((head + body).as_bytes());
}

#[test]
fn each_request_is_counted_for_the_pod_that_it_was_sent_to_whatever_becomes_of_it() {
    // a canary that answers, refuses, hangs, breaks off and fails
    let canary: Behaviour = Box::new(|number, _| match number % 5 {
        0 => Some(Answer::of_pod(200, "hello")),
        1 => Some(Answer::of_pod(502, "")),
        2 => None,
        3 => Some(Answer::of_pod(
            503,
            "Error trying to reach service: 'dial tcp 10.0.0.1:8080: connection refused'",
        )),
        _ => {
            let message = "error trying to reach service: EOF";
            Some(Answer::of_api(503, "ServiceUnavailable", message, &Value::Null))
        }
    });
    let cluster = Cluster::of_deployments().with_pods(good(), canary);
    let arguments = ["--count=300", "--timeout=10s", "--share=40%"];
    let watched = cluster.watch(&arguments);
    let asked = cluster.lock().asked.iter().map(|(pod, _)| pod.clone()).collect::<Vec<_>>();
    assert_eq!(
        (asked.len(), watched.number("/requests"), watched.number("/unsent")),
        (300, 300, 0),
        "{watched:?}"
    );
    for (release, pod) in [("stable", "shop-a-1"), ("canary", "shop-canary-b-1")] {
        let sent = asked.iter().filter(|asked| *asked == pod).count() as u64;
        let [good, bad] =
            ["success", "failure"].map(|key| watched.number(&format!("/releases/{release}/{key}")));
        assert_eq!(good + bad, sent, "{release}: {watched:?}");
        let waiting = watched.number(&format!("/verdict/waiting/{release}/answers"));
        assert_eq!(
            watched.number(&format!("/verdict/{release}/answers")) + waiting,
            sent,
            "{release}: {watched:?}"
        );
    }
    assert_eq!(watched.number("/verdict/unattributed"), 0);
    assert_eq!(watched.number("/releases/stable/failure"), 0);
    assert!(watched.number("/no_answer/causes/timed-out") > 0, "{watched:?}");
    assert!(watched.number("/no_answer/causes/refused") > 0, "{watched:?}");
    assert!(watched.number("/no_answer/causes/broke-off") > 0, "{watched:?}");
    let canary = asked.iter().filter(|pod| pod.starts_with("shop-canary")).count();
    assert!((75..=165).contains(&canary), "40 % of 300: {canary}");
}

#[test]
fn each_request_has_one_of_the_paths_and_the_bad_one_is_named() {
    let canary: Behaviour = Box::new(|_, path| {
        let status = if path == "/checkout" { 500 } else { 200 };
        Some(Answer::of_pod(status, ""))
    });
    let cluster = Cluster::of_deployments().with_pods(good(), canary);
    let arguments = ["judge", "deployment/shop", "deployment/shop-canary", "--rate=50", "--output=json"];
    // with so small an α, each path was asked before the verdict
    let paths = ["--path=/", "--path=/cart:2", "--path=/checkout", "--alpha=1e-6", PATIENT];
    let output = cluster.command(&[&arguments[..], &paths].concat()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines = json_lines(&String::from_utf8(output.stdout).expect("UTF-8"));
    let text = lines.last().expect("a summary")["verdict_text"].as_str().expect("a text");
    // Chance decides whether this path alone shows it first, or all of them together. It is named in both cases.
    assert!(text.starts_with("Roll back: the canary is worse than stable "), "{text}");
    assert!(text.contains(" on /checkout"), "{text}");
    let told = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(told.contains("; each request has one of 3 paths"), "{told}");
    let asked = cluster.lock().asked.iter().map(|(_, head)| head.clone()).collect::<Vec<_>>();
    for path in ["/", "/cart", "/checkout"] {
        assert!(asked.iter().any(|head| head.contains(&format!("/proxy{path} "))), "{path}: {asked:?}");
    }
}

#[test]
fn what_the_api_server_itself_answers_is_trouble_and_what_a_pod_answers_counts() {
    let details = json!({"name": "shop-canary-b-1:8080", "kind": "pods"});
    let forbidden =
        "pods \"shop-canary-b-1:8080\" is forbidden: User \"x\" cannot get resource \"pods/proxy\"";
    let forbidden = Answer::of_api(403, "Forbidden", forbidden, &details);
    let gone = json!({"name": "shop-canary-b-1", "kind": "pods"});
    let gone = Answer::of_api(404, "NotFound", "pods \"shop-canary-b-1\" not found", &gone);
    let unauthorized = Answer::of_api(401, "Unauthorized", "Unauthorized", &Value::Null);
    let busy = Answer::of_pod(429, "Too many requests, please try again later.");
    let down = Answer::of_api(503, "ServiceUnavailable", "the database is down", &Value::Null);
    let late = Answer::of_api(504, "Timeout", "the request timed out", &Value::Null);
    let other = json!({"name": "cart", "kind": "pods"});
    let unmarked = Answer { marked: false, ..Answer::of_pod(502, "Bad Gateway") };
    let long = Answer::of_api(
        404,
        "NotFound",
        &"x".repeat(1 << 20),
        &json!({"name": "shop-canary-b-1", "kind": "pods"}),
    );
    let of_api = [
        (&forbidden, "resources: [pods/proxy], verbs: [get]"),
        (&gone, "the pod is gone"),
        (&unauthorized, "answers 401: Unauthorized"),
        (&busy, "answers 429: Too many requests"),
        (&down, "answers 503: the database is down"),
        (&late, "answers 504: the request timed out"),
    ];
    let trouble = of_api.map(|(answer, told)| (answer.clone(), Some(answer.clone()), true, told));
    // a pod that writes the same, but the API server does not refuse, or for another reason
    let faked = of_api.map(|(answer, _)| (answer.clone(), None, false, ""));
    let others = [
        (unmarked, None, true, "the way to the pods answers 502: Bad Gateway"),
        (gone.clone(), Some(forbidden.clone()), false, ""),
        (forbidden.clone(), Some(gone.clone()), false, ""),
        (busy.clone(), Some(down.clone()), false, ""),
        (long.clone(), Some(long), false, ""),
        (Answer::of_api(404, "NotFound", "pods \"cart\" not found", &other), Some(gone.clone()), false, ""),
        (Answer::of_pod(404, "not found"), Some(gone.clone()), false, ""),
    ];
    for (answer, refusal, is_trouble, told) in trouble.into_iter().chain(faked).chain(others) {
        let shown = format!("{answer:?}");
        let cluster = Cluster::of_deployments().with_pods(good(), Box::new(move |_, _| Some(answer.clone())));
        cluster.lock().refusal = refusal;
        let watched = cluster.watch(&["--count=40", PATIENT]);
        let canary = cluster.lock().asked.iter().filter(|(pod, _)| pod == "shop-canary-b-1").count() as u64;
        assert!(canary > 0);
        let failures =
            watched.summary.pointer("/releases/canary/failure").and_then(Value::as_u64).unwrap_or(0);
        let counted = if is_trouble { (0, canary) } else { (canary, 0) };
        assert_eq!((failures, watched.number("/unsent")), counted, "{shown}: {watched:?}");
        let trouble = watched.summary["trouble"].as_str().unwrap_or_default();
        assert!(!is_trouble || trouble.contains(told), "{shown}: {watched:?}");
    }
}

#[test]
fn a_pod_that_is_to_be_deleted_is_asked_no_more_and_restarts_and_unreadiness_are_told() {
    let cluster = Cluster::of_deployments().with_pods(good(), good());
    let labels = [("pod-template-hash", "b"), ("track", "canary")];
    cluster.add_pod("shop-canary-b-2", "shop-canary-b", &labels, good());
    let arguments = ["judge", "deployment/shop", "deployment/shop-canary", "--rate=50", "--output=json"];
    let child = cluster
        .command(&[&arguments[..], &["--count=1500", "--max-failure-rate=0.1%", PATIENT]].concat())
        .spawn();
    let child = child.expect("it starts");
    let asked =
        |cluster: &Cluster, pod: &str| cluster.lock().asked.iter().filter(|(name, _)| name == pod).count();
    eventually("both pods are asked", || {
        asked(&cluster, "shop-canary-b-1") > 5 && asked(&cluster, "shop-canary-b-2") > 5
    });
    cluster.change("shop-canary-b-2", |pod| {
        pod["metadata"]["deletionTimestamp"] = json!("2026-11-29T06:00:00Z");
    });
    let mut of_leaving = 0;
    eventually("it is asked no more", || {
        of_leaving = asked(&cluster, "shop-canary-b-2");
        let all = asked(&cluster, "shop-canary-b-1");
        eventually("other requests", || asked(&cluster, "shop-canary-b-1") > all + 20);
        asked(&cluster, "shop-canary-b-2") == of_leaving
    });
    cluster.change("shop-canary-b-1", |pod| {
        pod["status"]["containerStatuses"][0]["restartCount"] = json!(2);
        pod["status"]["conditions"][0]["status"] = json!("False");
    });
    let output = child.wait_with_output().expect("it ends");
    let lines = json_lines(&String::from_utf8(output.stdout).expect("UTF-8"));
    let summary = lines.last().expect("a summary");
    assert_eq!(asked(&cluster, "shop-canary-b-2"), of_leaving, "{summary}");
    assert_eq!(summary["requests"], 1500, "the pod that is not ready is still asked: {summary}");
    let verdict = &summary["verdict"];
    assert_eq!((output.status.code(), &verdict["restarts"]), (Some(2), &json!(2)), "{verdict}");
    assert!(verdict["absence"]["unready"].is_u64(), "{verdict}");
    let text = summary["verdict_text"].as_str().expect("a text");
    assert!(
        text.contains("Pods of the canary have restarted 2 times.") && !text.contains("is lost"),
        "{text}"
    );
    assert!(text.contains("a pod of the canary has not been ready for"), "{text}");
}

#[test]
fn pods_that_are_ready_only_later_are_waited_for() {
    let cluster = Cluster::of_deployments().with_pods(good(), good());
    let pods = ["shop-a-1", "shop-canary-b-1"];
    let ready = |value: &str| {
        for pod in pods {
            cluster.change(pod, |pod| pod["status"]["conditions"][0]["status"] = json!(value));
        }
    };
    ready("False");
    let arguments = ["judge", "deployment/shop", "deployment/shop-canary", "--count=20", "--timeout=1s"];
    let mut child = cluster.command(&arguments).spawn().expect("it starts");
    let messages = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    // told after longer than any answer may take
    let told =
        "no request goes to the canary release, deployment/shop-canary: its pod shop-canary-b-1 is not ready";
    assert!(messages.into_iter().any(|line| line.contains(told)));
    ready("True");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(cluster.lock().asked.len(), 20);
}

#[test]
fn if_kubectl_proxy_ends_it_is_started_again_and_what_was_under_way_is_neither_lost_nor_blamed_on_a_pod() {
    // the canary hangs until the way is cut
    let cluster = Cluster::of_deployments().with_pods(good(), Box::new(|_, _| None));
    let arguments = ["watch", "deployment/shop", "deployment/shop-canary", "--rate=50", "--output=json"];
    let child = cluster.command(&[&arguments[..], &[PATIENT, "--count=500"]].concat()).spawn();
    let child = child.expect("it starts");
    let asked = || cluster.lock().asked.len();
    let of_canary = || cluster.lock().asked.iter().filter(|(pod, _)| pod.starts_with("shop-canary")).count();
    eventually("some requests that hang", || of_canary() >= 5);
    let first = cluster.processes("proxy");
    kill_process(first[0], Signal::KILL).expect("it runs");
    eventually("another one", || cluster.processes("proxy").len() == 2);
    let before = asked();
    eventually("requests that pass it", || asked() > before + 5);
    {
        let mut state = cluster.lock();
        state.cut = true;
        state.behaviours.insert("shop-canary-b-1".to_owned(), good());
    }
    let output = child.wait_with_output().expect("it ends");
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(messages.contains("kubectl proxy has ended, so no request can be sent: "), "{messages}");
    assert!(messages.contains("It is started again"), "{messages}");
    let summary = json_lines(&String::from_utf8(output.stdout).expect("UTF-8")).pop().expect("a summary");
    let number = |pointer: &str| summary.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    assert_eq!(number("/requests") + number("/unsent"), 500, "{summary}");
    let blamed = number("/releases/canary/failure");
    // those that hung on the second one until the cut are the canary's
    assert!(number("/unsent") >= 5 && blamed <= (asked() - before) as u64, "{summary}");
    assert_eq!(number("/releases/stable/failure"), 0, "{summary}");
    cluster.until_nothing_is_left();
}

#[test]
fn if_kubectl_proxy_ends_again_and_again_that_is_told_and_the_verdict_is_on_what_was_counted() {
    let cluster = Cluster::of_deployments().with_pods(good(), good());
    let arguments = ["judge", "deployment/shop", "deployment/shop-canary", "--rate=50", PATIENT];
    let child = cluster.command(&arguments).spawn().expect("it starts");
    eventually("some requests", || cluster.lock().asked.len() > 20);
    fs::write(cluster.folder.path().join("stop"), "").expect("a file");
    let output = child.wait_with_output().expect("it ends");
    let messages = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{messages}");
    assert!(messages.contains("It was started again 5 times"), "{messages}");
    assert_eq!(cluster.processes("proxy").len(), 6);
    assert!(output.stdout.starts_with(b"Not yet: the canary has failed 0 of "), "{output:?}");
    cluster.until_nothing_is_left();
}

#[test]
fn a_kubectl_that_fails_or_writes_anything_is_told_safely_and_nothing_of_it_is_left() {
    for (script, told) in [
        ("printf '\\033[2Jrubbish' >&2; exit 1", r"kubectl: \u{1b}[2Jrubbish"),
        ("exit 3", "kubectl has ended (exit status: 3)"),
        ("printf '\\033[2J'; exit 0", r"the context has no usable namespace: \u{1b}[2J"),
        ("[ $1 = config ] || { echo 'unknown flag: --unix-socket' >&2; exit 1; }", "kubectl: unknown flag"),
    ] {
        let cluster = Cluster::of_deployments().before(script);
        let (code, output, messages) = cluster.run(&["judge", "deployment/shop", "deployment/shop-canary"]);
        assert_eq!((code, output.as_str()), (Some(3), ""), "{script}: {messages}");
        assert!(messages.contains(told), "{script}: {messages}");
    }
    let cluster = Cluster::of_deployments();
    fs::remove_file(cluster.folder.path().join("kubectl")).expect("it is there");
    let mut command = cluster.command(&["judge", "deployment/shop", "deployment/shop-canary"]);
    let output = command.env("PATH", tools(&cluster)).output().expect("it runs");
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(messages.contains("kubectl is not on the PATH"), "{messages}");
}

/// A folder with the programs that the guard of kubectl needs, without kubectl.
fn tools(cluster: &Cluster) -> PathBuf {
    let folder = cluster.folder.path().join("tools");
    fs::create_dir(&folder).expect("a folder");
    for tool in ["sh", "cat", "rm", "rmdir", "sleep"] {
        let paths = std::env::var_os("PATH").expect("a PATH");
        let found = std::env::split_paths(&paths).map(|path| path.join(tool)).find(|path| path.exists());
        std::os::unix::fs::symlink(found.expect("it is installed"), folder.join(tool)).expect("a link");
    }
    folder
}

#[test]
fn no_process_and_no_folder_is_left_whatever_ends_it_and_whatever_kubectl_does() {
    let hangs = "[ $1 != config ] || sleep 600";
    let hangs_at_start = "[ $1 != proxy ] || sleep 600";
    // ends by no signal but SIGKILL
    let deaf = "trap '' TERM INT HUP";
    let deaf_at_start = "trap '' TERM INT HUP; [ $1 != proxy ] || while :; do sleep 1; done";
    for (script, command) in [
        ("", "proxy"),
        (hangs, "config"),
        (hangs_at_start, "proxy"),
        (deaf, "proxy"),
        (deaf_at_start, "proxy"),
    ] {
        for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
            let cluster = Cluster::of_deployments().with_pods(good(), good()).before(script);
            let arguments =
                ["judge", "deployment/shop", "deployment/shop-canary", "--max-failure-rate=0.01%"];
            let mut child = cluster.command(&arguments).spawn().expect("it starts");
            eventually("kubectl", || !cluster.processes(command).is_empty());
            testkit::signal(&child, signal);
            child.wait().expect("it ends");
            let all = || [cluster.processes("config"), cluster.processes("proxy")].concat();
            eventually(&format!("no process after {signal:?}: {script}"), || {
                all().into_iter().all(|id| test_kill_process(id).is_err())
            });
            eventually(&format!("no folder after {signal:?}: {script}"), || {
                cluster.socket_folders().is_empty()
            });
        }
    }
}

#[test]
fn two_runs_at_once_do_not_disturb_each_other() {
    let cluster = Cluster::of_deployments().with_pods(good(), good());
    let arguments =
        ["judge", "deployment/shop", "deployment/shop-canary", "--rate=50", "--count=100", PATIENT];
    let start = || cluster.command(&arguments).spawn().expect("it starts");
    for child in [start(), start()] {
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
    assert_eq!(cluster.lock().asked.len(), 200);
    cluster.until_nothing_is_left();
}

#[test]
fn a_watch_that_always_ends_is_not_asked_for_in_a_hurry_and_without_one_the_list_is_read() {
    let cluster = Cluster::of_deployments().with_pods(good(), good());
    cluster.lock().short_watches = true;
    let began = Instant::now();
    let watched = cluster.watch(&["--count=150", PATIENT]);
    assert_eq!(watched.number("/releases/canary/success") + watched.number("/releases/stable/success"), 150);
    let (lists, seconds) = (cluster.lock().lists, began.elapsed().as_secs_f64());
    // two lists, each with its watch, once a second at most
    assert!(lists as f64 <= 8.0 + 4.0 * seconds, "{lists} lists and watches in {seconds} s");

    let cluster = Cluster::of_deployments().with_pods(good(), good());
    let labels = [("pod-template-hash", "b"), ("track", "canary")];
    cluster.add_pod("shop-canary-b-2", "shop-canary-b", &labels, good());
    let forbidden = Answer::of_api(403, "Forbidden", "cannot watch resource \"pods\"", &Value::Null);
    cluster.lock().watch_refusal = Some(forbidden);
    let arguments = ["judge", "deployment/shop", "deployment/shop-canary", "--rate=50"];
    let mut child = cluster
        .command(&[&arguments[..], &["--max-failure-rate=0.01%"]].concat())
        .spawn()
        .expect("it starts");
    let asked = |pod: &str| cluster.lock().asked.iter().filter(|(name, _)| name == pod).count();
    eventually("the second pod is asked", || asked("shop-canary-b-2") > 3);
    cluster.change("shop-canary-b-2", |pod| {
        pod["metadata"]["deletionTimestamp"] = json!("2026-11-29T06:00:00Z");
    });
    eventually("it is asked no more", || {
        let (before, all) = (asked("shop-canary-b-2"), asked("shop-a-1"));
        eventually("other requests", || asked("shop-a-1") > all + 20);
        asked("shop-canary-b-2") == before
    });
    testkit::signal(&child, Signal::INT);
    let mut messages = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut messages).expect("UTF-8");
    child.wait().expect("it ends");
    assert!(messages.contains("verbs: [list, watch]"), "{messages}");
}

#[test]
fn five_thousand_pods_are_listed_in_pages() {
    let cluster = Cluster::of_deployments().with_pods(good(), good());
    let labels = [("pod-template-hash", "b"), ("track", "canary")];
    for number in 2..=5000 {
        cluster.add_pod(&format!("shop-canary-b-{number}"), "shop-canary-b", &labels, good());
    }
    // as much as real pods have
    let padding = "x".repeat(10_000);
    for pod in &mut cluster.lock().pods {
        pod["metadata"]["annotations"] = json!({"padding": padding});
    }
    let arguments = ["judge", "deployment/shop", "deployment/shop-canary", "--rate=50", "--count=50"];
    let (code, _, messages) = cluster.run(&arguments);
    assert_eq!(code, Some(2), "{messages}");
    assert!(messages.contains("deployment/shop-canary (5000 pods)"), "{messages}");
}

#[test]
fn what_pods_say_of_themselves_is_shown_safe_and_leads_nowhere_else() {
    let evil = "\u{1b}[2J\r\n\u{202e}";
    let cluster = Cluster::of_deployments().with_pods(good(), good());
    cluster.change("shop-canary-b-1", |pod| {
        pod["metadata"]["labels"][evil] = json!(evil.repeat(10_000));
        pod["metadata"]["annotations"] = json!({evil: evil});
        pod["spec"]["containers"][0]["ports"][0]["name"] = json!(evil);
        pod["status"]["containerStatuses"][0]["state"] = json!({"waiting": {"reason": evil}});
    });
    let arguments = ["judge", "deployment/shop", "deployment/shop-canary", "--rate=50", "--output=json"];
    let (code, output, messages) = cluster.run(&[&arguments[..], &["--count=40"]].concat());
    assert_eq!(code, Some(2), "{messages}");
    let is_safe = |text: &str| !text.contains(['\u{1b}', '\r', '\u{202e}']);
    assert!(is_safe(&messages) && is_safe(&output) && output.len() < 100_000, "{messages}");

    for path in ["/../../../secrets", "/a b", "/\u{1b}[2J", "/#x", "/x\r\nHost: y", &"/x".repeat(50_000)] {
        let cluster = Cluster::of_deployments().with_pods(good(), good());
        cluster.change("shop-canary-b-1", |pod| {
            pod["spec"]["containers"][0]["readinessProbe"] = json!({"httpGet": {"path": path, "port": 8080}});
        });
        let (code, _, messages) = cluster.run(&["judge", "deployment/shop", "deployment/shop-canary"]);
        assert_eq!(code, Some(3), "{path}: {messages}");
        assert!(messages.contains("the path of the readiness probe cannot be asked"), "{messages}");
        assert!(is_safe(&messages) && messages.len() < 2000, "{messages}");
        assert!(cluster.lock().asked.is_empty());
    }
}

#[test]
fn a_pod_whose_readiness_probe_is_https_is_asked_by_https() {
    let cluster = Cluster::of_deployments().with_pods(good(), good());
    cluster.change("shop-canary-b-1", |pod| {
        pod["spec"]["containers"][0]["readinessProbe"] =
            json!({"httpGet": {"path": "ready", "port": 8080, "scheme": "HTTPS"}});
    });
    cluster.watch(&["--count=30"]);
    let state = cluster.lock();
    for (pod, head) in &state.asked {
        let place = match pod.as_str() {
            "shop-canary-b-1" => "https:shop-canary-b-1:8080/proxy/ready",
            _ => "shop-a-1:8080/proxy/",
        };
        assert!(head.starts_with(&format!("GET /api/v1/namespaces/shop-space/pods/{place} ")), "{head}");
    }
}

#[test]
fn a_workload_that_belongs_to_the_other_one_is_refused() {
    let cluster = Cluster::of_deployments().with_pods(good(), good());
    let path = "/apis/apps/v1/namespaces/shop-space/replicasets/shop-a";
    let owners = json!([{"kind": "Deployment", "name": "shop", "controller": true}]);
    let labels = json!({"matchLabels": {"app": "shop"}});
    cluster.add_object(path, json!({"metadata": {"ownerReferences": owners}, "spec": {"selector": labels}}));
    for pair in [["deployment/shop", "rs/shop-a"], ["rs/shop-a", "deployment/shop"]] {
        let (code, _, messages) = cluster.run(&["judge", pair[0], pair[1]]);
        assert_eq!(code, Some(3), "{messages}");
        assert!(messages.contains("replicaset/shop-a belongs to deployment/shop"), "{messages}");
    }
    let (code, _, messages) =
        cluster.run(&["judge", "rs/shop-a", "deployment/shop-canary", "--count=20", "--rate=50"]);
    assert_eq!(code, Some(2), "{messages}");
}

#[test]
fn serve_judges_pods_each_version_for_itself_also_one_that_never_answers() {
    let cluster = Cluster::of_deployments().with_pods(good(), Box::new(|_, _| None));
    let labels = [("pod-template-hash", "c"), ("track", "canary")];
    cluster.add_pod("shop-canary-c-1", "shop-canary-c", &labels, good());
    let mut command = cluster.command(&[
        "serve",
        "deployment/shop",
        "deployment/shop-canary",
        "--listen=127.0.0.1:0",
        "--rate=50",
        "--timeout=5s",
    ]);
    let mut serving = Serving::of(command.spawn().expect("it starts"));
    let verdict = |path: &str| serving.get(path).json();
    eventually("a roll-back of the version that hangs", || {
        verdict("/v1/verdict?version=b")["decision"] == "roll_back"
    });
    eventually("answers of the other version", || {
        verdict("/v1/verdict?version=c")["canary"]["answers"].as_u64() > Some(20)
    });
    let good = verdict("/v1/verdict?version=c");
    assert_eq!(
        (&good["canary"]["failures"], &good["unattributed"], &good["decision"]),
        (&json!(0), &json!(0), &json!("not_yet")),
        "{good}"
    );
    let current = verdict("/v1/verdict");
    assert_eq!((&current["trial"], &current["decision"]), (&json!("b"), &json!("roll_back")), "{current}");
    serving.signal(Signal::TERM);
    serving.signal(Signal::TERM);
    serving.end();
    cluster.until_nothing_is_left();
}

#[test]
fn a_rollouts_hashes_tell_its_releases_also_when_a_new_canary_begins() {
    let cluster = Cluster::new();
    let path = "/apis/argoproj.io/v1alpha1/namespaces/shop-space/rollouts/shop";
    let rollout = |canary: &str| {
        json!({
            "spec": {"selector": {"matchLabels": {"app": "shop"}}},
            "status": {"stableRS": "a", "currentPodHash": canary},
        })
    };
    cluster.add_object(path, rollout("a"));
    let hashes = [("shop-a-1", "a"), ("shop-b-1", "b"), ("shop-c-1", "c")];
    for (pod, hash) in hashes {
        cluster.add_pod(pod, &format!("shop-{hash}"), &[("rollouts-pod-template-hash", hash)], good());
    }
    let arguments =
        ["judge", "rollout/shop", "--rate=50", "--output=json", "--count=1000", "--alpha=0.0000001%"];
    let child = cluster.command(&arguments).spawn().expect("it starts");
    let asked = |pod: &str| cluster.lock().asked.iter().filter(|(name, _)| name == pod).count();
    eventually("stable is asked", || asked("shop-a-1") > 5);
    assert_eq!((asked("shop-b-1"), asked("shop-c-1")), (0, 0), "there is no canary");
    cluster.add_object(path, rollout("b"));
    eventually("the canary is asked", || asked("shop-b-1") > 5);
    let output = child.wait_with_output().expect("it ends");
    let summary = json_lines(&String::from_utf8(output.stdout).expect("UTF-8")).pop().expect("a summary");
    assert_eq!(summary["requests"], 1000, "{summary}");
    assert_eq!(summary["pods"]["shop-b-1"]["release"], "canary", "{summary}");
    assert_eq!(asked("shop-c-1"), 0, "an older release");
}

#[test]
fn kubectl_gets_the_flags_of_the_user_and_the_pods_get_the_headers() {
    let cluster = Cluster::of_deployments().with_pods(good(), good());
    let flags = ["--context=staging", "--kubeconfig=/k", "--as=jane", "--as-group=dev", "--as-group=ops"];
    let more = ["--count=20", "--path=/cart?id=7", "--header=X-Test: 1"];
    cluster.watch(&[&flags[..], &more].concat());
    let calls = fs::read_to_string(cluster.folder.path().join("calls")).expect("calls");
    let calls: Vec<_> = calls.lines().collect();
    assert!(
        calls[0].starts_with("config view --minify ")
            && calls[1].starts_with("proxy --namespace shop-space ")
    );
    for call in &calls {
        assert!(flags.iter().all(|flag| call.contains(flag)), "{call}");
    }
    let state = cluster.lock();
    let (pod, head) = state.asked.first().expect("a request");
    assert!(
        head.starts_with(&format!("GET /api/v1/namespaces/shop-space/pods/{pod}:8080/proxy/cart?id=7 ")),
        "{head}"
    );
    assert!(head.to_lowercase().contains("\r\nx-test: 1\r\n"), "{head}");
}

#[test]
fn flags_that_do_not_go_together_are_refused_before_kubectl_is_called() {
    let cluster = Cluster::of_deployments();
    let both = ["deployment/shop", "deployment/shop-canary"];
    for (arguments, told) in [
        (&["deployment/shop"][..], "deployment/shop wants the canary's workload after it"),
        (&["deployment/shop", "deployment/shop"], "deployment/shop cannot be stable and the canary"),
        (&["deployment/shop", "service/shop"], "service/shop cannot be a canary beside deployment/shop"),
        (&["service/shop"], "service/shop wants --canary LABEL=VALUE"),
        (&["service/shop", "--canary=release=\"canary\",a=\"b\""], "without quotes, as in track=canary"),
        (&["rollout/shop", "deployment/a"], "rollout/shop has the pods of both releases"),
        (&["http://127.0.0.1:1", "deployment/a"], "'[CANARY]' goes with the pods of a workload"),
        (&["http://127.0.0.1:1", "--namespace=a"], "'--namespace <NAME>' goes with the pods of a workload"),
        (&["--port=80"], "'--port <PORT>' goes with the pods of a workload"),
        (
            &["http://127.0.0.1:1", "--canary=track=canary"],
            "--canary goes with --prometheus, or with service/NAME",
        ),
        (&[both[0], both[1], "--canary=track=canary"], "--canary goes with service/NAME"),
        (&[both[0], both[1], "--release-header=x"], "cannot be used with the pods of deployment/shop"),
        (&[both[0], both[1], "--resolve=a:1:127.0.0.1"], "cannot be used with the pods of deployment/shop"),
        (&[both[0], both[1], "--insecure"], "cannot be used with the pods of deployment/shop"),
        (&[both[0], both[1], "--prometheus=http://127.0.0.1:1"], "cannot be used with"),
        (&[both[0], both[1], "--input=-"], "cannot be used with"),
        (&[both[0], both[1], "--rate=51"], "at most 50 requests a second"),
        (&[both[0], both[1], "--header=Authorization: x"], "--header authorization: the way to the pods"),
        (
            &[both[0], both[1], "--header=Impersonate-User: x"],
            "--header impersonate-user: the way to the pods",
        ),
        (&[both[0], both[1], "--path=/../secrets"], "want a path that begins with /"),
        (&[both[0], "pod/a"], "want deployment/NAME, statefulset/NAME"),
    ] {
        let (code, output, messages) = cluster.run(&[&["judge"], arguments].concat());
        assert_eq!((code, output.as_str()), (Some(3), ""), "{arguments:?}: {messages}");
        assert!(messages.contains(told), "{arguments:?}: {messages}");
    }
    assert!(!cluster.folder.path().join("calls").exists());
}

#[test]
fn what_others_have_written_is_shown_safe() {
    let cluster = Cluster::of_deployments();
    let (code, _, messages) = cluster.run(&["judge", "deployment/shop", "deployment/other"]);
    assert_eq!(code, Some(3));
    assert!(messages.contains("there is no deployment/other in the namespace shop-space"), "{messages}");
    let list = json!({"items": [{"metadata": {"name": "shop\u{1b}[2J"}}]});
    cluster.add_object("/apis/apps/v1/namespaces/shop-space/deployments", list);
    let (_, _, messages) = cluster.run(&["judge", "deployment/shop", "deployment/other"]);
    assert!(messages.contains("; there is shop\\u{1b}[2J"), "{messages}");
    cluster.until_nothing_is_left();
}

/// Two Deployments as appinfo's: the readiness probe has a port of its own, and always passes. Users get what `of_users` does.
fn with_probes(of_users: impl Fn(&str) -> u16 + Clone + Send + 'static) -> Cluster {
    let behaviour = move || -> Behaviour {
        let of_users = of_users.clone();
        Box::new(move |_, path| {
            Some(Answer::of_pod(if path == "/readyz" { 200 } else { of_users(path) }, ""))
        })
    };
    let cluster = Cluster::of_deployments().with_pods(behaviour(), behaviour());
    for pod in ["shop-a-1", "shop-canary-b-1"] {
        cluster.change(pod, |pod| {
            pod["spec"]["containers"] = json!([{
                "ports": [{"name": "web", "containerPort": 8080}, {"name": "admin", "containerPort": 8081}],
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": "admin"}},
            }]);
        });
    }
    cluster
}

const BOTH: [&str; 4] = ["judge", "deployment/shop", "deployment/shop-canary", "--rate=50"];

#[test]
fn a_verdict_names_what_was_asked_and_says_so_if_it_was_only_the_readiness_probe() {
    let cluster = with_probes(|_| 500);
    // a high limit, so that it is promoted soon
    let promoted = [&BOTH[..], &["--max-failure-rate=20%"]].concat();
    let (code, output, messages) = cluster.run(&promoted);
    assert_eq!(code, Some(0), "{output} {messages}");
    let only = "Only the path of the readiness probe was asked (port 8081, path /readyz). That does not show whether users \
                get answers: ask what they ask, with --path, and with --port if it is at another port.";
    assert!(output.starts_with("Promote: ") && output.lines().any(|line| line == only), "{output}");
    let asked_of = |output: &str| json_lines(output).pop().expect("a summary")["asked"].clone();
    let (code, output, messages) = cluster.run(&[&promoted[..], &["--output=json"]].concat());
    assert_eq!(code, Some(0), "{output} {messages}");
    assert_eq!(asked_of(&output), json!({"only_probe": true, "text": only}));
    assert!(json_lines(&output).iter().all(|line| line["type"] == "summary" || line.get("asked").is_none()));
    let watched = cluster.watch(&["--count=10"]);
    assert_eq!(watched.summary["asked"]["only_probe"], true, "{watched:?}");

    let of_users = ["--path=/cart?id=7", "--port=web", "--count=30"];
    let (code, output, messages) = cluster.run(&[&BOTH[..], &of_users].concat());
    assert!(code.is_some_and(|code| code != 0), "{output} {messages}");
    assert!(output.lines().any(|line| line == "Asked: port 8080, path /cart?id=***."), "{output}");
    assert!(!output.contains("readiness probe"), "{output}");
    let (_, output, _) = cluster.run(&[&BOTH[..], &of_users, &["--output=json"]].concat());
    assert_eq!(
        asked_of(&output),
        json!({"only_probe": false, "text": "Asked: port 8080, path /cart?id=***."})
    );
}

#[test]
fn serve_says_what_it_has_asked() {
    let cluster = with_probes(|_| 500);
    let arguments =
        ["serve", "deployment/shop", "deployment/shop-canary", "--listen=127.0.0.1:0", "--rate=50"];
    let mut serving = Serving::of(cluster.command(&arguments).spawn().expect("it starts"));
    eventually("what was asked", || {
        let asked = &serving.get("/v1/verdict").json()["asked"];
        asked["only_probe"] == true
            && asked["text"].as_str().is_some_and(|text| text.contains("(port 8081, path /readyz)"))
    });
    serving.signal(Signal::TERM);
    serving.signal(Signal::TERM);
    serving.end();
}

#[test]
fn a_path_is_asked_at_the_port_that_is_named_http_and_a_wrong_place_is_told_with_the_other_ports() {
    let wrong = |cluster: &Cluster| {
        let (code, _, messages) = cluster.run(&[&BOTH[..], &["--path=/v1/appinfo", "--count=60"]].concat());
        (code, messages)
    };
    let cluster = with_probes(|_| 404);
    let (_, messages) = wrong(&cluster);
    let hint = "20 answers, all have the status 404 Not Found: is that the right place (port 8081, path /v1/appinfo)? --path \
                and --port set another; the containers also have the port 8080 (web)";
    assert_eq!(messages.matches(hint).count(), 1, "{messages}");

    let cluster = with_probes(|_| 200);
    for pod in ["shop-a-1", "shop-canary-b-1"] {
        cluster.change(pod, |pod| pod["spec"]["containers"][0]["ports"][0]["name"] = json!("http"));
    }
    let (code, messages) = wrong(&cluster);
    assert_eq!(code, Some(2), "{messages}");
    assert!(messages.contains("(1 pod), port 8080, named http, path /v1/appinfo; "), "{messages}");
    assert!(!messages.contains("20 answers"), "{messages}");
    let state = cluster.lock();
    assert!(
        state.asked.iter().all(|(_, head)| head.contains(":8080/proxy/v1/appinfo ")),
        "{:?}",
        state.asked
    );
}

#[test]
fn a_kubeconfig_or_a_context_that_does_not_exist_is_told_with_the_contexts_that_do() {
    // as kubectl does, which takes a file that is not there for an empty one
    let fails = |why: &str, contexts: &str| {
        format!(
            "[ $1 = proxy ] || case $2 in view) echo 'error: {why}' >&2; exit 1 ;; get-contexts) printf '{contexts}'; exit 0 ;; esac"
        )
    };
    let none_chosen = "current-context must exist in order to minify";
    let many = (0..30).fold(String::new(), |all, number| format!("{all}c{number}\\n"));
    for (why, contexts, flag, told) in [
        (
            none_chosen,
            "",
            "--kubeconfig=/no/such",
            "cannot read --kubeconfig /no/such: No such file or directory",
        ),
        (none_chosen, "", "--kubeconfig=/dev/null", "--kubeconfig /dev/null has no context"),
        (
            none_chosen,
            "",
            "--count=1",
            "there is no kubeconfig with a context in ~/.kube/config: --kubeconfig FILE or",
        ),
        (
            none_chosen,
            "a\\nb\\033[2J\\n",
            "--count=1",
            "the kubeconfig has no current context: --context NAME chooses one; there are a, b\\u{1b}[2J",
        ),
        (
            "cannot locate context gone",
            "a\\n",
            "--count=1",
            "kubectl: cannot locate context gone: --context NAME chooses another one; there is a",
        ),
        ("cannot locate context x", "a\\nb\\n", "--context=x", "there is no context x; there are a, b"),
        (
            "cannot locate context x",
            &many,
            "--context=x",
            "there are c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, and 20 more",
        ),
        ("cannot locate cluster c", "a\\nb\\n", "--context=a", "kubectl: cannot locate cluster c"),
    ] {
        let cluster = Cluster::of_deployments().before(&fails(why, contexts));
        let (code, output, messages) =
            cluster.run(&["judge", "deployment/shop", "deployment/shop-canary", flag]);
        assert_eq!((code, output.as_str()), (Some(3), ""), "{flag}: {messages}");
        assert!(messages.contains(told), "{flag}: {messages}");
        assert!(!messages.contains("minify") && messages.len() < 2000, "{flag}: {messages}");
    }
    let cluster = Cluster::of_deployments().before(&fails(none_chosen, ""));
    let mut command = cluster.command(&["judge", "deployment/shop", "deployment/shop-canary"]);
    let output = command.env("KUBECONFIG", "/no/such:/nor/this").output().expect("it runs");
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(messages.contains("there is no context in KUBECONFIG=/no/such:/nor/this"), "{messages}");
}

#[test]
fn a_kind_that_the_cluster_does_not_know_is_told_as_that() {
    let cluster = Cluster::new();
    let path = "/apis/argoproj.io/v1alpha1/namespaces/shop-space/rollouts/shop";
    let unknown = "the server could not find the requested resource";
    for answer in
        [Answer::of_pod(404, "404 page not found\n"), Answer::of_api(404, "NotFound", unknown, &json!({}))]
    {
        cluster.lock().refused.insert(path.to_owned(), answer);
        let (code, _, messages) = cluster.run(&["judge", "rollout/shop"]);
        assert_eq!(code, Some(3), "{messages}");
        let told = "the cluster does not know the kind Rollout of argoproj.io/v1alpha1: is Argo Rollouts installed there?";
        assert!(messages.contains(told), "{messages}");
    }
}
