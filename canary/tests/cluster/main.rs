//! `canary` with the pods of two workloads, on a real cluster. Needs Docker, and the cluster that `kubectl` talks to.
//! `LOAD_IMAGES` is a command that brings images to its nodes; its arguments are their names. Each test creates its own
//! namespaces, and removes them.

#[path = "../common/mod.rs"]
mod common;

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::symlink, net::UnixStream},
    path::{Path, PathBuf},
    process::{self, Child, Command, Output, Stdio},
    sync::Once,
    thread,
    time::{Duration, Instant},
};

use common::json_lines;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testkit::eventually;

const IMAGE: &str = "shop:1";
/// The time-out of requests that a pod answers, however busy the cluster is.
const PATIENT: &str = "--timeout=30s";

/// Builds the image, and brings it to the cluster.
fn image() {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster");
        succeeds(Command::new("docker").args(["build", "-q", "-t", IMAGE, folder]).output().expect("docker"));
        load(IMAGE);
    });
}

fn load(image: &str) {
    if let Ok(load) = std::env::var("LOAD_IMAGES") {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let command = format!("{load} {image}");
        succeeds(Command::new("sh").args(["-c", &command]).current_dir(root).output().expect("sh"));
    }
}

#[track_caller]
fn succeeds(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn kubectl(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new("kubectl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("kubectl is installed");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

/// The part of a workload's `spec` that describes its pods: the server with these labels and these arguments, as JSON.
fn pods(labels: &str, arguments: &str) -> String {
    format!(
        "selector: {{matchLabels: {{{labels}}}}}
  template:
    metadata: {{labels: {{{labels}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: shop
          image: {IMAGE}
          imagePullPolicy: Never
          args: {arguments}
          ports: [{{name: http, containerPort: 8080}}]
          readinessProbe: {{httpGet: {{path: /ready, port: http}}, periodSeconds: 1}}
"
    )
}

/// A namespace, removed when dropped, and a folder for temporary files of `canary`.
struct Namespace {
    name: String,
    temporary: tempfile::TempDir,
}

/// What canary has said.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    output: String,
    messages: String,
}

impl Said {
    fn summary(&self) -> Value {
        json_lines(&self.output).pop().unwrap_or_else(|| panic!("a summary: {self:?}"))
    }
}

impl Namespace {
    fn new(name: &str) -> Self {
        image();
        let name = format!("pods-{name}-{}", process::id());
        succeeds(kubectl(&["create", "namespace", &name], ""));
        Self { name, temporary: tempfile::tempdir().expect("a folder") }
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        succeeds(kubectl(&[&["--namespace", &self.name], arguments].concat(), ""))
    }

    fn apply(&self, yaml: &str) {
        succeeds(kubectl(&["--namespace", &self.name, "apply", "-f", "-"], yaml));
    }

    /// A Deployment of the server, with these arguments, as JSON.
    fn deploy(&self, name: &str, replicas: u32, arguments: &str) {
        let pods = pods(&format!("app: shop, track: {name}"), arguments);
        self.apply(&format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  {pods}"
        ));
    }

    fn until_ready(&self, name: &str) {
        self.kubectl(&["rollout", "status", &format!("deployment/{name}"), "--timeout=300s"]);
    }

    /// Starts canary with these arguments, which it gets after the command and the namespace.
    fn start(&self, command: &str, arguments: &[&str]) -> Child {
        let mut canary = Command::new(env!("CARGO_BIN_EXE_canary"));
        canary.arg(command).args(["--namespace", &self.name]).args(arguments);
        canary.env("TMPDIR", self.temporary.path()).stdin(Stdio::null());
        canary.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
    }

    fn run(&self, arguments: &[&str]) -> Said {
        self.ended(self.start("judge", arguments))
    }

    /// Waits for the end, and asserts that nothing is left behind.
    fn ended(&self, child: Child) -> Said {
        let output = child.wait_with_output().expect("it ends");
        self.until_nothing_is_left();
        Said {
            code: output.status.code(),
            output: String::from_utf8(output.stdout).expect("UTF-8"),
            messages: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    fn judge(&self, stable: &str, canary: &str, more: &[&str]) -> Said {
        let of = |name: &str| format!("deployment/{name}");
        let (stable, canary) = (of(stable), of(canary));
        let mut arguments = vec![stable.as_str(), &canary, "--path=/", "--rate=50"];
        arguments.extend(more);
        self.run(&arguments)
    }

    /// The folders of canary, and the processes that know of them.
    fn traces(&self) -> (Vec<PathBuf>, Vec<String>) {
        let folders = fs::read_dir(self.temporary.path()).expect("a folder");
        let folders = folders.filter_map(|entry| Some(entry.ok()?.path())).collect();
        let known = self.temporary.path().display().to_string();
        let processes = fs::read_dir("/proc").expect("Linux").filter_map(|entry| {
            let line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(&known).then_some(line)
        });
        (folders, processes.collect())
    }

    /// On a busy machine, canary may end before the guard of kubectl.
    fn until_nothing_is_left(&self) {
        eventually("no trace", || self.traces() == (Vec::new(), Vec::new()));
    }

    /// The socket of the running `kubectl proxy`.
    fn socket(&self) -> PathBuf {
        let mut found = None;
        eventually("a socket", || {
            found = self.traces().0.into_iter().map(|folder| folder.join("api")).find(|path| path.exists());
            found.is_some()
        });
        found.expect("a socket")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        kubectl(&["delete", "namespace", &self.name, "--wait=false"], "");
    }
}

#[test]
fn canaries_that_name_nothing_are_judged_good_broken_hanging_and_crashing() {
    let namespace = Namespace::new("kinds");
    let kinds = [
        ("good", "[]", 0, "Promote: "),
        ("broken", r#"["fail", "100"]"#, 1, "Roll back: "),
        ("half", r#"["fail", "50"]"#, 1, "Roll back: "),
        ("hanging", r#"["hang"]"#, 1, "Roll back: "),
        ("crashing", r#"["crash", "20"]"#, 1, "Roll back: "),
        // what the API server itself answers to a stranger
        ("unauthorized", r#"["kubernetes", "401"]"#, 1, "Roll back: "),
        ("unavailable", r#"["kubernetes", "503"]"#, 1, "Roll back: "),
    ];
    namespace.deploy("shop", 2, "[]");
    for (name, arguments, ..) in kinds {
        namespace.deploy(name, 1, arguments);
    }
    namespace.until_ready("shop");
    for (name, _, code, text) in kinds {
        namespace.until_ready(name);
        let more: &[&str] = if code == 0 { &[PATIENT] } else { &[] };
        let said = namespace.judge("shop", name, more);
        assert_eq!(said.code, Some(code), "{name}: {said:?}");
        assert!(said.output.starts_with(text), "{name}: {said:?}");
    }
    let said = namespace.judge("shop", "good", &["--count=200", "--share=20%", "--output=json", PATIENT]);
    let summary = said.summary();
    assert_eq!(summary["requests"], 200, "{summary}");
    assert_eq!(summary["releases"]["canary"]["expected_share"], 0.2);
    let canary = summary["releases"]["canary"]["success"].as_u64().expect("a count");
    assert!((10..=75).contains(&canary), "{canary} of 200");
}

#[test]
fn workloads_of_every_kind_are_judged() {
    let namespace = Namespace::new("workloads");
    let kinds =
        [("StatefulSet", "sts", "serviceName: none\n  "), ("DaemonSet", "ds", ""), ("ReplicaSet", "rs", "")];
    let fails = r#"["fail", "100"]"#;
    for (kind, short, more) in kinds {
        for (name, arguments) in [("stable", "[]"), ("bad", fails)] {
            let name = format!("{short}-{name}");
            let pods = pods(&format!("app: {name}"), arguments);
            namespace.apply(&format!(
                "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  {more}{pods}"
            ));
        }
    }
    namespace.kubectl(&["wait", "pods", "--all", "--for=condition=Ready", "--timeout=300s"]);
    for (kind, short, _) in kinds {
        let (stable, bad) = (format!("{short}/{short}-stable"), format!("{short}/{short}-bad"));
        let said = namespace.run(&[&stable, &bad, "--path=/", "--rate=50"]);
        assert_eq!(said.code, Some(1), "{kind}: {said:?}");
    }
    // kinds may differ
    let said = namespace.run(&["sts/sts-stable", "ds/ds-stable", "--path=/", "--rate=50", "--count=60"]);
    assert_eq!(said.code, Some(2), "{said:?}");

    // a ReplicaSet of a Deployment, beside it
    namespace.deploy("shop", 1, "[]");
    namespace.until_ready("shop");
    let own =
        namespace.kubectl(&["get", "rs", "--selector=track=shop", "-o=jsonpath={.items[0].metadata.name}"]);
    let said = namespace.run(&["deployment/shop", &format!("rs/{own}"), "--path=/"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.messages.contains("belongs to deployment/shop"), "{said:?}");

    rollout(&namespace, &pods("app: ro", "[]"), &pods("app: ro", fails));
}

/// A Rollout as its controller leaves it, if the cluster knows the type: with a `ReplicaSet` of each release.
fn rollout(namespace: &Namespace, stable: &str, canary: &str) {
    let known = kubectl(&["get", "crd", "rollouts.argoproj.io"], "").status.success();
    if !known {
        eprintln!("skipped: the cluster does not know Rollouts");
        return;
    }
    let manifest =
        format!("apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {{name: ro}}\nspec:\n  {stable}");
    namespace.apply(&manifest);
    let status = r#"{"status": {"stableRS": "5d8f", "currentPodHash": "7c9f"}}"#;
    namespace.kubectl(&["patch", "rollout", "ro", "--subresource=status", "--type=merge", "--patch", status]);
    for (hash, pods) in [("5d8f", stable), ("7c9f", canary)] {
        let pods = pods.replace("{app: ro}", &format!("{{app: ro, rollouts-pod-template-hash: {hash}}}"));
        namespace.apply(&format!(
            "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {{name: ro-{hash}}}\nspec:\n  {pods}"
        ));
    }
    eventually("the pods", || {
        let pods = namespace.kubectl(&["get", "pods", "--selector=app=ro", "--output=name"]);
        pods.lines().count() == 2
    });
    let ready = ["wait", "pods", "--selector=app=ro", "--for=condition=Ready", "--timeout=300s"];
    namespace.kubectl(&ready);
    let said = namespace.run(&["rollout/ro", "--path=/", "--rate=50", "--for=60s"]);
    assert_eq!(said.code, Some(1), "{said:?}");
}

#[test]
fn a_pod_that_writes_what_the_api_server_writes_about_it_is_rolled_back() {
    let namespace = Namespace::new("fakes");
    namespace.deploy("shop", 1, "[]");
    for code in ["403", "404"] {
        namespace.deploy(&format!("fake{code}"), 1, &format!(r#"["kubernetes", "{code}"]"#));
    }
    namespace.until_ready("shop");
    for code in ["403", "404"] {
        let name = format!("fake{code}");
        namespace.until_ready(&name);
        let said = namespace.judge("shop", &name, &[]);
        assert_eq!(said.code, Some(1), "{said:?}");
    }
}

#[test]
fn pods_that_come_and_go_are_not_blamed_and_no_request_is_lost() {
    let namespace = Namespace::new("churn");
    namespace.deploy("shop", 3, "[]");
    namespace.deploy("canary", 1, "[]");
    namespace.until_ready("shop");
    namespace.until_ready("canary");
    // without a promotion before its end
    let arguments =
        ["deployment/shop", "deployment/canary", "--path=/", "--rate=40", "--count=1200", "--for=120s"];
    let more = ["--max-failure-rate=0.01%", "--output=json", PATIENT];
    let child = namespace.start("judge", &[&arguments[..], &more].concat());
    namespace.socket();
    namespace.kubectl(&["scale", "deployment/shop", "--replicas=1"]);
    namespace.kubectl(&["scale", "deployment/canary", "--replicas=3"]);
    namespace.until_ready("canary");
    namespace.kubectl(&["rollout", "restart", "deployment/shop"]);
    namespace.kubectl(&["rollout", "restart", "deployment/canary"]);
    namespace.until_ready("canary");
    namespace.kubectl(&["delete", "pods", "--selector=track=shop"]);
    namespace.until_ready("shop");
    let said = namespace.ended(child);
    let summary = said.summary();
    let number = |key: &str| summary[key].as_u64().unwrap_or_else(|| panic!("{key}: {summary}"));
    assert_eq!(number("requests") + number("unsent"), 1200, "{summary}");
    assert_eq!((number("failure"), &summary["verdict"]["unattributed"]), (0, &Value::from(0)), "{summary}");
    assert!(number("unsent") <= 5, "{summary}");
    let verdict = &summary["verdict"];
    let judged = |release: &str, of: &Value| of[release]["answers"].as_u64().expect("a count");
    let all: u64 = ["stable", "canary"]
        .map(|side| judged(side, verdict) + judged(side, &verdict["waiting"]))
        .iter()
        .sum();
    assert_eq!(all, number("requests"), "{summary}");
    assert_eq!(said.code, Some(2), "{said:?}");
    let pods = summary["pods"].as_object().expect("pods");
    assert!(pods.len() >= 6, "those that came later were asked, too: {:?}", pods.keys());
}

#[test]
fn a_canary_that_is_not_ready_is_named_and_not_promoted() {
    let namespace = Namespace::new("unready");
    namespace.deploy("shop", 1, "[]");
    namespace.deploy("never", 1, r#"["slow-start", "9999"]"#);
    namespace.deploy("none", 0, "[]");
    namespace.until_ready("shop");
    let short = ["--for=15s", "--output=json"];
    let said = namespace.judge("shop", "never", &short);
    assert_eq!(said.code, Some(5), "{said:?}");
    let told = "no request goes to the canary release, deployment/never: its pod never-";
    assert!(said.messages.contains(told) && said.messages.contains(" is not ready"), "{said:?}");
    let said = namespace.judge("shop", "none", &short);
    assert_eq!(said.code, Some(5), "{said:?}");
    assert!(said.messages.contains("deployment/none: there is no pod"), "{said:?}");

    // one of its two pods is good
    namespace.kubectl(&["label", "pods", "--selector=track=never", "part=canary"]);
    namespace.deploy("some", 1, "[]");
    namespace.until_ready("some");
    namespace.kubectl(&["label", "pods", "--selector=track=some", "part=canary"]);
    namespace.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: shop}\n\
         spec: {selector: {app: shop}, ports: [{port: 80, targetPort: http}]}\n",
    );
    let arguments = ["service/shop", "--canary=part=canary", "--path=/", "--rate=50", "--for=40s"];
    let said = namespace.run(&[&arguments[..], &["--output=json", PATIENT]].concat());
    assert!(said.messages.contains("port 8080, to which the Service sends, path /"), "{said:?}");
    assert_eq!(said.code, Some(2), "{said:?}");
    let verdict = &said.summary()["verdict"];
    assert!(verdict["absence"]["unready"].as_u64().is_some_and(|seconds| seconds >= 10), "{verdict}");
    assert_eq!(verdict["more_answers"], 0, "else it would be promoted: {verdict}");
    let text = &said.summary()["verdict_text"];
    assert!(text.as_str().is_some_and(|text| text.contains("has not been ready for ")), "{text}");
}

#[test]
fn a_refusal_names_the_rules_and_with_them_it_works() {
    let namespace = Namespace::new("rbac");
    namespace.deploy("shop", 1, "[]");
    namespace.deploy("canary", 1, "[]");
    namespace.until_ready("shop");
    namespace.until_ready("canary");
    namespace.kubectl(&["create", "serviceaccount", "judge"]);
    let user = format!("--as=system:serviceaccount:{}:judge", namespace.name);
    let refused = namespace.judge("shop", "canary", &[&user]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    let (_, rules) = refused.messages.split_once("A Role with these rules does: ").expect("rules");
    let role = |rules: &str| {
        let name = &namespace.name;
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: judge}}\n{rules}\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: judge}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: judge}}\n\
             subjects: [{{kind: ServiceAccount, name: judge, namespace: {name}}}]\n"
        )
    };
    // the API server takes in a new rule some time after it has stored it
    let until_allowed = |what: &[&str]| {
        let arguments = [&["--namespace", &namespace.name, "auth", "can-i"], what, &[&user]].concat();
        eventually("the rule is known", || kubectl(&arguments, "").status.success());
    };
    // without the right to ask pods: no answer
    namespace.apply(&role(&rules.replace("resources: [pods/proxy]", "resources: [others]")));
    until_allowed(&["watch", "pods"]);
    let refused = namespace.judge("shop", "canary", &[&user]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.messages.contains("resources: [pods/proxy], verbs: [get]"), "{refused:?}");
    namespace.apply(&role(rules));
    until_allowed(&["get", "pods", "--subresource=proxy"]);
    let said = namespace.judge("shop", "canary", &[&user, "--count=50", PATIENT]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.output.starts_with("Not yet: the canary has failed 0 of "), "{said:?}");
}

#[test]
fn what_does_not_exist_is_told_with_what_does() {
    let namespace = Namespace::new("absent");
    namespace.deploy("shop", 1, "[]");
    for (arguments, told) in [
        (
            &["deployment/shop", "deployment/shopp"][..],
            "there is no deployment/shopp in the namespace pods-absent-",
        ),
        (&["deployment/shop", "deployment/shopp"], "; there is shop"),
        (&["sts/a", "sts/b"], "there is no StatefulSet at all"),
        (&["deployment/shop", "sts/b", "--context=nowhere"], "there is no context nowhere; there "),
        (&["deployment/shop", "sts/b", "--kubeconfig=/nowhere"], "cannot read --kubeconfig /nowhere: "),
        (&["deployment/shop", "sts/b", "--rate=51"], "at most 50 requests a second"),
    ] {
        let said = namespace.run(arguments);
        assert_eq!(said.code, Some(3), "{said:?}");
        assert!(said.messages.contains(told), "{told}: {said:?}");
    }
}

#[test]
fn nothing_is_left_behind_whatever_ends_it() {
    let namespace = Namespace::new("signals");
    namespace.deploy("shop", 1, "[]");
    namespace.deploy("canary", 1, "[]");
    namespace.until_ready("canary");
    for (signal, code) in [(Signal::INT, Some(130)), (Signal::TERM, Some(143)), (Signal::KILL, None)] {
        let arguments = ["deployment/shop", "deployment/canary", "--path=/", "--max-failure-rate=0.01%"];
        let mut child = namespace.start("judge", &arguments);
        let socket = namespace.socket();
        eventually("an answer of kubectl proxy", || UnixStream::connect(&socket).is_ok());
        let id = Pid::from_raw(child.id().try_into().expect("an id")).expect("an id");
        kill_process(id, signal).expect("it runs");
        assert_eq!(child.wait().expect("it ends").code(), code);
        namespace.until_nothing_is_left();
    }
}

/// The status of the answer of `kubectl proxy` to a request.
fn status(socket: &Path, method: &str, path: &str) -> u16 {
    let mut stream = UnixStream::connect(socket).expect("it listens");
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .expect("it reads");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
}

#[test]
fn the_proxy_lends_the_credentials_for_reading_these_pods_alone() {
    let namespace = Namespace::new("filter");
    namespace.deploy("shop", 1, "[]");
    namespace.deploy("canary", 1, "[]");
    namespace.until_ready("shop");
    namespace.until_ready("canary");
    let child = namespace.start(
        "judge",
        &["deployment/shop", "deployment/canary", "--path=/", "--rate=5", "--max-failure-rate=0.01%"],
    );
    let socket = namespace.socket();
    let folder = socket.parent().expect("a folder").metadata().expect("it is there");
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&folder.permissions()) & 0o777, 0o700);
    eventually("an answer of kubectl proxy", || UnixStream::connect(&socket).is_ok());
    let pods = format!("/api/v1/namespaces/{}/pods", namespace.name);
    let pod = namespace.kubectl(&["get", "pods", "--selector=track=shop", "-o=name"]);
    let proxy = format!("{pods}/{}:8080/proxy", pod.trim().trim_start_matches("pod/"));
    for (method, path, allowed) in [
        ("GET", pods.clone(), true),
        ("GET", format!("{proxy}/"), true),
        ("GET", format!("{proxy}/exec"), true),
        ("HEAD", format!("{proxy}/"), true),
        ("POST", format!("{proxy}/"), false),
        ("PUT", format!("{proxy}/"), false),
        ("PATCH", format!("{proxy}/"), false),
        ("DELETE", pods.clone(), false),
        ("OPTIONS", format!("{proxy}/"), false),
        ("GET", format!("{pods}/{}", pod.trim().trim_start_matches("pod/")), false),
        ("GET", format!("{proxy}/../../log"), false),
        ("GET", format!("{proxy}/%2e%2e/%2e%2e/log"), false),
        ("GET", format!("{proxy}/..%2f..%2flog"), false),
        ("GET", format!("/api/v1/namespaces/{}/secrets", namespace.name), false),
        ("GET", "/api/v1/namespaces/kube-system/pods".to_owned(), false),
        ("GET", "/api/v1/pods".to_owned(), false),
        ("GET", format!("/apis/apps/v1/namespaces/{}/deployments/shop", namespace.name), true),
        ("GET", format!("/apis/apps/v1/namespaces/{}/deployments/shop/scale", namespace.name), false),
        ("GET", "/version".to_owned(), false),
    ] {
        let status = status(&socket, method, &path);
        assert_eq!(status == 200, allowed, "{method} {path}: {status}");
        assert!(allowed || [301, 403].contains(&status), "{method} {path}: {status}");
    }
    let id = Pid::from_raw(child.id().try_into().expect("an id")).expect("an id");
    kill_process(id, Signal::INT).expect("it runs");
    namespace.ended(child);
}

#[test]
fn kubectl_finds_it_as_a_plugin() {
    let namespace = Namespace::new("plugin");
    namespace.deploy("shop", 1, "[]");
    namespace.deploy("canary", 1, r#"["fail", "100"]"#);
    namespace.until_ready("shop");
    namespace.until_ready("canary");
    let folder = tempfile::tempdir().expect("a folder");
    symlink(env!("CARGO_BIN_EXE_canary"), folder.path().join("kubectl-canary")).expect("a link");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("a PATH"));
    let plugin = |arguments: &[&str]| {
        let mut command = Command::new("kubectl");
        command.args(arguments).env("PATH", &path).env("TMPDIR", namespace.temporary.path());
        command.output().expect("kubectl is installed")
    };
    assert!(succeeds(plugin(&["plugin", "list"])).contains("kubectl-canary"));
    let help = plugin(&["canary"]);
    let help = String::from_utf8_lossy(&help.stderr).into_owned();
    assert!(help.contains("Usage: kubectl canary <COMMAND>"), "{help}");
    let usage = plugin(&["canary", "judge", "--no-such-flag"]);
    assert!(String::from_utf8_lossy(&usage.stderr).contains("Usage: kubectl canary judge"), "{usage:?}");
    let judged = plugin(&[
        "canary",
        "judge",
        "deployment/shop",
        "deployment/canary",
        "-n",
        &namespace.name,
        "--path=/",
    ]);
    assert_eq!(judged.status.code(), Some(1), "{judged:?}");
    namespace.until_nothing_is_left();
}

/// The image of this very binary, with the libraries that it is linked with.
fn image_of_canary() -> &'static str {
    const NAME: &str = "canary-under-test:1";
    let folder = tempfile::tempdir().expect("a folder");
    let binary = env!("CARGO_BIN_EXE_canary");
    fs::copy(binary, folder.path().join("canary")).expect("the binary");
    let libraries = succeeds(Command::new("ldd").arg(binary).output().expect("ldd"));
    let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    let copied = libraries.enumerate().map(|(number, library)| {
        fs::copy(library, folder.path().join(number.to_string())).expect("a library");
        format!("COPY {number} {library}")
    });
    let copied: Vec<_> = copied.collect();
    let dockerfile =
        format!("FROM scratch\nCOPY canary /canary\n{}\nENTRYPOINT [\"/canary\"]\n", copied.join("\n"));
    fs::write(folder.path().join("Dockerfile"), dockerfile).expect("a file");
    let built = Command::new("docker").args(["build", "-q", "-t", NAME]).arg(folder.path()).output();
    succeeds(built.expect("docker"));
    load(NAME);
    NAME
}

#[test]
fn in_the_cluster_the_pods_are_asked_at_their_addresses_with_the_service_account() {
    let namespace = Namespace::new("inside");
    namespace.deploy("appinfo", 1, "[]");
    namespace.deploy("appinfo-canary-broken", 1, r#"["fail", "100"]"#);
    namespace.until_ready("appinfo");
    namespace.until_ready("appinfo-canary-broken");
    let image = image_of_canary();
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../deployment/judge-pods/judge.yaml");
    let manifest = fs::read_to_string(manifest).expect("the manifest");
    assert!(manifest.contains("image: runyonsolutions/canary:1"));
    let manifest = manifest.replace("runyonsolutions/canary:1", image).replace("/v1/appinfo", "/");
    succeeds(kubectl(&["--namespace", &namespace.name, "create", "-f", "-"], &manifest));
    let began = Instant::now();
    let log = loop {
        let log = kubectl(&["--namespace", &namespace.name, "logs", "job/judge-pods"], "");
        let log = String::from_utf8_lossy(&log.stdout).into_owned();
        if log.contains("Roll back: ") || began.elapsed() > Duration::from_secs(300) {
            break log;
        }
        thread::sleep(Duration::from_millis(300));
    };
    assert!(log.contains("Roll back: the canary is worse than stable"), "{log}");
    let code = "jsonpath={.items[0].status.containerStatuses[0].state.terminated.exitCode}";
    eventually("the exit code", || {
        namespace.kubectl(&["get", "pods", "--selector=app=judge", "--output", code]) == "1"
    });
}
