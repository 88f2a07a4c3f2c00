//! The calls that Argo Rollouts' web provider and Flagger's webhooks make, byte for byte as they were observed,
//! and what the controllers do with the answers: a 200 to 202 is a yes to Flagger, and Argo evaluates its
//! conditions on the JSON.

mod common;

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    process::{Command, Stdio},
    time::Instant,
};

use canary_judge::{Basis, Counts, Decision, Evidence, Reason};
use common::{
    Fleet, Version,
    serving::{PATIENT, Serving},
};
use serde::Deserialize;
use serde_json::{Value, json};
use testkit::{
    eventually,
    http::{Answer, send},
};

const RATE: &str = "--rate=300";

/// The result of a measurement of Argo Rollouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measurement {
    Successful,
    Failed,
    Inconclusive,
    Error,
}

/// The documents of a file below `deployment/`.
fn manifests(file: &str) -> Vec<Value> {
    let path = format!("{}/../deployment/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(path).expect("a manifest");
    serde_yaml_ng::Deserializer::from_str(&text).map(|part| Value::deserialize(part).expect("YAML")).collect()
}

/// A metric of the `AnalysisTemplate`, as Argo Rollouts' web provider measures it: a bare GET, and the template's
/// conditions on its answer.
fn measure(judge: SocketAddr, metric: &str, hash: &str) -> Measurement {
    let template = &manifests("argo-rollouts/analysis.yaml")[0];
    let metrics = template["spec"]["metrics"].as_array().expect("metrics");
    let metric = metrics.iter().find(|one| one["name"] == metric).expect("the metric");
    let url = metric["provider"]["web"]["url"].as_str().expect("a URL");
    let path = url.split_once("8090").expect("the judge's port").1.replace("{{args.canary-hash}}", hash);
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {judge}\r\nUser-Agent: Go-http-client/1.1\r\n\
         Accept-Encoding: gzip\r\nConnection: close\r\n\r\n"
    );
    let answer = send(judge, request).expect("an answer");
    if !(200..300).contains(&answer.status) {
        return Measurement::Error;
    }
    let decision = answer.json()["decision"].as_str().expect("a decision").to_owned();
    let holds = |condition: &str| holds(metric[condition].as_str().expect("a condition"), &decision);
    match (holds("failureCondition"), holds("successCondition")) {
        (true, _) => Measurement::Failed,
        (false, true) => Measurement::Successful,
        (false, false) => Measurement::Inconclusive,
    }
}

/// The template on the page for a step that waits for its evidence.
#[test]
fn argo_takes_the_next_step_once_the_evidence_allows_it() {
    let page = include_str!("../../docs/argo-rollouts.md");
    let block =
        page.split("```yaml\n").find(|block| block.contains("name: judge-share")).expect("the template");
    let template: Value = serde_yaml_ng::from_str(block.split_once("```").expect("an end").0).expect("YAML");
    let metric = &template["spec"]["metrics"][0];
    let [success, failure] =
        ["successCondition", "failureCondition"].map(|key| metric[key].as_str().expect("a condition"));
    assert_eq!(failure, "result.decision == \"roll_back\"");
    let share = success.strip_prefix("result.decision != \"roll_back\" && result.max_share >= ");
    assert_eq!(share, Some("{{args.share}}"));
    // a canary with a quarter of the requests, and the next share of a half: the same form as Argo evaluates
    let measure = |verdict: &Value, share: f64| {
        let (decision, most) = (&verdict["decision"], verdict["max_share"].as_f64().expect("a number"));
        match (decision == "roll_back", most >= share) {
            (true, _) => Measurement::Failed,
            (false, true) => Measurement::Successful,
            (false, false) => Measurement::Inconclusive,
        }
    };
    for (version, hash, last) in [
        (Version::WithNamespace, "744f96dc75", Measurement::Successful),
        (Version::Broken, "c66665c44", Measurement::Failed),
    ] {
        let mut fleet = three_of_stable();
        let judge = Serving::start(&fleet.url(), &[RATE, PATIENT]);
        let ask = || measure(&judge.get(&format!("/v1/verdict?version={hash}")).json(), 0.5);
        assert_eq!(ask(), Measurement::Inconclusive);
        add_canary(&mut fleet, hash, version);
        eventually("an end", || ask() != Measurement::Inconclusive);
        assert_eq!(ask(), last);
    }
}

/// Whether a condition of the template holds. It is one of the forms that are in use, and names no decision that there
/// is not.
fn holds(condition: &str, decision: &str) -> bool {
    if let Some(inner) = condition.strip_prefix("not (").and_then(|rest| rest.strip_suffix(')')) {
        return !holds(inner, decision);
    }
    let one = condition.strip_prefix("result.decision == ").map(|word| format!("[{word}]"));
    let list = one.or_else(|| condition.strip_prefix("result.decision in ").map(str::to_owned));
    let list = list.unwrap_or_else(|| panic!("a condition of another form: {condition}"));
    let named: Vec<String> = serde_json::from_str(&list).expect("words");
    let words = decisions().map(|(word, _)| word);
    assert!(named.iter().all(|word| words.contains(word)), "{condition}: the decisions are {words:?}");
    named.iter().any(|word| word == decision)
}

/// All decisions, and the words for them in JSON.
fn decisions() -> [(String, Decision); 4] {
    let none = Counts::default();
    let clear_after =
        Evidence { canary: none, stable: none, unattributed: 0, by_limit: Basis::default(), warm_up: None };
    let promote = Decision::Promote { reason: Reason::Limit, clear_after };
    [promote, Decision::RollBack { clear_after }, Decision::NotYet, Decision::Hold].map(|decision| {
        let json = serde_json::to_value(decision).expect("JSON");
        (json["decision"].as_str().expect("a word").to_owned(), decision)
    })
}

fn argo(judge: SocketAddr, hash: &str) -> Measurement {
    measure(judge, "verdict", hash)
}

/// The second metric, which pauses the Rollout where it is inconclusive.
fn argo_hold(judge: SocketAddr, hash: &str) -> Measurement {
    measure(judge, "hold", hash)
}

/// Flagger for one resource: its hooks' calls.
struct Flagger<'a> {
    judge: &'a Serving,
    namespace: &'a str,
    /// The token in the metadata of its webhooks.
    token: Option<&'a str>,
}

impl Flagger<'_> {
    fn call(&self, hook: &str, phase: &str, checksum: &str) -> Answer {
        let mut body = json!({
            "name": "appinfo", "namespace": self.namespace, "phase": phase, "checksum": checksum,
            "metadata": {"slo": "0.01"},
        });
        if let Some(token) = self.token {
            body["metadata"]["token"] = json!(token);
        }
        self.judge.post(&format!("/flagger/{hook}"), &body.to_string())
    }

    /// Whether the answer is a yes.
    fn ask(&self, hook: &str, phase: &str, checksum: &str) -> bool {
        (200..=202).contains(&self.call(hook, phase, checksum).status)
    }

    /// The hooks of one interval: `rollback` first, then `rollout` and the one that asks for more traffic.
    fn interval(&self, checksum: &str) -> [bool; 4] {
        [
            self.ask("rollback", "true", checksum),
            self.ask("rollout", "Progressing", checksum),
            self.ask("step", "Progressing", checksum),
            self.ask("promote", "Progressing", checksum),
        ]
    }

    /// The current age of its trial.
    fn seconds(&self, checksum: &str) -> f64 {
        let path = format!("/v1/events?trial=flagger/{}/appinfo/{checksum}", self.namespace);
        let state = self.judge.events(&path).next().expect("a state");
        state["seconds"].as_f64().expect("a number")
    }

    fn begin(&self, last: &str, new: &str) {
        assert!(self.ask("confirm-rollout", "Succeeded", last), "it bears the last one's checksum");
        assert!(self.ask("pre-rollout", "Progressing", new));
    }
}

/// The answers of an interval's hooks: roll back, no failed check, more traffic, promotion.
const GO_ON: [bool; 4] = [false, true, true, false];
const PROMOTE: [bool; 4] = [false, true, true, true];
const ROLL_BACK: [bool; 4] = [true, false, false, false];

/// Three pods of version 1.
fn three_of_stable() -> Fleet {
    let mut fleet = Fleet::new();
    for suffix in ["vvzlg", "bbbbb", "ccccc"] {
        fleet.add(&format!("appinfo-567b989978-{suffix}"), "release=\"stable\"", Version::Baseline);
    }
    fleet
}

/// A canary of the version with this hash. What holds before there is evidence is asked before it comes.
fn add_canary(fleet: &mut Fleet, hash: &str, version: Version) {
    fleet.add(&format!("appinfo-{hash}-x2z4v"), "release=\"canary\"", version);
}

#[test]
fn argo_does_not_promote_a_revision_on_the_evidence_of_another_one() {
    let mut fleet = three_of_stable();
    add_canary(&mut fleet, "744f96dc75", Version::WithNamespace);
    let judge = Serving::start(&fleet.url(), &[RATE, PATIENT]);
    for path in ["version", "trial"] {
        let ask = |hash: &str| judge.get(&format!("/v1/verdict?{path}={hash}")).json();
        eventually("a promotion", || ask("744f96dc75")["decision"] == "promote");
        // of another Rollout, which is not even behind the Service
        let other = ask("6f5d7c8b9b");
        assert_eq!((&other["decision"], &other["requests"]), (&json!("not_yet"), &json!(0)), "{other}");
        let sentence = other["sentence"].as_str().expect("a text");
        assert!(sentence.ends_with("No answer of the canary has told the version 6f5d7c8b9b."), "{sentence}");
        assert_eq!(argo(judge.address, "6f5d7c8b9b"), Measurement::Inconclusive);
    }
}

#[test]
fn argo_continues_with_a_good_canary_once_there_is_enough_evidence() {
    let mut fleet = three_of_stable();
    let judge = Serving::start(&fleet.url(), &[RATE, PATIENT]);
    assert_eq!(argo(judge.address, "744f96dc75"), Measurement::Inconclusive);
    assert_eq!(
        argo_hold(judge.address, "744f96dc75"),
        Measurement::Failed,
        "no pause: failures are unlimited"
    );
    add_canary(&mut fleet, "744f96dc75", Version::WithNamespace);
    eventually("a decision", || argo(judge.address, "744f96dc75") != Measurement::Inconclusive);
    assert_eq!(argo(judge.address, "744f96dc75"), Measurement::Successful);
    assert_eq!(argo_hold(judge.address, "744f96dc75"), Measurement::Successful);
    assert_eq!(argo(judge.address, "744f96dc75"), Measurement::Successful, "it stays so");
}

#[test]
fn argo_aborts_a_broken_canary_and_judges_the_next_revision_by_itself() {
    let mut fleet = Fleet::new();
    let judge = Serving::start(&fleet.url(), &[RATE, PATIENT]);
    fleet.add("appinfo-567b989978-vvzlg", "release=\"stable\"", Version::Baseline);
    fleet.add("appinfo-c66665c44-x2z4v", "release=\"canary\"", Version::Broken);
    eventually("a decision", || argo(judge.address, "c66665c44") != Measurement::Inconclusive);
    assert_eq!(argo(judge.address, "c66665c44"), Measurement::Failed);
    assert_eq!(argo_hold(judge.address, "c66665c44"), Measurement::Failed, "an abort and no pause");
    // the next revision comes while the last one's pods still answer
    let labels = "release=\"canary\"\nrollouts-pod-template-hash=\"744f96dc75\"";
    fleet.add("appinfo-744f96dc75-x2z4v", labels, Version::WithNamespace);
    eventually("a decision", || argo(judge.address, "744f96dc75") != Measurement::Inconclusive);
    assert_eq!(argo(judge.address, "744f96dc75"), Measurement::Successful);
    assert_eq!(argo(judge.address, "c66665c44"), Measurement::Failed);
}

#[test]
fn argo_waits_while_both_releases_fail() {
    let mut fleet = Fleet::new();
    fleet.add("appinfo-567b989978-vvzlg", "release=\"stable\"", Version::Broken);
    fleet.add("appinfo-c66665c44-x2z4v", "release=\"canary\"", Version::Broken);
    let judge = Serving::start(&fleet.url(), &[RATE, PATIENT]);
    let hold = || judge.get("/v1/verdict?trial=c66665c44").json()["decision"] == "hold";
    eventually("hold", hold);
    assert_eq!(argo(judge.address, "c66665c44"), Measurement::Inconclusive);
    assert_eq!(argo_hold(judge.address, "c66665c44"), Measurement::Inconclusive, "a pause");
}

/// The rendered message of the notification on the page; `None` where Go or sprig is not installed.
fn notification(values: &Value) -> Option<String> {
    const SPRIG: &str = "/usr/share/gocode/src/github.com/Masterminds/sprig";
    if !fs::exists(SPRIG).expect("readable") {
        println!("skipped: golang-go and golang-github-masterminds-sprig-dev are not installed");
        return None;
    }
    let page = include_str!("../../docs/argo-rollouts.md");
    let block = page.split("```yaml\n").find(|block| block.contains("template.analysis-run-failed"));
    let data: Value = serde_yaml_ng::from_str(block?.split_once("```")?.0).expect("YAML");
    let template = data["template.analysis-run-failed"].as_str().expect("a text");
    let template: Value = serde_yaml_ng::from_str(template).expect("YAML in YAML");
    let mut go = Command::new("go");
    go.args(["run", "tests/notification/main.go", &values.to_string()]);
    go.env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode").env("GOFLAGS", "");
    let mut go = go.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("go is installed");
    let message = template["message"].as_str().expect("a message");
    go.stdin.take().expect("a pipe").write_all(message.as_bytes()).expect("it reads");
    let output = go.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).expect("UTF-8"))
}

/// Argo Rollouts passes the Rollout and its `AnalysisRuns`. A measurement's value is the judge's whole answer.
#[test]
fn the_notification_on_the_page_has_the_sentence_of_the_last_measurement() {
    let mut fleet = Fleet::new();
    fleet.add("appinfo-567b989978-vvzlg", "release=\"stable\"", Version::Baseline);
    fleet.add("appinfo-c66665c44-x2z4v", "release=\"canary\"", Version::Broken);
    let judge = Serving::start(&fleet.url(), &[RATE, PATIENT]);
    let ask = || judge.get("/v1/verdict?version=c66665c44").json();
    let first = ask();
    eventually("a decision", || ask()["decision"] == "roll_back");
    let last = ask();
    let metrics = json!([
        {"name": "hold", "measurements": [{"value": "not this one"}]},
        {"name": "verdict", "measurements": [{"value": first.to_string()}, {"value": last.to_string()}]},
    ]);
    let values = json!({
        "rollout": {"metadata": {"name": "shop"}},
        "analysisRuns": [{"status": {"metricResults": metrics}}],
    });
    let Some(message) = notification(&values) else { return };
    let sentence = last["sentence"].as_str().expect("a text");
    assert!(sentence.starts_with("Roll back: "), "{sentence}");
    assert_eq!(message.trim_end(), format!("Rollout shop: {sentence}"));
    // before the first measurement
    let values = json!({"rollout": {"metadata": {"name": "shop"}}, "analysisRuns": [{"status": {}}]});
    assert_eq!(notification(&values).expect("as before").trim_end(), "Rollout shop:");
}

/// The answer of the hook of the next step to a resource with these weights.
fn next_step(judge: &Serving, weights: &str) -> Answer {
    let body = json!({"name": "appinfo", "namespace": "flag", "phase": "Progressing", "checksum": "1",
        "metadata": {"step": weights}});
    judge.post("/flagger/step", &body.to_string())
}

#[test]
fn flagger_takes_the_next_step_once_the_evidence_allows_it() {
    let mut fleet = three_of_stable();
    // not at the usual rate, so that the time in which the next step is too much is not over before it is asked about
    let judge = Serving::start(&fleet.url(), &["--rate=100", "--max-burn=0.01", PATIENT]);
    let first = next_step(&judge, "1,25,50");
    assert_eq!(first.status, 200, "{first:?}");
    let said = " The first step gives it 1 % of the traffic: without it, nothing can be seen.\n";
    assert!(first.body.ends_with(said), "{first:?}");
    let again = next_step(&judge, "1,25,50");
    assert_eq!((again.status, again.body.contains("has not answered since")), (403, true), "{again:?}");
    add_canary(&mut fleet, "c66665c44", Version::WithNamespace);
    let seen = |text: &str| eventually(text, || next_step(&judge, "1,25,50").body.contains(text));
    seen(" It has about 25 % of the traffic, and the next step is 50 %: more than ");
    let flagger = Flagger { judge: &judge, namespace: "flag", token: None };
    assert!(flagger.ask("step", "Progressing", "1"), "without metadata.step, as ever");
    let verdict = judge.get("/v1/verdict?trial=flagger/flag/appinfo/1").json();
    assert!(verdict["max_share"].as_f64().is_some_and(|share| share < 0.5), "{verdict}");
    eventually("a promotion", || flagger.ask("promote", "Progressing", "1"));
    seen(" It has about 25 % of the traffic, and may have the next step, 50 %.");
    seen(" It has about 25 % of the traffic, ");
    assert_eq!(next_step(&judge, "1,25").status, 200, "its last weight");
    eventually("the metric", || judge.get("/metrics").body.contains("canary_max_share 1\n"));
    for wrong in ["", "many", "0", "5,1", "101"] {
        let answer = next_step(&judge, wrong);
        assert_eq!(
            (answer.status, answer.body.contains("metadata.step is ")),
            (400, true),
            "{wrong}: {answer:?}"
        );
    }
}

#[test]
fn a_judge_whose_own_share_is_given_cannot_know_the_next_step() {
    let fleet = Fleet::with_canary(Version::WithNamespace);
    let judge = Serving::start(&fleet.url(), &[RATE, PATIENT, "--share=25%"]);
    let answer = next_step(&judge, "10");
    assert_eq!((answer.status, answer.body.contains(" It cannot know whether ")), (403, true), "{answer:?}");
}

#[test]
fn flagger_promotes_a_good_canary() {
    let mut fleet = three_of_stable();
    let judge = Serving::start(&fleet.url(), &[RATE, PATIENT]);
    let flagger = Flagger { judge: &judge, namespace: "flag", token: None };
    flagger.begin("", "6669b9d759");
    assert_eq!(flagger.interval("6669b9d759"), GO_ON);
    add_canary(&mut fleet, "c66665c44", Version::WithNamespace);
    eventually("a promotion", || flagger.interval("6669b9d759") == PROMOTE);
    let answer = flagger.call("promote", "Progressing", "6669b9d759");
    assert!(answer.body.starts_with("Promote: the canary has failed 0 of "), "{answer:?}");
    assert!(flagger.ask("post-rollout", "Succeeded", "6669b9d759"));
}

/// The flags by which the manifest of the judge tells the sides apart.
fn flags_for_flagger() -> Vec<String> {
    let deployment = &manifests("flagger/judge.yaml")[0];
    let arguments =
        deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().expect("arguments");
    let arguments = arguments.iter().map(|it| it.as_str().expect("a text").to_owned());
    let flags = ["--stable-pods=", "--canary-pods=", "--header="];
    let flags: Vec<_> = arguments.filter(|it| flags.iter().any(|flag| it.starts_with(flag))).collect();
    assert_eq!(flags.len(), 3, "{flags:?}");
    flags
}

#[test]
fn the_hooks_of_the_manifest_work_with_the_names_that_flagger_gives() {
    let mut fleet = Fleet::new();
    // Flagger copies the Deployment to NAME-primary, with all labels but the one of its selector as they are
    fleet.add("appinfo-primary-567b989978-vvzlg", "release=\"canary\"", Version::Baseline);
    let mut flags = flags_for_flagger();
    flags.extend([RATE, PATIENT].map(str::to_owned));
    let judge = Serving::start(&fleet.url(), &flags.iter().map(String::as_str).collect::<Vec<_>>());
    let canary = &manifests("flagger/canary.yaml")[0];
    let hooks = canary["spec"]["analysis"]["webhooks"].as_array().expect("webhooks");
    let yes = || -> Vec<_> {
        let says_yes = |hook: &Value| {
            let url = hook["url"].as_str().expect("a URL");
            let body =
                json!({"name": "appinfo", "namespace": "default", "phase": "Progressing", "checksum": "1"});
            let answer = judge.post(url.split_once(":8090").expect("the judge's port").1, &body.to_string());
            assert!([200, 403].contains(&answer.status), "{url}: {answer:?}");
            answer.status == 200
        };
        // the two that end a trial are for another time
        let asked =
            hooks.iter().filter(|hook| hook["type"] != "confirm-rollout" && hook["type"] != "post-rollout");
        asked.filter(|hook| says_yes(hook)).map(|hook| hook["type"].as_str().expect("a type")).collect()
    };
    assert_eq!(yes(), ["rollout", "confirm-traffic-increase"], "not yet");
    fleet.add("appinfo-c66665c44-x2z4v", "release=\"canary\"", Version::WithNamespace);
    eventually("a promotion", || yes() == ["rollout", "confirm-traffic-increase", "confirm-promotion"]);
    for hook in ["confirm-rollout", "post-rollout"] {
        let url = hooks.iter().find(|it| it["type"] == hook).expect("a hook")["url"].as_str().expect("a URL");
        assert!(url.ends_with(&format!("/flagger/{hook}")), "{url}");
    }
    fleet.add("appinfo-744f96dc75-x2z4v", "release=\"canary\"", Version::Broken);
    eventually("a roll-back", || yes() == [""; 0]);
}

#[test]
fn flagger_rolls_back_a_broken_canary_and_gets_the_reason() {
    let fleet = Fleet::with_canary(Version::Broken);
    let judge = Serving::start(&fleet.url(), &[RATE, PATIENT]);
    let flagger = Flagger { judge: &judge, namespace: "flag", token: None };
    flagger.begin("", "6669b9d759");
    eventually("a roll-back", || flagger.interval("6669b9d759") == ROLL_BACK);
    for hook in ["rollout", "step", "promote"] {
        let no = flagger.call(hook, "Progressing", "6669b9d759");
        assert_eq!(no.status, 403, "{hook}");
        assert!(no.body.starts_with("Roll back: the canary is worse than stable"), "{hook}: {no:?}");
    }
    let no_retry = flagger.call("rollback", "true", "6669b9d759");
    assert_eq!(no_retry.status, 200, "it stays so for a call that is repeated");
}

#[test]
fn with_the_token_a_new_rollout_with_the_same_checksum_gets_a_new_trial_at_once() {
    let fleet = Fleet::with_canary(Version::Broken);
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), "secret\n").expect("written");
    let judge =
        Serving::start(&fleet.url(), &[RATE, PATIENT, &format!("--token-file={}", file.path().display())]);
    let flagger = Flagger { judge: &judge, namespace: "flag", token: Some("secret") };
    let other = Flagger { judge: &judge, namespace: "other", token: None };
    other.begin("", "6669b9d759");
    let began = Instant::now();
    for end in ["pre-rollout", "confirm-rollout", "post-rollout"] {
        flagger.ask("rollback", "true", "6669b9d759");
        eventually("a roll-back", || flagger.interval("6669b9d759") == ROLL_BACK);
        let ended = Instant::now();
        assert!(flagger.ask(end, "Failed", "6669b9d759"), "{end}");
        flagger.ask("rollback", "true", "6669b9d759");
        eventually("it begins anew", || flagger.seconds("6669b9d759") <= ended.elapsed().as_secs_f64());
    }
    eventually("a roll-back of another namespace's", || other.ask("rollback", "true", "6669b9d759"));
    let least = began.elapsed().as_secs_f64();
    assert!(other.seconds("6669b9d759") >= least, "that one has gone on");
    let wrong = Flagger { token: Some("guess"), ..other };
    assert_eq!(wrong.call("post-rollout", "Failed", "6669b9d759").status, 401);
}

#[test]
fn without_the_token_nobody_resets_the_trial_of_a_canary_that_answers() {
    let fleet = Fleet::with_canary(Version::Broken);
    let judge = Serving::start(&fleet.url(), &[RATE, PATIENT]);
    let flagger = Flagger { judge: &judge, namespace: "flag", token: Some("there is none to compare with") };
    flagger.begin("", "6669b9d759");
    eventually("a roll-back", || flagger.interval("6669b9d759") == ROLL_BACK);
    for hook in ["post-rollout", "confirm-rollout", "pre-rollout"].repeat(30) {
        assert!(flagger.ask(hook, "Failed", "6669b9d759"), "it never blocks Flagger");
        assert_eq!(flagger.interval("6669b9d759"), ROLL_BACK, "{hook}");
    }
}

#[test]
fn a_second_rollout_of_the_same_specification_begins_anew_even_if_its_hooks_were_missed() {
    let fleet = Fleet::with_canary(Version::Broken);
    let judge = Serving::start(&fleet.url(), &["--rate=100"]);
    let flagger = Flagger { judge: &judge, namespace: "flag", token: None };
    eventually("a roll-back", || flagger.interval("6669b9d759") == ROLL_BACK);
    fleet.remove("appinfo-canary-1");
    let counted = || judge.get("/v1/verdict").json()["requests"].as_u64().expect("a number");
    let (began, before) = (Instant::now(), counted());
    // for 30 s since its last answer, which may take 2 s
    eventually("the canary is silent", || began.elapsed().as_secs() > 33 && counted() > before + 100);
    assert_eq!(flagger.interval("6669b9d759"), GO_ON);
}

#[test]
fn flagger_continues_while_evidence_is_missing_and_while_both_releases_fail() {
    let mut fleet = Fleet::new();
    let judge = Serving::start(&fleet.url(), &[RATE, PATIENT]);
    let flagger = Flagger { judge: &judge, namespace: "flag", token: None };
    assert_eq!(flagger.interval("6669b9d759"), GO_ON, "not yet");
    fleet.add("appinfo-567b989978-vvzlg", "release=\"stable\"", Version::Broken);
    fleet.add("appinfo-c66665c44-x2z4v", "release=\"canary\"", Version::Broken);
    let sentence = || flagger.call("promote", "Progressing", "6669b9d759").body;
    eventually("hold", || sentence().starts_with("Hold: both releases fail"));
    assert_eq!(flagger.interval("6669b9d759"), GO_ON, "hold");
    // the body of the no names the way out, which works
    let reset = r#"{"namespace":"flag","name":"appinfo"}"#;
    assert!(sentence().trim_end().ends_with(&format!("POST /v1/reset with {reset}.")), "{}", sentence());
    let answer = judge.post("/v1/reset", reset);
    assert_eq!((answer.status, &answer.json()["trial"]), (200, &json!("flagger/flag/appinfo/6669b9d759")));
}

#[test]
fn an_invalid_call_is_refused_with_the_reason() {
    let judge = Serving::start(&Fleet::new().url(), &["--rate=1"]);
    for (body, error) in [
        (json!({"name": "a", "namespace": "b"}), "checksum is empty or left out"),
        (
            json!({"name": "", "namespace": "b", "checksum": "c"}),
            "name is \"\": want the name of a resource Canary",
        ),
        (
            json!({"name": "a", "namespace": "b/c", "checksum": "c"}),
            "namespace is \"b/c\": want the namespace of a resource Canary",
        ),
    ] {
        let answer = judge.post("/flagger/step", &body.to_string());
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!(error)));
    }
    let answer = judge.post("/flagger/event", "{}");
    let error = answer.json()["error"].as_str().expect("a text").to_owned();
    assert_eq!(answer.status, 404);
    assert!(error.starts_with("there is no hook \"event\": the hooks are rollback, step,"), "{error}");
}
