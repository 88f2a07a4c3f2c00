//! The pods of workloads as a source, with stand-ins for `kubectl` and for the API server.

mod common;

use std::{
    collections::BTreeMap,
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
    time::Duration,
};

use common::json_lines;
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
    pods: Vec<Value>,
    behaviours: BTreeMap<String, Behaviour>,
    /// The pods of the requests, in the order of their arrival, with the whole head of each.
    asked: Vec<(String, String)>,
    /// What the API server answers to the question for pods, if it does not list them.
    refusal: Option<Answer>,
    watches: Vec<UnixStream>,
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
            "#!/bin/sh\necho \"$@\" >>{folder}/calls\ncase $1 in\nconfig) printf %s shop-space ;;\nproxy)\n  for a; do case $a in \
             --unix-socket=*) ln -s {socket} \"${{a#*=}}\" ;; esac; done\n  while [ ! -e {folder}/stop ]; do sleep 0.1; done ;;\nesac\n",
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
        let event = json!({"type": "MODIFIED", "object": pod}).to_string() + "\n";
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
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
        let left: Vec<_> = fs::read_dir(self.folder.path().join("tmp")).expect("a folder").collect();
        assert!(left.is_empty(), "{left:?}");
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

fn good() -> Behaviour {
    Box::new(|_, _| Some(Answer::of_pod(200, "hello")))
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
        let (pod, asked) = rest.split_once(":8080/proxy").expect("a pod and a port");
        let mut state = state.lock().expect("no panic");
        let number = state.asked.len();
        state.asked.push((pod.to_owned(), head.clone()));
        let answer = state.behaviours.get(pod).expect("a pod")(number, asked);
        drop(state);
        match answer {
            Some(answer) => respond(&mut stream, &answer),
            None => thread::sleep(Duration::from_secs(600)), // hangs
        }
        return;
    }
    let mut state = state.lock().expect("no panic");
    if !before.ends_with("/pods") {
        let answer = match state.objects.get(before) {
            Some(object) => Answer::of_pod(200, &object.to_string()),
            None => Answer::of_api(404, "NotFound", "it is not found", &json!({})),
        };
        respond(&mut stream, &answer);
    } else if path.contains("watch=1") {
        let head =
            "HTTP/1.1 200 OK\r\nCache-Control: no-cache, private\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("it reads");
        state.watches.push(stream);
    } else if let Some(refusal) = state.refusal.clone().filter(|_| path.contains("limit=1")) {
        respond(&mut stream, &refusal);
    } else {
        let canary = path.contains("canary");
        let selected = |pod: &&Value| !canary || pod["metadata"]["labels"]["track"] == "canary";
        let items: Vec<_> = state.pods.iter().filter(selected).collect();
        let list = json!({"metadata": {"resourceVersion": "7"}, "items": items});
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
    let arguments = ["--count=300", "--timeout=300ms", "--share=40%"];
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
    let paths = ["--path=/", "--path=/cart:2", "--path=/checkout"];
    let output = cluster.command(&[&arguments[..], &paths].concat()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines = json_lines(&String::from_utf8(output.stdout).expect("UTF-8"));
    let text = lines.last().expect("a summary")["verdict_text"].as_str().expect("a text");
    assert!(text.starts_with("Roll back: the canary is worse than stable on /checkout (clear "), "{text}");
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
    let gone = json!({"name": "shop-canary-b-1", "kind": "pods"});
    let unauthorized = Answer::of_api(401, "Unauthorized", "Unauthorized", &Value::Null);
    let busy = Answer::of_pod(429, "Too many requests, please try again later.");
    let other = json!({"name": "cart", "kind": "pods"});
    let unmarked = Answer { marked: false, ..Answer::of_pod(502, "Bad Gateway") };
    for (answer, refusal, is_trouble, told) in [
        (
            Answer::of_api(403, "Forbidden", forbidden, &details),
            None,
            true,
            "resources: [pods/proxy], verbs: [get]",
        ),
        (
            Answer::of_api(404, "NotFound", "pods \"shop-canary-b-1\" not found", &gone),
            None,
            true,
            "the pod is gone",
        ),
        (unauthorized.clone(), Some(unauthorized.clone()), true, "answers 401: Unauthorized"),
        (busy.clone(), Some(busy.clone()), true, "answers 429: Too many requests"),
        (unmarked, None, true, "the way to the pods answers 502: Bad Gateway"),
        // the same of a pod: the API server itself answers well, or speaks of another pod
        (unauthorized, None, false, ""),
        (busy, None, false, ""),
        (Answer::of_api(404, "NotFound", "pods \"cart\" not found", &other), None, false, ""),
        (Answer::of_api(403, "Forbidden", "cannot get resource \"pods/proxy\"", &other), None, false, ""),
        (Answer::of_api(503, "ServiceUnavailable", "the database is down", &Value::Null), None, false, ""),
        (Answer::of_pod(404, "not found"), None, false, ""),
    ] {
        let shown = format!("{answer:?}");
        let cluster = Cluster::of_deployments().with_pods(good(), Box::new(move |_, _| Some(answer.clone())));
        cluster.lock().refusal = refusal;
        let watched = cluster.watch(&["--count=40"]);
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
    let child =
        cluster.command(&[&arguments[..], &["--count=700", "--max-failure-rate=0.9%"]].concat()).spawn();
    let child = child.expect("it starts");
    let asked =
        |cluster: &Cluster, pod: &str| cluster.lock().asked.iter().filter(|(name, _)| name == pod).count();
    eventually("both pods are asked", || {
        asked(&cluster, "shop-canary-b-1") > 5 && asked(&cluster, "shop-canary-b-2") > 5
    });
    cluster.change("shop-canary-b-2", |pod| {
        pod["metadata"]["deletionTimestamp"] = json!("2026-11-29T06:00:00Z");
    });
    let all = |cluster: &Cluster| cluster.lock().asked.len();
    let before = all(&cluster);
    eventually("the change is known", || all(&cluster) > before + 10);
    let of_leaving = asked(&cluster, "shop-canary-b-2");
    cluster.change("shop-canary-b-1", |pod| {
        pod["status"]["containerStatuses"][0]["restartCount"] = json!(2);
        pod["status"]["conditions"][0]["status"] = json!("False");
    });
    let output = child.wait_with_output().expect("it ends");
    let lines = json_lines(&String::from_utf8(output.stdout).expect("UTF-8"));
    let summary = lines.last().expect("a summary");
    assert_eq!(asked(&cluster, "shop-canary-b-2"), of_leaving, "{summary}");
    assert_eq!(summary["requests"], 700, "the pod that is not ready is still asked: {summary}");
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
fn if_kubectl_proxy_ends_by_itself_that_is_told_and_the_verdict_is_on_what_was_counted() {
    let cluster = Cluster::of_deployments().with_pods(good(), good());
    let arguments = ["judge", "deployment/shop", "deployment/shop-canary", "--rate=50"];
    let child = cluster.command(&arguments).spawn().expect("it starts");
    eventually("some requests", || cluster.lock().asked.len() > 20);
    fs::write(cluster.folder.path().join("stop"), "").expect("a file");
    let output = child.wait_with_output().expect("it ends");
    let messages = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{messages}");
    assert!(messages.contains("kubectl proxy has ended, so no request can be sent"), "{messages}");
    assert!(output.stdout.starts_with(b"Not yet: the canary has failed 0 of "), "{output:?}");
    assert!(cluster.socket_folders().is_empty());
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
        ["judge", "rollout/shop", "--rate=50", "--output=json", "--count=200", "--alpha=0.0000001%"];
    let child = cluster.command(&arguments).spawn().expect("it starts");
    let asked = |pod: &str| cluster.lock().asked.iter().filter(|(name, _)| name == pod).count();
    eventually("stable is asked", || asked("shop-a-1") > 5);
    assert_eq!((asked("shop-b-1"), asked("shop-c-1")), (0, 0), "there is no canary");
    cluster.add_object(path, rollout("b"));
    eventually("the canary is asked", || asked("shop-b-1") > 5);
    let output = child.wait_with_output().expect("it ends");
    let summary = json_lines(&String::from_utf8(output.stdout).expect("UTF-8")).pop().expect("a summary");
    assert_eq!(summary["requests"], 200, "{summary}");
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
    assert!(cluster.socket_folders().is_empty());
}
