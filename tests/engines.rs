//! Checks the manifests for Argo Rollouts and Flagger by these projects' own schemas. Needs a cluster with the resource
//! types of Argo Rollouts, Flagger and the Gateway API. Their controllers are not needed. Each test creates its own
//! namespace, and removes it.

use std::{
    fs,
    io::Write,
    process::{self, Command, Output, Stdio},
};

/// A namespace, removed when dropped.
struct Namespace(String);

impl Namespace {
    fn new(name: &str) -> Self {
        let name = format!("appinfo-{name}-{}", process::id());
        succeeds(kubectl(&["create", "namespace", &name], ""));
        Self(name)
    }

    /// The API server's answer to these documents. Does not create them.
    fn try_to_create(&self, yaml: &str) -> Output {
        kubectl(&["create", "--namespace", &self.0, "--dry-run=server", "-f", "-"], yaml)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        kubectl(&["delete", "namespace", &self.0, "--wait=false"], "");
    }
}

fn kubectl(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new("kubectl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("kubectl is installed");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

fn succeeds(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_engines_schemas_accept_the_manifests() {
    let namespace = Namespace::new("engines");
    for (folder, objects) in [
        ("argo-rollouts", 3),
        ("flagger", 5),
        ("judge", 3),
        ("judge-pods", 4),
        ("mirror", 1),
        ("network-policy", 3),
    ] {
        let folder = format!("deployment/{folder}");
        let arguments = ["create", "--namespace", &namespace.0, "--dry-run=server", "-f", &folder];
        let created = succeeds(kubectl(&arguments, ""));
        print!("{created}");
        assert_eq!(created.lines().count(), objects, "{created}");
    }
}

/// Leaves out no default, so that a second `kubectl apply` changes nothing, and one with `--server-side` finds no
/// conflict.
#[test]
fn a_second_apply_changes_nothing_and_one_by_the_server_finds_no_conflict() {
    // of each set, no two manifests have the same name and kind
    for (name, folders) in [
        (
            "applied",
            &[
                "deployment",
                "deployment/judge",
                "deployment/monitoring",
                "deployment/gateway",
                "deployment/baseline",
            ][..],
        ),
        ("applied-pods", &["deployment/judge-pods"]),
        ("applied-mirror", &["deployment/mirror"]),
        ("applied-argo", &["deployment/argo-rollouts"]),
        ("applied-flagger", &["deployment/flagger"]),
    ] {
        let namespace = Namespace::new(name);
        let apply = |more: &[&str]| {
            let mut arguments = vec!["apply", "--namespace", &namespace.0];
            arguments.extend(folders.iter().flat_map(|folder| ["-f", folder]));
            arguments.extend(more);
            succeeds(kubectl(&arguments, ""))
        };
        let created = apply(&[]);
        assert!(created.lines().all(|line| line.ends_with(" created")), "{created}");
        let again = apply(&[]);
        assert!(again.lines().all(|line| line.ends_with(" unchanged")), "{again}");
        let by_the_server = apply(&["--server-side"]);
        assert!(by_the_server.lines().all(|line| line.ends_with(" serverside-applied")), "{by_the_server}");
        assert_eq!(created.lines().count(), again.lines().count());
        print!("{again}");
    }
}

#[test]
fn the_schemas_refuse_misspelt_fields_and_invalid_values() {
    let namespace = Namespace::new("misspelt");
    for (file, right, wrong) in [
        ("argo-rollouts/analysis.yaml", "inconclusiveLimit:", "inconclusivelimit:"),
        ("argo-rollouts/analysis-job.yaml", "backoffLimit: 0", "backoffLimit: none"),
        ("argo-rollouts/rollout.yaml", "podTemplateHashValue:", "podTemplateHash:"),
        ("flagger/canary.yaml", "stepWeights:", "stepweights:"),
        ("flagger/canary.yaml", "type: confirm-promotion", "type: promote"),
        ("flagger/gateway.yaml", "gatewayClassName:", "gatewayclass:"),
        ("mirror/route.yaml", "type: RequestMirror", "type: Mirror"),
    ] {
        let good = read(&format!("deployment/{file}"));
        assert!(good.contains(right), "{file}: {right}");
        let refused = namespace.try_to_create(&good.replace(right, wrong));
        let message = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success(), "{file}: {wrong} is accepted");
        assert!(
            !message.contains("not found") && !message.contains("no matches for kind"),
            "{file}: {message}"
        );
    }
}

/// The commands of a page. A command begins with `$ `, and the lines up to the next `$ ` belong to it.
fn commands(page: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let text = read(page);
    for block in text.split("```console\n").skip(1) {
        let block = block.split_once("```").expect("its end").0;
        for line in block.lines() {
            match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(command), _) => commands.push(command.to_owned()),
                (None, Some(last)) => *last = format!("{last}\n{line}"),
                (None, None) => panic!("{page}: {line}"),
            }
        }
    }
    commands
}

#[test]
fn the_engines_schemas_accept_the_variants_on_the_pages() {
    let namespace = Namespace::new("variants");
    let mut tried = 0;
    for page in ["docs/argo-rollouts.md", "docs/flagger.md"] {
        // the commands that change a manifest before they create it
        for command in commands(page).iter().filter(|command| command.ends_with("| kubectl create -f -")) {
            let dry = command.replace("kubectl create", "kubectl create --dry-run=server");
            let script = format!(
                "set -eu; kubectl() {{ command kubectl --namespace {} \"$@\"; }}\n{dry}",
                namespace.0
            );
            let mut sh = Command::new("sh");
            sh.args(["-c", &script]).env("JUDGE", "10.0.0.7").env("NAMESPACE", "shop");
            let created = succeeds(sh.output().expect("sh runs"));
            assert!(created.lines().all(|line| line.ends_with("created (server dry run)")), "{created}");
            print!("{page}: {created}");
            tried += 1;
        }
    }
    assert_eq!(tried, 5, "the variants of both pages");
}

/// As after a pause by the judge's `hold`. The controller of Argo Rollouts does not run here, so the test writes the
/// status. The reset of the trial is tested with `canary serve`.
#[test]
fn the_commands_for_after_a_pause_find_the_canarys_hash_and_resume_the_rollout() {
    let namespace = Namespace::new("resume");
    let in_namespace = |arguments: &[&str], input: &str| {
        succeeds(kubectl(&[&["--namespace", &namespace.0], arguments].concat(), input))
    };
    in_namespace(&["create", "-f", "deployment/argo-rollouts/rollout.yaml"], "");
    let paused = r#"{"status":{"currentPodHash":"6d5f7c9b4","pauseConditions":[
        {"reason":"InconclusiveAnalysisRun","startTime":"2026-01-01T00:00:00Z"}]}}"#;
    in_namespace(&["patch", "rollout", "appinfo", "--subresource=status", "--type=merge", "-p", paused], "");
    let all = commands("docs/argo-rollouts.md");
    let of = |part: &str| all.iter().find(|command| command.contains(part)).expect("on the page").clone();
    let script = format!(
        "set -eu; kubectl() {{ command kubectl --namespace {} \"$@\"; }}\n{}\n{}\necho $HASH",
        namespace.0,
        of("HASH=$("),
        of("pauseConditions"),
    );
    let said = succeeds(Command::new("sh").args(["-c", &script]).output().expect("sh runs"));
    assert!(said.ends_with("patched\n6d5f7c9b4\n"), "{said}");
    let status = in_namespace(&["get", "rollout", "appinfo", "-o", "jsonpath={.status}"], "");
    assert_eq!(status, r#"{"currentPodHash":"6d5f7c9b4"}"#);
}
